//! What may come to guests: security groups as packets meet them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use etherparse::PacketBuilder;
use nova_core::domain::{PortRange, SecurityGroupId, Traffic};
use nova_core::seed::{Chance, Seed};
use nova_net::backend::NetBackend as _;
use nova_net::host::{Allowed, Bridge, BridgeOrigin, GuestPort, HostNet, Part, PortFilter};

use crate::lab::{
    FLOATING, HOST, OUTSIDE, filter, flat, heard, interface, octets, open, port, run, with_floating,
};

/// Guests with these last numbers, of which 10.0.0.2 is in a group of its own that may be sent
/// this.
fn judged(guests: &[u8], allows: &[(Traffic, &str)]) -> HostNet {
    let mut net = flat(guests);
    let own: BTreeSet<_> = [SecurityGroupId::from_u128(2)].into();
    net.insert(filter(own.clone(), allows)).unwrap();
    net.change(GuestPort { groups: own, ..port(2) }).unwrap();
    net
}

const EVERYBODY: &str = "0.0.0.0/0";

fn tcp(port: u16) -> Traffic {
    Traffic::Tcp(PortRange::one(port))
}

#[test]
fn nothing_comes_to_a_guest_but_what_its_rules_let_in() {
    run("nothing comes to a guest", async |lab| {
        let guests: Vec<String> = [2, 3, 4].iter().map(|n| lab.guest(&port(*n))).collect();
        lab.converge(&with_floating(judged(&[2, 3, 4], &[]), 2)).await.unwrap();
        guests.iter().for_each(|guest| drop(lab.dhcp(guest)));
        let outside = lab.outside();
        let ping = |from: &str, to: &str| lab.pings(from, to);
        assert!(!ping(&guests[1], "10.0.0.2"), "a neighbour");
        assert!(!ping(&outside, FLOATING), "the outside");
        assert!(!ping(&lab.host, "10.0.0.2"), "the host");
        assert!(!ping(&lab.host, FLOATING), "the host, by the floating IP");
        assert!(ping(&guests[0], "10.0.0.3") && ping(&guests[0], OUTSIDE), "answers come");
        assert!(lab.dhcp(&guests[0]).starts_with("ip=10.0.0.2 "), "so does its lease");

        let one = judged(&[2, 3, 4], &[(Traffic::IcmpType(8), "10.0.0.3/32")]);
        lab.converge(&with_floating(one, 2)).await.unwrap();
        assert!(ping(&guests[1], "10.0.0.2") && !ping(&guests[2], "10.0.0.2"));
        assert!(ping(&guests[1], FLOATING), "known by its own address here, too");
        assert!(!ping(&outside, FLOATING));

        let other = judged(&[2, 3, 4], &[(Traffic::ICMP, "172.24.4.0/24")]);
        lab.converge(&with_floating(other, 2)).await.unwrap();
        assert!(!ping(&guests[1], "10.0.0.2") && ping(&outside, FLOATING));
    });
}

#[test]
fn a_connection_ends_when_its_rule_goes_and_goes_on_when_another_comes() {
    run("a connection ends", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        let web = (tcp(80), EVERYBODY);
        lab.converge(&judged(&[2, 3], &[web])).await.unwrap();
        lab.dhcp(&one);
        lab.dhcp(&two);
        let listener = lab.listen(&one, "10.0.0.2", 80);
        let mut caller = lab.call(&two, "10.0.0.2", 80).unwrap();
        let mut guest = listener.accept().unwrap().0;
        guest.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut passes = |what: &[u8]| {
            caller.write_all(what).unwrap();
            let mut buffer = [0; 8];
            guest.read(&mut buffer).is_ok_and(|length| buffer[..length] == *what)
        };
        assert!(passes(b"one"));
        lab.converge(&judged(&[2, 3], &[web, (tcp(81), EVERYBODY)])).await.unwrap();
        assert!(passes(b"two"), "a rule that comes leaves it alone");
        let steps = lab.converge(&judged(&[2, 3], &[(tcp(81), EVERYBODY)])).await.unwrap();
        assert_eq!(steps, 1, "only the filter changes");
        assert!(!passes(b"three"));
        assert!(lab.call(&two, "10.0.0.2", 80).is_err());
    });
}

