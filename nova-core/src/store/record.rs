//! Which records the cloud keeps, and under which keys.
//!
//! | table | key | record |
//! |---|---|---|
//! | `meta` | `meta/cloud` | [`CloudMeta`] |
//! | `host` | `host/<id>` | [`Host`] |
//! | `host-name` | `host-name/<name>` | [`NameClaim`] |
//! | `ledger` | `ledger/host-<host>`, `ledger/group-<group>`, `ledger/project-<project>`, `ledger/ranges` | [`Ledger`] |
//! | `lingering` | `lingering/<instance>` | [`Lingering`] |
//! | `late-image` | `late-image/<host>/<image>` | [`LateImage`] |
//! | `beat` | `beat/<host>` | [`Beat`] |
//! | `host-images` | `host-images/<host>` | [`HostImages`] |
//! | `aggregate` | `aggregate/<id>` | [`Aggregate`] |
//! | `flavor` | `flavor/<name>` | [`Flavor`] |
//! | `image` | `image/<id>` | [`Image`] |
//! | `key-pair` | `key-pair/<project>/<name>` | [`KeyPair`] |
//! | `network` | `network/<id>` | [`Network`] |
//! | `vlan` | `vlan/<id>` | [`VlanClaim`] |
//! | `mac` | `mac/<mac>` | [`MacClaim`] |
//! | `fixed-ip` | `fixed-ip/<network>/<address>` | [`FixedIp`] |
//! | `port` | `port/<instance>/<index>` | [`Port`] |
//! | `floating-pool` | `floating-pool/<name>` | [`FloatingPool`] |
//! | `floating-ip` | `floating-ip/<address>` | [`FloatingIp`] |
//! | `instance` | `instance/<id>` | [`Instance`] |
//! | `claim` | `claim/<host>/<instance>` | [`Claim`] |
//! | `volume` | `volume/<id>` | [`Volume`] |
//! | `group` | `group/<id>` | [`ServerGroup`] |
//! | `quota` | `quota/<project>` | [`ProjectQuota`] |
//! | `op` | `op/<id>` | [`Operation`] |
//! | `open-op` | `open-op/<id>` | [`OpenOperation`] |
//! | `request` | `request/<scope>/<request id>` | [`Request`] |
//!
//! A ledger holds nothing. It is written by every transaction that takes from a host, a group or
//! a project, or that adds a range of addresses, so that two of them that were decided on the
//! same reading conflict.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::{
    Aggregate, AggregateId, Assigned, ClassAmounts, FixedIp, Flavor, FlavorName, FloatingIp,
    FloatingPool, Host, HostId, HostName, Image, ImageId, Instance, InstanceId, KeyPair,
    KeyPairName, Mac, MacClaim, Network, NetworkId, OpId, Operation, PoolName, Port, ProjectId,
    Quota, RequestId, Resources, SecurityGroup, SecurityGroupId, ServerGroup, ServerGroupId,
    VlanClaim, VlanId, Volume, VolumeId,
};
use crate::store::{Key, Prefix, StoreError, Value};

