//! The domain, the ports and the orchestration of a cloud that other programs compose.
//!
//! Read the rooms in this order:
//!
//! - [`domain`]: the nouns, as types that cannot hold an impossible value;
//! - [`clock`], [`seed`]: time and chance, always handed in;
//! - [`store`]: where the truth is, and which records make it up;
//! - [`port`]: what a scheduler, a network manager, a driver, an image store, a volume driver and
//!   a message bus promise, each with its laws;
//! - [`memory`]: one small implementation of every port, for tests and for trying things out;
//! - [`cloud`]: what happens when a user asks for something;
//! - [`doctor`]: what must be true of a whole cloud, as plain functions;
//! - `conformance` (feature of that name): the laws as tests, for whoever implements a port;
//! - `testing` (feature of that name): a whole cloud on one thread whose parts fail by seed.
//!
//! This crate sees none of its siblings. Which scheduler, which networks and which hypervisors a
//! cloud is made of is decided by the program that composes it.

pub mod class;
pub mod clock;
pub mod cloud;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod doctor;
pub mod domain;
pub mod memory;
pub(crate) mod plant;
pub mod port;
pub mod seed;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
