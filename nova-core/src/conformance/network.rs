//! Laws of [`NetworkManager`] and [`FloatingIps`].
//!
//! ```
//! # use std::sync::Arc;
//! # use nova_core::memory::{MemoryNetworks, VirtualClock};
//! # use nova_core::{conformance::network::Subject, seed::Seed, store::{MemoryStore, Store}};
//! nova_core::network_laws!(async {
//!     let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
//!     let clock = Arc::new(VirtualClock::new());
//!     let manager = MemoryNetworks::new(Arc::clone(&store), clock.clone(), Seed::new(1));
//!     Subject::new(Arc::new(manager), store, move |time| clock.advance(time))
//! });
//! # fn main() {}
//! ```
//!
//! The laws of floating IPs hold trivially for a manager that has none.

mod floating;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::domain::{
    HostId, InstanceId, InterfaceName, Label, Network, NetworkKind, Port, ProjectId,
    SecurityGroupId,
};
use crate::port::{FloatingIps, NetError, NetworkManager, NetworkSpec, PortRequest};
use crate::store::{Draft, Prefix, Revision, Scan, Store, StoreError};

pub use floating::*;

/// A fresh network manager with everything that the laws need besides.
pub struct Subject {
    /// The manager.
    pub manager: Arc<dyn NetworkManager>,
    /// The store that it reads, and that its drafts are committed to.
    pub store: Arc<dyn Store>,
    /// Moves the manager's clock on.
    pub advance: Box<dyn Fn(Duration) + Send + Sync>,
    /// The kind of network to try; a manager that leads floating IPs does so on it.
    pub kind: NetworkKind,
    /// How long an address rests.
    pub quarantine: Duration,
}

impl Subject {
    /// A manager whose addresses rest for 60 seconds, tried with Flat-DHCP networks.
    pub fn new(
        manager: Arc<dyn NetworkManager>,
        store: Arc<dyn Store>,
        advance: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        let advance = Box::new(advance);
        let quarantine = Duration::from_secs(60);
        Self { manager, store, advance, kind: NetworkKind::FlatDhcp, quarantine }
    }

    /// Tries networks of this kind.
    #[must_use]
    pub fn with_kind(self, kind: NetworkKind) -> Self {
        Self { kind, ..self }
    }

    /// Expects this quarantine.
    #[must_use]
    pub fn with_quarantine(self, quarantine: Duration) -> Self {
        Self { quarantine, ..self }
    }

    fn floating(&self) -> Option<&dyn FloatingIps> {
        self.manager.floating_ips()
    }

    async fn commit<T>(&self, draft: Draft<T>) -> Result<T, StoreError> {
        self.store.commit(draft.txn).await.map(|_| draft.value)
    }

    fn spec(&self, cidr: &str) -> NetworkSpec {
        let spec = NetworkSpec::new(good(Label::new("net")), self.kind, cidr_of(cidr));
        // A VLAN needs something to lie on.
        spec.with_parent(good(InterfaceName::new("eth1")))
    }

    async fn network(&self, cidr: &str) -> Network {
        let draft = good(self.manager.create_networks(&self.spec(cidr)).await);
        let mut networks = good(self.commit(draft).await);
        assert_eq!(networks.len(), 1, "one network was asked for");
        networks.remove(0)
    }

    async fn draft_ports(&self, n: u128) -> Result<Draft<Vec<Port>>, NetError> {
        self.draft_ports_at(n, n).await
    }

    async fn draft_ports_at(&self, n: u128, host: u128) -> Result<Draft<Vec<Port>>, NetError> {
        let request = PortRequest {
            instance: instance(n),
            project: project(),
            networks: vec![],
            security_groups: BTreeSet::from([SecurityGroupId::from_u128(n)]),
            host: HostId::from_u128(host),
        };
        self.manager.reserve(&request).await
    }

    async fn ports(&self, n: u128) -> Vec<Port> {
        good(self.commit(good(self.draft_ports(n).await)).await)
    }

    async fn release(&self, n: u128) {
        let draft = good(self.manager.release(instance(n)).await);
        good(self.commit(draft).await);
    }

    /// Reserves for instances `1..` until there is no address left, and returns the addresses.
    async fn fill(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for n in 1..=SIZE {
            match self.draft_ports(n).await {
                Ok(draft) => addresses.push(good(self.commit(draft).await)[0].address),
                Err(NetError::NoMoreAddresses { .. }) => return addresses,
                Err(error) => panic!("an address or that there is none: {error}"),
            }
        }
        panic!("a network of {SIZE} addresses has given out {}", addresses.len());
    }

