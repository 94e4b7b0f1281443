//! From records to hosts, through the manager.

use std::sync::Arc;

use nova_core::domain::NetworkKind;
use nova_core::port::{NetError, NetworkManager};
use nova_core::seed::Seed;
use nova_net::Networks;
use nova_net::backend::DryRun;

use crate::world::{World, host, interface, spec};

const DHCP: NetworkKind = NetworkKind::FlatDhcp;
const VLAN: NetworkKind = NetworkKind::Vlan;
const FLAT: NetworkKind = NetworkKind::Flat;

pub(crate) fn run(work: impl Future<Output = ()>) {
    nova_core::conformance::run(work);
}

/// The network of a host as people read it, without MACs and ids.
fn shown(net: &nova_net::host::HostNet) -> Vec<String> {
    net.to_string()
        .lines()
        .map(|line| {
            let words = line.split(' ').filter(|word| {
                let is_id = word.len() == 36 && word.matches('-').count() == 4;
                !(is_id || word.starts_with("fa:") || word.starts_with("(fa:"))
            });
            words
                .map(|w| if w.starts_with("tapfa") { "tap" } else { w })
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[test]
fn a_host_gets_what_its_guests_need_and_loses_it_with_the_last() {
    run(async {
        let world = World::new();
        world.make(spec(DHCP, "10.0.0.0/24").with_parent(interface("eth1"))).await;
        assert!(world.converge(1).await.is_empty());
        let address = world.ports(1, "demo", &[]).await[0].address.to_string();
        assert!(world.converge(1).await.is_empty(), "the guest is nowhere yet");
        world.claim(1, 1).await;
        let named = address.replace('.', "-");
        assert_eq!(
            shown(&world.converge(1).await),
            [
                "bridge br100 (uplink eth1)".to_owned(),
                "gateway address 10.0.0.1/24 on br100".to_owned(),
                "dhcp server of network at 10.0.0.1 on br100".to_owned(),
                format!("dhcp lease of in network ({address}, host-{named})"),
                "nat of 10.0.0.0/24 from br100".to_owned(),
                "filter of security groups [] (lets nothing in)".to_owned(),
                format!("guest port tap on br100 {address})"),
            ]
        );
        assert!(world.converge(2).await.is_empty());

        world.ports(2, "demo", &[]).await;
        world.claim(2, 1).await;
        assert_eq!(world.converge(1).await.len(), 9);
        let steps = world.backend.steps(host(1));
        world.converge(1).await;
        assert_eq!(world.backend.steps(host(1)), steps, "nothing was left to do");

        world.release(1).await;
        assert_eq!(world.converge(1).await.len(), 7);
        world.release(2).await;
        assert!(world.converge(1).await.is_empty());
        world.unclaim(2, 1).await;
        assert!(world.converge(1).await.is_empty());
        assert_eq!(world.backend.hosts(), []);
    });
}

#[test]
fn a_guest_in_three_networks_has_three_interfaces() {
    run(async {
        let world = World::new();
        let flat = world.make(spec(FLAT, "10.1.0.0/24").with_bridge(interface("brflat"))).await;
        let dhcp = world.make(spec(DHCP, "10.2.0.0/24")).await;
        let vlan = world.make(spec(VLAN, "10.3.0.0/24")).await;
        world.ports(1, "demo", &[flat[0].id, dhcp[0].id, vlan[0].id]).await;
        world.claim(1, 1).await;
        let net = shown(&world.converge(1).await);
        let count = |word: &str| net.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!(
            net[..4],
            [
                "vlan interface vlan101 (vlan 101 of eth1)",
                "bridge br100 (no uplink)",
                "bridge br101 (uplink vlan101)",
                "bridge brflat (the operator's)",
            ]
        );
        assert_eq!(["guest port", "dhcp server", "dhcp lease", "nat"].map(count), [3, 2, 2, 2]);
    });
}

#[test]
fn a_floating_ip_is_on_the_host_of_its_server_and_moves_there_with_it() {
    run(async {
        let world = World::new();
        world.make(spec(DHCP, "10.0.0.0/24")).await;
        world.make_pool("203.0.113.0/29").await;
        let (a, b, c) = (
            world.ports(1, "demo", &[]).await.remove(0),
            world.ports(2, "demo", &[]).await.remove(0),
            world.ports(3, "demo", &[]).await.remove(0),
        );
        for (n, on) in [(1, 1), (2, 1), (3, 2)] {
            world.claim(n, on).await;
        }
        let address = world.allocate().await;
        world.lead(address, &a, 1).await;
        let floats = |net: &nova_net::host::HostNet| {
            shown(net).into_iter().filter(|line| line.contains("203.0.113.")).collect::<Vec<_>>()
        };
        let led = |to: &nova_core::domain::Port| {
            let to = to.address;
            vec![
                format!("public address {address} on eth0"),
                format!("floating ip {address} to {to} on br100"),
            ]
        };
        assert_eq!(floats(&world.converge(1).await), led(&a));

        world.lead(address, &b, 1).await;
        let plan = world.networks.plan(host(1)).await.unwrap();
        assert_eq!(
            plan.to_string(),
            format!(
                "   0 add floating ip {address} to {} on br100\n   \
                    1 remove floating ip {address} to {} on br100\n",
                b.address, a.address
            )
        );
        assert_eq!(floats(&world.converge(1).await), led(&b));

        world.lead(address, &c, 2).await;
        assert_eq!(floats(&world.converge(1).await), Vec::<String>::new());
        assert_eq!(floats(&world.converge(2).await), led(&c));

        // A binding that names a host where its server is not leads nowhere.
        world.lead(address, &c, 1).await;
        assert_eq!(floats(&world.converge(1).await), Vec::<String>::new());
        world.release(3).await;
        assert_eq!(floats(&world.converge(2).await), Vec::<String>::new());
    });
}

#[test]
fn a_host_that_failed_or_restarted_is_made_right_by_the_next_call() {
    run(async {
        let world = World::new();
        world.make(spec(DHCP, "10.0.0.0/24")).await;
        world.ports(1, "demo", &[]).await;
        world.claim(1, 1).await;
        world.backend.fail_after(2);
        let failed = world.networks.converge(host(1)).await;
        assert!(matches!(failed, Err(NetError::Backend { .. })));
        assert_eq!(world.backend.net(host(1)).len(), 2);
        let whole = world.converge(1).await;
        assert_eq!(whole, world.networks.desired(host(1)).await.unwrap());
        world.backend.restart(host(1));
        assert_eq!(world.converge(1).await, whole);
    });
}

#[test]
fn a_dry_run_shows_the_steps_and_does_none() {
    run(async {
        let world = World::new();
        world.make(spec(DHCP, "10.0.0.0/24")).await;
        world.ports(1, "demo", &[]).await;
        world.claim(1, 1).await;
        let dry = Arc::new(DryRun::new(world.backend.clone()));
        let (store, clock) = (Arc::clone(&world.store), world.clock.clone());
        let networks = Networks::new(store, clock, Seed::new(1), dry.clone());
        networks.converge(host(1)).await.unwrap();
        networks.converge(host(2)).await.unwrap();
        let intents = dry.take();
        assert_eq!(intents.len(), 1);
        assert_eq!(intents[0].plan.steps().len(), 7);
        assert_eq!(intents[0].plan, world.networks.plan(host(1)).await.unwrap());
        assert!(world.backend.net(host(1)).is_empty());
        assert!(dry.take().is_empty());
    });
}

#[test]
fn two_networks_share_a_bridge_until_the_last_of_both_is_gone() {
    run(async {
        let world = World::new();
        let nets = world.make(spec(DHCP, "10.0.0.0/24").with_subnets(2, 16)).await;
        world.ports(1, "demo", &[nets[0].id]).await;
        world.ports(2, "demo", &[nets[1].id]).await;
        world.claim(1, 1).await;
        world.claim(2, 1).await;
        let both = world.converge(1).await;
        assert_eq!(both.len(), 12, "a bridge, a filter, and five parts for each guest:\n{both}");
        world.release(1).await;
        assert_eq!(world.converge(1).await.len(), 7);
        world.release(2).await;
        assert!(world.converge(1).await.is_empty());
    });
}
