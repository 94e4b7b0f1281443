//! From a cloud's records to packets: the manager over a real kernel.

use std::collections::BTreeSet;
use std::sync::Arc;

use nova_core::clock::SystemClock;
use nova_core::domain::{
    FloatingBinding, FloatingPool, InstanceId, InterfaceName, Label, NetworkKind, Peer, PoolName,
    ProjectId, SecurityGroup, SecurityRule, Traffic,
};
use nova_core::port::{
    FloatingIps, FloatingRequest, NetError, NetworkManager, NetworkSpec, PortRequest,
};
use nova_core::seed::Seed;
use nova_core::store::record::{Claim, keys};
use nova_core::store::{Draft, MemoryStore, Store, Txn, Write};
use nova_net::Networks;
use nova_net::backend::NetBackend as _;
use nova_net::host::{HostNet, Part};

use crate::lab::{HOST, run};

async fn commit<T>(store: &MemoryStore, draft: Result<Draft<T>, NetError>) -> T {
    let draft = draft.unwrap();
    store.commit(draft.txn).await.unwrap();
    draft.value
}

#[test]
fn a_server_in_the_records_is_reached_until_it_is_gone() {
    run("a server in the records", async |lab| {
        let store = Arc::new(MemoryStore::new());
        let networks = Networks::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::new(SystemClock::new()),
            Seed::new(1),
            lab.backend.clone(),
        );
        let (label, range) = (Label::new("lan").unwrap(), "10.0.0.0/24".parse().unwrap());
        let spec = NetworkSpec::new(label, NetworkKind::FlatDhcp, range);
        commit(&store, networks.create_networks(&spec).await).await;
        let pool = FloatingPool {
            name: PoolName::new("public").unwrap(),
            range: "172.24.4.8/29".parse().unwrap(),
            interface: InterfaceName::new("ext0").unwrap(),
        };
        let floating: &dyn FloatingIps = networks.floating_ips().unwrap();
        commit(&store, floating.create_pool(&pool).await).await;

        let project = ProjectId::new("demo").unwrap();
        let instance = InstanceId::from_u128(42);
        let mut group = SecurityGroup::default_of(&project);
        let everybody = Peer::Range("0.0.0.0/0".parse().unwrap());
        group.rules.insert(SecurityRule::new(Traffic::Any, everybody).unwrap());
        let mut txn = Txn::new();
        txn.create(&group);
        store.commit(txn).await.unwrap();
        let request = PortRequest {
            instance,
            project: project.clone(),
            networks: Vec::new(),
            security_groups: BTreeSet::from([group.id]),
            host: HOST,
        };
        let port = commit(&store, networks.reserve(&request).await).await.remove(0);
        let (amount, classes, assigned) = Default::default();
        let claim = Claim { host: HOST, instance, amount, classes, assigned, kept: false };
        let mut txn = Txn::new();
        txn.put(&claim);
        store.commit(txn).await.unwrap();
        networks.converge(HOST).await.unwrap();

        // The hypervisor makes the interface; the next look plugs it in.
        let there = lab.backend.observe(HOST).await.unwrap();
        let tap = there.parts().find_map(|(_, part)| match part {
            Part::GuestPort(port) => Some(port.clone()),
            _ => None,
        });
        let guest = lab.guest(&tap.unwrap());
        networks.converge(HOST).await.unwrap();
        assert!(lab.dhcp(&guest).starts_with(&format!("ip={} ", port.address)));

        let request = FloatingRequest { project, pool: pool.name, server: None };
        let address = commit(&store, floating.allocate(&request).await).await.address;
        let binding = FloatingBinding { instance, fixed: port.address, host: HOST };
        commit(&store, floating.associate(address, binding).await).await;
        networks.converge(HOST).await.unwrap();
        assert!(lab.pings(&lab.outside(), &address.to_string()));

        commit(&store, floating.disassociate(address).await).await;
        commit(&store, NetworkManager::release(&networks, instance).await).await;
        let mut txn = Txn::new();
        txn.write(Write::Remove(keys::claim(HOST, instance)));
        store.commit(txn).await.unwrap();
        networks.converge(HOST).await.unwrap();
        assert!(!lab.pings(&lab.outside(), &address.to_string()));
        assert_eq!(lab.backend.observe(HOST).await.unwrap(), HostNet::new());
        assert!(!lab.state().contains("br"), "{}", lab.state());
    });
}
