//! What a scheduler is asked for, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::{
    Flavor, GuestTopology, HostId, HostName, ImageId, ImageProperties, InstanceId, Invalid,
    PciRequest, ProjectId, ResourceKind, ServerGroupId, ZoneName,
};

/// How the members of a server group should lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GroupPolicy {
    /// All on one host.
    Affinity,
    /// At most [`max_per_host`](GroupView::max_per_host) on a host.
    AntiAffinity,
    /// On one host where possible.
    SoftAffinity,
    /// Apart where possible.
    SoftAntiAffinity,
}

/// A server group as a filter sees it: the rule, and where its members are now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupView {
    /// The id.
    pub id: ServerGroupId,
    /// The rule.
    pub policy: GroupPolicy,
    /// How many members one host may have under [`GroupPolicy::AntiAffinity`]; at least 1.
    pub max_per_host: u32,
    /// How many members each host has; hosts without any are absent.
    pub members_by_host: BTreeMap<HostId, u32>,
    /// The hosts of its members, of those too that are just being placed.
    #[serde(default)]
    pub hosts: BTreeSet<HostId>,
}

impl GroupView {
    /// A group of which nobody is anywhere yet.
    pub fn new(id: ServerGroupId, policy: GroupPolicy, max_per_host: u32) -> Self {
        let (members_by_host, hosts) = Default::default();
        Self { id, policy, max_per_host, members_by_host, hosts }
    }

    /// One more member is on `host`.
    pub fn join(&mut self, host: HostId) {
        *self.members_by_host.entry(host).or_default() += 1;
        self.hosts.insert(host);
    }

    /// How many members are on `host`.
    pub fn members_on(&self, host: HostId) -> u32 {
        self.members_by_host.get(&host).copied().unwrap_or(0)
    }
}

/// Wishes that come with one request to create.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SchedulerHints {
    /// Only hosts that have one of these.
    pub same_host: BTreeSet<InstanceId>,
    /// Only hosts that have none of these.
    pub different_host: BTreeSet<InstanceId>,
    /// Words for filters that are not ours, by name.
    pub custom: BTreeMap<String, Vec<String>>,
}

impl SchedulerHints {
    /// Servers that one list may name.
    pub const SERVERS_MAX: usize = 128;
    /// Names of custom hints.
    pub const CUSTOM_MAX: usize = 64;
    /// Words of one custom hint.
    pub const WORDS_MAX: usize = 32;
    /// Bytes of a name or a word.
    pub const WORD_BYTES_MAX: usize = 255;

    /// Whether there is not too much of anything: hints are kept with the server and read for
    /// every host.
    ///
    /// # Errors
    /// [`Invalid`] names what there is too much of.
    pub fn check(&self) -> Result<(), Invalid> {
        for (field, servers) in
            [("hints.same_host", &self.same_host), ("hints.different_host", &self.different_host)]
        {
            if servers.len() > Self::SERVERS_MAX {
                return Err(Invalid::new(field, servers.len(), "at most 128 servers"));
            }
        }
        if self.custom.len() > Self::CUSTOM_MAX {
            return Err(Invalid::new("hints.custom", self.custom.len(), "at most 64 names"));
        }
        let plain =
            |text: &str| text.len() <= Self::WORD_BYTES_MAX && !text.chars().any(char::is_control);
        for (name, words) in &self.custom {
            if name.is_empty() || !plain(name) {
                let allowed = "1 to 255 bytes without control characters";
                return Err(Invalid::new("hints.custom name", name, allowed));
            }
            if words.len() > Self::WORDS_MAX {
                return Err(Invalid::new("hints.custom words", words.len(), "at most 32 words"));
            }
            if let Some(word) = words.iter().find(|word| !plain(word)) {
                let allowed = "at most 255 bytes without control characters";
                return Err(Invalid::new("hints.custom word", word, allowed));
            }
        }
        Ok(())
    }
}

/// One question to the scheduler: hosts for these instances, all alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RequestSpec {
    /// The instances to place, in the order in which hosts are given out. At least one.
    pub instances: Vec<InstanceId>,
    /// Who asks.
    pub project: ProjectId,
    /// Their size.
    pub flavor: Arc<Flavor>,
    /// Properties of the image they start from.
    pub image: ImageProperties,
    /// Only hosts of this zone.
    pub zone: Option<ZoneName>,
    /// Wishes.
    pub hints: SchedulerHints,
    /// The server group they join.
    pub group: Option<GroupView>,
    /// Hosts where an earlier attempt of this request failed.
    pub tried: BTreeSet<HostId>,
    /// Among how many of the best hosts chance has to decide at least, where there are so many:
    /// more than 1 when others are choosing at the same time, who would choose the same. 0 and 1
    /// leave it to the scheduler.
    #[serde(default)]
    pub among: usize,
    /// The image they start from; none when they start from a volume.
    #[serde(default)]
    pub image_id: Option<ImageId>,
    /// What that image holds, as SHA-256 in lower-case hex; none where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_sha256: Option<String>,
    /// What the host is wanted for.
    #[serde(default)]
    pub purpose: Purpose,
    /// Where they should go, as far as that is known.
    #[serde(default)]
    pub destination: Option<Destination>,
    /// Hosts that are not wanted, by name; upper and lower case are the same.
    #[serde(default)]
    pub ignore_hosts: Vec<HostName>,
    /// Only these hosts, by name, and no filter is asked; upper and lower case are the same.
    #[serde(default)]
    pub force_hosts: Vec<HostName>,
    /// Only hosts with these hypervisor names, and no filter is asked.
    #[serde(default)]
    pub force_nodes: Vec<String>,
    /// The NUMA cells that each of them wants.
    #[serde(default)]
    pub numa: Option<Arc<GuestTopology>>,
    /// The PCI devices that each of them wants.
    #[serde(default)]
    pub pci: Vec<PciRequest>,
}

