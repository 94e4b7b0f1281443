//! What the manager decides beyond the laws of its port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use nova_core::class::Class;
use nova_core::domain::{
    AddressState, FixedIp, FloatingBinding, FloatingIp, InstanceId, MacClaim, Network, NetworkKind,
    Port, VlanClaim,
};
use nova_core::port::{NetError, NetworkManager};
use nova_core::store::record::keys;
use nova_core::store::{Record, Store, StoreError, StoreExt};
use nova_net::pool::{MacPrefix, Pool};
use proptest::prelude::*;

use crate::world::{World, host, instance, interface, request, spec};

const DHCP: NetworkKind = NetworkKind::FlatDhcp;
const VLAN: NetworkKind = NetworkKind::Vlan;
const FLAT: NetworkKind = NetworkKind::Flat;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

async fn network(world: &World, made: &Network) -> Network {
    world.store.read::<Network>(&keys::network(made.id)).await.unwrap().unwrap().value
}

#[test]
fn a_project_without_a_network_gets_the_first_free_vlan() {
    run(async {
        let world = World::new();
        let nets = world.make(spec(VLAN, "10.0.0.0/24").with_subnets(2, 16)).await;
        let race_a = world.networks.reserve(&request(1, "a", &[])).await.unwrap();
        let race_b = world.networks.reserve(&request(2, "b", &[])).await.unwrap();
        assert_eq!(race_a.value[0].network, nets[0].id);
        world.store.commit(race_a.txn).await.unwrap();
        let lost = world.store.commit(race_b.txn).await.unwrap_err();
        assert_eq!(lost.class(), Class::Conflict);
        assert_eq!(network(&world, &nets[0]).await.project.unwrap().as_str(), "a");

        assert_eq!(world.ports(2, "b", &[]).await[0].network, nets[1].id);
        assert_eq!(world.ports(3, "a", &[]).await[0].network, nets[0].id, "it has one already");
        let none = world.networks.reserve(&request(4, "c", &[])).await;
        assert!(matches!(none, Err(NetError::NoNetwork { .. })));
    });
}

#[test]
fn a_network_of_another_project_does_not_exist_for_this_one() {
    run(async {
        let world = World::new();
        let nets = world.make(spec(VLAN, "10.0.0.0/24").with_subnets(2, 16)).await;
        let own = spec(DHCP, "10.1.0.0/24").with_project(crate::world::project("a"));
        let own = world.make(own.with_bridge(interface("bra"))).await;
        world.ports(1, "a", &[nets[0].id]).await;
        for (other, net) in [("b", &nets[0]), ("b", &own[0])] {
            let asked = world.networks.reserve(&request(2, other, &[net.id])).await;
            assert!(matches!(asked, Err(NetError::NoSuchNetwork { network }) if network == net.id));
        }
        // What is free and asked for by name becomes the project's.
        world.ports(2, "b", &[nets[1].id]).await;
        assert_eq!(network(&world, &nets[1]).await.project.unwrap().as_str(), "b");
    });
}

#[test]
fn everything_shared_or_own_is_given_by_default_in_the_order_of_ranges() {
    run(async {
        let world = World::new();
        let b = world.make(spec(DHCP, "10.2.0.0/24")).await;
        let a = world.make(spec(FLAT, "10.1.0.0/24").with_bridge(interface("brflat"))).await;
        world.make(spec(VLAN, "10.0.0.0/24").with_first_vlan(7.try_into().unwrap())).await;
        let ports = world.ports(1, "demo", &[]).await;
        let given: Vec<_> = ports.iter().map(|port| (port.index, port.network)).collect();
        assert_eq!(given, [(0, a[0].id), (1, b[0].id)], "no VLAN is claimed by one who has some");
        let twice = world.networks.reserve(&request(2, "demo", &[a[0].id, a[0].id])).await;
        assert!(matches!(twice, Err(NetError::Invalid(_))));
    });
}

#[test]
fn a_vlan_rests_after_its_network() {
    run(async {
        let world = World::new();
        let from = |n: u16| spec(VLAN, "10.0.0.0/28").with_first_vlan(n.try_into().unwrap());
        let made = world.make(from(4094)).await;
        world.commit(world.networks.delete_network(made[0].id).await).await;
        let resting = world.networks.create_networks(&from(4094)).await;
        assert!(matches!(resting, Err(NetError::NoMoreVlans { .. })));
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.make(from(4094)).await[0].vlan, made[0].vlan);
        let rows = world.store.read_all::<FixedIp>(&FixedIp::all()).await.unwrap();
        assert_eq!(rows.len(), 4, "nothing of the first network is left");
    });
}

