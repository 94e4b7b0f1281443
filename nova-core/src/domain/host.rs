//! Hosts, aggregates and zones: where servers can run.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    AggregateId, ClassStocks, HostId, HostName, Invalid, Inventory, Label, NumaTopology, PciDevice,
    Resources, TraitName, ZoneName,
};

/// Whether an operator lets new servers come to a host.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// New servers may come.
    #[default]
    Enabled,
    /// No new servers; those that are there stay and can be managed.
    Disabled,
}

/// Whether a host answers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Its agent reports.
    #[default]
    Up,
    /// Its agent has not reported for too long, or an operator declared it down.
    Down,
}

/// A kind of guest that a host can run, in lower case as in image properties.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct GuestKind {
    /// Processor architecture: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Hypervisor type: `qemu`, `kvm`, `lxc`.
    pub hypervisor: String,
    /// Virtual machine mode: `hvm`, `exe`.
    pub vm_mode: String,
}

/// What a driver says of its host when it starts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HostFacts {
    /// Totals, before an operator's reserves and ratios.
    pub total: Resources,
    /// The kinds of guest it runs.
    pub guest_kinds: Vec<GuestKind>,
    /// The hypervisor's name.
    pub hypervisor: String,
    /// The hypervisor's version, each part times 1000: 6.2.0 is 6002000. Zero when unknown.
    pub hypervisor_version: u64,
    /// Its traits.
    #[serde(default)]
    pub traits: BTreeSet<TraitName>,
    /// What it has of resource classes beyond CPUs, memory and disk.
    #[serde(default)]
    pub classes: ClassStocks,
    /// Its NUMA cells; none when it does not tell. What it says is used of them is not looked at:
    /// that follows from claims.
    #[serde(default)]
    pub numa: Option<NumaTopology>,
    /// Its PCI devices that guests may have.
    #[serde(default)]
    pub pci: Vec<PciDevice>,
}

/// A host as an operator registered it and its agent described it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Host {
    /// The id.
    pub id: HostId,
    /// The name, unique in the cloud.
    pub name: HostName,
    /// Its availability zone.
    pub zone: ZoneName,
    /// Whether new servers may come.
    pub admission: Admission,
    /// Why an operator disabled it, for people; none while it is enabled.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// An operator's word that it is down, whatever its agent says.
    pub forced_down: Option<ForcedDown>,
    /// What it offers.
    pub inventory: Inventory,
    /// What it can run.
    pub guest_kinds: Vec<GuestKind>,
    /// The hypervisor's version; see [`HostFacts::hypervisor_version`].
    pub hypervisor_version: u64,
    /// Its traits.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<TraitName>,
    /// What it offers of resource classes beyond CPUs, memory and disk.
    #[serde(default, skip_serializing_if = "ClassStocks::is_empty")]
    pub classes: ClassStocks,
    /// Its NUMA cells, of which nothing is used here; none when it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<NumaTopology>,
    /// Its PCI devices that guests may have, in the order in which it tells of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pci: Vec<PciDevice>,
}

/// Why an operator declared a host down.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ForcedDown {
    /// The reason, for people.
    pub reason: String,
}

/// A named set of hosts with metadata that filters read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Aggregate {
    /// The id.
    pub id: AggregateId,
    /// The name, unique in the cloud.
    pub name: Label,
    /// Its hosts, sorted.
    pub hosts: Vec<HostId>,
    /// Keys and values.
    pub metadata: AggregateMetadata,
}

/// Keys and values of an aggregate, such as `ssd = true`.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct AggregateMetadata(BTreeMap<String, String>);

impl AggregateMetadata {
    /// Checks and takes `metadata`.
    ///
    /// # Errors
    /// [`Invalid`] for an empty key, a key or value longer than 255 bytes or with control
    /// characters, or more than 128 keys.
    pub fn new<K: Into<String>, V: Into<String>>(
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Invalid> {
        let plain = |s: &str| s.len() <= 255 && !s.chars().any(char::is_control);
        let mut checked = BTreeMap::new();
        for (key, value) in metadata {
            let (key, value) = (key.into(), value.into());
            if key.is_empty() || !plain(&key) {
                let allowed = "1 to 255 bytes without control characters";
                return Err(Invalid::new("aggregate metadata key", key, allowed));
            }
            if !plain(&value) {
                let allowed = "at most 255 bytes without control characters";
                return Err(Invalid::new("aggregate metadata value", value, allowed));
            }
            checked.insert(key, value);
        }
        if checked.len() > 128 {
            return Err(Invalid::new("aggregate metadata", checked.len(), "at most 128 keys"));
        }
        Ok(Self(checked))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All of them, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for AggregateMetadata {
    type Error = Invalid;

    fn try_from(metadata: BTreeMap<String, String>) -> Result<Self, Invalid> {
        Self::new(metadata)
    }
}

impl From<AggregateMetadata> for BTreeMap<String, String> {
    fn from(metadata: AggregateMetadata) -> Self {
        metadata.0
    }
}
