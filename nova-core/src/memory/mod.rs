//! One small implementation of every port, in memory.
//!
//! They are the model in tests, the default for trying things out, and the example for whoever
//! writes an implementation. The reference store is [`MemoryStore`](crate::store::MemoryStore).

mod bus;
mod clock;
mod images;
mod network;
mod scheduler;
mod virt;
mod volumes;

pub use bus::LocalBus;
pub use clock::VirtualClock;
pub use images::MemoryImages;
pub use network::MemoryNetworks;
pub use scheduler::FirstFit;
pub use virt::MemoryHost;
pub use volumes::MemoryVolumes;