/// A kind of value with a table of its own, stored as JSON.
pub trait Record:
    serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static
{
    /// The first part of its keys.
    const TABLE: &'static str;

    /// Where it lies.
    fn key(&self) -> Key;

    /// All records of this kind.
    fn all() -> Prefix {
        Prefix::new([Self::TABLE])
    }

    /// Its bytes.
    fn encode(&self) -> Value {
        // Records are plain trees with string keys, which JSON can always hold.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the key and what is wrong.
    fn decode(key: &Key, value: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(value)
            .map_err(|error| StoreError::Corrupt { at: key.to_string(), reason: error.to_string() })
    }
}

macro_rules! records {
    ($($record:ty, $table:literal, |$this:ident| [$($part:expr),+];)+) => {$(
        impl Record for $record {
            const TABLE: &'static str = $table;

            fn key(&self) -> Key {
                let $this = self;
                Key::new([$table, $(&*$part),+])
            }
        }
    )+};
}

records! {
    CloudMeta, "meta", |_m| ["cloud"];
    Host, "host", |h| [h.id.to_string()];
    NameClaim, "host-name", |n| [n.name.as_str()];
    Beat, "beat", |b| [b.host.to_string()];
    HostImages, "host-images", |i| [i.host.to_string()];
    Aggregate, "aggregate", |a| [a.id.to_string()];
    Flavor, "flavor", |f| [f.name().as_str()];
    Image, "image", |i| [i.id.to_string()];
    KeyPair, "key-pair", |k| [k.project.as_str(), k.name.as_str()];
    Network, "network", |n| [n.id.to_string()];
    VlanClaim, "vlan", |v| [format!("{:04}", v.vlan.get())];
    MacClaim, "mac", |m| [m.mac.to_string()];
    FixedIp, "fixed-ip", |a| [a.network.to_string(), address_part(a.address)];
    Port, "port", |p| [p.instance.to_string(), format!("{:03}", p.index)];
    FloatingPool, "floating-pool", |p| [p.name.as_str()];
    FloatingIp, "floating-ip", |f| [address_part(f.address)];
    Instance, "instance", |i| [i.id.to_string()];
    Claim, "claim", |c| [c.host.to_string(), c.instance.to_string()];
    Lingering, "lingering", |l| [l.instance.to_string()];
    LateImage, "late-image", |l| [l.host.to_string(), l.image.to_string()];
    Volume, "volume", |v| [v.id.to_string()];
    ServerGroup, "group", |g| [g.id.to_string()];
    SecurityGroup, "security-group", |g| [g.id.to_string()];
    ProjectQuota, "quota", |q| [q.project.as_str()];
    Operation, "op", |o| [o.id.to_string()];
    OpenOperation, "open-op", |o| [o.operation.to_string()];
    Request, "request", |r| [r.scope.as_str(), r.id.as_str()];
}

impl Record for Ledger {
    const TABLE: &'static str = "ledger";

    fn key(&self) -> Key {
        Key::new([Self::TABLE, self.of.as_str()])
    }
}

/// The part of a key that stands for an address: hex, so that keys sort as addresses do.
fn address_part(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("4-{:08x}", u32::from(v4)),
        IpAddr::V6(v6) => format!("6-{:032x}", u128::from(v6)),
    }
}

/// What the cloud knows of itself.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CloudMeta {
    /// How often a process opened it: each opening draws from a seed of its own, so that ids
    /// never repeat.
    pub openings: u64,
}

/// That a host name is taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NameClaim {
    /// The name.
    pub name: HostName,
    /// By whom.
    pub host: HostId,
}

/// Something that is written whenever its owner's holdings change; see the module.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ledger {
    of: String,
}

impl Ledger {
    /// The ledger of a host's capacity.
    pub fn for_host(host: HostId) -> Self {
        Self { of: format!("host-{host}") }
    }

    /// The ledger of a server group's members.
    pub fn for_group(group: ServerGroupId) -> Self {
        Self { of: format!("group-{group}") }
    }

    /// The ledger of the names of one table, where names are unique.
    pub fn for_names(table: &'static str) -> Self {
        Self { of: format!("names-{table}") }
    }

    /// The ledger of a project's usage.
    pub fn for_project(project: ProjectId) -> Self {
        Self { of: format!("project-{project}") }
    }

    /// The ledger of all ranges of addresses: which networks and floating IP pools there are.
    /// Written when one is added, since two that overlap share no other record.
    pub fn for_ranges() -> Self {
        Self { of: "ranges".to_owned() }
    }
}

/// A sign of life of a host's agent. Only whether it changes matters; it holds no time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Beat {
    /// The host.
    pub host: HostId,
    /// Which start of the agent beats: higher than all before.
    pub epoch: u64,
    /// How often it beat since.
    pub count: u64,
    /// Why the host is not ready, while it is not: it takes no orders, and counts as down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready: Option<String>,
}

/// Which images a host has, as its agent last found them: a hint for whoever chooses a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostImages {
    /// The host.
    pub host: HostId,
    /// What they hold; see [`HostReport::images`](crate::domain::HostReport::images).
    pub images: Arc<BTreeSet<String>>,
}

/// A guest that its server has given up, on hosts that could not be asked whether it is gone: the
/// server was deleted, or a move of it is over or was given up.
///
/// As long as this record is there, the addresses that it may still use and what it takes from
/// those hosts belong to nobody else. Each host is crossed off when its agent has seen that the
/// guest is gone, or when an operator has said that the host is down; with the last one the
/// addresses of a server that does not live on are given back, and their quarantine begins.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lingering {
    /// The guest.
    pub instance: InstanceId,
    /// Where it may be.
    pub hosts: std::collections::BTreeSet<HostId>,
}

/// An image that was given up before it was whole, and the host that may still be storing it.
///
/// The image's own record is gone. What the host stores too late is nobody's, so its agent removes
/// it, and then this record, when nothing works on the guest any more. For a host that is declared
/// down or not registered any more a conductor does it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LateImage {
    /// The host.
    pub host: HostId,
    /// The image.
    pub image: ImageId,
    /// The guest whose disk it was taken of.
    pub instance: InstanceId,
}