    /// Everything in the store, to compare.
    async fn everything(&self) -> Vec<(String, Revision)> {
        let page = good(self.store.scan(Scan::new(Prefix::all())).await);
        page.entries.into_iter().map(|entry| (entry.key.to_string(), entry.revision)).collect()
    }
}

/// The size of the networks that are tried.
const SIZE: u128 = 16;
const CIDR: &str = "10.0.0.0/28";

/// Of two drafts that hand out the same address, VLAN or MAC only one commits.
pub async fn an_address_has_one_owner(subject: Subject) {
    let first = good(subject.manager.create_networks(&subject.spec(CIDR)).await);
    let second = good(subject.manager.create_networks(&subject.spec(CIDR)).await);
    good(subject.commit(first).await);
    conflicts(subject.commit(second).await, "two networks over the same range");

    let mut owned = BTreeSet::new();
    let mut macs = BTreeSet::new();
    for n in [1, 3, 5] {
        let one = good(subject.draft_ports(n).await);
        let other = good(subject.draft_ports(n + 1).await);
        let same = one.value[0].address == other.value[0].address;
        let mut given = good(subject.commit(one).await);
        match subject.commit(other).await {
            Ok(_) if same => panic!("both were given {:?}", given[0].address),
            Ok(ports) => given.extend(ports),
            // Also about something else: the first may have made a network its project's own.
            Err(StoreError::Conflict { .. }) => given.extend(subject.ports(n + 1).await),
            Err(error) => panic!("a conflict, or none: {error}"),
        }
        for port in given {
            assert!(owned.insert(port.address), "{} has two owners", port.address);
            assert!(macs.insert(port.mac), "{} has two owners", port.mac);
        }
    }
    // The same for an address that had an owner before.
    let all = subject.fill().await;
    owned.extend(all.iter().copied());
    assert_eq!(owned.len(), all.len(), "each of them was given once");
    subject.release(1).await;
    (subject.advance)(subject.quarantine);
    let one = good(subject.draft_ports(101).await);
    let other = good(subject.draft_ports(102).await);
    good(subject.commit(one).await);
    conflicts(subject.commit(other).await, "one rested address for two");
}

/// An instance that has ports is given those.
pub async fn reserve_twice_gives_the_same_ports(subject: Subject) {
    subject.network(CIDR).await;
    let early = good(subject.draft_ports(1).await);
    let first = subject.ports(1).await;
    assert!(!first.is_empty());
    let before = subject.everything().await;
    assert_eq!(subject.ports(1).await, first);
    assert_eq!(subject.everything().await, before, "giving the same again changes nothing");
    conflicts(subject.commit(early).await, "two reservations for one instance");
}

/// A server's interfaces are in the security groups that it is in.
pub async fn ports_are_in_the_groups_of_their_server(subject: Subject) {
    subject.network(CIDR).await;
    for n in [1, 2] {
        let groups = BTreeSet::from([SecurityGroupId::from_u128(n)]);
        for port in subject.ports(n).await {
            assert_eq!(port.security_groups, groups, "of server {n}");
        }
    }
}

/// With IPv6 that is the one that the guest makes of its Ethernet address.
pub async fn a_port_has_an_address_of_each_range_of_its_network(subject: Subject) {
    let range = good("2001:db8:0:4::/62".parse());
    let spec = subject.spec("10.0.0.0/24").with_ipv6(range);
    let draft = good(subject.manager.create_networks(&spec).await);
    let network = good(subject.commit(draft).await).remove(0);
    let Some(own) = network.cidr_v6 else { panic!("a range of IPv6 was asked for") };
    assert!(own.prefix() == 64 && own.is_subnet_of(range), "{own}");
    let port = subject.ports(1).await.remove(0);
    assert!(network.cidr.contains(port.address));
    assert_eq!(port.address_v6, Some(port.mac.address_in(own)));
}

/// Holding nothing is success and changes nothing.
pub async fn release_is_repeatable(subject: Subject) {
    subject.network(CIDR).await;
    subject.ports(1).await;
    subject.release(1).await;
    let before = subject.everything().await;
    subject.release(1).await;
    subject.release(2).await;
    assert_eq!(subject.everything().await, before);
}

