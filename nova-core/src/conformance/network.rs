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

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::domain::{
    FloatingBinding, FloatingIp, FloatingPool, HostId, InstanceId, InterfaceName, Label, Network,
    NetworkKind, PoolName, Port, ProjectId, SecurityGroupId,
};
use crate::port::{
    FloatingIps, FloatingRequest, NetError, NetworkManager, NetworkSpec, PortRequest,
};
use crate::store::{Draft, Prefix, Revision, Scan, Store, StoreError};

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
        let request = PortRequest {
            instance: instance(n),
            project: project(),
            networks: vec![],
            security_groups: BTreeSet::from([SecurityGroupId::from_u128(n)]),
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

    async fn floating_pool(&self, floating: &dyn FloatingIps, range: &str) {
        let draft = good(floating.create_pool(&pool("public", range)).await);
        good(self.commit(draft).await);
    }

    async fn allocate(&self, floating: &dyn FloatingIps) -> IpAddr {
        let draft = good(floating.allocate(&request()).await);
        good(self.commit(draft).await).address
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

/// A floating IP leads to the server of whoever committed first, and nobody else.
pub async fn a_floating_ip_leads_to_one_server(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    subject.network(CIDR).await;
    subject.floating_pool(floating, "203.0.113.0/29").await;
    let one = good(floating.allocate(&request()).await);
    let other = good(floating.allocate(&request()).await);
    assert_eq!(one.value.address, other.value.address, "both were decided on one reading");
    let address = good(subject.commit(one).await).address;
    conflicts(subject.commit(other).await, "one floating IP for two");

    let (a, b) = (binding(&subject, 1).await, binding(&subject, 2).await);
    let one = good(floating.associate(address, a.clone()).await);
    let other = good(floating.associate(address, b).await);
    assert_eq!(leads_to(&good(subject.commit(one).await)), Some(a.clone()));
    conflicts(subject.commit(other).await, "one floating IP for two servers");

    // A server that goes away takes nothing along that still leads to it.
    subject.release(1).await;
    let draft = good(floating.disassociate(address).await);
    assert!(draft.txn.writes().is_empty(), "it leads nowhere since its server was released");
    let c = binding(&subject, 3).await;
    let release = good(subject.manager.release(instance(3)).await);
    let lead = good(floating.associate(address, c).await);
    good(subject.commit(lead).await);
    conflicts(subject.commit(release).await, "releasing what was just led to");
}

/// Associating again moves the floating IP.
pub async fn associate_moves(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    subject.network(CIDR).await;
    subject.floating_pool(floating, "203.0.113.0/29").await;
    let address = subject.allocate(floating).await;
    for n in [1, 2, 2, 1] {
        let to = binding(&subject, n).await;
        let draft = good(floating.associate(address, to.clone()).await);
        assert_eq!(leads_to(&good(subject.commit(draft).await)), Some(to));
    }
    let stranger = FloatingBinding { fixed: address, ..binding(&subject, 1).await };
    assert!(matches!(floating.associate(address, stranger).await, Err(NetError::Invalid(_))));
}

/// Leading nowhere already is success and changes nothing.
pub async fn disassociate_is_repeatable(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    subject.network(CIDR).await;
    subject.floating_pool(floating, "203.0.113.0/29").await;
    let address = subject.allocate(floating).await;
    let draft = good(floating.associate(address, binding(&subject, 1).await).await);
    good(subject.commit(draft).await);
    assert!(matches!(floating.release(address).await, Err(NetError::InUse { .. })));
    let draft = good(floating.disassociate(address).await);
    assert_eq!(leads_to(&good(subject.commit(draft).await)), None);
    let before = subject.everything().await;
    let draft = good(floating.disassociate(address).await);
    good(subject.commit(draft).await);
    assert_eq!(subject.everything().await, before);
}

/// A floating IP that was given back is not handed out before its quarantine has passed.
pub async fn a_released_floating_ip_rests(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    // A single address: the next allocation must be this one.
    subject.floating_pool(floating, "203.0.113.7/32").await;
    let address = subject.allocate(floating).await;
    let draft = good(floating.release(address).await);
    good(subject.commit(draft).await);
    assert!(matches!(floating.release(address).await, Err(NetError::NoSuchFloatingIp { .. })));
    exhausted(floating.allocate(&request()).await, "at once");
    (subject.advance)(subject.quarantine - Duration::from_nanos(1));
    exhausted(floating.allocate(&request()).await, "just before the end");
    (subject.advance)(Duration::from_nanos(1));
    assert_eq!(subject.allocate(floating).await, address);
}

/// A pool without a free address is named so, and a pool that is held from stays.
pub async fn an_exhausted_pool_says_so(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    let unknown = floating.allocate(&request()).await;
    assert!(matches!(unknown, Err(NetError::NoSuchPool { .. })));
    subject.floating_pool(floating, "203.0.113.0/29").await;
    let clash = floating.create_pool(&pool("other", "203.0.113.4/30")).await;
    assert!(matches!(clash, Err(NetError::CidrConflict { .. })));
    let again = floating.create_pool(&pool("public", "198.51.100.0/29")).await;
    assert!(matches!(again, Err(NetError::Exists { .. })));

    let name = good(PoolName::new("public"));
    let early = good(floating.delete_pool(&name).await);
    let mut held = BTreeSet::new();
    for _ in 0..6 {
        assert!(held.insert(subject.allocate(floating).await));
    }
    exhausted(floating.allocate(&request()).await, "when all six hosts are held");
    conflicts(subject.commit(early).await, "deleting a pool that was taken from meanwhile");
    assert!(matches!(floating.delete_pool(&name).await, Err(NetError::InUse { .. })));
    for address in held {
        let draft = good(floating.release(address).await);
        good(subject.commit(draft).await);
    }
    let draft = good(floating.delete_pool(&name).await);
    good(subject.commit(draft).await);
    let gone = floating.delete_pool(&name).await;
    assert!(matches!(gone, Err(NetError::NoSuchPool { .. })));
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
            ]
        );
    };
}

async fn binding(subject: &Subject, n: u128) -> FloatingBinding {
    let fixed = subject.ports(n).await[0].address;
    FloatingBinding { instance: instance(n), fixed, host: HostId::from_u128(n) }
}

fn leads_to(floating: &FloatingIp) -> Option<FloatingBinding> {
    match &floating.state {
        crate::domain::AddressState::Owned(owner) => owner.binding.clone(),
        state => panic!("somebody holds {}, not {state:?}", floating.address),
    }
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

fn pool(name: &str, range: &str) -> FloatingPool {
    let interface = good(InterfaceName::new("eth0"));
    FloatingPool { name: good(PoolName::new(name)), range: cidr_of(range), interface }
}

fn request() -> FloatingRequest {
    FloatingRequest { project: project(), pool: good(PoolName::new("public")) }
}
