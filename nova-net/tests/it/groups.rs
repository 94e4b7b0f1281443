//! From security groups in the records to what may come to the guests of a host.

use std::collections::BTreeSet;

use nova_core::domain::{
    Label, NetworkKind, Peer, PortRange, SecurityGroup, SecurityGroupId, SecurityRule, Traffic,
};
use nova_core::port::{NetworkManager as _, PortRequest};
use nova_core::store::Txn;
use nova_net::host::{HostNet, Part, PartId};

use crate::world::{World, project, request, spec};

fn id(n: u128) -> SecurityGroupId {
    SecurityGroupId::from_u128(n)
}

/// A server in these groups, on a host; its address.
async fn server(world: &World, n: u128, groups: &[u128], on: u128) -> String {
    let security_groups = groups.iter().copied().map(id).collect();
    let request = PortRequest { security_groups, ..request(n, "demo", &[]) };
    let ports = world.commit(world.networks.reserve(&request).await).await;
    world.claim(n, on).await;
    ports[0].address.to_string()
}

async fn rules(world: &World, group: u128, rules: &[(Traffic, Peer)]) {
    let rules = rules.iter().map(|(what, from)| SecurityRule::new(*what, *from).unwrap());
    let (project, name) = (project("demo"), Label::new("group").unwrap());
    let mut txn = Txn::new();
    txn.put(&SecurityGroup { id: id(group), project, name, rules: rules.collect() });
    world.store.commit(txn).await.unwrap();
}

/// What may come to those in these groups, a line each.
fn allowed(net: &HostNet, groups: &[u128]) -> BTreeSet<String> {
    let groups: BTreeSet<_> = groups.iter().copied().map(id).collect();
    match net.get(&PartId::PortFilter(groups)) {
        Some(Part::PortFilter(filter)) => filter.allows.iter().map(ToString::to_string).collect(),
        other => panic!("a filter, not {other:?}"),
    }
}

fn lines<const N: usize>(lines: [String; N]) -> BTreeSet<String> {
    BTreeSet::from(lines)
}

#[test]
fn a_filter_is_the_rules_of_its_groups_with_their_members_wherever_they_are() {
    crate::hosts::run(async {
        let world = World::new();
        world.make(spec(NetworkKind::FlatDhcp, "10.0.0.0/24")).await;
        let web = (Traffic::Tcp(PortRange::one(80)), Peer::Range("0.0.0.0/0".parse().unwrap()));
        rules(&world, 1, &[web, (Traffic::Any, Peer::Group(id(2)))]).await;
        rules(&world, 2, &[]).await;
        let one = server(&world, 1, &[1], 1).await;
        let two = server(&world, 2, &[2], 2).await;
        let three = server(&world, 3, &[3], 1).await;
        let net = world.converge(1).await;
        let open = "tcp 80 from 0.0.0.0/0".to_owned();
        assert_eq!(allowed(&net, &[1]), lines([open.clone(), format!("anything from {two}/32")]));
        let of_itself = lines([format!("anything from {three}/32")]);
        assert_eq!(allowed(&net, &[3]), of_itself, "a group that nobody has changed");

        let four = server(&world, 4, &[2, 3], 2).await;
        let net = world.converge(1).await;
        let from = |address: &String| format!("anything from {address}/32");
        assert_eq!(allowed(&net, &[1]), lines([open.clone(), from(&two), from(&four)]));
        assert_eq!(allowed(&net, &[3]), lines([from(&three), from(&four)]));
        assert_eq!(allowed(&world.converge(2).await, &[2]), lines([]));

        rules(&world, 1, &[(Traffic::ICMP, Peer::Group(id(3)))]).await;
        world.release(2).await;
        world.release(4).await;
        let net = world.converge(1).await;
        assert_eq!(allowed(&net, &[1]), lines([format!("icmp from {three}/32")]));
        assert!(!format!("{net}").contains(&from(&four)));
        assert_ne!(one, three);
    });
}

#[test]
fn a_guest_that_changes_its_groups_stays_plugged_in() {
    crate::hosts::run(async {
        let world = World::new();
        world.make(spec(NetworkKind::FlatDhcp, "10.0.0.0/24")).await;
        let ports = world.ports(1, "demo", &[]).await;
        world.claim(1, 1).await;
        world.converge(1).await;
        let groups = BTreeSet::from([id(1)]);
        let mut txn = Txn::new();
        txn.put(&nova_core::domain::Port { security_groups: groups, ..ports[0].clone() });
        world.store.commit(txn).await.unwrap();
        let plan = world.networks.plan(crate::world::host(1)).await.unwrap();
        let steps: Vec<String> = plan.steps().iter().map(|s| s.action.to_string()).collect();
        assert_eq!(steps.len(), 3, "{plan}");
        assert!(steps[0].starts_with("add filter of security groups [0000"), "{plan}");
        assert!(steps[1].starts_with("change guest port tap"), "{plan}");
        assert!(steps[2].starts_with("remove filter of security groups []"), "{plan}");
    });
}
