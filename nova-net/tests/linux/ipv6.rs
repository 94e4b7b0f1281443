//! Guests with IPv6: addresses that they make themselves, and what may come from them and to them.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use nova_core::domain::{SecurityGroupId, Traffic};
use nova_net::backend::NetBackend as _;
use nova_net::host::*;

use crate::lab::{HOST, Lab, NETWORK, filter, flat, interface, mac, octets, open, port, run};

const GATEWAY: &str = "fd00:0:0:7::1";
const RANGE: &str = "fd00:0:0:7::/64";

fn address(n: u8) -> Ipv6Addr {
    mac(n).address_in(RANGE.parse().unwrap())
}

/// Flat DHCP with IPv6 and these guests, of which the one with number 2 is in a group of its own
/// that may be sent this.
fn dual(guests: &[u8], allows: &[(Traffic, &str)]) -> HostNet {
    let (mut net, bridge) = (flat(guests), interface("br100"));
    let gateway = format!("{GATEWAY}/64").parse().unwrap();
    net.insert(BridgeAddress { bridge, address: format!("{GATEWAY}/64").parse().unwrap() })
        .unwrap();
    net.insert(RouterAdvertiser { network: NETWORK, bridge, gateway, dns: vec![], mtu: None })
        .unwrap();
    let anything = [(Traffic::Any, "0.0.0.0/0"), (Traffic::Any, "::/0")];
    net.change(filter(open(), &anything)).unwrap();
    let own: BTreeSet<_> = [SecurityGroupId::from_u128(2)].into();
    net.insert(filter(own.clone(), allows)).unwrap();
    net.change(GuestPort { groups: own, ..port(2) }).unwrap();
    for n in guests {
        let (tap, address) = (port(*n).tap, address(*n));
        net.insert(GuestIpv6 { tap, network: NETWORK, bridge, address }).unwrap();
    }
    net
}

/// Waits until a guest has made its address, and knows that nobody else has it.
fn settle(lab: &Lab, guest: &str, n: u8) {
    let wanted = format!("{}/64", address(n));
    for _ in 0..3_000 {
        let shown = lab.exec(guest, &["ip", "-6", "-o", "addr", "show", "dev", "eth0"]).stdout;
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains("dadfailed"), "{shown}");
        if shown.lines().any(|line| line.contains(&wanted) && !line.contains("tentative")) {
            return;
        }
    }
    panic!("guest {n} has no address {wanted}");
}

/// The outside has IPv6, too, and knows the way to the guests.
fn outside_with_ipv6(lab: &Lab) -> String {
    let outside = lab.outside();
    lab.ip(&outside, &["addr", "add", "fd00:0:0:f::2/64", "dev", "pub0", "nodad"]);
    lab.ip(&lab.host, &["addr", "add", "fd00:0:0:f::1/64", "dev", "ext0", "nodad"]);
    lab.ip(&outside, &["route", "add", RANGE, "via", "fd00:0:0:f::1"]);
    outside
}

