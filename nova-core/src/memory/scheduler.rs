//! Reference implementation.
