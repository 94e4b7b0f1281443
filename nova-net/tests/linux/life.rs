//! From nothing to guests that are reached, and back.

use std::net::IpAddr;

use nova_core::domain::ServerName;
use nova_core::store::Revision;
use nova_net::backend::NetBackend as _;
use nova_net::backend::linux::LeasedAddress;
use nova_net::host::{Bridge, BridgeOrigin, GuestPort, HostNet, Lease, Uplink};
use nova_net::plan::diff;

use crate::lab::{
    FLOATING, HOST, NETWORK, OUTSIDE, flat, heard, interface, mac, port, run, with_floating,
};

#[test]
fn guests_get_their_addresses_and_reach_each_other_and_the_outside() {
    run("guests get their addresses", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        lab.converge(&flat(&[2, 3])).await.unwrap();
        assert_eq!(lab.backend.observe(HOST).await.unwrap(), flat(&[2, 3]));
        let expected = "ip=10.0.0.2 router=10.0.0.1 dns=10.0.0.1 domain=novalocal";
        assert_eq!(lab.dhcp(&one), expected);
        assert!(lab.dhcp(&two).starts_with("ip=10.0.0.3 "));
        assert!(lab.pings(&one, "10.0.0.3") && lab.pings(&two, "10.0.0.2"));
        assert!(lab.pings(&one, OUTSIDE));
        assert_eq!(lab.seen_as(&one).as_deref(), Some("172.24.4.1"), "under the host's address");
        let outside = lab.outside();
        lab.ip(&outside, &["route", "add", "10.0.0.0/24", "via", "172.24.4.1"]);
        assert!(!lab.pings(&outside, "10.0.0.2"), "nobody comes in unasked");
        let name = lab.exec(&two, &["busybox", "nslookup", "web2.novalocal", "10.0.0.1"]);
        assert!(String::from_utf8_lossy(&name.stdout).contains("10.0.0.2"), "{name:?}");
    });
}

#[test]
fn a_guest_without_a_lease_gets_no_address() {
    run("a guest without a lease", async |lab| {
        let stranger = lab.guest(&port(9));
        lab.converge(&flat(&[2])).await.unwrap();
        lab.ip(&lab.host.clone(), &["link", "set", "tap9", "master", "br100", "up"]);
        assert_eq!(lab.dhcp(&stranger), "");
    });
}

#[test]
fn an_address_that_goes_to_another_guest_is_leased_to_it_at_once() {
    run("an address that goes to another guest", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(5)));
        lab.converge(&flat(&[2, 3])).await.unwrap();
        assert_eq!(lab.backend.leased(HOST).await.unwrap(), []);
        assert!(lab.dhcp(&one).starts_with("ip=10.0.0.2 "));
        let leased = lab.backend.leased(HOST).await.unwrap();
        let held = |lease: &LeasedAddress| (lease.network, lease.mac, lease.address.into());
        assert_eq!(
            leased.iter().map(held).collect::<Vec<_>>(),
            [(NETWORK, port(2).mac, port(2).address)]
        );
        let next = GuestPort { address: port(2).address, ..port(5) };
        let mut net = flat(&[3]);
        let name = ServerName::new("next").unwrap();
        let (network, mac, address) = (NETWORK, next.mac, next.address);
        net.insert(Lease { network, mac, address, name }).unwrap();
        net.insert(next).unwrap();
        lab.converge(&net).await.unwrap();
        assert!(lab.dhcp(&two).starts_with("ip=10.0.0.2 "), "the first one's lease has ended");
        let leased = lab.backend.leased(HOST).await.unwrap();
        assert_eq!(leased.iter().map(|lease| lease.mac).collect::<Vec<_>>(), [port(5).mac]);
    });
}

