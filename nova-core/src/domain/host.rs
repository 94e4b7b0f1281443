//! Hosts, aggregates and zones: where servers can run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{
    AggregateId, HostId, HostName, InstanceId, Invalid, Inventory, Label, ResourceKind, Resources,
    ZoneName,
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

/// A host as the scheduler sees it: what it offers, what is claimed on it, who is there.
///
/// The sum of the claims is kept beside them and changes only with them, here.
#[derive(Debug, Clone, PartialEq)]
pub struct HostState {
    /// The id; also the order in which hosts are visited.
    pub id: HostId,
    /// The name.
    pub name: HostName,
    /// Its availability zone.
    pub zone: ZoneName,
    /// Whether new servers may come.
    pub admission: Admission,
    /// Whether it answers.
    pub liveness: Liveness,
    /// What it offers.
    pub inventory: Inventory,
    /// The aggregates it is in, sorted by id.
    pub aggregates: Vec<Arc<Aggregate>>,
    /// What it can run.
    pub guest_kinds: Arc<[GuestKind]>,
    /// The hypervisor's version; see [`HostFacts::hypervisor_version`].
    pub hypervisor_version: u64,
    /// Servers in a state that is heavy on the disk: being built, moved, copied.
    pub io_ops: u32,
    claims: BTreeMap<InstanceId, Resources>,
    used: Resources,
}

impl HostState {
    /// An empty host, enabled and up, in no aggregate.
    pub fn new(id: HostId, name: HostName, zone: ZoneName, inventory: Inventory) -> Self {
        Self {
            id,
            name,
            zone,
            admission: Admission::Enabled,
            liveness: Liveness::Up,
            inventory,
            aggregates: Vec::new(),
            guest_kinds: Arc::from([]),
            hypervisor_version: 0,
            io_ops: 0,
            claims: BTreeMap::new(),
            used: Resources::ZERO,
        }
    }

    /// Counts `amount` for `instance`; an earlier claim of the same instance is replaced.
    ///
    /// This records a decision and checks nothing: a host may be over its capacity after its
    /// inventory shrank, and must still be described truly.
    pub fn claim(&mut self, instance: InstanceId, amount: Resources) {
        self.release(instance);
        self.claims.insert(instance, amount);
        self.used = self.used.saturating_add(amount);
    }

    /// Forgets what `instance` claimed and says how much that was; claiming nothing is fine.
    pub fn release(&mut self, instance: InstanceId) -> Option<Resources> {
        let amount = self.claims.remove(&instance)?;
        self.used = self.used.saturating_sub(amount);
        Some(amount)
    }

    /// What is claimed in all.
    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// How many servers are there.
    pub fn instance_count(&self) -> usize {
        self.claims.len()
    }

    /// Whether `instance` is there.
    pub fn has_instance(&self, instance: InstanceId) -> bool {
        self.claims.contains_key(&instance)
    }

    /// The servers that are there with what each claims, sorted by id.
    pub fn claims(&self) -> impl Iterator<Item = (InstanceId, &Resources)> {
        self.claims.iter().map(|(id, amount)| (*id, amount))
    }

    /// The first resource that `wanted` lacks here; none when it fits.
    pub fn lacks(&self, wanted: &Resources) -> Option<ResourceKind> {
        self.inventory.lacks(&self.used, wanted)
    }

    /// Capacity left of one resource, `(total - reserved) * ratio - used`: below zero when the
    /// inventory shrank under what was claimed.
    pub fn free(&self, kind: ResourceKind) -> f64 {
        self.inventory.capacity(kind) - kind.of(&self.used) as f64
    }
}

/// The hosts that a scheduler chooses from, sorted by id, changed only through methods.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct HostTable {
    rows: Vec<HostState>,
}

impl HostTable {
    /// A table of these hosts. Of two with the same id the later one stays.
    pub fn new(hosts: impl IntoIterator<Item = HostState>) -> Self {
        let by_id: BTreeMap<HostId, HostState> = hosts.into_iter().map(|h| (h.id, h)).collect();
        Self { rows: by_id.into_values().collect() }
    }

    /// All hosts, sorted by id.
    pub fn rows(&self) -> &[HostState] {
        &self.rows
    }

    /// The host with this id.
    pub fn get(&self, id: HostId) -> Option<&HostState> {
        self.index(id).ok().and_then(|at| self.rows.get(at))
    }

    /// Adds a host, or replaces the one with the same id.
    pub fn put(&mut self, host: HostState) {
        match self.index(host.id) {
            Ok(at) => self.rows[at] = host,
            Err(at) => self.rows.insert(at, host),
        }
    }

    /// Takes a host out.
    pub fn remove(&mut self, id: HostId) -> Option<HostState> {
        self.index(id).ok().map(|at| self.rows.remove(at))
    }

    /// Changes one host in place; false when there is none with this id. Its id stays.
    pub fn update(&mut self, id: HostId, change: impl FnOnce(&mut HostState)) -> bool {
        let Ok(at) = self.index(id) else { return false };
        let row = &mut self.rows[at];
        change(row);
        // The table is sorted by id; a change that renamed the row would break every look-up.
        row.id = id;
        true
    }

    fn index(&self, id: HostId) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&id, |row| row.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{GiB, MiB, Vcpus};

    fn host(id: u128) -> HostState {
        let total = Resources { vcpus: Vcpus(8), memory: MiB(1024), disk: GiB(10) };
        HostState::new(
            HostId::from_u128(id),
            HostName::new(format!("h{id}")).unwrap(),
            ZoneName::new("z").unwrap(),
            Inventory::new(total),
        )
    }

    #[test]
    fn used_is_always_the_sum_of_the_claims() {
        let mut host = host(1);
        let amount = |v| Resources { vcpus: Vcpus(v), memory: MiB(v.into()), disk: GiB(0) };
        let id = InstanceId::from_u128;
        host.claim(id(1), amount(2));
        host.claim(id(2), amount(3));
        host.claim(id(1), amount(4));
        assert_eq!(*host.used(), amount(7));
        assert_eq!(host.release(id(1)), Some(amount(4)));
        assert_eq!(host.release(id(1)), None);
        assert_eq!(*host.used(), amount(3));
    }

    #[test]
    fn a_table_is_sorted_by_id_whatever_the_order_of_arrival() {
        let mut table = HostTable::new([host(3), host(1)]);
        table.put(host(2));
        let ids: Vec<u128> = table.rows().iter().map(|h| h.id.as_u128()).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert!(table.update(HostId::from_u128(2), |h| h.id = HostId::from_u128(9)));
        assert!(table.get(HostId::from_u128(2)).is_some());
        assert!(table.remove(HostId::from_u128(9)).is_none());
    }
}
