//! The arithmetic of `create_networks`, as data.

use std::collections::BTreeMap;

use nova_core::clock::Timestamp;
use nova_core::domain::{FloatingPool, Network, NetworkId, NetworkKind, VlanId, Vni};
use nova_core::port::{NetError, NetworkSpec};
use nova_net::pool::Use;
use nova_net::topology::{Blueprint, Taken, standard};

use crate::world::{interface, pool, spec};

const FLAT: NetworkKind = NetworkKind::Flat;
const DHCP: NetworkKind = NetworkKind::FlatDhcp;
const VLAN: NetworkKind = NetworkKind::Vlan;
const VXLAN: NetworkKind = NetworkKind::Vxlan;

fn plan(spec: &NetworkSpec, taken: &Taken) -> Result<Vec<Blueprint>, NetError> {
    let topology = standard().into_iter().find(|topology| topology.kind() == spec.kind).unwrap();
    topology.plan(spec, taken, &|n| NetworkId::from_u128(n.into()))
}

fn free() -> Taken {
    Taken::nothing(Timestamp(0))
}

fn beside(cidrs: &[&str]) -> Taken {
    let mut taken = free();
    for (n, cidr) in (100_u16..).zip(cidrs) {
        let made = plan(&spec(DHCP, cidr), &free()).unwrap().remove(0).network;
        let bridge = interface(&format!("old{n}"));
        taken.networks.push(Network { cidr: cidr.parse().unwrap(), bridge, ..made });
    }
    taken
}

/// One line for each network: name, range, gateway, first guest, VLAN.
fn check(spec: NetworkSpec, taken: &Taken, expected: &[&str]) {
    let lines: Vec<String> = match plan(&spec, taken) {
        Err(error) => vec![error.to_string()],
        Ok(made) => made
            .iter()
            .map(|made| {
                let n = &made.network;
                let vlan = n.vlan.map(|vlan| format!(" {}:{vlan}", n.bridge)).unwrap_or_default();
                let gateway = n.gateway.map(|g| g.to_string()).unwrap_or_default();
                format!("{} {} {gateway} {}{vlan}", n.name, n.cidr, n.first_guest)
            })
            .collect(),
    };
    assert_eq!(lines, expected);
}

#[track_caller]
fn refused(spec: &NetworkSpec, field: &str, value: &str) {
    match plan(spec, &free()) {
        Err(NetError::Invalid(invalid)) => {
            assert_eq!((invalid.field, invalid.value.as_str()), (field, value));
        }
        other => panic!("{field} {value} had to be refused: {other:?}"),
    }
}

#[test]
fn networks_are_cut_from_the_start_of_the_range() {
    check(
        spec(DHCP, "10.0.0.0/8").with_subnets(3, 16),
        &free(),
        &[
            "net_0 10.0.0.0/28 10.0.0.1 10.0.0.2",
            "net_1 10.0.0.16/28 10.0.0.17 10.0.0.18",
            "net_2 10.0.0.32/28 10.0.0.33 10.0.0.34",
        ],
    );
    check(spec(FLAT, "10.0.0.0/24"), &free(), &["net 10.0.0.0/24 10.0.0.1 10.0.0.2"]);
    check(
        spec(DHCP, "10.0.0.0/8").with_subnets(1, 1 << 24),
        &free(),
        &["net 10.0.0.0/8 10.0.0.1 10.0.0.2"],
    );
}

#[test]
fn without_a_size_the_range_is_shared_out_up_to_256_each() {
    let shared = |cidr: &str, count| {
        let mut spec = spec(DHCP, cidr);
        spec.count = count;
        spec
    };
    check(shared("10.0.0.0/16", 1), &free(), &["net 10.0.0.0/24 10.0.0.1 10.0.0.2"]);
    check(shared("10.0.0.0/28", 1), &free(), &["net 10.0.0.0/28 10.0.0.1 10.0.0.2"]);
    // Nova gave each of these the whole range and then had room for one of them only.
    check(
        shared("10.0.0.0/27", 2),
        &free(),
        &["net_0 10.0.0.0/28 10.0.0.1 10.0.0.2", "net_1 10.0.0.16/28 10.0.0.17 10.0.0.18"],
    );
    check(
        shared("10.0.0.0/27", 3),
        &free(),
        &[
            "net_0 10.0.0.0/29 10.0.0.1 10.0.0.2",
            "net_1 10.0.0.8/29 10.0.0.9 10.0.0.10",
            "net_2 10.0.0.16/29 10.0.0.17 10.0.0.18",
        ],
    );
}

#[test]
fn vlan_networks_keep_an_address_for_the_vpn_and_count_their_vlans_up() {
    check(
        spec(VLAN, "10.0.0.0/24").with_subnets(2, 16),
        &free(),
        &[
            "net_0 10.0.0.0/28 10.0.0.1 10.0.0.3 br100:100",
            "net_1 10.0.0.16/28 10.0.0.17 10.0.0.19 br101:101",
        ],
    );
    let made = plan(&spec(VLAN, "10.0.0.0/28"), &free()).unwrap();
    assert_eq!(made[0].network.vpn, Some("10.0.0.2".parse().unwrap()));
    assert_eq!(made[0].network.dhcp_server, made[0].network.gateway);
}

