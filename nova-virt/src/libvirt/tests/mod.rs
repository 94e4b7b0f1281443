//! What a hypervisor is told, as a whole.

mod compare;
mod daemons;
mod golden;
mod hostile;
mod samples;