#[test]
fn the_kernel_lets_in_what_the_rules_mean() {
    run("the kernel lets in", async |lab| {
        let one = lab.guest(&port(2));
        let senders = [3_u8, 4, 9].map(|n| (n, lab.guest(&port(n))));
        let mut chance = Seed::new(11).chance();
        let (mut let_in, mut kept_out) = (0, 0);
        for _ in 0..25 {
            let allows: BTreeSet<Allowed> =
                (0..1 + chance.index(6)).map(|_| allowed(&mut chance)).collect();
            let mut net = judged(&[2, 3, 4, 9], &[]);
            let groups = [SecurityGroupId::from_u128(2)].into();
            net.change(PortFilter { groups, allows: allows.clone() }).unwrap();
            lab.converge(&net).await.unwrap();
            assert_eq!(lab.backend.observe(HOST).await.unwrap(), net);
            for (n, sender) in &senders {
                let probes: Vec<Probe> = (0..12).map(|_| probe(&mut chance)).collect();
                let frames: Vec<_> = probes.iter().map(|probe| probe.frame(*n)).collect();
                let came = lab.sent((sender, *n), (&one, 2), frames.clone());
                for (probe, frame) in probes.iter().zip(frames) {
                    let means = allows.iter().any(|allowed| probe.is(*n, *allowed));
                    assert_eq!(came.contains(&frame), means, "{probe:?} from {n} by {allows:?}");
                    *(if means { &mut let_in } else { &mut kept_out }) += 1;
                }
            }
        }
        assert!(let_in > 100 && kept_out > 100, "{let_in} let in, {kept_out} kept out");
    });
}

#[test]
fn a_frame_for_a_guest_that_is_addressed_to_another_is_dropped() {
    run("a frame for a guest", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        // Its neighbour may be sent anything, and it may not.
        lab.converge(&judged(&[2, 3, 4], &[])).await.unwrap();
        let to = |address: [u8; 4]| {
            let ethernet = PacketBuilder::ethernet2(octets(3), octets(2));
            built(ethernet.ipv4([10, 0, 0, 3], address, 64).udp(9, 9))
        };
        let all = [[10, 0, 0, 2], [10, 0, 0, 4], [224, 0, 0, 1], [255; 4]].map(to).to_vec();
        let ipv6 = PacketBuilder::ethernet2(octets(3), octets(2));
        let ipv6 = built(ipv6.ipv6([0xfe; 16], [0xff; 16], 64).udp(9, 9));
        let frames = [all, vec![ipv6]].concat();
        let came = lab.sent((&two, 3), (&one, 2), frames);
        assert_eq!(came, Vec::<Vec<u8>>::new());
    });
}