#[test]
fn a_flat_network_leads_no_floating_ip() {
    run(async {
        let world = World::new();
        world.make(spec(FLAT, "10.0.0.0/24")).await;
        world.make_pool("203.0.113.0/29").await;
        let port = world.ports(1, "demo", &[]).await.remove(0);
        let address = world.allocate().await;
        let binding = FloatingBinding { instance: instance(1), fixed: port.address, host: host(1) };
        let led = world.floating().associate(address, binding).await;
        assert!(matches!(led, Err(NetError::Invalid(i)) if i.field == "floating ip.fixed"));
    });
}

#[test]
fn a_pool_overlaps_neither_network_nor_pool() {
    run(async {
        let world = World::new();
        world.make(spec(FLAT, "10.0.0.0/24")).await;
        for (range, fits) in
            [("10.0.0.128/25", false), ("10.0.0.0/16", false), ("10.0.1.0/30", true)]
        {
            let made = world.floating().create_pool(&crate::world::pool(range)).await;
            assert_eq!(made.is_ok(), fits, "{range}");
        }
        for bad in ["10.9.0.1/24", "fd00::/64", "127.0.0.1/32"] {
            let made = world.floating().create_pool(&crate::world::pool(bad)).await;
            assert!(matches!(made, Err(NetError::Invalid(_))), "{bad}");
        }
        // The pool first, then a network over it: also when both are decided at once.
        let net = world.networks.create_networks(&spec(FLAT, "10.0.1.0/28")).await.unwrap();
        world.make_pool("10.0.1.0/30").await;
        let late = world.store.commit(net.txn).await;
        assert!(matches!(late, Err(StoreError::Conflict { .. })));
        let net = world.networks.create_networks(&spec(FLAT, "10.0.1.0/30")).await;
        assert!(matches!(net, Err(NetError::CidrConflict { .. })));
    });
}

#[test]
fn a_mac_that_somebody_has_is_drawn_again() {
    run(async {
        let world = World::new();
        world.make(spec(DHCP, "10.0.0.0/24")).await;
        let first = world.networks.reserve(&request(1, "demo", &[])).await.unwrap().value[0].mac;
        let mut txn = nova_core::store::Txn::new();
        txn.create(&MacClaim { mac: first, instance: instance(99) });
        world.store.commit(txn).await.unwrap();
        let mac = world.ports(1, "demo", &[]).await[0].mac;
        assert_ne!(mac, first);
        assert_eq!(mac.bytes()[..3], [0xfa, 0x16, 0x3e]);
        world.release(1).await;
        let claims = world.store.read_all::<MacClaim>(&MacClaim::all()).await.unwrap();
        assert_eq!(claims.len(), 1);
        assert!(MacPrefix::new([0, 1, 2]).is_err());
    });
}

#[test]
fn a_large_network_hands_out_addresses_without_being_written_down() {
    run(async {
        let world = World::new();
        world.make(spec(DHCP, "10.0.0.0/8").with_subnets(1, 1 << 24)).await;
        let mut given = BTreeSet::new();
        for n in 0..2000_u32 {
            let address = world.ports(n.into(), "demo", &[]).await[0].address;
            assert!(given.insert(address), "{address} was given twice");
            // The lowest few hundred, in no particular order.
            let highest = 0x0a00_0002 + n + u32::try_from(Pool::WINDOW).unwrap();
            assert!(address <= IpAddr::from(highest.to_be_bytes()), "{address}");
        }
        let rows = world.store.read_all::<FixedIp>(&FixedIp::all()).await.unwrap();
        assert_eq!(rows.len(), 2003);
    });
}

#[derive(Debug, Clone)]
enum Act {
    Reserve(u8),
    Release(u8),
    Allocate,
    Lead(u8),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => (0..16_u8).prop_map(Act::Reserve),
        4 => (0..16_u8).prop_map(Act::Release),
        1 => Just(Act::Allocate),
        3 => (0..16_u8).prop_map(Act::Lead),
        1 => (0..50_u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..60)
}