#[test]
fn vxlan_networks_have_a_segment_each_that_nobody_has_had_lately() {
    let vnis = |spec: &NetworkSpec, taken: &Taken| -> Vec<(u32, String)> {
        let made = plan(spec, taken).unwrap().into_iter().map(|made| made.network);
        made.map(|n| (n.vni.unwrap().get(), n.bridge.to_string())).collect()
    };
    let named = |n: u32| (n, format!("brx{n}"));
    let two = spec(VXLAN, "10.0.0.0/24").with_subnets(2, 16);
    assert_eq!(vnis(&two, &free()), [named(4096), named(4097)]);
    let with = |vni: u32| {
        let made = plan(&spec(VXLAN, "10.9.0.0/24"), &free()).unwrap().remove(0).network;
        let (vni, bridge) = (Some(Vni::new(vni).unwrap()), interface("old"));
        let mut taken = free();
        taken.networks.push(Network { vni, bridge, ..made });
        taken
    };
    assert_eq!(vnis(&two, &with(5000)), [named(5001), named(5002)]);
    assert_eq!(vnis(&two, &with(Vni::MAX)), [named(4096), named(4097)], "from the beginning");
    let made = plan(&two, &free()).unwrap().remove(0).network;
    assert_eq!((made.vlan, made.vpn), (None, Some("10.0.0.2".parse().unwrap())));
    refused(&two.clone().with_first_vlan(VlanId::new(7).unwrap()), "network.first_vlan", "7");
    let mut adrift = two;
    adrift.parent = None;
    refused(&adrift, "network.parent", "none");
}

#[test]
fn reserved_addresses_are_those_of_the_table() {
    let reserved = |spec: &NetworkSpec| -> Vec<u8> {
        let rows = plan(spec, &free()).unwrap().remove(0).reserved;
        rows.iter()
            .map(|ip| match ip {
                std::net::IpAddr::V4(v4) => v4.octets()[3],
                std::net::IpAddr::V6(_) => unreachable!(),
            })
            .collect()
    };
    assert_eq!(reserved(&spec(FLAT, "10.0.0.0/28")), [0, 1, 15]);
    assert_eq!(reserved(&spec(DHCP, "10.0.0.0/28")), [0, 1, 15]);
    assert_eq!(reserved(&spec(VLAN, "10.0.0.0/28")), [0, 1, 2, 15]);
    let gateway = |kind| spec(kind, "10.0.0.0/28").with_gateway("10.0.0.9".parse().unwrap());
    assert_eq!(reserved(&gateway(DHCP)), [0, 1, 9, 15]);
    assert_eq!(reserved(&gateway(VLAN)), [0, 1, 2, 9, 15]);
    assert_eq!(reserved(&spec(DHCP, "10.0.0.0/30")), [0, 1, 3]);
}

#[test]
fn only_a_network_whose_host_answers_dhcp_has_a_server() {
    let server = |kind| plan(&spec(kind, "10.0.0.0/28"), &free()).unwrap()[0].network.dhcp_server;
    assert_eq!(server(FLAT), None);
    assert_eq!(server(DHCP), Some("10.0.0.1".parse().unwrap()));
}

#[test]
fn a_subnet_that_exists_is_skipped_and_one_inside_a_larger_network_is_a_conflict() {
    let two = |cidr: &str| spec(FLAT, cidr).with_subnets(2, 16).with_bridge(interface("brx"));
    check(
        two("10.0.0.0/24"),
        &beside(&["10.0.0.0/28", "10.0.0.36/30"]),
        &["net_0 10.0.0.16/28 10.0.0.17 10.0.0.18", "net_1 10.0.0.48/28 10.0.0.49 10.0.0.50"],
    );
    check(two("10.0.0.0/27"), &beside(&["10.0.0.0/28"]), &["10.0.0.0/27 overlaps 10.0.0.0/28"]);
    check(two("10.0.0.64/26"), &beside(&["10.0.0.0/24"]), &["10.0.0.64/28 overlaps 10.0.0.0/24"]);
    let whole = spec(FLAT, "10.0.0.0/24").with_bridge(interface("brx"));
    check(whole.clone(), &beside(&["10.0.0.0/24"]), &["10.0.0.0/24 overlaps 10.0.0.0/24"]);
    let mut taken = free();
    taken.pools.push(FloatingPool { range: "10.0.0.64/30".parse().unwrap(), ..pool("1.1.1.1/32") });
    check(whole, &taken, &["10.0.0.0/24 overlaps 10.0.0.64/30"]);
}

