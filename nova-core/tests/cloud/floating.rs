//! Floating IPs that come with servers.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nova_core::cloud::{Accepted, ApiError, Ports};
use nova_core::domain::{
    AddressState, FloatingIp, FloatingOwner, FloatingPool, HostId, InstanceId, InterfaceName,
    Limit, Network, NetworkId, OpState, PoolName, Port, Quantum, Quota, VmState,
};
use nova_core::memory::MemoryNetworks;
use nova_core::port::{FloatingIps, NetError, NetworkManager, NetworkSpec, PortRequest};
use nova_core::seed::Seed;
use nova_core::store::{Draft, Record, StoreExt};

use crate::moody::{Mood, Moody};
use crate::world::{World, run, run_with};

/// A pool of six addresses.
async fn pool(world: &World) -> PoolName {
    let admin = world.admin();
    let pool = FloatingPool {
        name: "public".parse().unwrap(),
        range: "198.51.100.0/29".parse().unwrap(),
        interface: InterfaceName::new("eth0").unwrap(),
    };
    admin.create_floating_pool(admin.new_request(), &pool).await.unwrap();
    pool.name
}

async fn ask(world: &World, pool: &PoolName) -> Result<Accepted<InstanceId>, ApiError> {
    let project = world.project();
    let spec = world.server("web", "small").with_floating_ip(pool.clone());
    project.create_server(project.new_request(), &spec).await
}

/// The floating IPs that the project holds, and who holds each.
async fn held(world: &World) -> Vec<(IpAddr, FloatingOwner)> {
    let all = world.project().floating_ips().await.unwrap();
    let owner = |state| match state {
        AddressState::Owned(owner) => owner,
        other => panic!("{other:?}"),
    };
    all.into_iter().map(|floating| (floating.address, owner(floating.state))).collect()
}

#[test]
fn a_server_is_reached_from_outside_from_the_beginning_and_gives_the_address_back() {
    run(async |world: &mut World| {
        let pool = pool(world).await;
        let id = world.done(ask(world, &pool).await).await;
        let project = world.project();
        let server = project.server(id).await.unwrap();
        let all = held(world).await;
        assert_eq!(server.floating_ips, [all[0].0]);
        let to = all[0].1.binding.as_ref().unwrap();
        assert_eq!((to.instance, Some(to.host)), (id, server.instance.host));
        assert_eq!(to.fixed, server.ports[0].address);

        world.done(project.delete_server(project.new_request(), id).await).await;
        assert_eq!(held(world).await, []);
        let uses = world.admin().floating_pool_use().await.unwrap();
        assert_eq!((uses[0].owned, uses[0].resting), (0, 1));
        world.healthy().await;
    });
}

#[test]
fn one_that_was_led_to_another_server_is_the_projects_to_keep() {
    run(async |world: &mut World| {
        let pool = pool(world).await;
        let (one, two) = (world.done(ask(world, &pool).await).await, world.boot("two").await);
        let (project, address) = (world.project(), held(world).await[0].0);
        let lead = project.associate_floating_ip(project.new_request(), address, two.instance.id);
        world.done(lead.await).await;
        world.done(project.delete_server(project.new_request(), one).await).await;
        let kept = project.server(two.instance.id).await.unwrap().floating_ips;
        assert_eq!(kept, [address]);
        world.done(project.delete_server(project.new_request(), two.instance.id).await).await;
        assert_eq!(held(world).await.len(), 1);
        world.healthy().await;
    });
}

#[test]
fn it_counts_as_the_projects_and_a_server_without_is_not_made() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let unknown = ask(world, &"public".parse().unwrap()).await;
        assert!(matches!(unknown, Err(ApiError::NotFound { .. })));
        let pool = pool(world).await;
        let quota = Quota { floating_ips: Limit::AtMost(1), ..Quota::default() };
        admin.set_quota(admin.new_request(), project.id(), quota).await.unwrap();
        let first = ask(world, &pool).await;
        let over = ask(world, &pool).await.unwrap_err();
        assert!(matches!(over, ApiError::OverQuota(o) if o.quantum == Quantum::FloatingIps));
        world.done(first).await;
        assert_eq!(project.servers().await.unwrap().len(), 1);
        world.healthy().await;
    });
}

#[test]
fn a_server_that_no_host_takes_gives_it_back() {
    run(async |world: &mut World| {
        let pool = pool(world).await;
        let all = Moody::everywhere(world, Mood::Refuses("create")).await;
        let accepted = ask(world, &pool).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let server = world.project().server(accepted.id).await.unwrap();
        assert_eq!(server.instance.state, VmState::Error);
        assert_eq!(held(world).await, []);
        all.iter().for_each(|host| host.turns(Mood::Well));
        world.healthy().await;
    });
}

/// Networks that note, whenever a host follows the records, whether it is to answer for a
/// floating IP.
#[derive(Debug)]
struct Noting {
    networks: MemoryNetworks,
    ports: Ports,
    notes: Arc<Mutex<Vec<(HostId, bool)>>>,
}

impl std::fmt::Display for Noting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.networks.fmt(f)
    }
}

#[async_trait]
impl NetworkManager for Noting {
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError> {
        self.networks.create_networks(spec).await
    }

    async fn delete_network(&self, network: NetworkId) -> Result<Draft<()>, NetError> {
        self.networks.delete_network(network).await
    }

    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError> {
        self.networks.reserve(request).await
    }

    async fn release(&self, instance: InstanceId) -> Result<Draft<()>, NetError> {
        NetworkManager::release(&self.networks, instance).await
    }

    async fn converge(&self, host: HostId) -> Result<(), NetError> {
        let all = self.ports.store.read_all::<FloatingIp>(&FloatingIp::all()).await.unwrap();
        let answers = all.iter().any(|floating| {
            matches!(&floating.value.state, AddressState::Owned(owner)
                if owner.binding.as_ref().is_some_and(|to| to.host == host))
        });
        self.notes.lock().unwrap().push((host, answers));
        self.networks.converge(host).await
    }

    fn floating_ips(&self) -> Option<&dyn FloatingIps> {
        self.networks.floating_ips()
    }
}

#[test]
fn a_host_that_was_tried_stops_answering_before_the_next_begins() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let noting = |ports: Ports| {
        let (store, clock) = (Arc::clone(&ports.store), Arc::clone(&ports.clock));
        let networks = MemoryNetworks::new(store, clock, Seed::new(3));
        let (before, notes) = (ports.clone(), Arc::clone(&notes));
        ports.with_network(Noting { networks, ports: before, notes })
    };
    run_with(noting, async |world: &mut World| {
        let pool = pool(world).await;
        let tried = *world.hosts.keys().next().unwrap();
        let host = Moody::on(world, tried, Mood::Refuses("create")).await;
        let op = loop {
            notes.lock().unwrap().clear();
            let accepted = ask(world, &pool).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            if op.tried.contains(&tried) {
                break op;
            }
        };
        let notes = notes.lock().unwrap().clone();
        let began = notes.iter().position(|note| *note == (tried, true));
        let ended = notes.iter().rposition(|note| *note == (tried, false));
        assert!(began.unwrap() < ended.unwrap(), "{notes:?}");
        let there = op.settle[0];
        assert_eq!(notes.last(), Some(&(there, true)), "{notes:?}");
        host.turns(Mood::Well);
        world.healthy().await;
    });
}