#[test]
fn a_floating_ip_leads_both_ways_and_ends_when_it_is_led_elsewhere() {
    run("a floating IP", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        lab.converge(&with_floating(flat(&[2, 3]), 2)).await.unwrap();
        lab.dhcp(&one);
        lab.dhcp(&two);
        let outside = lab.outside();
        assert!(lab.pings(&outside, FLOATING));
        assert_eq!(lab.seen_as(&one).as_deref(), Some(FLOATING));
        assert_eq!(lab.seen_as(&two).as_deref(), Some("172.24.4.1"));
        assert!(lab.pings(&two, FLOATING), "from a neighbour on the same bridge");
        assert!(lab.pings(&one, FLOATING), "from the guest itself");
        assert!(lab.pings(&lab.host, FLOATING), "from the host itself");

        let (guest, caller) = (lab.socket(&one, "10.0.0.2"), lab.socket(&outside, OUTSIDE));
        let to: IpAddr = FLOATING.parse().unwrap();
        let to = (to, guest.local_addr().unwrap().port());
        caller.send_to(b"hello", to).unwrap();
        // It answers, so that there is a connection.
        guest.send_to(b"hello yourself", heard(&guest).unwrap()).unwrap();
        assert_eq!(heard(&caller).map(|from| from.ip().to_string()).as_deref(), Some(FLOATING));

        lab.converge(&with_floating(flat(&[2, 3]), 3)).await.unwrap();
        caller.send_to(b"still there?", to).unwrap();
        assert_eq!(heard(&guest), None, "the connection has ended");
        assert!(lab.pings(&outside, FLOATING));
        assert_eq!(lab.seen_as(&two).as_deref(), Some(FLOATING));
        assert_eq!(lab.seen_as(&one).as_deref(), Some("172.24.4.1"));

        lab.converge(&flat(&[2, 3])).await.unwrap();
        assert!(!lab.pings(&outside, FLOATING));
        assert_eq!(lab.seen_as(&two).as_deref(), Some("172.24.4.1"));
    });
}

#[test]
fn a_floating_ip_that_moves_to_another_host_is_found_there_at_once() {
    run("a floating IP moves", async |lab| {
        let one = lab.guest(&port(2));
        lab.converge(&with_floating(flat(&[2]), 2)).await.unwrap();
        lab.dhcp(&one);
        let outside = lab.outside();
        assert!(lab.pings(&outside, FLOATING));

        let first = lab.turn_to_another_host();
        let two = lab.guest(&port(3));
        lab.converge(&flat(&[3])).await.unwrap();
        lab.dhcp(&two);
        let there = first.observe(HOST).await.unwrap();
        let plan = diff(&there, &flat(&[2]));
        first.apply(HOST, Revision(9), &plan).await.unwrap();
        assert!(!lab.pings(&outside, FLOATING), "the first host answers no more");
        lab.converge(&with_floating(flat(&[3]), 3)).await.unwrap();
        assert!(lab.pings(&outside, FLOATING));
        assert_eq!(lab.seen_as(&two).as_deref(), Some(FLOATING));
    });
}

#[test]
fn what_a_guest_pretends_to_be_is_dropped() {
    run("what a guest pretends to be", async |lab| {
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        lab.converge(&flat(&[2, 3])).await.unwrap();
        lab.dhcp(&one);
        lab.dhcp(&two);
        assert!(lab.pings(&one, "10.0.0.3"));
        // Another address than its own.
        lab.ip(&one, &["addr", "add", "10.0.0.77/24", "dev", "eth0"]);
        let neighbour = ["neigh", "replace", "10.0.0.3", "lladdr", &mac(3).to_string()];
        lab.ip(&one, &[&neighbour[..], &["dev", "eth0"]].concat());
        let listener = lab.socket(&two, "10.0.0.3");
        let to = listener.local_addr().unwrap();
        lab.socket(&one, "10.0.0.77").send_to(b"spoofed", to).unwrap();
        assert_eq!(heard(&listener), None);
        lab.socket(&one, "10.0.0.2").send_to(b"own", to).unwrap();
        assert!(heard(&listener).is_some(), "its own address is heard");
        // Its neighbour's address in ARP: the neighbour's entry at the host stays right.
        lab.ip(&one, &["addr", "add", "10.0.0.3/24", "dev", "eth0"]);
        lab.exec(
            &one,
            &["busybox", "arping", "-U", "-c", "1", "-w", "1", "-I", "eth0", "10.0.0.3"],
        );
        let neighbours = lab.exec(&lab.host, &["ip", "neigh", "show", "10.0.0.3"]);
        let neighbours = String::from_utf8_lossy(&neighbours.stdout).into_owned();
        assert!(!neighbours.contains(&mac(2).to_string()), "{neighbours}");
        lab.ip(&one, &["addr", "del", "10.0.0.3/24", "dev", "eth0"]);
        // Another MAC, over an ARP request that is right otherwise.
        let from: [u8; 6] = [2, 0, 0, 0, 0, 0x66];
        let request = [0, 1, 8, 0, 6, 4, 0, 1];
        let own = [0xfa, 0x16, 0x3e, 0, 0, 2, 10, 0, 0, 2];
        let arp = |from: &[u8]| {
            [&[0xff; 6], from, &[8, 6], &request, &own, &[0; 6], &[10, 0, 0, 3]].concat()
        };
        lab.send_frame(&one, arp(&from));
        lab.send_frame(&one, arp(&own[..6]));
        let known = lab.known_macs();
        assert!(known.contains(&mac(2).to_string()) && !known.contains("02:00:00:00:00:66"));
        // IPv6, and whatever is neither ARP nor IPv4.
        for kind in [[0x86, 0xdd], [0x88, 0xcc]] {
            let other: [u8; 6] = [2, 0, 0, 0, 0, kind[1]];
            lab.send_frame(&one, [&[0xff; 6], &other[..], &kind, &[0; 46]].concat());
            assert!(!lab.known_macs().contains(&format!("02:00:00:00:00:{:02x}", kind[1])));
        }
        // What it says to all comes not back to it.
        let heard_before = lab.frames_heard(&one);
        (0..20).for_each(|_| lab.send_frame(&one, arp(&own[..6])));
        let heard_since = lab.frames_heard(&one) - heard_before;
        // The one that is asked for answers once each; nothing else comes.
        assert!(heard_since <= 25, "{heard_since}");
        // A DHCP server.
        lab.socket_at(&one, "10.0.0.2", 67).send_to(b"offer", to).unwrap();
        assert_eq!(heard(&listener), None);
        // Its interface with another MAC.
        lab.ip(&one, &["link", "set", "eth0", "address", "fa:16:3e:00:00:99"]);
        assert!(!lab.pings(&one, "10.0.0.3"));
        lab.ip(&one, &["link", "set", "eth0", "address", &mac(2).to_string()]);
        lab.ip(&one, &["addr", "del", "10.0.0.77/24", "dev", "eth0"]);
        assert!(lab.pings(&one, "10.0.0.3"), "it is itself again");
    });
}