/// Everything that has an owner has one that lives, and nobody shares.
async fn nothing_is_shared(world: &World) {
    let ports = world.store.read_all::<Port>(&Port::all()).await.unwrap();
    let ports: Vec<Port> = ports.into_iter().map(|row| row.value).collect();
    let live: BTreeMap<_, InstanceId> =
        ports.iter().map(|port| ((port.network, port.address), port.instance)).collect();
    assert_eq!(live.len(), ports.len(), "an address is in two ports");
    let macs: BTreeSet<_> = ports.iter().map(|port| port.mac).collect();
    assert_eq!(macs.len(), ports.len(), "a MAC is in two ports");
    let claims = world.store.read_all::<MacClaim>(&MacClaim::all()).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.value.mac).collect::<BTreeSet<_>>(), macs);
    let mut owned = BTreeMap::new();
    for row in world.store.read_all::<FixedIp>(&FixedIp::all()).await.unwrap() {
        if let AddressState::Owned(owner) = row.value.state {
            owned.insert((row.value.network, row.value.address), owner);
        }
    }
    assert_eq!(owned, live, "an address is owned without a port, or the other way round");
    for row in world.store.read_all::<FloatingIp>(&FloatingIp::all()).await.unwrap() {
        if let AddressState::Owned(owner) = row.value.state {
            let Some(binding) = owner.binding else { continue };
            let leads = ports
                .iter()
                .any(|port| (port.instance, port.address) == (binding.instance, binding.fixed));
            assert!(leads, "a floating IP leads to nobody");
        }
    }
    for row in world.store.read_all::<VlanClaim>(&VlanClaim::all()).await.unwrap() {
        assert!(matches!(row.value.state, AddressState::Owned(_)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_is_committed_late_or_not_at_all_nothing_gets_two_owners(
        acts in acts(), late in any::<u64>(),
    ) {
        run(async {
            let world = World::new();
            world.make(spec(DHCP, "10.0.0.0/28")).await;
            world.make_pool("203.0.113.0/29").await;
            let mut chance = nova_core::seed::Seed::new(late).chance();
            let mut pending: Vec<nova_core::store::Txn> = Vec::new();
            let mut floats: Vec<IpAddr> = Vec::new();
            for act in acts {
                let txn = match act {
                    Act::Wait(time) => {
                        world.clock.advance(Duration::from_secs(time));
                        None
                    }
                    Act::Reserve(n) => {
                        let draft = world.networks.reserve(&request(n.into(), "demo", &[])).await;
                        draft.ok().map(|draft| draft.txn)
                    }
                    Act::Release(n) => {
                        let draft = world.networks.release(instance(n.into())).await;
                        Some(draft.unwrap().txn)
                    }
                    Act::Allocate => {
                        let (project, pool) = (crate::world::project("demo"), crate::world::pool_name());
                        let request = nova_core::port::FloatingRequest { project, pool, server: None };
                        let draft = world.floating().allocate(&request).await.ok();
                        draft.map(|draft| {
                            floats.push(draft.value.address);
                            draft.txn
                        })
                    }
                    Act::Lead(n) => {
                        let id = instance(n.into());
                        let ports = world.store.read_all::<Port>(&keys::ports_of(id)).await.unwrap();
                        let address = floats.get(chance.index(floats.len()));
                        match ports.first().zip(address) {
                            None => None,
                            Some((port, address)) => {
                                let fixed = port.value.address;
                                let binding = FloatingBinding { instance: id, fixed, host: host(1) };
                                let led = world.floating().associate(*address, binding).await;
                                led.ok().map(|draft| draft.txn)
                            }
                        }
                    }
                };
                pending.extend(txn);
                // Some are committed at once, some later and in another order, some never.
                while !pending.is_empty() && chance.below(3) > 0 {
                    let txn = pending.swap_remove(chance.index(pending.len()));
                    match world.store.commit(txn).await {
                        Ok(_) | Err(StoreError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                nothing_is_shared(&world).await;
            }
            for n in 0..16 {
                world.release(n).await;
            }
            nothing_is_shared(&world).await;
            world.clock.advance(Duration::from_secs(60));
            for n in 0..13 {
                world.ports(n, "demo", &[]).await;
            }
            let full = world.networks.reserve(&request(13, "demo", &[])).await;
            assert!(matches!(full, Err(NetError::NoMoreAddresses { .. })), "no address was lost");
        });
    }
}
