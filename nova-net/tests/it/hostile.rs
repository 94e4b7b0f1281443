//! What people and guests may write where a name, a range or a rule is expected.
//!
//! Whatever is accepted is of a few plain characters, so that it means nothing to dnsmasq, to
//! nftables or to a shell; whatever is not is refused with an error that names it.

use nova_core::domain::{
    FlavorName, HostName, InterfaceName, KeyPairName, Label, Mac, NetworkKind, PoolName, ProjectId,
    SecurityRule, ServerName, VlanId, ZoneName,
};
use nova_core::port::{NetError, NetworkManager as _, NetworkSpec};
use nova_net::host::{HostNet, Part};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, interface};

/// Pieces that mean something to somebody, put together at random.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "web",
        "a",
        "Z",
        "0",
        "9",
        "-",
        "_",
        ".",
        "..",
        "/",
        "\\",
        "\n",
        "\r\n",
        "\0",
        "\t",
        " ",
        "\"",
        "'",
        "`",
        "$(reboot)",
        "; flush ruleset",
        "#",
        "{",
        "}",
        "@ports",
        "*",
        "%s",
        "=",
        ",",
        "dhcp-script=/bin/sh",
        "\ndhcp-option=6,10.9.9.9",
        "set:known",
        "é",
        "\u{202e}",
        "\u{feff}",
        "🦀",
        "tap1",
        "eth0",
        "10.0.0.1",
        "/24",
        "::1",
        "fa:16:3e:00:00:01",
        "-o",
        "--conf-file=/etc/passwd",
        "&&",
        "|",
        "<",
        ">",
        "~",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    prop_oneof![
        4 => prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte))
}

