//! What guests use of their host, as counters.

use std::time::Duration;

use async_trait::async_trait;

use super::VirtError;
use crate::domain::{InstanceId, Mac};

/// What a guest has used since it was last started. Every counter only grows until the guest
/// starts anew; a rate is the difference of two readings.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestUse {
    /// For how long its CPUs executed, all of them together; none when the host cannot tell.
    pub cpu_time: Option<Duration>,
    /// Memory of the host that it takes just now, in bytes, with what its hypervisor needs for
    /// itself; none when the host cannot tell. It is no counter.
    pub memory_bytes: Option<u64>,
    /// Its disks, sorted by name; those of which the host cannot tell are left out.
    pub disks: Vec<DiskUse>,
    /// Its interfaces in the guest's order; those of which the host cannot tell are left out.
    pub nics: Vec<NicUse>,
}

/// What went through a disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DiskUse {
    /// The name under which the hypervisor plugs it, such as `vda`.
    pub name: String,
    /// Bytes that the guest read.
    pub read_bytes: u64,
    /// How often it read.
    pub reads: u64,
    /// Bytes that the guest wrote.
    pub written_bytes: u64,
    /// How often it wrote.
    pub writes: u64,
}

/// What went through an interface.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NicUse {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Bytes that the guest received.
    pub received_bytes: u64,
    /// Packets that the guest received.
    pub received_packets: u64,
    /// Bytes that the guest sent.
    pub sent_bytes: u64,
    /// Packets that the guest sent.
    pub sent_packets: u64,
}

impl NicUse {
    /// Nothing went through it yet.
    pub const fn none(mac: Mac) -> Self {
        let (received_bytes, received_packets, sent_bytes, sent_packets) = (0, 0, 0, 0);
        Self { mac, received_bytes, received_packets, sent_bytes, sent_packets }
    }
}

/// Tells what guests use.
#[async_trait]
pub trait MeasureGuests: Send + Sync {
    /// What a guest has used. One that is shut down uses nothing: [`GuestUse::default`].
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`].
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError>;
}