/// What an instance takes from a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Claim {
    /// The host.
    pub host: HostId,
    /// The instance.
    pub instance: InstanceId,
    /// How much.
    pub amount: Resources,
    /// How much of resource classes beyond that.
    #[serde(default, skip_serializing_if = "ClassAmounts::is_empty")]
    pub classes: ClassAmounts,
    /// What it has beyond amounts.
    #[serde(default, skip_serializing_if = "Assigned::is_nothing")]
    pub assigned: Assigned,
    /// Whether it was there, rightly, when its host came to offer less than is claimed of it. It
    /// stays then, and is right beyond the host's capacity; what is claimed later has to fit.
    #[serde(default)]
    pub kept: bool,
}

/// The limits of one project, where they are not the default.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProjectQuota {
    /// The project.
    pub project: ProjectId,
    /// Its limits.
    pub quota: Quota,
    /// What the project had when limits below it were set: to have it is no offence, to get more
    /// is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub had: Option<(u64, Resources)>,
}

/// That an operation is not final yet: what a recovery has to look at, without reading every
/// operation there ever was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OpenOperation {
    /// The operation.
    pub operation: OpId,
}

/// A write that was accepted under a request id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// Whose ids they are: a project, or the administrators together.
    pub scope: String,
    /// The caller's id of the write.
    pub id: RequestId,
    /// SHA-256 of what was asked, in hex: the same id with other content is refused.
    pub digest: String,
    /// What was answered.
    pub answer: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

/// Where records lie, for those who know their identity but do not have them.
pub mod keys {
    use super::{
        AggregateId, Beat, Claim, CloudMeta, FixedIp, Flavor, FlavorName, FloatingIp, FloatingPool,
        Host, HostId, HostImages, HostName, Image, ImageId, Instance, InstanceId, IpAddr, Key,
        KeyPair, KeyPairName, LateImage, Lingering, Mac, MacClaim, NameClaim, Network, NetworkId,
        OpId, OpenOperation, Operation, PoolName, Port, Prefix, ProjectId, ProjectQuota, Record,
        Request, RequestId, SecurityGroup, SecurityGroupId, ServerGroup, ServerGroupId, VlanClaim,
        VlanId, Volume, VolumeId, address_part,
    };
    use crate::domain::Aggregate;

