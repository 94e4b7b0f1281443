//! What nova-net promises, as tests: the suite of nova-core on every topology, the arithmetic of
//! networks, and the properties of pools and plans.

mod groups;
mod hostile;
mod hosts;
mod ipv6;
mod laws;
mod manager;
mod metadata;
mod names;
mod plans;
mod pools;
mod topologies;
mod world;
