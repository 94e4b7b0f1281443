//! Projects that are kept apart between hosts: by VLANs, on a kernel that has 802.1Q, and by VXLAN.

use nova_core::domain::{NetworkId, ServerName, Traffic, VlanId, Vni};
use nova_net::host::{
    Bridge, BridgeAddress, BridgeOrigin, DhcpServer, GuestPort, HostNet, Lease, Nat, Part, Uplink,
    VlanInterface, VxlanInterface,
};

use crate::lab::{Lab, filter, interface, open, port, run};

/// What keeps projects apart.
#[derive(Clone, Copy)]
enum By {
    Vlan,
    Vxlan,
}

/// A network of a project on a host: 10.`range`.0.0/24 in that segment, with these guests.
#[derive(Clone, Copy)]
struct Project<'a> {
    by: By,
    segment: u16,
    range: u8,
    guests: &'a [u8],
}

impl Project<'_> {
    fn port(self, n: u8) -> GuestPort {
        let address = [10, self.range, 0, n].into();
        GuestPort { bridge: interface(&format!("br{}", self.segment)), address, ..port(n) }
    }

    fn parts(self) -> Vec<Part> {
        let network = NetworkId::from_u128(self.segment.into());
        let bridge = interface(&format!("br{}", self.segment));
        let (name, parent) = (interface(&format!("seg{}", self.segment)), interface("trunk0"));
        let (segment, uplink, mtu): (Part, _, _) = match self.by {
            By::Vlan => {
                let vlan = VlanId::new(self.segment).unwrap();
                (VlanInterface { name, parent, vlan }.into(), Uplink::Vlan(name), None)
            }
            By::Vxlan => {
                let vni = Vni::new(self.segment.into()).unwrap();
                (VxlanInterface { name, parent, vni }.into(), Uplink::Vxlan(name), Some(1450))
            }
        };
        let listen = [10, self.range, 0, 1].into();
        let range = format!("10.{}.0.0/24", self.range).parse().unwrap();
        let address = format!("10.{}.0.1/24", self.range).parse().unwrap();
        let uplink = Some(uplink);
        let (gateway, dns) = (Some(listen), Vec::new());
        let mut parts: Vec<Part> = vec![
            segment,
            Bridge { name: bridge, uplink, origin: BridgeOrigin::Ours }.into(),
            BridgeAddress { bridge, address }.into(),
            DhcpServer { network, bridge, listen, range, gateway, dns, mtu }.into(),
            Nat { range, bridge }.into(),
        ];
        for n in self.guests {
            let port = self.port(*n);
            let name = ServerName::new(format!("web{n}")).unwrap();
            let (mac, address) = (port.mac, port.address);
            parts.push(Lease { network, mac, address, name }.into());
            parts.push(port.into());
        }
        parts
    }
}

fn net(projects: &[Project<'_>]) -> HostNet {
    // Anything may be sent to anybody: what keeps them apart is the VLAN.
    let open = filter(open(), &[(Traffic::Any, "0.0.0.0/0")]);
    let parts = projects.iter().flat_map(|project| project.parts());
    HostNet::try_from(parts.chain([open.into()]).collect::<Vec<_>>()).unwrap()
}

/// Whether the kernel has VLANs; where they were promised, it must.
fn has_vlans(lab: &Lab) -> bool {
    let link = ["ip", "link", "add", "link", "ext0", "name", "try0", "type", "vlan", "id", "5"];
    let there = lab.exec(&lab.host, &link).status.success();
    if there {
        lab.ip(&lab.host, &["link", "del", "try0"]);
    } else {
        assert!(std::env::var_os("NOVA_NET_VLAN").is_none(), "this kernel should have VLANs");
        println!("skipped: VLANs: this kernel has no 802.1Q");
    }
    there
}

#[test]
fn guests_of_a_vlan_reach_each_other_across_hosts_and_those_of_another_do_not() {
    run("VLANs", async |lab| {
        if has_vlans(lab) {
            keeps_apart(lab, By::Vlan).await;
        }
    });
}

#[test]
fn guests_of_a_vxlan_segment_reach_each_other_across_hosts_and_those_of_another_do_not() {
    run("VXLAN", async |lab| keeps_apart(lab, By::Vxlan).await);
}

async fn keeps_apart(lab: &mut Lab, by: By) {
    let blue = |guests| Project { by, segment: 101, range: 1, guests };
    let red = |guests| Project { by, segment: 102, range: 2, guests };
    let here = lab.host.clone();
    let guests_here = [blue(&[2]).port(2), red(&[3]).port(3)].map(|port| lab.guest(&port));
    let before = lab.state();
    let first = lab.turn_to_another_host();
    let there = lab.host.clone();
    let trunk = ["link", "add", "trunk0", "type", "veth", "peer", "name", "trunk0"];
    lab.ip(&here, &[&trunk[..], &["netns", &there]].concat());
    for host in [&here, &there] {
        lab.ip(host, &["link", "set", "trunk0", "up"]);
    }
    // The same range as the other project's, which is on the first host.
    let twin = Project { by, segment: 103, range: 2, guests: &[5] };
    let guests_there = [blue(&[4]).port(4), twin.port(5)].map(|port| lab.guest(&port));
    lab.converge(&net(&[blue(&[4]), twin])).await.unwrap();
    let second = std::mem::replace(&mut lab.backend, first);
    lab.converge(&net(&[blue(&[2]), red(&[3])])).await.unwrap();

    for (guest, address) in [
        (&guests_here[0], "10.1.0.2"),
        (&guests_here[1], "10.2.0.3"),
        (&guests_there[0], "10.1.0.4"),
        (&guests_there[1], "10.2.0.5"),
    ] {
        let told = lab.dhcp(guest);
        assert!(told.starts_with(&format!("ip={address} ")), "{address}: {told}");
    }
    assert!(lab.pings(&guests_here[0], "10.1.0.4"), "the same segment on another host");
    assert!(lab.pings(&guests_there[0], "10.1.0.2"));
    assert!(!lab.pings(&guests_here[0], "10.2.0.3"), "another segment on the same host");
    assert!(!lab.pings(&guests_here[0], "10.2.0.5"), "another segment on another host");
    assert!(!lab.pings(&guests_here[1], "10.2.0.5"), "another segment with the same addresses");
    assert!(!lab.pings(&guests_there[1], "10.2.0.3"));

    // A way out that goes is mended with the bridge that leads there.
    lab.ip(&here, &["link", "del", "seg101"]);
    assert!(!lab.pings(&guests_here[0], "10.1.0.4"));
    lab.converge(&net(&[blue(&[2]), red(&[3])])).await.unwrap();
    assert!(lab.pings(&guests_here[0], "10.1.0.4"));

    lab.converge(&HostNet::new()).await.unwrap();
    lab.backend = second;
    lab.converge(&HostNet::new()).await.unwrap();
    lab.ip(&here, &["link", "del", "trunk0"]);
    for tap in ["tap2", "tap3"] {
        lab.ip(&here, &["link", "set", tap, "nomaster", "down"]);
    }
    lab.host = here;
    assert_eq!(lab.state(), before);
}
