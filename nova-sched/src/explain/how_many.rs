//! How many more servers there is room for.

use std::any::Any;

use nova_core::domain::{
    GroupPolicy, HostId, HostName, HostState, HostTable, InstanceId, RequestSpec, ResourceClass,
    ResourceKind,
};

use crate::filters::Capacity;
use crate::{Filter, FilterScheduler};

/// How many more servers of one kind there is room for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Room {
    /// On all hosts together. Of a group whose members stay together and are nowhere yet: on the
    /// host where most fit.
    pub total: u64,
    /// On each host, in the order of ids.
    pub hosts: Vec<HostRoom>,
}

/// How many more servers one host has room for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostRoom {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// How many.
    pub count: u64,
    /// Why not one more.
    pub limit: Limit,
}

/// What keeps one more server from a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// There is not enough of this left, or the host never gives out so much at once.
    Resource(ResourceKind),
    /// Likewise, of a resource class beyond CPUs, memory and disk.
    Class(ResourceClass),
    /// A filter refuses it.
    Filter {
        /// The filter.
        filter: String,
        /// What it says.
        reason: String,
    },
    /// Nothing, up to [`Room::COUNT_MAX`].
    Nothing,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource(kind) => write!(f, "too little {kind}"),
            Self::Class(class) => write!(f, "too little {class}"),
            Self::Filter { filter, reason } => write!(f, "{filter}: {reason}"),
            Self::Nothing => f.write_str("nothing in the way"),
        }
    }
}

/// What a host lacks of what the request wants.
fn lacking(row: &HostState, request: &RequestSpec) -> Option<Limit> {
    let kind = row.lacks(&request.flavor.resources()).map(Limit::Resource);
    let class = || row.lacks_class(request.flavor.classes().ok()?).cloned().map(Limit::Class);
    kind.or_else(class)
}

impl Room {
    /// No host is counted further.
    pub const COUNT_MAX: u64 = 1 << 16;
}

impl FilterScheduler {
    /// How many more servers like the first instance of `request` there is room for when they are
    /// asked for one after the other, on each host and in all, and what keeps one more away.
    ///
    /// Every filter of the policy is asked before each of them, so that the count is exact: units
    /// and ratios, NUMA cells, devices, limits of I/O, rules of the server group that they join.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use nova_core::domain::*;
    /// use nova_sched::FilterScheduler;
    /// use nova_sched::explain::Limit;
    ///
    /// # let total = Resources { vcpus: Vcpus(8), memory: MiB(4096), disk: GiB(10) };
    /// # let (name, zone) = (HostName::new("host-1")?, ZoneName::new("z")?);
    /// # let host = HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total));
    /// # let hosts = HostTable::new([host]);
    /// // The host has 8 vCPUs and 4096 MiB.
    /// let flavor = Arc::new(Flavor::new(FlavorName::new("small")?, Vcpus(1), MiB(1000))?);
    /// let request = RequestSpec::new(InstanceId::from_u128(1), ProjectId::new("p")?, flavor);
    /// let room = FilterScheduler::best_fit().how_many_fit(&hosts, &request);
    /// assert_eq!((room.total, &room.hosts[0].limit), (4, &Limit::Resource(ResourceKind::Memory)));
    /// # Ok::<(), Invalid>(())
    /// ```
    pub fn how_many_fit(&self, hosts: &HostTable, request: &RequestSpec) -> Room {
        let stages = self.stages(request, 0);
        let on_host = |row: &HostState| {
            let (count, limit) = self.fill(&stages, row, request);
            HostRoom { host: row.id, name: row.name.clone(), count, limit }
        };
        let hosts: Vec<HostRoom> = hosts.rows().map(on_host).collect();
        let counts = hosts.iter().map(|host| host.count);
        let one_host = request
            .group
            .as_ref()
            .is_some_and(|group| group.policy == GroupPolicy::Affinity && group.hosts.is_empty());
        let total = if one_host { counts.max().unwrap_or(0) } else { counts.sum() };
        Room { total, hosts }
    }

    /// How many servers go onto a host, and what keeps one more away.
    fn fill(
        &self,
        stages: &[(usize, &dyn Filter)],
        row: &HostState,
        request: &RequestSpec,
    ) -> (u64, Limit) {
        let (mut row, mut request) = (row.clone(), request.clone());
        let mut ids = (0..=u128::MAX).rev().map(InstanceId::from_u128);
        for count in 0..Room::COUNT_MAX {
            let next = ids.find(|id| !row.has_instance(*id));
            request.instances = next.into_iter().collect();
            let refusal = stages.iter().find_map(|(_, filter)| {
                let reason = filter.check(&row, &request).refusal()?;
                let full = (*filter as &dyn Any).is::<Capacity>();
                Some(full.then(|| lacking(&row, &request)).flatten().unwrap_or_else(|| {
                    let (filter, reason) = (filter.name().to_owned(), reason.0.to_owned());
                    Limit::Filter { filter, reason }
                }))
            });
            if let Some(limit) = refusal {
                return (count, limit);
            }
            self.consume(&mut row, &request);
            if let Some(group) = &mut request.group {
                group.join(row.id);
            }
        }
        (Room::COUNT_MAX, Limit::Nothing)
    }
}
