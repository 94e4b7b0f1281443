//! The reference scheduler keeps the scheduler's laws.

nova_core::scheduler_laws!(async { nova_core::memory::FirstFit });