#[test]
fn a_filter_of_a_thousand_rules_is_found_again_by_an_agent_that_starts_anew() {
    run("a filter of a thousand rules", async |lab| {
        let two = lab.guest(&port(3));
        let one = lab.guest(&port(2));
        let ranges: Vec<String> =
            (0..1000_u16).map(|n| format!("10.{}.{}.0/{}", n % 100, n / 100, 24 + n % 8)).collect();
        let rule = |n: usize| if n.is_multiple_of(2) { tcp(80) } else { Traffic::UDP };
        let allows: Vec<_> = ranges.iter().enumerate().map(|(n, r)| (rule(n), &**r)).collect();
        let net = judged(&[2, 3], &allows);
        lab.converge(&net).await.unwrap();
        lab.restart();
        assert_eq!(lab.backend.observe(HOST).await.unwrap(), net);
        assert_eq!(lab.converge(&net).await.unwrap(), 0);
        lab.dhcp(&one);
        lab.dhcp(&two);
        let _listener = lab.listen(&one, "10.0.0.2", 80);
        assert!(lab.call(&two, "10.0.0.2", 80).is_ok(), "by the rule about 10.0.0.0/24");
        // Somebody takes an element out: it is missed.
        let maps = lab.exec(&lab.host, &["nft", "list", "table", "ip", "nova"]).stdout;
        let maps = String::from_utf8(maps).unwrap();
        let map = maps.split_whitespace().find(|word| word.ends_with("_from_24")).unwrap();
        lab.exec(&lab.host, &["nft", "flush", "map", "ip", "nova", map]);
        assert!(lab.call(&two, "10.0.0.2", 80).is_err());
        assert_ne!(lab.converge(&net).await.unwrap(), 0);
        assert!(lab.call(&two, "10.0.0.2", 80).is_ok());
    });
}

#[test]
fn guests_on_a_bridge_of_the_operators_are_filtered_too() {
    run("guests on a bridge of the operator's", async |lab| {
        let (host, lan) = (lab.host.clone(), lab.namespace("lan"));
        lab.ip(&host, &["link", "add", "br-lan", "type", "bridge"]);
        lab.ip(&host, &["link", "set", "br-lan", "up"]);
        let link = ["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &lan];
        lab.ip(&host, &link);
        lab.ip(&host, &["link", "set", "up0", "master", "br-lan", "up"]);
        lab.ip(&lan, &["link", "set", "eth0", "up"]);
        lab.ip(&lan, &["addr", "add", "10.0.0.50/24", "dev", "eth0"]);
        let bridge = interface("br-lan");
        let own = |n: u8| GuestPort { bridge, ..port(n) };
        let guests = [2, 3].map(|n| lab.guest(&own(n)));
        for (guest, address) in guests.iter().zip(["10.0.0.2/24", "10.0.0.3/24"]) {
            lab.ip(guest, &["addr", "add", address, "dev", "eth0"]);
        }
        let before = lab.state();
        let net = |allows: &[(Traffic, &str)]| {
            let operators = BridgeOrigin::Operators;
            let bridge = Bridge { name: bridge, uplink: None, origin: operators };
            let parts: [Part; 4] =
                [bridge.into(), filter(open(), allows).into(), own(2).into(), own(3).into()];
            HostNet::try_from(parts.to_vec()).unwrap()
        };
        lab.converge(&net(&[])).await.unwrap();
        let reached = |from: &str| lab.pings(from, "10.0.0.2");
        assert!(!reached(&guests[1]) && !reached(&lan), "nobody");
        assert!(lab.pings(&guests[0], "10.0.0.50"), "answers come");
        lab.converge(&net(&[(Traffic::ICMP, "10.0.0.50/32")])).await.unwrap();
        assert!(!reached(&guests[1]) && reached(&lan));
        lab.converge(&net(&[(Traffic::Any, EVERYBODY)])).await.unwrap();
        assert!(reached(&guests[1]) && reached(&lan));
        let listener = lab.socket(&guests[0], "10.0.0.2");
        let to = listener.local_addr().unwrap();
        lab.ip(&lan, &["addr", "add", "10.9.9.9/32", "dev", "lo"]);
        lab.socket(&lan, "10.9.9.9").send_to(b"hello", to).unwrap();
        assert_eq!(heard(&listener).map(|from| from.ip()), Some(IpAddr::from([10, 9, 9, 9])));
        lab.converge(&HostNet::new()).await.unwrap();
        for n in [2, 3] {
            lab.ip(&host, &["link", "set", port(n).tap.as_str(), "nomaster", "down"]);
        }
        assert_eq!(lab.state(), before);
    });
}

/// A packet to 10.0.0.2.
#[derive(Debug, Clone, Copy)]
struct Probe {
    protocol: u8,
    /// Where it comes from: every probe is a connection of its own.
    source: u16,
    port: u16,
    icmp: (u8, u8),
}

fn probe(chance: &mut Chance) -> Probe {
    let protocol = [1, 6, 17, 99][chance.index(4)];
    let port = [79, 80, 81, 90, 100][chance.index(5)];
    // Of the kinds of ICMP only questions come unasked.
    let kind = [8, 13, 15][chance.index(3)];
    let source = u16::try_from(1024 + chance.below(60_000)).unwrap();
    Probe { protocol, source, port, icmp: (kind, u8::try_from(chance.below(2)).unwrap()) }
}

impl Probe {
    fn frame(&self, from: u8) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(octets(from), octets(2));
        let ip = ethernet.ipv4([10, 0, 0, from], [10, 0, 0, 2], 64);
        let [high, low] = self.source.to_be_bytes();
        match self.protocol {
            1 => built(ip.icmpv4_raw(self.icmp.0, self.icmp.1, [high, low, 0, 1])),
            6 => built(ip.tcp(self.source, self.port, 1, 1024).syn()),
            17 => built(ip.udp(self.source, self.port)),
            other => {
                let payload = [&[high, low][..], &[0; 20]].concat();
                let mut frame = Vec::new();
                ip.write(&mut frame, other.into(), &payload).unwrap();
                frame
            }
        }
    }

    /// Whether a rule is about it.
    fn is(&self, from: u8, allowed: Allowed) -> bool {
        let Self { protocol, port, icmp, .. } = *self;
        allowed.from.contains(Ipv4Addr::new(10, 0, 0, from).into())
            && match allowed.traffic {
                Traffic::Any => true,
                Traffic::Protocol(number) => number == protocol,
                Traffic::Tcp(r) => protocol == 6 && (r.first()..=r.last()).contains(&port),
                Traffic::Udp(r) => protocol == 17 && (r.first()..=r.last()).contains(&port),
                Traffic::IcmpType(kind) => protocol == 1 && icmp.0 == kind,
                Traffic::IcmpCode(kind, code) => protocol == 1 && icmp == (kind, code),
            }
    }
}

