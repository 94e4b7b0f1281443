//! The hosts of a simulation, from a file or from code.

use std::ops::Deref;
use std::sync::Arc;

use nova_core::domain::{
    Aggregate, AggregateId, AggregateMetadata, AllocationRatio, GiB, HostId, HostName, HostState,
    HostTable, InstanceId, Invalid, Inventory, Label, MiB, ResourceKind, Resources, Vcpus,
    ZoneName,
};

use super::Moment;
use super::cost::PowerCurve;
use super::world::Site;

/// Hosts, with what a simulation knows of them beyond what schedulers do: racks and power.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub(crate) hosts: HostTable,
    /// By slot; hosts beyond its end have neither rack nor power.
    pub(crate) sites: Vec<Site>,
    /// What is claimed at the beginning and given back later.
    pub(crate) leaving: Vec<Leaving>,
}

/// What an instance, which is not of the trace, has on a host until some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) at: Moment,
    pub(crate) host: HostId,
    pub(crate) instance: InstanceId,
}

/// The name of a rack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rack(Arc<Label>);

impl Deref for Rack {
    type Target = Label;

    fn deref(&self) -> &Label {
        &self.0
    }
}

impl From<HostTable> for Cluster {
    /// Hosts without racks and power.
    fn from(hosts: HostTable) -> Self {
        Self { hosts, sites: Vec::new(), leaving: Vec::new() }
    }
}

/// A cluster as people write it down.
///
/// ```
/// use nova_sched::sim::{Cluster, ClusterConfig};
///
/// let text = r#"
///     [[hosts]]
///     name = "old"
///     count = 40
///     vcpus = 32
///     memory_mib = 131072
///     racks = 4
///
///     [[hosts]]
///     name = "new"
///     count = 20
///     vcpus = 96
///     memory_mib = 393216
///     zone = "b"
///     vcpu_ratio = 2.0
///     power_watts = [110.0, 380.0]
/// "#;
/// let config: ClusterConfig = toml::from_str(text)?;
/// let cluster = Cluster::new(&config)?;
/// assert_eq!(cluster.hosts().len(), 60);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Groups of hosts that are alike.
    pub hosts: Vec<HostGroup>,
}

/// Hosts that are alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostGroup {
    /// What their names begin with; a number follows. Part of a host name.
    pub name: String,
    /// How many there are; all groups together at most a million.
    pub count: u32,
    /// Processors of each, 1 and more.
    pub vcpus: u32,
    /// Memory of each, 1 MiB and more.
    pub memory_mib: u64,
    /// Local disk of each. A trace that tells of disks needs some.
    #[serde(default)]
    pub disk_gib: u64,
    /// Memory that the host keeps for itself.
    #[serde(default)]
    pub reserved_memory_mib: u64,
    /// How many vCPUs may be promised for each processor.
    #[serde(default = "one")]
    pub vcpu_ratio: f64,
    /// How much memory may be promised for each MiB.
    #[serde(default = "one")]
    pub memory_ratio: f64,
    /// Their availability zone.
    #[serde(default = "zone")]
    pub zone: String,
    /// They stand in so many racks, one after the other; 0 where racks do not matter.
    #[serde(default)]
    pub racks: u32,
    /// Metadata of an aggregate that all of them are in; none when it is empty.
    #[serde(default)]
    pub aggregate: std::collections::BTreeMap<String, String>,
    /// Watts at equally distant shares of CPU use, from idle to busy.
    #[serde(default)]
    pub power_watts: Option<PowerCurve>,
}

fn one() -> f64 {
    1.0
}

fn zone() -> String {
    "sim".to_owned()
}

impl HostGroup {
    /// So many hosts of one shape, without anything else.
    pub fn new(name: impl Into<String>, count: u32, vcpus: Vcpus, memory: MiB) -> Self {
        Self {
            name: name.into(),
            count,
            vcpus: vcpus.get(),
            memory_mib: memory.get(),
            disk_gib: 0,
            reserved_memory_mib: 0,
            vcpu_ratio: one(),
            memory_ratio: one(),
            zone: zone(),
            racks: 0,
            aggregate: Default::default(),
            power_watts: None,
        }
    }
}

impl Cluster {
    /// The most hosts of a cluster.
    pub const HOSTS_MAX: u32 = 1_000_000;