#[test]
fn a_guest_makes_its_address_and_is_reached_as_its_rules_say() {
    run("a guest makes its address", async |lab| {
        let outside = outside_with_ipv6(lab);
        let before = lab.state();
        let guests: Vec<String> = [2, 3, 4].iter().map(|n| lab.guest(&port(*n))).collect();
        let there = dual(&[2, 3, 4], &[]);
        lab.converge(&there).await.unwrap();
        for (guest, n) in guests.iter().zip([2, 3, 4]) {
            settle(lab, guest, n);
        }
        let ping = |from: &str, to: &str| lab.pings(from, to);
        let [two, three] = [2, 3].map(|n| address(n).to_string());
        assert!(ping(&guests[0], GATEWAY) && ping(&guests[0], &three), "answers come");
        assert!(ping(&guests[0], "fd00:0:0:f::2"), "and the outside is reached");
        assert!(ping(&outside, &three), "who lets in everybody");
        for (from, what) in [(&guests[1], "a neighbour"), (&outside, "the outside")] {
            assert!(!ping(from, &two), "{what} is not let in");
        }

        let of_three = format!("{three}/128");
        let one = dual(&[2, 3, 4], &[(Traffic::IcmpType(128), &of_three)]);
        lab.converge(&one).await.unwrap();
        assert!(ping(&guests[1], &two) && !ping(&guests[2], &two) && !ping(&outside, &two));
        let all = dual(&[2, 3, 4], &[(Traffic::ICMP, "fd00:0:0:f::/64")]);
        lab.converge(&all).await.unwrap();
        assert!(!ping(&guests[1], &two) && ping(&outside, &two));

        // Who comes back finds everything.
        lab.restart();
        assert_eq!(lab.backend.observe(HOST).await.unwrap(), all);
        assert_eq!(lab.converge(&all).await.unwrap(), 0);
        assert!(lab.pings(&guests[0], &three));

        // The name is known under its address, however one asks.
        assert!(lab.dhcp(&guests[0]).starts_with("ip=10.0.0.2 "));
        let asked = lab.exec(&guests[0], &["busybox", "nslookup", "web3.novalocal", "10.0.0.1"]);
        let told = String::from_utf8(asked.stdout).unwrap();
        assert!(told.contains(&three), "{told}");

        lab.ip(&lab.host, &["link", "del", "tap2"]);
        lab.ip(&lab.host, &["link", "del", "tap3"]);
        lab.ip(&lab.host, &["link", "del", "tap4"]);
        lab.converge(&HostNet::new()).await.unwrap();
        assert_eq!(lab.state(), before);
    });
}

#[test]
fn a_killed_advertiser_and_a_lost_address_come_back() {
    run("a killed advertiser", async |lab| {
        let net = dual(&[2], &[]);
        let guest = lab.guest(&port(2));
        lab.converge(&net).await.unwrap();
        let pid = lab.folder.path().join(format!("advertiser-{NETWORK}.pid"));
        let pid = std::fs::read_to_string(pid).unwrap();
        lab.exec(&lab.host, &["kill", "-9", pid.trim()]);
        let gateway = format!("{GATEWAY}/64");
        lab.ip(&lab.host, &["addr", "del", &gateway, "dev", "br100"]);
        let seen = lab.backend.observe(HOST).await.unwrap();
        assert!(seen.get(&PartId::RouterAdvertiser(NETWORK)).is_none());
        assert_eq!(lab.converge(&net).await.unwrap(), 2);
        assert_eq!(lab.backend.observe(HOST).await.unwrap(), net);
        settle(lab, &guest, 2);
        assert!(lab.pings(&guest, GATEWAY));
    });
}

const RA: u8 = 134;
const RS: u8 = 133;
const NS: u8 = 135;
const NA: u8 = 136;
const REDIRECT: u8 = 137;
const ALL_NODES: ([u8; 6], Ipv6Addr) =
    ([0x33, 0x33, 0, 0, 0, 1], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// A frame of ICMPv6 to all: of which guest, from which address, what, about which address.
fn icmp(n: u8, from: Ipv6Addr, kind: u8, about: Ipv6Addr) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(octets(n), ALL_NODES.0);
    let packet = packet.ipv6(from.octets(), ALL_NODES.1.octets(), 255);
    let mut frame = Vec::new();
    packet.icmpv6_raw(kind, 0, [0; 4]).write(&mut frame, &about.octets()).unwrap();
    frame
}

/// A frame with a datagram.
fn udp((n, from): (u8, Ipv6Addr), (to_n, to): (u8, Ipv6Addr), ports: (u16, u16)) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(octets(n), octets(to_n));
    let packet = packet.ipv6(from.octets(), to.octets(), 64).udp(ports.0, ports.1);
    let mut frame = Vec::new();
    packet.write(&mut frame, b"hello").unwrap();
    frame
}

