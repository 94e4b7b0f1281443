//! nova-sched from outside: the laws of the port, properties of placement, explanations, replays.

mod explain;
mod kit;
mod laws;
mod replay;
mod select;
