//! What an agent tells of its host besides its inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::TraitName;

/// What an agent tells of its host besides its inventory, for the filters and weighers that read
/// it. Everything may be missing.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct HostReport {
    /// The hypervisor's name of the host, where it is another than the host's own.
    pub node: Option<String>,
    /// The cell of the cloud that it belongs to.
    pub cell: Option<String>,
    /// Its address in the management network.
    pub address: Option<IpAddr>,
    /// The hypervisor: `QEMU`, `LXC`.
    pub hypervisor: String,
    /// Its processor, as JSON text.
    pub cpu_info: Option<String>,
    /// What it can do, by the names that Placement has for it.
    pub traits: BTreeSet<TraitName>,
    /// Whatever else filters may ask for, by name.
    pub stats: BTreeMap<String, String>,
    /// What monitors measure, by name, such as `cpu.frequency`.
    pub metrics: BTreeMap<String, i64>,
    /// What the images hold that it has, as SHA-256 in lower-case hex; at most
    /// [`CACHED_IMAGES_MAX`](crate::port::CACHED_IMAGES_MAX). They were there a while ago.
    pub images: Arc<BTreeSet<String>>,
}