    /// The cluster that `config` describes. Hosts have ids from 1 on, in the order of the groups.
    ///
    /// # Errors
    /// [`Invalid`] for no host or more than [`HOSTS_MAX`](Self::HOSTS_MAX), hosts without
    /// processors or memory, two hosts of one name, names that are none, or a number that is out of
    /// its range.
    pub fn new(config: &ClusterConfig) -> Result<Self, Invalid> {
        let all: u64 = config.hosts.iter().map(|group| u64::from(group.count)).sum();
        if !(1..=u64::from(Self::HOSTS_MAX)).contains(&all) {
            return Err(Invalid::new("hosts", all, "1 to 1000000"));
        }
        let (mut rows, mut sites) = (Vec::new(), Vec::new());
        for (nth, group) in config.hosts.iter().enumerate() {
            let earlier = &config.hosts[..nth];
            if earlier.iter().any(|other| other.name == group.name) {
                return Err(Invalid::new("host.name", &group.name, "a name of its own"));
            }
            group.add(nth, &mut rows, &mut sites)?;
        }
        Ok(Self { hosts: HostTable::new(rows), sites, leaving: Vec::new() })
    }

    /// The same, where what `instance` has claimed on `host` is given back `at_s` seconds after the
    /// beginning. Claims for which nobody says so stay. What is not there is given back without
    /// effect.
    #[must_use]
    pub fn with_departure(mut self, host: HostId, instance: InstanceId, at_s: u64) -> Self {
        self.leaving.push(Leaving { at: Moment::of_seconds(at_s), host, instance });
        self
    }

    /// The hosts.
    pub fn hosts(&self) -> &HostTable {
        &self.hosts
    }

    /// The power curves of the hosts that have one.
    pub(crate) fn curves(&self) -> impl Iterator<Item = (HostId, Arc<PowerCurve>)> + '_ {
        self.hosts.slots().filter_map(|slot| {
            let power = self.sites.get(slot.index())?.power.as_ref()?;
            Some((self.hosts.at(slot)?.id, Arc::clone(power)))
        })
    }
}

impl HostGroup {
    fn inventory(&self) -> Result<Inventory, Invalid> {
        if self.vcpus == 0 {
            return Err(Invalid::new("host.vcpus", self.vcpus, "at least 1"));
        }
        if self.memory_mib == 0 {
            return Err(Invalid::new("host.memory", self.memory_mib, "at least 1 MiB"));
        }
        let (vcpus, memory, disk) = (Vcpus(self.vcpus), MiB(self.memory_mib), GiB(self.disk_gib));
        Ok(Inventory::new(Resources { vcpus, memory, disk })
            .with_reserved(ResourceKind::Memory, self.reserved_memory_mib)?
            .with_ratio(ResourceKind::Vcpus, AllocationRatio::new(self.vcpu_ratio)?)
            .with_ratio(ResourceKind::Memory, AllocationRatio::new(self.memory_ratio)?))
    }

    fn add(
        &self,
        nth: usize,
        rows: &mut Vec<HostState>,
        sites: &mut Vec<Site>,
    ) -> Result<(), Invalid> {
        let (inventory, zone) = (self.inventory()?, ZoneName::new(self.zone.as_str())?);
        let power = self.power_watts.clone().map(Arc::new);
        let racks: Vec<Rack> = (0..self.racks.min(self.count))
            .map(|rack| Ok(Rack(Arc::new(Label::new(format!("{}-rack-{}", self.name, rack + 1))?))))
            .collect::<Result<_, Invalid>>()?;
        let first = rows.len();
        for number in 0..self.count {
            let name = HostName::new(format!("{}-{:07}", self.name, number + 1))?;
            let id = HostId::from_u128(rows.len() as u128 + 1);
            rows.push(HostState::new(id, name, zone.clone(), inventory));
            // The first rack holds the first of them.
            let at = u64::from(number) * racks.len() as u64 / u64::from(self.count);
            let rack = racks.get(at as usize).cloned();
            sites.push(Site::new(rack, power.clone()));
        }
        if !self.aggregate.is_empty() {
            let aggregate = Arc::new(Aggregate {
                id: AggregateId::from_u128(nth as u128 + 1),
                name: Label::new(self.name.as_str())?,
                hosts: rows[first..].iter().map(|row| row.id).collect(),
                metadata: AggregateMetadata::try_from(self.aggregate.clone())?,
            });
            rows[first..].iter_mut().for_each(|row| row.aggregates.push(Arc::clone(&aggregate)));
        }
        Ok(())
    }
}

/// So many hosts, all of one shape, numbered from 1, without reserve or over-commit.
///
/// # Errors
/// [`Invalid`] for no host, more than a million, or a host without CPUs or memory.
pub fn uniform_hosts(count: u32, shape: Resources) -> Result<HostTable, Invalid> {
    let group = HostGroup {
        disk_gib: shape.disk.get(),
        ..HostGroup::new("host", count, shape.vcpus, shape.memory)
    };
    Ok(Cluster::new(&ClusterConfig { hosts: vec![group] })?.hosts)
}