fn allowed(chance: &mut Chance) -> Allowed {
    let low = [79, 80, 81][chance.index(3)];
    let ports = PortRange::new(low, low + [0, 1, 15][chance.index(3)]).unwrap();
    let traffic = match chance.index(12) {
        0 => Traffic::Any,
        1 => Traffic::TCP,
        2 => Traffic::UDP,
        3 => Traffic::ICMP,
        4 => Traffic::Protocol(99),
        5 | 6 => Traffic::Udp(ports),
        7 | 8 => Traffic::Tcp(ports),
        9 => Traffic::IcmpType(8),
        10 => Traffic::IcmpCode(13, 1),
        _ => Traffic::IcmpCode(8, 0),
    };
    let ranges = ["10.0.0.3/32", "10.0.0.2/31", "10.0.0.0/29", "10.0.0.8/30", "10.0.0.4/32"];
    Allowed { traffic, from: ranges[chance.index(5)].parse().unwrap() }
}

/// The bytes of a packet with something in it.
fn built(packet: impl Writes) -> Vec<u8> {
    packet.bytes(&[7; 26])
}

/// What the steps of a packet's making have in common.
trait Writes {
    fn bytes(self, payload: &[u8]) -> Vec<u8>;
}

macro_rules! writes {
    ($($header:ty),+) => {$(
        impl Writes for etherparse::PacketBuilderStep<$header> {
            fn bytes(self, payload: &[u8]) -> Vec<u8> {
                let mut frame = Vec::new();
                self.write(&mut frame, payload).unwrap();
                frame
            }
        }
    )+};
}

writes!(etherparse::UdpHeader, etherparse::TcpHeader, etherparse::Icmpv4Header);
