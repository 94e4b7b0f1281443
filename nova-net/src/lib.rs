//! Networks of a cloud: addresses that have one owner, and hosts that have the network they
//! should.
//!
//! Read the rooms in this order:
//!
//! - [`pool`]: which address, VLAN or MAC comes next, as values;
//! - [`topology`]: the kinds of network ([`Flat`](topology::Flat), [`FlatDhcp`](topology::FlatDhcp),
//!   [`Vlan`](topology::Vlan), or yours): how they are cut out of a range, who may use them, and
//!   what they take on a host;
//! - [`host`]: the network of one host as a value;
//! - [`plan`]: from one such value to another, in steps that make before they break;
//! - [`check`]: an independent judge of plans;
//! - [`backend`]: who carries plans out;
//! - [`metadata`]: what guests may ask about themselves;
//! - [`dns`]: who tells the world their names;
//! - [`Networks`]: the manager that puts them together, behind the ports
//!   [`NetworkManager`](nova_core::port::NetworkManager) and
//!   [`FloatingIps`](nova_core::port::FloatingIps).
//!
//! Decisions are plain functions from values to values; only the manager and the backends wait
//! for anything. Every host is the gateway of its own guests (Nova's multi-host mode), so no
//! host carries another one's traffic and none is a single point of failure.
//!
//! ```
//! # use std::sync::Arc;
//! # use nova_core::{clock::SystemClock, domain::{NetworkKind, Label}, seed::Seed};
//! # use nova_core::{port::{NetworkManager, NetworkSpec}, store::{MemoryStore, Store}};
//! use nova_net::{Networks, backend::Recorder};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let backend = Arc::new(Recorder::new());
//! let networks =
//!     Networks::new(store.clone(), Arc::new(SystemClock::new()), Seed::new(1), backend);
//!
//! let spec = NetworkSpec::new(Label::new("lan")?, NetworkKind::FlatDhcp, "10.0.0.0/24".parse()?);
//! let draft = networks.create_networks(&spec).await?;
//! assert_eq!(draft.value[0].first_guest.to_string(), "10.0.0.2");
//! store.commit(draft.txn).await?; // only now there is a network
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backend;
pub mod check;
pub mod dns;
pub mod host;
mod manager;
pub mod metadata;
pub mod plan;
pub mod pool;
pub mod topology;

pub use manager::Networks;
