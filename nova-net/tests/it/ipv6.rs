//! Networks with IPv6: their ranges, and what a host with guests of them has.

use nova_core::domain::{Network, NetworkKind, Peer, SecurityGroup, SecurityRule, Traffic};
use nova_core::port::{NetError, NetworkManager as _, NetworkSpec};
use nova_core::store::Txn;
use nova_net::host::{Part, RouterAdvertiser};

use crate::world::{World, interface, project, request, spec};

fn with_ipv6(spec: NetworkSpec, range: &str) -> NetworkSpec {
    spec.with_ipv6(range.parse().unwrap())
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work);
}

fn ranges(networks: &[Network]) -> Vec<String> {
    networks.iter().filter_map(|network| Some(network.cidr_v6?.to_string())).collect()
}

#[test]
fn each_network_gets_the_first_range_that_is_free() {
    run(async {
        let world = World::new();
        let of = |cidr: &str, count| {
            let spec = spec(NetworkKind::Vlan, cidr).with_subnets(count, 16);
            with_ipv6(spec, "2001:db8:0:8::/62")
        };
        let one = world.make(of("10.0.0.0/24", 2)).await;
        assert_eq!(ranges(&one), ["2001:db8:0:8::/64", "2001:db8:0:9::/64"]);
        let draft = world.networks.delete_network(one[0].id).await;
        world.commit(draft).await;
        let two = world.make(of("10.0.1.0/24", 2)).await;
        assert_eq!(ranges(&two), ["2001:db8:0:8::/64", "2001:db8:0:a::/64"]);
        let full = world.networks.create_networks(&of("10.0.2.0/24", 2)).await;
        assert!(matches!(full, Err(NetError::CidrConflict { .. })), "{full:?}");
    });
}

#[test]
fn a_range_that_guests_cannot_have_is_refused_by_its_name() {
    run(async {
        let world = World::new();
        let dhcp = || spec(NetworkKind::FlatDhcp, "10.0.0.0/24");
        for range in
            ["fd00::/65", "fd00::1/64", "fe80::/64", "ff00::/16", "::/0", "::1/128", "100::/64"]
        {
            match world.networks.create_networks(&with_ipv6(dhcp(), range)).await {
                Err(NetError::Invalid(invalid)) => {
                    assert_eq!((invalid.field, &*invalid.value), ("network.cidr_v6", range));
                }
                other => panic!("{range}: {other:?}"),
            }
        }
        let two =
            with_ipv6(spec(NetworkKind::Vlan, "10.0.0.0/24").with_subnets(2, 16), "fd00::/64");
        let two = world.networks.create_networks(&two).await;
        assert!(two.unwrap_err().to_string().contains("network.count"));
    });
}

#[test]
fn a_bridge_with_ipv6_carries_one_network() {
    run(async {
        let world = World::new();
        let dhcp = |cidr: &str| spec(NetworkKind::FlatDhcp, cidr);
        world.make(dhcp("10.0.0.0/24")).await;
        world.make(dhcp("10.0.1.0/24")).await;
        let third = with_ipv6(dhcp("10.0.2.0/24"), "fd00::/64");
        let refused = world.networks.create_networks(&third).await.unwrap_err();
        assert!(refused.to_string().contains("a network with IPv6"), "{refused}");
        world.make(third.with_bridge(interface("br6"))).await;
        let fourth = dhcp("10.0.3.0/24").with_bridge(interface("br6"));
        assert!(world.networks.create_networks(&fourth).await.is_err());
    });
}

#[test]
fn guests_have_the_addresses_that_they_make_and_groups_know_them() {
    run(async {
        let world = World::new();
        let spec = with_ipv6(spec(NetworkKind::Vxlan, "10.0.0.0/24"), "fd00:0:0:7::/64");
        let dns = vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()];
        let network = world.make(spec.with_dns(dns)).await.remove(0);
        let group = SecurityGroup::default_of(&project("demo"));
        let mut request = request(1, "demo", &[]);
        request.security_groups = [group.id].into();
        let port = world.commit(world.networks.reserve(&request).await).await.remove(0);
        let address = port.mac.address_in(network.cidr_v6.unwrap());
        assert_eq!(port.address_v6, Some(address));
        world.claim(1, 1).await;

        let net = world.converge(1).await;
        let text = net.to_string();
        assert!(text.contains("gateway address fd00:0:0:7::1/64 on brx4096"), "{text}");
        assert!(text.contains(&format!(" on brx4096 ({address})")), "{text}");
        let told = net.parts().find_map(|(_, part)| match part {
            Part::RouterAdvertiser(advertiser) => Some(advertiser.clone()),
            _ => None,
        });
        let RouterAdvertiser { gateway, dns, mtu, .. } = told.unwrap();
        assert_eq!(gateway.to_string(), "fd00:0:0:7::1/64");
        assert_eq!((dns, mtu), (vec!["2001:db8::53".parse().unwrap()], Some(1450)));
        let may = |net: &nova_net::host::HostNet| {
            let filters = net.parts().filter_map(|(_, part)| match part {
                Part::PortFilter(filter) => Some(filter.allows.clone()),
                _ => None,
            });
            filters.flatten().map(|allowed| allowed.to_string()).collect::<Vec<_>>()
        };
        let all =
            [format!("anything from {}/32", port.address), format!("anything from {address}/128")];
        assert_eq!(may(&net), all);

        let everybody = SecurityRule::new(Traffic::ICMP, Peer::Range("::/0".parse().unwrap()));
        let mut txn = Txn::new();
        txn.create(&SecurityGroup { rules: [everybody.unwrap()].into(), ..group });
        world.store.commit(txn).await.unwrap();
        assert_eq!(may(&world.converge(1).await), ["icmp from ::/0"]);
    });
}

#[test]
fn guests_of_a_flat_network_are_told_by_its_own_router() {
    run(async {
        let world = World::new();
        let spec = with_ipv6(spec(NetworkKind::Flat, "10.0.0.0/24"), "2001:db8::/64");
        world.make(spec).await;
        let port = world.ports(1, "demo", &[]).await.remove(0);
        assert!(port.address_v6.is_some());
        world.claim(1, 1).await;
        let net = world.converge(1).await;
        let has = |wanted: fn(&Part) -> bool| net.parts().any(|(_, part)| wanted(part));
        assert!(has(|part| matches!(part, Part::GuestIpv6(_))));
        assert!(!has(|part| matches!(part, Part::RouterAdvertiser(_) | Part::BridgeAddress(_))));
    });
}