/// What a host is wanted for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// A server that is to come there.
    #[default]
    Place,
    /// A server that is there and gets another image: only what depends on the image is asked.
    Rebuild,
    /// To be looked at: filters are asked although hosts are forced.
    Check,
}

/// Where servers should go, as far as that is known.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Destination {
    /// Only this host.
    pub host: Option<HostName>,
    /// Only this hypervisor of that host.
    pub node: Option<String>,
    /// The cell they come from, which weighers may prefer.
    pub cell: Option<String>,
    /// Whether they may leave that cell.
    pub allow_cross_cell_move: bool,
}

impl RequestSpec {
    /// A request for one instance of `flavor`, without wishes.
    pub fn new(instance: InstanceId, project: ProjectId, flavor: Arc<Flavor>) -> Self {
        Self {
            instances: vec![instance],
            project,
            flavor,
            image: ImageProperties::default(),
            zone: None,
            hints: SchedulerHints::default(),
            group: None,
            tried: BTreeSet::new(),
            among: 1,
            image_id: None,
            image_sha256: None,
            purpose: Purpose::Place,
            destination: None,
            ignore_hosts: Vec::new(),
            force_hosts: Vec::new(),
            force_nodes: Vec::new(),
            numa: None,
            pci: Vec::new(),
        }
    }
}

/// The answer to a request: a host for each instance, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placement {
    /// One host for each instance.
    pub hosts: Vec<HostId>,
}

/// Why there is no host: how many were left after each filter, and what each filter said.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Funnel {
    /// The filters in the order they ran, up to the one that left none.
    pub stages: Vec<FunnelStage>,
}

/// One filter's part in a [`Funnel`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FunnelStage {
    /// The filter's name.
    pub filter: String,
    /// Hosts that came to it.
    pub hosts_in: usize,
    /// Hosts that it let through.
    pub hosts_out: usize,
    /// How many hosts it refused for which reason.
    pub reasons: BTreeMap<String, usize>,
}

impl std::fmt::Display for Funnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, stage) in self.stages.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} {} -> {}", stage.filter, stage.hosts_in, stage.hosts_out)?;
            for (nth, (reason, count)) in stage.reasons.iter().enumerate() {
                write!(f, "{}{reason}: {count}", if nth == 0 { " (" } else { "; " })?;
            }
            if !stage.reasons.is_empty() {
                f.write_str(")")?;
            }
        }
        Ok(())
    }
}

/// A host that nearly fitted: it passed every filter but one, or as many as any host did.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NearMiss {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// The filters that refused it, each with its reason.
    pub refused_by: BTreeMap<String, String>,
    /// What it lacks of each resource, in the resource's unit; only what is short.
    pub short_of: BTreeMap<ResourceKind, u64>,
}

/// A change of the request after which at least one host would have fitted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// A smaller flavor: at most this much of one resource.
    Shrink {
        /// The resource.
        resource: ResourceKind,
        /// How much was asked for.
        from: u64,
        /// How much would fit.
        to: u64,
    },
    /// The request without its zone.
    AnyZone,
    /// The request without a word about which hosts: no destination, none forced, none ignored.
    AnyHost,
    /// The request without its server group.
    WithoutGroup,
    /// The request without its scheduler hints.
    WithoutHints,
    /// The request without these extra specs of the flavor.
    WithoutExtraSpecs,
    /// The request with an image that has no properties.
    WithoutImageProperties,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shrink { resource, from, to } => {
                let unit = match resource {
                    ResourceKind::Vcpus => "",
                    ResourceKind::Memory => " MiB",
                    ResourceKind::Disk => " GiB",
                };
                write!(f, "ask for {to}{unit} of {resource} instead of {from}{unit}")
            }
            Self::AnyZone => f.write_str("allow any availability zone"),
            Self::AnyHost => f.write_str("allow any host"),
            Self::WithoutGroup => f.write_str("leave the server group out"),
            Self::WithoutHints => f.write_str("leave the scheduler hints out"),
            Self::WithoutExtraSpecs => f.write_str("leave the flavor's extra specs out"),
            Self::WithoutImageProperties => f.write_str("use an image without properties"),
        }
    }
}

/// All that can be said about a request that found no host.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// Filter by filter.
    pub funnel: Funnel,
    /// The hosts that came closest, nearest first.
    pub nearest: Vec<NearMiss>,
    /// The smallest change that would have helped: verified by asking again. Absent when no
    /// single change would have.
    pub smallest_change: Option<Vec<Change>>,
}