/// An address is not handed out again before its quarantine has passed.
pub async fn a_released_address_rests(subject: Subject) {
    subject.network(CIDR).await;
    let all = subject.fill().await;
    subject.release(1).await;
    exhausted(subject.draft_ports(101).await, "at once");
    (subject.advance)(subject.quarantine - Duration::from_nanos(1));
    exhausted(subject.draft_ports(101).await, "just before the end");
    (subject.advance)(Duration::from_nanos(1));
    assert_eq!(subject.ports(101).await[0].address, all[0]);
}

/// Network, broadcast, gateway, DHCP and VPN addresses are never handed out.
pub async fn reserved_addresses_are_never_handed_out(subject: Subject) {
    let network = subject.network(CIDR).await;
    let all = subject.fill().await;
    let kept = [Some(network.cidr.network()), Some(network.cidr.broadcast()), network.gateway]
        .into_iter()
        .chain([network.dhcp_server, network.vpn])
        .flatten()
        .collect::<BTreeSet<_>>();
    for address in &all {
        assert!(network.cidr.contains(*address), "{address} is not in {}", network.cidr);
        assert!(!kept.contains(address), "{address} is reserved");
        assert!(*address >= network.first_guest, "{address} is below the first guest's");
    }
    assert_eq!(all.len() + kept.len(), 16, "every other address is handed out");
}

/// A network without a free address is named so, and nothing has been taken.
pub async fn an_exhausted_network_says_so(subject: Subject) {
    subject.network(CIDR).await;
    subject.fill().await;
    let before = subject.everything().await;
    exhausted(subject.draft_ports(101).await, "when all are owned");
    assert_eq!(subject.everything().await, before);
}

/// A network in which a server has an address stays, also when both happen at once.
pub async fn a_network_in_use_is_not_deleted(subject: Subject) {
    let network = subject.network(CIDR).await;
    let delete = || subject.manager.delete_network(network.id);

    let early = good(delete().await);
    subject.ports(1).await;
    conflicts(subject.commit(early).await, "deleting what was taken meanwhile");
    assert!(matches!(delete().await, Err(NetError::InUse { .. })), "a server has an address");

    // Once more with an address that had an owner before.
    subject.release(1).await;
    (subject.advance)(subject.quarantine);
    let early = good(delete().await);
    subject.ports(2).await;
    conflicts(subject.commit(early).await, "deleting what was taken meanwhile");

    subject.release(2).await;
    let late = good(subject.draft_ports(3).await);
    good(subject.commit(good(delete().await)).await);
    conflicts(subject.commit(late).await, "an address in a network that is gone");
    assert!(matches!(delete().await, Err(NetError::NoSuchNetwork { .. })));
}

/// Converging twice is success, and records do not change by it.
pub async fn converge_is_repeatable(subject: Subject) {
    subject.network(CIDR).await;
    subject.ports(1).await;
    let before = subject.everything().await;
    for host in [1, 2, 1, 1] {
        good(subject.manager.converge(HostId::from_u128(host)).await);
    }
    assert_eq!(subject.everything().await, before);
}

/// One test for each law of network managers; see [`conformance::network`](self).
#[macro_export]
macro_rules! network_laws {
    ($make:expr) => {
        $crate::laws!(
            network,
            $make,
            [
                an_address_has_one_owner,
                reserve_twice_gives_the_same_ports,
                release_is_repeatable,
                a_released_address_rests,
                reserved_addresses_are_never_handed_out,
                an_exhausted_network_says_so,
                a_network_in_use_is_not_deleted,
                ports_are_in_the_groups_of_their_server,
                a_port_has_an_address_of_each_range_of_its_network,
                converge_is_repeatable,
                a_floating_ip_leads_to_one_server,
                associate_moves,
                disassociate_is_repeatable,
                a_released_floating_ip_rests,
                an_exhausted_pool_says_so,
                a_floating_ip_of_a_server_comes_and_goes_with_it,
            ]
        );
    };
}

#[track_caller]
fn good<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("this had to succeed: {error:?}"),
    }
}

#[track_caller]
fn conflicts<T>(result: Result<T, StoreError>, what: &str) {
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{what} must conflict");
}

#[track_caller]
fn exhausted<T>(result: Result<T, NetError>, when: &str) {
    let said = matches!(result, Err(NetError::NoMoreAddresses { .. }));
    assert!(said, "there is no address to give {when}");
}

fn instance(n: u128) -> InstanceId {
    InstanceId::from_u128(n)
}

fn project() -> ProjectId {
    good(ProjectId::new("demo"))
}

fn cidr_of(text: &str) -> IpNetwork {
    good(text.parse())
}
