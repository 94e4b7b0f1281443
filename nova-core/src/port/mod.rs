//! The ports: what the orchestration asks of parts that can be replaced.
//!
//! Each trait is small, can be boxed and sent, says which laws it keeps, and has a reference
//! implementation in [`memory`](crate::memory) and a suite in `conformance`. An ability that not
//! every backend has is a trait of its own, reached through an `Option`.
//!
//! Two more ports live beside their helpers: [`Store`](crate::store::Store) and
//! [`Clock`](crate::clock::Clock).

mod bus;
mod images;
mod live;
mod network;
mod scheduler;
mod virt;
mod volumes;

pub use bus::{BusError, Delivery, Inbox, MessageBus, MessageBusExt, Payload, ReplyTo, Topic};
pub use images::{ImageBytes, ImageError, ImageStore, ImageStoreExt};
pub use live::{Invitation, LiveMigrate, Transfer};
pub use network::{
    FloatingIps, FloatingRequest, NetError, NetworkManager, NetworkSpec, PortRequest,
};
pub use scheduler::{NoValidHost, Scheduler};
pub use virt::{
    AGENT_PROPERTY, AskAgents, AttachVolumes, CACHED_IMAGES_MAX, CONSOLE_BYTES_MAX, CacheImages,
    Console, ConsoleStream, DiskUse, Guest, GuestChange, GuestSpec, GuestUse, HearChanges, Herald,
    MeasureGuests, MoveGuests, Nic, NicUse, OpenConsoles, Parcel, PauseGuests, PlugInterfaces,
    QUIESCE_PROPERTY, ReadConsoles, RescueGuests, SnapshotGuests, SuspendGuests, TellChanges,
    VirtDriver, VirtError, VolumeLink,
};
pub use volumes::{
    CloneSource, CloneVolumes, Connection, ExtendVolumes, FillVolumes, ShareVolumes, SnapshotFacts,
    SnapshotVolumes, VolumeDriver, VolumeError, VolumeFacts,
};