    macro_rules! keys {
        ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*), $record:ty, [$($part:expr),+];)+)
        => {$(
            $(#[$doc])*
            pub fn $name($($arg: $type),*) -> Key {
                Key::new([<$record as Record>::TABLE, $(&*$part),+])
            }
        )+};
    }

    keys! {
        /// Of the [`CloudMeta`].
        cloud_meta(), CloudMeta, ["cloud"];
        /// Of a [`Host`].
        host(id: HostId), Host, [id.to_string()];
        /// Of a [`NameClaim`].
        host_name(name: &HostName), NameClaim, [name.as_str()];
        /// Of a [`Beat`].
        beat(host: HostId), Beat, [host.to_string()];
        /// Of a [`HostImages`].
        host_images(host: HostId), HostImages, [host.to_string()];
        /// Of an [`Aggregate`].
        aggregate(id: AggregateId), Aggregate, [id.to_string()];
        /// Of a [`Flavor`].
        flavor(name: &FlavorName), Flavor, [name.as_str()];
        /// Of an [`Image`].
        image(id: ImageId), Image, [id.to_string()];
        /// Of a [`KeyPair`].
        key_pair(project: &ProjectId, name: &KeyPairName), KeyPair,
            [project.as_str(), name.as_str()];
        /// Of a [`Network`].
        network(id: NetworkId), Network, [id.to_string()];
        /// Of a [`VlanClaim`].
        vlan(id: VlanId), VlanClaim, [format!("{:04}", id.get())];
        /// Of a [`MacClaim`].
        mac(mac: Mac), MacClaim, [mac.to_string()];
        /// Of a [`FixedIp`].
        fixed_ip(network: NetworkId, address: IpAddr), FixedIp,
            [network.to_string(), address_part(address)];
        /// Of a [`Port`].
        port(instance: InstanceId, index: u8), Port,
            [instance.to_string(), format!("{index:03}")];
        /// Of a [`FloatingPool`].
        floating_pool(name: &PoolName), FloatingPool, [name.as_str()];
        /// Of a [`FloatingIp`].
        floating_ip(address: IpAddr), FloatingIp, [address_part(address)];
        /// Of an [`Instance`].
        instance(id: InstanceId), Instance, [id.to_string()];
        /// Of a [`Claim`].
        claim(host: HostId, instance: InstanceId), Claim,
            [host.to_string(), instance.to_string()];
        /// Of a [`Lingering`].
        lingering(instance: InstanceId), Lingering, [instance.to_string()];
        /// Of a [`LateImage`].
        late_image(host: HostId, image: ImageId), LateImage,
            [host.to_string(), image.to_string()];
        /// Of a [`Volume`].
        volume(id: VolumeId), Volume, [id.to_string()];
        /// Of a [`ServerGroup`].
        group(id: ServerGroupId), ServerGroup, [id.to_string()];
        /// Of a [`SecurityGroup`].
        security_group(id: SecurityGroupId), SecurityGroup, [id.to_string()];
        /// Of a [`ProjectQuota`].
        quota(project: &ProjectId), ProjectQuota, [project.as_str()];
        /// Of an [`Operation`].
        operation(id: OpId), Operation, [id.to_string()];
        /// Of an [`OpenOperation`].
        open_operation(id: OpId), OpenOperation, [id.to_string()];
        /// Of a [`Request`].
        request(scope: &str, id: &RequestId), Request, [scope, id.as_str()];
    }

    /// The claims on one host.
    pub fn claims_on(host: HostId) -> Prefix {
        Prefix::new([Claim::TABLE, &host.to_string()])
    }

    /// The images that one host may store too late.
    pub fn late_images_of(host: HostId) -> Prefix {
        Prefix::new([LateImage::TABLE, &host.to_string()])
    }

    /// Of the [`Ledger`](super::Ledger) of a host.
    pub fn host_ledger(host: HostId) -> Key {
        super::Ledger::for_host(host).key()
    }

    /// Of the [`Ledger`](super::Ledger) of a server group.
    pub fn group_ledger(group: ServerGroupId) -> Key {
        super::Ledger::for_group(group).key()
    }

    /// Of the [`Ledger`](super::Ledger) of a project.
    pub fn project_ledger(project: &ProjectId) -> Key {
        super::Ledger::for_project(project.clone()).key()
    }

    /// The interfaces of one instance.
    pub fn ports_of(instance: InstanceId) -> Prefix {
        Prefix::new([Port::TABLE, &instance.to_string()])
    }

    /// The addresses of one network that are not free.
    pub fn fixed_ips_of(network: NetworkId) -> Prefix {
        Prefix::new([FixedIp::TABLE, &network.to_string()])
    }

    /// The key pairs of one project.
    pub fn key_pairs_of(project: &ProjectId) -> Prefix {
        Prefix::new([KeyPair::TABLE, project.as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_addresses_sort_as_addresses() {
        let network = NetworkId::from_u128(1);
        let key = |text: &str| keys::fixed_ip(network, text.parse().unwrap());
        assert!(key("10.0.0.2") < key("10.0.0.10"));
        assert!(key("255.0.0.1") < key("::1"));
    }

    #[test]
    fn a_claim_that_was_stored_before_there_were_classes_and_devices_is_read() {
        let text = r#"{"host":"00000000-0000-0000-0000-000000000001",
            "instance":"00000000-0000-0000-0000-000000000002",
            "amount":{"vcpus":1,"memory":512,"disk":0}}"#;
        let claim: Claim = serde_json::from_str(text).unwrap();
        assert_eq!(claim.amount.memory.get(), 512);
        assert!(claim.classes.is_empty() && claim.assigned.is_nothing() && !claim.kept);
        let text = serde_json::to_string(&claim).unwrap();
        assert!(!text.contains("classes") && !text.contains("assigned"), "{text}");
    }

    #[test]
    fn a_record_lies_where_its_key_function_says() {
        let claim = Claim {
            host: HostId::from_u128(1),
            instance: InstanceId::from_u128(2),
            amount: Resources::ZERO,
            classes: ClassAmounts::default(),
            assigned: Assigned::default(),
            kept: false,
        };
        assert_eq!(claim.key(), keys::claim(claim.host, claim.instance));
        assert!(keys::claims_on(claim.host).covers(&claim.key()));
    }

    #[test]
    fn a_value_that_is_no_record_is_named_corrupt() {
        let key = keys::cloud_meta();
        assert!(matches!(CloudMeta::decode(&key, b"{"), Err(StoreError::Corrupt { .. })));
    }
}
