//! OpenStack's form: a few documents of JSON.

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use crate::metadata::{Answer, Metadata};

/// The versions that Nova tells, all of which say the same here.
const VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];

pub(super) fn answer(server: &Metadata, words: &[&str]) -> Option<Answer> {
    match words {
        [] => Some(Answer::text(VERSIONS.join("\n"))),
        [version, ..] if !VERSIONS.contains(version) => None,
        [_] => {
            let user_data = server.user_data.iter().map(|_| "user_data");
            let all = ["meta_data.json"].into_iter().chain(user_data);
            let all = all.chain(["vendor_data.json", "network_data.json"]);
            Some(Answer::text(all.collect::<Vec<_>>().join("\n")))
        }
        [_, "meta_data.json"] => Some(Answer::json(&meta_data(server))),
        [_, "network_data.json"] => Some(Answer::json(&network_data(server))),
        [_, "vendor_data.json"] => Some(Answer::json(&json!({}))),
        [_, "user_data"] => server.user_data.as_ref().map(Answer::user_data),
        _ => None,
    }
}

fn meta_data(server: &Metadata) -> Value {
    let mut data = json!({
        "uuid": server.id.to_string(),
        "name": server.name.to_string(),
        "hostname": server.host_name(),
        "launch_index": 0,
        "availability_zone": server.zone.to_string(),
        "project_id": server.project.to_string(),
    });
    if let Some((name, key)) = &server.key {
        let (name, key) = (name.to_string(), key.as_str());
        data["public_keys"] = json!({ &name: key });
        data["keys"] = json!([{ "name": name, "type": "ssh", "data": key }]);
    }
    data
}

fn network_data(server: &Metadata) -> Value {
    let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::new());
    for (at, interface) in server.interfaces.iter().enumerate() {
        let link = format!("interface{at}");
        links.push(json!({
            "id": link,
            "type": "phy",
            "ethernet_mac_address": interface.mac.to_string(),
        }));
        let mut network = json!({
            "id": format!("network{at}"),
            "link": link,
            "network_id": interface.network.to_string(),
        });
        if interface.dhcp {
            network["type"] = json!("ipv4_dhcp");
        } else {
            network["type"] = json!("ipv4");
            network["ip_address"] = json!(interface.address.to_string());
            network["netmask"] = json!(mask(interface.range));
            let route = |gateway: &std::net::IpAddr| json!({ "network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": gateway.to_string() });
            // Only the first interface leads out, or there would be two ways.
            let routes = interface.gateway.iter().filter(|_| at == 0).map(route);
            network["routes"] = routes.collect();
        }
        networks.push(network);
        if let Some(address) = interface.address_v6 {
            let (id, network) = (format!("network{at}_v6"), interface.network.to_string());
            let mut ipv6 = json!({ "id": id, "link": link, "network_id": network });
            if interface.dhcp {
                ipv6["type"] = json!("ipv6_slaac");
            } else {
                ipv6["type"] = json!("ipv6");
                ipv6["ip_address"] = json!(address.to_string());
                ipv6["netmask"] = json!("ffff:ffff:ffff:ffff::");
                ipv6["routes"] = json!([]);
            }
            networks.push(ipv6);
        }
        let dns = interface.dns.iter();
        services.extend(dns.map(|dns| json!({ "type": "dns", "address": dns.to_string() })));
    }
    json!({ "links": links, "networks": networks, "services": services })
}

fn mask(range: IpNetwork) -> String {
    range.mask().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::metadata::answer;
    use crate::metadata::tests::{check, server};

    #[test]
    fn openstacks_documents_say_what_the_server_is() {
        let server = server();
        let document = |path: &str| -> serde_json::Value {
            let answer = answer(&server, path).unwrap();
            assert_eq!(answer.media_type, "application/json");
            serde_json::from_slice(&answer.body).unwrap()
        };
        assert_eq!(
            document("/openstack/latest/meta_data.json"),
            json!({
                "uuid": "00000000-0000-0000-0000-000000000005",
                "name": "web",
                "hostname": "web.novalocal",
                "launch_index": 0,
                "availability_zone": "nova",
                "project_id": "shop",
                "public_keys": { "laptop": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me" },
                "keys": [{ "name": "laptop", "type": "ssh", "data": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me" }],
            })
        );
        assert_eq!(
            document("/openstack/2015-10-15/network_data.json"),
            json!({
                "links": [{
                    "id": "interface0",
                    "type": "phy",
                    "ethernet_mac_address": "fa:16:3e:00:00:02",
                }],
                "networks": [{
                    "id": "network0",
                    "link": "interface0",
                    "network_id": "00000000-0000-0000-0000-000000000007",
                    "type": "ipv4_dhcp",
                }],
                "services": [{ "type": "dns", "address": "192.0.2.53" }],
            })
        );
        let data = answer(&server, "/openstack/latest/user_data").unwrap();
        assert_eq!(data.body, [0xff, 0, b'x'], "bytes as they are");
    }

    #[test]
    fn an_interface_without_dhcp_is_told_its_address() {
        let mut server = server();
        server.interfaces[0].dhcp = false;
        let said = answer(&server, "/openstack/latest/network_data.json").unwrap();
        let said: serde_json::Value = serde_json::from_slice(&said.body).unwrap();
        let route = json!({ "network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1" });
        let network = &said["networks"][0];
        assert_eq!(
            (&network["ip_address"], &network["netmask"], &network["routes"]),
            (&json!("10.0.0.2"), &json!("255.255.255.0"), &json!([route]))
        );
        server.interfaces[0].address_v6 = Some("fd00::7".parse().unwrap());
        let told = |server: &crate::metadata::Metadata| {
            let said = answer(server, "/openstack/latest/network_data.json").unwrap();
            serde_json::from_slice::<serde_json::Value>(&said.body).unwrap()["networks"][1].clone()
        };
        let ipv6 = told(&server);
        assert_eq!((&ipv6["type"], &ipv6["ip_address"]), (&json!("ipv6"), &json!("fd00::7")));
        server.interfaces[0].dhcp = true;
        assert_eq!(told(&server)["type"], json!("ipv6_slaac"));
        check(&server, "/openstack/1999-01-01/meta_data.json", None);
        check(&server, "/openstack/latest/password", None);
        let list = "meta_data.json\nuser_data\nvendor_data.json\nnetwork_data.json";
        check(&server, "/openstack/latest/", Some(list));
    }
}