#[test]
fn a_bridge_with_a_way_out_keeps_the_gateway_and_dhcp_to_its_host() {
    run("a bridge with a way out", async |lab| {
        let (one, lan) = (lab.guest(&port(2)), lab.namespace("lan"));
        let host = lab.host.clone();
        let link = ["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &lan];
        lab.ip(&host, &link);
        lab.ip(&lan, &["link", "set", "eth0", "up"]);
        let mut net = flat(&[2]);
        let uplink = Some(Uplink::Physical(interface("up0")));
        let name = interface("br100");
        net.change(Bridge { name, uplink, origin: BridgeOrigin::Ours }).unwrap();
        lab.converge(&net).await.unwrap();
        assert_eq!(lab.dhcp(&lan), "", "DHCP is the host's own");
        lab.dhcp(&one);
        lab.ip(&lan, &["addr", "add", "10.0.0.50/24", "dev", "eth0"]);
        assert!(lab.pings(&lan, "10.0.0.2") && lab.pings(&one, "10.0.0.50"));
        assert!(lab.pings(&one, "10.0.0.1"));
        assert!(!lab.pings(&lan, "10.0.0.1"), "every host has the gateway's address");
        // Who says out there that it is the gateway is not heard.
        let liar: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
        let says = [0, 1, 8, 0, 6, 4, 0, 2];
        let gateway = [10, 0, 0, 1];
        let reply = [&[0xff; 6], &liar[..], &[8, 6], &says, &liar, &gateway, &[0xff; 6], &gateway];
        lab.send_frame(&lan, reply.concat());
        let known = lab.exec(&one, &["ip", "neigh", "show", "10.0.0.1"]).stdout;
        assert!(!String::from_utf8(known).unwrap().contains("02:00:00:00:00:77"));
        // Without the way out nobody comes in.
        let name = interface("br100");
        net.change(Bridge { name, uplink: None, origin: BridgeOrigin::Ours }).unwrap();
        lab.converge(&net).await.unwrap();
        assert!(!lab.pings(&lan, "10.0.0.2"));
    });
}

#[test]
fn nothing_is_left_when_everything_is_taken_down() {
    run("nothing is left", async |lab| {
        let _one = lab.guest(&port(2));
        let before = lab.state();
        lab.converge(&with_floating(flat(&[2]), 2)).await.unwrap();
        assert_ne!(lab.state(), before);
        lab.converge(&HostNet::new()).await.unwrap();
        // The tap was plugged in and brought up for the guest, which is the hypervisor's to undo.
        lab.ip(&lab.host.clone(), &["link", "set", "tap2", "down"]);
        assert_eq!(lab.state(), before);
        let left = std::fs::read_dir(lab.folder.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["network.json"]);
    });
}
