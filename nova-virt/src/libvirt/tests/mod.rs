//! What a hypervisor is told, as a whole.

mod compare;
pub(super) mod daemons;
mod golden;
mod hostile;
mod samples;
