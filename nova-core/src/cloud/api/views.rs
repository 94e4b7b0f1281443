//! What users are shown.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cloud::view::View;
use crate::domain::{
    ClassAmounts, FloatingPool, Host, HostId, HostName, Instance, InstanceId, Label, Liveness,
    NetworkId, OpId, Port, Resources, VolumeId,
};
use crate::store::record::keys;

/// The answer to a write that goes on as an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Accepted<T> {
    /// What it is about.
    pub id: T,
    /// The operation that does it.
    pub operation: OpId,
}

/// A server with everything that belongs to it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Server {
    /// Its record.
    pub instance: Instance,
    /// The name of the host it is on.
    pub host: Option<HostName>,
    /// Its interfaces, in order.
    pub ports: Vec<Port>,
    /// Its floating IPs, sorted.
    pub floating_ips: Vec<IpAddr>,
    /// Its volumes, sorted.
    pub volumes: Vec<VolumeId>,
}

impl Server {
    pub(crate) fn of(view: &View, instance: &Instance) -> Self {
        let host = instance.host.and_then(|host| view.hosts.get(&keys::host(host)));
        Self {
            host: host.map(|host| host.value.name.clone()),
            ports: view.ports_of(instance.id).cloned().collect(),
            floating_ips: view.led_to(instance.id).map(|f| f.value.address).collect(),
            volumes: view.volumes_of(instance.id).map(|volume| volume.value.id).collect(),
            instance: instance.clone(),
        }
    }
}

/// A host with what is on it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct HostStatus {
    /// Its record.
    pub host: Host,
    /// Whether it answers.
    pub liveness: Liveness,
    /// Why its agent is not ready, while it is not: it could not put the host in order after a
    /// start, and tries again.
    pub unready: Option<String>,
    /// What is claimed on it.
    pub used: Resources,
    /// What is claimed on it of resource classes beyond CPUs, memory and disk.
    pub used_classes: ClassAmounts,
    /// Who claims it, sorted.
    pub instances: Vec<InstanceId>,
}

/// How full a network is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct NetworkUse {
    /// The network.
    pub network: NetworkId,
    /// Its name.
    pub name: Label,
    /// Addresses that servers have.
    pub owned: usize,
    /// Addresses that rest before they are handed out again.
    pub resting: usize,
    /// Addresses that the network keeps for itself.
    pub reserved: usize,
}

/// How full a pool of floating IPs is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PoolUse {
    /// The pool.
    pub pool: FloatingPool,
    /// Addresses that projects have.
    pub owned: usize,
    /// Those of them that lead to a server.
    pub leading: usize,
    /// Addresses that rest before they are handed out again.
    pub resting: usize,
}

/// How many records of each kind there are, and what is claimed on each host: what has to be the
/// same again when everything that was made is gone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Census {
    /// Records by table. The journal, request ids, ledgers and signs of life are left out: they
    /// tell of the past.
    pub records: BTreeMap<&'static str, usize>,
    /// Addresses and VLANs that nobody has any more and that are not handed out yet, by table.
    /// They are no part of [`records`](Self::records).
    pub resting: BTreeMap<&'static str, usize>,
    /// What is claimed on each host.
    pub used: BTreeMap<HostId, Resources>,
}
