//! What nova-net promises, as tests: the suite of nova-core on every topology, the arithmetic of
//! networks, and the properties of pools and plans.

mod hosts;
mod laws;
mod manager;
mod plans;
mod pools;
mod topologies;
mod world;