#[test]
fn taken_vlans_are_skipped_and_none_is_beyond_4094() {
    let from = |vlan, count| {
        spec(VLAN, "10.0.0.0/16")
            .with_subnets(count, 16)
            .with_first_vlan(VlanId::new(vlan).unwrap())
    };
    let mut taken = free();
    taken.vlans = BTreeMap::from([(100, Use::Held), (102, Use::Resting(Timestamp(9)))]);
    check(
        from(100, 2),
        &taken,
        &[
            "net_0 10.0.0.0/28 10.0.0.1 10.0.0.3 br101:101",
            "net_1 10.0.0.16/28 10.0.0.17 10.0.0.19 br103:103",
        ],
    );
    check(from(4093, 3), &free(), &["no more VLANs from 4093 to 4094"]);
    taken.vlans = BTreeMap::from([(4094, Use::Resting(Timestamp(9)))]);
    check(from(4094, 1), &taken, &["no more VLANs from 4094 to 4094"]);
    taken.now = Timestamp(9);
    check(from(4094, 1), &taken, &["net 10.0.0.0/28 10.0.0.1 10.0.0.3 br4094:4094"]);
}

#[test]
fn what_is_out_of_range_is_named() {
    let sized = |kind, cidr: &str, count, size| spec(kind, cidr).with_subnets(count, size);
    refused(&spec(DHCP, "10.0.0.1/24"), "network.cidr", "10.0.0.1/24");
    refused(&spec(DHCP, "fd00::/64"), "network.cidr", "fd00::/64");
    for cidr in ["0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/24", "96.0.0.0/3", "255.255.255.0/24"] {
        refused(&spec(DHCP, cidr), "network.cidr", cidr);
    }
    refused(&sized(DHCP, "10.0.0.0/24", 0, 16), "network.count", "0");
    refused(&sized(DHCP, "10.0.0.0/8", 4095, 16), "network.count", "4095");
    refused(&sized(DHCP, "10.0.0.0/24", 17, 16), "network.count", "17");
    refused(&sized(DHCP, "10.0.0.0/24", 1, 20), "network.size", "20");
    refused(&sized(DHCP, "10.0.0.0/24", 1, 0), "network.size", "0");
    refused(&sized(DHCP, "10.0.0.0/24", 1, 512), "network.size", "512");
    refused(&sized(DHCP, "10.0.0.0/24", 1, 1 << 31), "network.size", "2147483648");
    // No address would be left for a guest.
    refused(&spec(DHCP, "10.0.0.0/31"), "network.size", "10.0.0.0/31");
    refused(&spec(DHCP, "10.0.0.0/32"), "network.size", "10.0.0.0/32");
    refused(&spec(VLAN, "10.0.0.0/30"), "network.size", "10.0.0.0/30");
    let gateway = |ip: &str| spec(DHCP, "10.0.0.0/30").with_gateway(ip.parse().unwrap());
    refused(&gateway("10.0.0.2"), "network.size", "10.0.0.0/30");
    for bad in ["10.0.0.0", "10.0.0.3", "10.0.0.4", "fd00::1"] {
        refused(&gateway(bad), "network.gateway", bad);
    }
    let two = sized(DHCP, "10.0.0.0/24", 2, 16).with_gateway("10.0.0.1".parse().unwrap());
    refused(&two, "network.gateway", "10.0.0.1");
    let mut adrift = spec(VLAN, "10.0.0.0/24");
    adrift.parent = None;
    refused(&adrift, "network.parent", "none");
    let vlan = VlanId::new(7).unwrap();
    refused(&spec(FLAT, "10.0.0.0/24").with_first_vlan(vlan), "network.first_vlan", "7");
    let one_bridge = sized(VLAN, "10.0.0.0/24", 2, 16).with_bridge(interface("br7"));
    refused(&one_bridge, "network.bridge", "br7");
}

#[test]
fn a_bridge_and_an_interface_mean_one_thing_on_a_host() {
    let mut taken = free();
    let first = spec(DHCP, "10.0.0.0/24").with_parent(interface("eth1"));
    taken.networks.push(plan(&first, &free()).unwrap().remove(0).network);
    let same = spec(DHCP, "10.0.1.0/24").with_parent(interface("eth1"));
    check(same.clone(), &taken, &["net 10.0.1.0/24 10.0.1.1 10.0.1.2"]);
    let field = |spec: &NetworkSpec| match plan(spec, &taken) {
        Err(NetError::Invalid(invalid)) => invalid.field,
        other => panic!("a host cannot have both: {other:?}"),
    };
    assert_eq!(field(&spec(FLAT, "10.0.1.0/24")), "network.bridge");
    assert_eq!(field(&same.clone().with_parent(interface("eth2"))), "network.bridge");
    assert_eq!(field(&same.with_bridge(interface("br101"))), "network.parent");
    let vlan = spec(VLAN, "10.0.1.0/24");
    assert_eq!(field(&vlan.clone().with_bridge(interface("br100"))), "network.bridge");
    // Its own bridge would be br100, which is taken.
    check(vlan, &taken, &["net 10.0.1.0/24 10.0.1.1 10.0.1.3 br101:101"]);
}

#[test]
fn ten_million_subnets_are_not_written_down_to_find_one() {
    let spec = spec(FLAT, "10.0.0.0/8").with_subnets(1, 4).with_bridge(interface("brx"));
    let taken = beside(&["10.0.0.0/30"]);
    check(spec, &taken, &["net 10.0.0.4/30 10.0.0.5 10.0.0.6"]);
}
