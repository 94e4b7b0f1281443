//! PCI devices that hosts pass through to guests.

use std::collections::BTreeMap;

/// The free PCI devices of a host that guests may have, in pools of equal devices.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciPools {
    /// The pools, in the order in which the host tells of them.
    pub pools: Vec<PciPool>,
}

/// Free PCI devices of one host that are equal.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciPool {
    /// The vendor: four hexadecimal digits.
    pub vendor_id: String,
    /// The product: four hexadecimal digits.
    pub product_id: String,
    /// The NUMA cell they are next to; none when the host does not tell.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// What kind of device: `type-PCI`, `type-PF`, `type-VF`, `vdpa`.
    #[serde(default)]
    pub dev_type: Option<String>,
    /// How many are free.
    pub count: u32,
    /// What else an operator says of them.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// So many devices of a kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciRequest {
    /// How many.
    pub count: u32,
    /// The kinds that would do. A pool is of a kind when it has every key of it with the same
    /// value, upper and lower case being the same.
    pub spec: Vec<BTreeMap<String, String>>,
    /// How near they have to be to the guest's cells.
    #[serde(default)]
    pub numa_policy: PciNumaPolicy,
}

/// How near PCI devices have to be to the NUMA cells of their guest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PciNumaPolicy {
    /// At one of them.
    Required,
    /// At a cell of the same socket.
    Socket,
    /// At one of them where possible.
    Preferred,
    /// At one of them, or nobody knows where.
    #[default]
    Legacy,
}
