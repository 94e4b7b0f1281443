//! Laws of [`FloatingIps`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{CIDR, Subject, cidr_of, conflicts, exhausted, good, instance, project};
use crate::domain::{FloatingBinding, FloatingIp, FloatingPool, HostId, InterfaceName, PoolName};
use crate::port::{FloatingIps, FloatingRequest, NetError};
use crate::store::StoreExt as _;
use crate::store::record::keys;

impl Subject {
    async fn floating_pool(&self, floating: &dyn FloatingIps, range: &str) {
        let draft = good(floating.create_pool(&pool("public", range)).await);
        good(self.commit(draft).await);
    }

    async fn allocate(&self, floating: &dyn FloatingIps) -> IpAddr {
        let draft = good(floating.allocate(&request(None)).await);
        good(self.commit(draft).await).address
    }
    async fn allocate_with(&self, floating: &dyn FloatingIps, n: u128) -> IpAddr {
        let draft = good(floating.allocate(&request(Some(n))).await);
        good(self.commit(draft).await).address
    }

    /// Where a floating IP that somebody holds leads.
    async fn leads(&self, address: IpAddr) -> Option<FloatingBinding> {
        let row = good(self.store.read::<FloatingIp>(&keys::floating_ip(address)).await);
        row.and_then(|row| leads_to(&row.value))
    }
}

/// A floating IP leads to the server of whoever committed first, and nobody else.
pub async fn a_floating_ip_leads_to_one_server(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    subject.network(CIDR).await;
    subject.floating_pool(floating, "203.0.113.0/29").await;
    let one = good(floating.allocate(&request(None)).await);
    let other = good(floating.allocate(&request(None)).await);
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
    exhausted(floating.allocate(&request(None)).await, "at once");
    (subject.advance)(subject.quarantine - Duration::from_nanos(1));
    exhausted(floating.allocate(&request(None)).await, "just before the end");
    (subject.advance)(Duration::from_nanos(1));
    assert_eq!(subject.allocate(floating).await, address);
}

/// A pool without a free address is named so, and a pool that is held from stays.
pub async fn an_exhausted_pool_says_so(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    let unknown = floating.allocate(&request(None)).await;
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
    exhausted(floating.allocate(&request(None)).await, "when all six hosts are held");
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

/// One that was allocated with a server leads to it as soon as it has ports, on the host where it
/// is to be, and is given back with it, unless it leads to another by then.
pub async fn a_floating_ip_of_a_server_comes_and_goes_with_it(subject: Subject) {
    let Some(floating) = subject.floating() else { return };
    subject.network(CIDR).await;
    // A single address: whoever has it has this one.
    subject.floating_pool(floating, "203.0.113.7/32").await;
    let held = subject.allocate_with(floating, 1).await;
    for host in [1, 2, 2] {
        let ports = good(subject.commit(good(subject.draft_ports_at(1, host).await)).await);
        let fixed = ports[0].address;
        let there = FloatingBinding { instance: instance(1), fixed, host: HostId::from_u128(host) };
        assert_eq!(subject.leads(held).await, Some(there), "on host {host}");
    }
    subject.release(1).await;
    exhausted(floating.allocate(&request(None)).await, "while it rests");
    (subject.advance)(subject.quarantine);

    // A server that never got so far gives it back as well, and so does one that it leads to no
    // more.
    subject.allocate_with(floating, 2).await;
    subject.release(2).await;
    (subject.advance)(subject.quarantine);
    subject.allocate_with(floating, 3).await;
    subject.ports(3).await;
    let draft = good(floating.disassociate(held).await);
    good(subject.commit(draft).await);
    subject.release(3).await;
    (subject.advance)(subject.quarantine);

    // Where it has been led to another server, it stays.
    subject.allocate_with(floating, 4).await;
    subject.ports(4).await;
    let other = binding(&subject, 5).await;
    let draft = good(floating.associate(held, other.clone()).await);
    good(subject.commit(draft).await);
    subject.release(4).await;
    assert_eq!(subject.leads(held).await, Some(other));
    subject.release(5).await;
    assert_eq!(subject.leads(held).await, None, "its project holds it");
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

fn pool(name: &str, range: &str) -> FloatingPool {
    let interface = good(InterfaceName::new("eth0"));
    FloatingPool { name: good(PoolName::new(name)), range: cidr_of(range), interface }
}

/// An address of the pool that is tried, for one server or for the project alone.
fn request(server: Option<u128>) -> FloatingRequest {
    let pool = good(PoolName::new("public"));
    FloatingRequest { project: project(), pool, server: server.map(instance) }
}
