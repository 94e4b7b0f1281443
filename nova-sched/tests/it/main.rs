//! nova-sched from outside: the laws of the port, properties of placement, explanations, replays.

mod alternates;
mod decisions;
mod devices;
mod experiment;
mod explain;
mod kit;
mod laws;
mod log;
mod lookup;
mod purpose;
mod select;
mod sim;
mod table;
mod trace;
mod vectors;