/// A part as JSON, with this text where a text belongs.
fn parts(text: &str) -> Vec<Value> {
    let id = "00000000-0000-0000-0000-000000000007";
    let mac = "fa:16:3e:00:00:01";
    vec![
        json!({ "part": "vlan_interface", "name": text, "parent": "eth1", "vlan": 5 }),
        json!({ "part": "vlan_interface", "name": "vlan5", "parent": text, "vlan": 5 }),
        json!({ "part": "bridge", "name": text, "uplink": null, "origin": "ours" }),
        json!({ "part": "bridge", "name": "br", "uplink": { "vlan": text }, "origin": "ours" }),
        json!({ "part": "bridge", "name": "br", "uplink": null, "origin": text }),
        json!({ "part": "bridge_address", "bridge": "br", "address": text }),
        json!({ "part": "dhcp_server", "network": text, "bridge": "br", "listen": "10.0.0.1",
                "range": "10.0.0.0/24", "gateway": null, "dns": [] }),
        json!({ "part": "dhcp_server", "network": id, "bridge": "br", "listen": "10.0.0.1",
                "range": text, "gateway": null, "dns": [] }),
        json!({ "part": "dhcp_server", "network": id, "bridge": "br", "listen": "10.0.0.1",
                "range": "10.0.0.0/24", "gateway": text, "dns": [text] }),
        json!({ "part": "lease", "network": id, "mac": mac, "address": "10.0.0.2", "name": text }),
        json!({ "part": "lease", "network": id, "mac": text, "address": text, "name": "web" }),
        json!({ "part": "nat", "range": text, "bridge": "br" }),
        json!({ "part": "guest_port", "tap": text, "bridge": "br", "mac": mac,
                "address": "10.0.0.2", "groups": [] }),
        json!({ "part": "guest_port", "tap": "tap1", "bridge": "br", "mac": mac,
                "address": "10.0.0.2", "groups": [text] }),
        json!({ "part": "port_filter", "groups": [],
                "allows": [{ "traffic": "any", "from": text }] }),
        json!({ "part": "port_filter", "groups": [],
                "allows": [{ "traffic": text, "from": "10.0.0.0/8" }] }),
        json!({ "part": "public_address", "address": "192.0.2.1", "interface": text }),
        json!({ "part": "floating", "address": text, "fixed": text, "bridge": "br" }),
        json!({ "part": text }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_name_that_is_accepted_is_plain(text in hostile()) {
        let accepted = [
            InterfaceName::new(&text).map(String::from),
            ServerName::new(&text).map(String::from),
            HostName::new(&text).map(String::from),
            ProjectId::new(&text).map(String::from),
            ZoneName::new(&text).map(String::from),
            FlavorName::new(&text).map(String::from),
            KeyPairName::new(&text).map(String::from),
            PoolName::new(&text).map(String::from),
            Label::new(&text).map(String::from),
            text.parse::<Mac>().map(|mac| mac.to_string()),
        ];
        for said in accepted {
            match said {
                Ok(name) => prop_assert!(is_plain(&name), "{name:?}"),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn a_part_that_is_read_is_plain_and_is_written_as_it_was_read(text in hostile()) {
        for value in parts(&text) {
            let Ok(part) = serde_json::from_value::<Part>(value) else { continue };
            let written = serde_json::to_value(&part).unwrap();
            prop_assert_eq!(serde_json::from_value::<Part>(written.clone()).unwrap(), part.clone());
            let shown = part.to_string();
            prop_assert!(!shown.contains(['\n', '\r', '\0', ';', '"', '\'', '`', '$']), "{shown:?}");
            // It belongs to a network or it does not; either is told.
            drop(HostNet::try_from(vec![part]));
        }
    }

    #[test]
    fn a_rule_that_is_read_is_about_a_range(text in hostile()) {
        for value in [
            json!({ "traffic": "any", "from": { "range": text } }),
            json!({ "traffic": "any", "from": { "group": text } }),
            json!({ "traffic": { text.clone(): [1, 2] }, "from": { "range": "10.0.0.0/8" } }),
        ] {
            if let Ok(rule) = serde_json::from_value::<SecurityRule>(value) {
                prop_assert!(is_plain(&rule.to_string().replace(' ', "")), "{rule}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn networks_of_any_numbers_are_made_or_refused(
        kind in prop::sample::select(vec![
            NetworkKind::Flat, NetworkKind::FlatDhcp, NetworkKind::Vlan, NetworkKind::Vxlan,
        ]),
        address in any::<u32>(),
        prefix in 0..=32_u8,
        count in prop_oneof![0..4_u32, Just(u32::MAX), Just(4095)],
        size in prop_oneof![Just(None), (0..=33_u32).prop_map(|bits| Some(1_u32.wrapping_shl(bits))),
            any::<u32>().prop_map(Some)],
        gateway in prop::option::of(any::<u32>()),
        vlan in prop::option::of(1..4095_u16),
    ) {
        let range = ipnetwork::Ipv4Network::new(address.into(), prefix).unwrap();
        let network = ipnetwork::Ipv4Network::new(range.network(), prefix).unwrap();
        let mut spec = NetworkSpec::new(Label::new("net").unwrap(), kind, network.into());
        (spec.count, spec.size) = (count, size);
        spec.gateway = gateway.map(|gateway| std::net::Ipv4Addr::from(gateway).into());
        spec.first_vlan = vlan.map(|vlan| VlanId::new(vlan).unwrap());
        let spec = spec.with_parent(interface("eth1"));
        crate::hosts::run(async {
            let world = World::new();
            match world.networks.create_networks(&spec).await {
                Ok(draft) => {
                    let made = draft.value.clone();
                    world.store.commit(draft.txn).await.unwrap();
                    assert_eq!(made.len(), count as usize);
                    world.ports(1, "demo", &[made[0].id]).await;
                    world.claim(1, 1).await;
                    world.converge(1).await;
                }
                Err(NetError::Invalid(invalid)) => assert!(!invalid.to_string().is_empty()),
                Err(NetError::NoMoreVlans { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        });
    }
}