/// The same with a header before that of ICMPv6, behind which simple filters do not look.
fn behind_options(frame: &[u8]) -> Vec<u8> {
    const OPTIONS: [u8; 8] = [58, 0, 1, 4, 0, 0, 0, 0];
    let mut frame = [&frame[..54], &OPTIONS, &frame[54..]].concat();
    frame[19] += 8;
    frame[20] = 60;
    frame
}

fn link_local(n: u8) -> Ipv6Addr {
    mac(n).link_local_address()
}

const OPEN: [(Traffic, &str); 2] = [(Traffic::Any, "0.0.0.0/0"), (Traffic::Any, "::/0")];

#[test]
fn a_guest_speaks_for_itself_alone() {
    run("a guest speaks for itself", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        lab.converge(&dual(&[2, 3, 4], &OPEN)).await.unwrap();
        let to = (2, address(2));
        let forbidden = vec![
            udp((3, address(4)), to, (9, 9)),
            udp((3, link_local(4)), to, (9, 9)),
            udp((3, link_local(3)), (2, link_local(2)), (547, 546)),
            udp((3, Ipv6Addr::UNSPECIFIED), to, (9, 9)),
            udp((3, address(3)), (2, address(4)), (9, 9)),
            icmp(3, link_local(3), RA, address(3)),
            behind_options(&icmp(3, link_local(3), RA, address(3))),
            icmp(3, link_local(3), REDIRECT, address(3)),
            icmp(3, address(3), NA, address(4)),
            icmp(3, address(3), NA, GATEWAY.parse().unwrap()),
            icmp(3, Ipv6Addr::UNSPECIFIED, NS, address(4)),
        ];
        let allowed = vec![
            udp((3, address(3)), to, (9, 9)),
            icmp(3, address(3), NA, address(3)),
            icmp(3, link_local(3), NA, link_local(3)),
            icmp(3, Ipv6Addr::UNSPECIFIED, NS, address(3)),
            icmp(3, address(3), NS, address(2)),
        ];
        let came = lab.sent((&two, 3), (&one, 2), [forbidden, allowed.clone()].concat());
        assert_eq!(came, allowed);
    });
}

#[test]
fn what_every_host_has_of_its_own_crosses_no_way_out() {
    run("what every host has", async |lab| {
        let one = lab.guest(&port(2));
        let wire = lab.namespace("wire");
        let link = ["link", "add", "phys0", "netns", &lab.host, "type", "veth"];
        lab.ip(&wire, &[&link[..], &["peer", "name", "eth0", "netns", &wire]].concat());
        lab.ip(&wire, &["link", "set", "eth0", "up"]);
        lab.ip(&lab.host, &["link", "set", "phys0", "up"]);
        let mut net = dual(&[2], &OPEN);
        let uplink = Some(Uplink::Physical(interface("phys0")));
        let bridge = Bridge { name: interface("br100"), uplink, origin: BridgeOrigin::Ours };
        net.change(bridge).unwrap();
        lab.converge(&net).await.unwrap();

        let gateway: Ipv6Addr = GATEWAY.parse().unwrap();
        let forbidden = vec![
            icmp(9, link_local(9), RA, address(9)),
            icmp(9, link_local(9), REDIRECT, address(9)),
            icmp(9, address(9), NA, gateway),
            udp((9, gateway), (2, address(2)), (9, 9)),
            udp((9, link_local(9)), (2, address(2)), (547, 546)),
        ];
        let allowed = vec![
            udp((9, address(9)), (2, address(2)), (9, 9)),
            icmp(9, address(9), NA, address(9)),
        ];
        let came = lab.sent((&wire, 9), (&one, 2), [forbidden, allowed.clone()].concat());
        assert_eq!(came, allowed, "inwards");

        let forbidden =
            vec![icmp(2, link_local(2), RS, address(2)), icmp(2, address(2), NS, gateway)];
        let allowed = vec![icmp(2, address(2), NS, address(9))];
        let came = lab.sent((&one, 2), (&wire, 9), [forbidden, allowed.clone()].concat());
        assert_eq!(came, allowed, "outwards");
    });
}
