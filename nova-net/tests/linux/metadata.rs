//! Guests that ask about themselves.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{
    FlavorName, ImageId, InstanceId, Mac, NetworkId, ProjectId, ServerName, ZoneName,
};
use nova_core::store::StoreError;
use nova_net::host::{Bridge, BridgeOrigin, HostNet, MetadataService, Uplink};
use nova_net::metadata::{ADDRESS, Interface, Metadata, MetadataSource};

use crate::lab::{Lab, flat, interface, mac, port, run};

/// Servers by their MACs.
#[derive(Debug)]
struct Known(BTreeMap<Mac, Metadata>);

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("known servers")
    }
}

#[async_trait]
impl MetadataSource for Known {
    async fn about(&self, mac: Mac) -> Result<Option<Metadata>, StoreError> {
        Ok(self.0.get(&mac).cloned())
    }
}

/// The server of guest `n`.
fn server(n: u8) -> Metadata {
    let address = port(n).address;
    Metadata {
        id: InstanceId::from_u128(n.into()),
        name: ServerName::new(format!("web{n}")).unwrap(),
        project: ProjectId::new("shop").unwrap(),
        flavor: FlavorName::new("small").unwrap(),
        image: ImageId::from_u128(6),
        zone: ZoneName::default(),
        key: None,
        security_groups: Vec::new(),
        interfaces: vec![Interface {
            mac: mac(n),
            network: NetworkId::from_u128(7),
            range: "10.0.0.0/24".parse().unwrap(),
            address,
            address_v6: None,
            gateway: None,
            dns: Vec::new(),
            dhcp: true,
            floating: None,
        }],
        user_data: None,
    }
}

fn telling(guests: &[u8]) -> HostNet {
    let mut net = flat(guests);
    net.insert(MetadataService { address: ADDRESS }).unwrap();
    net
}

fn know(lab: &mut Lab) {
    let servers = [2, 3, 4].map(|n| (mac(n), server(n)));
    lab.source = Some(Arc::new(Known(servers.into())));
    lab.restart();
}

/// What one is answered that says this; nothing when it cannot connect.
fn asked(lab: &Lab, from: &str, says: &str) -> String {
    let Ok(mut stream) = lab.call(from, &ADDRESS.to_string(), 80) else { return String::new() };
    stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    // Who is refused early may not have been heard to the end.
    let _ = stream.write_all(says.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(lab: &Lab, from: &str, path: &str) -> String {
    let head = "Host: 169.254.169.254\r\nX-Forwarded-For: 10.0.0.3\r\nX-Instance-ID: \
                00000000-0000-0000-0000-000000000003\r\nConnection: close\r\n\r\n";
    asked(lab, from, &format!("GET {path} HTTP/1.1\r\n{head}"))
}

#[test]
fn a_guest_is_told_about_itself_and_nobody_else_about_anything() {
    run("a guest is told about itself", async |lab| {
        know(lab);
        let (one, two) = (lab.guest(&port(2)), lab.guest(&port(3)));
        let (lan, host) = (lab.namespace("lan"), lab.host.clone());
        let link = ["link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &lan];
        lab.ip(&host, &link);
        lab.ip(&lan, &["link", "set", "eth0", "up"]);
        let before = lab.state();
        let mut net = telling(&[2, 3]);
        let uplink = Some(Uplink::Physical(interface("up0")));
        let name = interface("br100");
        net.change(Bridge { name, uplink, origin: BridgeOrigin::Ours }).unwrap();
        lab.converge(&net).await.unwrap();
        lab.dhcp(&one);
        lab.dhcp(&two);
        let path = "/latest/meta-data/local-hostname";
        assert!(get(lab, &one, path).ends_with("\r\n\r\nweb2.novalocal"));
        assert!(get(lab, &two, path).ends_with("\r\n\r\nweb3.novalocal"));
        let document = get(lab, &one, "/openstack/latest/meta_data.json");
        assert!(document.contains("\"uuid\":\"00000000-0000-0000-0000-000000000002\""));
        assert!(get(lab, &one, "/latest/nothing").starts_with("HTTP/1.1 404"));

        // Nobody else is told anything: not the outside, not who is on the way out of the bridge.
        let outside = lab.outside();
        for (other, address, via) in
            [(&outside, None, "172.24.4.1"), (&lan, Some("10.0.0.50/24"), "10.0.0.1")]
        {
            if let Some(address) = address {
                lab.ip(other, &["addr", "add", address, "dev", "eth0"]);
                let neighbour = ["neigh", "replace", via, "lladdr", &bridge_mac(lab)];
                lab.ip(other, &[&neighbour[..], &["dev", "eth0"]].concat());
            }
            lab.ip(other, &["route", "add", "169.254.169.254", "via", via]);
            assert_eq!(get(lab, other, path), "");
        }
        assert!(get(lab, &host, path).starts_with("HTTP/1.1 404"), "the host is no guest");
        // Nor does a guest hear what is another's by saying that it is the other.
        lab.ip(&one, &["addr", "add", "10.0.0.3/32", "dev", "lo"]);
        let route = ["route", "add", "169.254.169.254", "via", "10.0.0.1", "src", "10.0.0.3"];
        lab.ip(&one, &route);
        assert_eq!(get(lab, &one, path), "");

        lab.converge(&HostNet::new()).await.unwrap();
        for tap in ["tap2", "tap3", "up0"] {
            lab.ip(&host, &["link", "set", tap, "nomaster", "down"]);
        }
        assert_eq!(lab.state(), before);
    });
}

/// The MAC of the host's bridge.
fn bridge_mac(lab: &Lab) -> String {
    let shown = lab.exec(&lab.host, &["cat", "/sys/class/net/br100/address"]).stdout;
    String::from_utf8(shown).unwrap().trim().to_owned()
}

#[test]
fn the_metadata_service_outlives_nonsense_and_comes_back_with_its_agent() {
    run("the metadata service", async |lab| {
        know(lab);
        let one = lab.guest(&port(2));
        lab.converge(&telling(&[2])).await.unwrap();
        lab.dhcp(&one);
        let path = "/latest/meta-data/mac";
        let fine = |lab: &Lab| get(lab, &one, path).ends_with(&mac(2).to_string());
        assert!(fine(lab));
        let long = "x".repeat(100_000);
        for nonsense in [
            "\r\n\r\n",
            "GET\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "DELETE /latest HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /latest/../../etc/passwd HTTP/1.0\r\n\r\n",
            "GET /%00%0d%0a HTTP/1.0\r\n\r\n",
            "GET http://[::1/ HTTP/1.0\r\n\r\n",
            "\u{0}\u{1}\u{2}",
            &format!("GET /{long} HTTP/1.0\r\n\r\n"),
            &format!("GET / HTTP/1.1\r\n{long}: {long}\r\n\r\n"),
        ] {
            let said = asked(lab, &one, nonsense);
            assert!(!said.starts_with("HTTP/1.1 200"), "{nonsense:.40}: {said:.80}");
            assert!(fine(lab));
        }
        // One that opens many and says nothing leaves room for itself in the end.
        let held: Vec<_> = (0..20).map(|_| lab.call(&one, "169.254.169.254", 80)).collect();
        assert!(fine(lab));
        drop(held);

        lab.restart();
        assert_eq!(lab.converge(&telling(&[2])).await.unwrap(), 1, "it is started again");
        assert!(fine(lab));
        lab.source = None;
        lab.restart();
        let error = lab.converge(&telling(&[2])).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "nobody was named who knows the metadata of guests");
    });
}
