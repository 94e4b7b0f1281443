//! Plans between any two networks: they reach the goal, and break nothing on the way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nova_core::domain::{Mac, NetworkId, SecurityGroupId, ServerName, Traffic, VlanId, Vni};
use nova_core::store::Revision;
use nova_net::backend::{BackendError, NetBackend, Recorder};
use nova_net::check::{Violation, check};
use nova_net::host::{
    Allowed, Bridge, BridgeAddress, BridgeOrigin, DhcpServer, Floating, GuestIpv6, GuestPort,
    HostNet, Lease, Nat, Part, PortFilter, PublicAddress, RouterAdvertiser, Uplink, VlanInterface,
    VxlanInterface,
};
use nova_net::plan::{Action, Plan, diff};
use proptest::prelude::*;

use crate::world::{host, interface};

/// A small world, so that two networks often want the same thing for different purposes.
fn part() -> impl Strategy<Value = Part> {
    let n = || 0..3_u8;
    prop_oneof![
        (n(), n(), n()).prop_map(|(a, b, c)| vlan(a, b, c)),
        (n(), n(), n()).prop_map(|(a, b, c)| {
            let (name, parent) = (interface(&format!("vxlan{a}")), interface(&format!("eth{b}")));
            VxlanInterface { name, parent, vni: Vni::new(u32::from(c) + 1).unwrap() }.into()
        }),
        (n(), 0..9_u8, any::<bool>()).prop_map(|(a, uplink, ours)| {
            let uplink = match uplink {
                0 | 1 => Some(Uplink::Physical(interface(&format!("eth{uplink}")))),
                2..=4 => Some(Uplink::Vlan(interface(&format!("vlan{}", uplink - 2)))),
                6..=8 => Some(Uplink::Vxlan(interface(&format!("vxlan{}", uplink - 6)))),
                _ => None,
            };
            let origin = if ours { BridgeOrigin::Ours } else { BridgeOrigin::Operators };
            Bridge { name: bridge(a), uplink, origin }.into()
        }),
        (n(), n()).prop_map(|(a, b)| {
            let address = format!("10.0.{b}.1/24").parse().unwrap();
            BridgeAddress { bridge: bridge(a), address }.into()
        }),
        (n(), n()).prop_map(|(a, b)| {
            let address = format!("fd00:0:0:{b}::1/64").parse().unwrap();
            BridgeAddress { bridge: bridge(a), address }.into()
        }),
        (n(), n(), n(), any::<bool>()).prop_map(|(a, b, c, dns)| {
            let gateway = format!("fd00:0:0:{c}::1/64").parse().unwrap();
            let dns = if dns { vec!["2001:db8::53".parse().unwrap()] } else { vec![] };
            let network = network(a);
            RouterAdvertiser { network, bridge: bridge(b), gateway, dns, mtu: None }.into()
        }),
        (n(), n(), n()).prop_map(|(a, b, c)| {
            let tap = interface(&format!("tap{a}"));
            let address = [0xfd00, 0, 0, 0, 0, 0, 0, c.into()].into();
            GuestIpv6 { tap, network: network(c), bridge: bridge(b), address }.into()
        }),
        (n(), n(), n(), any::<bool>()).prop_map(|(a, b, c, dns)| {
            let listen = format!("10.0.{c}.1").parse().unwrap();
            let range = format!("10.0.{c}.0/24").parse().unwrap();
            let dns = if dns { vec![listen] } else { vec![] };
            let network = network(a);
            let (gateway, mtu) = (None, None);
            DhcpServer { network, bridge: bridge(b), listen, range, gateway, dns, mtu }.into()
        }),
        (n(), n(), n()).prop_map(|(a, b, c)| {
            let name = ServerName::new(format!("s{c}")).unwrap();
            Lease { network: network(a), mac: mac(b), address: ip(c), name }.into()
        }),
        (n(), n()).prop_map(|(a, b)| {
            let range = format!("10.0.{a}.0/24").parse().unwrap();
            Nat { range, bridge: bridge(b) }.into()
        }),
        (n(), any::<bool>()).prop_map(|(a, open)| filter(a, open)),
        (n(), n(), n(), n(), n()).prop_map(|(a, b, c, d, e)| {
            let (tap, address) = (interface(&format!("tap{a}")), ip(d));
            GuestPort { tap, bridge: bridge(b), mac: mac(c), address, groups: groups(e) }.into()
        }),
        (n(), n()).prop_map(|(a, b)| public(a, b)),
        (n(), n(), n()).prop_map(|(a, b, c)| floating(a, b, c)),
    ]
}

fn vlan(name: u8, parent: u8, id: u8) -> Part {
    let (name, parent) = (interface(&format!("vlan{name}")), interface(&format!("eth{parent}")));
    VlanInterface { name, parent, vlan: VlanId::new(u16::from(id) + 1).unwrap() }.into()
}

/// None or one group.
fn groups(n: u8) -> BTreeSet<SecurityGroupId> {
    (n > 0).then(|| SecurityGroupId::from_u128(n.into())).into_iter().collect()
}

fn filter(n: u8, open: bool) -> Part {
    let everybody = Allowed { traffic: Traffic::Any, from: "0.0.0.0/0".parse().unwrap() };
    PortFilter { groups: groups(n), allows: open.then_some(everybody).into_iter().collect() }.into()
}

fn bridge(n: u8) -> nova_core::domain::InterfaceName {
    interface(&format!("br{n}"))
}

fn network(n: u8) -> NetworkId {
    NetworkId::from_u128(n.into())
}

fn mac(n: u8) -> Mac {
    Mac::new([0xfa, 0x16, 0x3e, 0, 0, n]).unwrap()
}

fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n + 2].into()
}

fn public_ip(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

fn public(n: u8, on: u8) -> Part {
    PublicAddress { address: public_ip(n), interface: interface(&format!("eth{on}")) }.into()
}

fn floating(n: u8, to: u8, on: u8) -> Part {
    Floating { address: public_ip(n), fixed: ip(to), bridge: bridge(on) }.into()
}

/// Any network that can be: of random parts, those that fit.
fn net() -> impl Strategy<Value = HostNet> {
    prop::collection::vec(part(), 0..40).prop_map(|mut parts| {
        parts.sort_by_key(Part::id);
        let mut net = HostNet::new();
        for part in parts {
            let _ = net.insert(part);
        }
        net
    })
}

fn applied(from: &HostNet, plan: &Plan) -> HostNet {
    let mut net = from.clone();
    for step in plan.steps() {
        step.action.apply(&mut net).unwrap();
    }
    net
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_plan_reaches_the_goal_and_breaks_nothing_on_the_way(from in net(), to in net()) {
        let plan = diff(&from, &to);
        prop_assert_eq!(check(&from, &plan, &to), Ok(()), "\n{}\n->\n{}\n{}", from, to, plan);
        prop_assert_eq!(applied(&from, &plan), to);
    }

    #[test]
    fn stopping_anywhere_and_planning_again_reaches_the_goal(
        from in net(), to in net(), cut in any::<prop::sample::Index>(),
    ) {
        let plan = diff(&from, &to);
        let steps = plan.steps().iter().map(|step| step.action.clone());
        let cut = cut.index(plan.steps().len() + 1);
        let stopped = applied(&from, &Plan::new(steps.take(cut)));
        let again = diff(&stopped, &to);
        prop_assert_eq!(check(&stopped, &again, &to), Ok(()));
        prop_assert_eq!(applied(&stopped, &again), to);
    }

    #[test]
    fn a_step_done_twice_changes_nothing(from in net(), to in net()) {
        let mut net = from.clone();
        for step in diff(&from, &to).steps() {
            step.action.apply(&mut net).unwrap();
            let once = net.clone();
            step.action.apply(&mut net).unwrap();
            prop_assert_eq!(&net, &once);
        }
    }

    #[test]
    fn what_is_alike_is_left_alone(from in net(), to in net()) {
        prop_assert!(diff(&from, &from).is_empty());
        // Without anything remade, no part that is the same before and after is touched.
        let plan = diff(&from, &to);
        let down = |action: &Action| matches!(action, Action::Remove(p) if to.get(&p.id()).is_some());
        if !plan.steps().iter().any(|step| down(&step.action)) {
            for step in plan.steps() {
                let id = step.action.part().id();
                prop_assert_ne!(from.get(&id), to.get(&id));
            }
        }
    }

    #[test]
    fn a_failure_at_any_step_is_made_good_by_the_next_try(
        from in net(), to in net(), after in 0..20_usize,
    ) {
        run(async {
            let recorder = Recorder::new();
            let build = diff(&HostNet::new(), &from);
            recorder.apply(host(1), Revision(1), &build).await.unwrap();
            recorder.fail_after(after);
            let plan = diff(&from, &to);
            let failed = recorder.apply(host(1), Revision(2), &plan).await.is_err();
            assert_eq!(failed, after < plan.steps().len());
            recorder.fail_after(usize::MAX);
            let seen = recorder.observe(host(1)).await.unwrap();
            recorder.apply(host(1), Revision(2), &diff(&seen, &to)).await.unwrap();
            assert_eq!(recorder.net(host(1)), to);
        });
    }

    #[test]
    fn a_network_and_a_plan_survive_their_text_form(from in net(), to in net()) {
        let text = serde_json::to_string(&from).unwrap();
        prop_assert_eq!(&serde_json::from_str::<HostNet>(&text).unwrap(), &from);
        let plan = diff(&from, &to);
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn a_plan_whose_removals_come_too_early_is_seen_through(from in net(), to in net()) {
        // The same actions in an order that honours no dependency: seen through, or sound anyway.
        let plan = diff(&from, &to);
        let backwards = Plan::new(plan.steps().iter().rev().map(|step| step.action.clone()));
        let mut net = from.clone();
        let works = backwards.steps().iter().all(|step| step.action.apply(&mut net).is_ok());
        if check(&from, &backwards, &to).is_ok() {
            prop_assert!(works && net == to);
        }
    }
}

fn of(parts: impl IntoIterator<Item = Part>) -> HostNet {
    HostNet::try_from(parts.into_iter().collect::<Vec<_>>()).unwrap()
}

fn plain_bridge(n: u8, uplink: Option<Uplink>) -> Part {
    Bridge { name: bridge(n), uplink, origin: BridgeOrigin::Ours }.into()
}

fn eth(n: u8) -> Option<Uplink> {
    Some(Uplink::Physical(interface(&format!("eth{n}"))))
}

/// What people read.
fn steps(from: &HostNet, to: &HostNet) -> String {
    let plan = diff(from, to);
    assert_eq!(check(from, &plan, to), Ok(()));
    plan.to_string()
}

#[test]
fn a_floating_ip_that_moves_is_never_gone() {
    let with = |to| of([plain_bridge(0, None), public(9, 0), floating(9, to, 0)]);
    assert_eq!(
        steps(&with(0), &with(1)),
        "   0 add floating ip 203.0.113.9 to 10.0.0.3 on br0\n   \
            1 remove floating ip 203.0.113.9 to 10.0.0.2 on br0\n"
    );
}

#[test]
fn what_is_built_first_is_removed_last() {
    let uplink = Some(Uplink::Vlan(interface("vlan0")));
    let all = of([vlan(0, 0, 0), plain_bridge(0, uplink), public(9, 0), floating(9, 0, 0)]);
    let up = "   0 add vlan interface vlan0 (vlan 1 of eth0)\n   \
                 1 add bridge br0 (uplink vlan0)\n   \
                 2 add public address 203.0.113.9 on eth0\n   \
                 3 add floating ip 203.0.113.9 to 10.0.0.2 on br0\n";
    assert_eq!(steps(&HostNet::new(), &all), up);
    let down = "   0 remove floating ip 203.0.113.9 to 10.0.0.2 on br0\n   \
                   1 remove public address 203.0.113.9 on eth0\n   \
                   2 remove bridge br0 (uplink vlan0)\n   \
                   3 remove vlan interface vlan0 (vlan 1 of eth0)\n";
    assert_eq!(steps(&all, &HostNet::new()), down);
    assert_eq!(steps(&all, &all), "nothing to do\n");
}

#[test]
fn a_bridge_gets_its_new_uplink_before_the_old_one_goes() {
    let on = |n| {
        let uplink = Some(Uplink::Vlan(interface(&format!("vlan{n}"))));
        of([vlan(n, 0, n), plain_bridge(0, uplink)])
    };
    assert_eq!(
        steps(&on(0), &on(1)),
        "   0 add vlan interface vlan1 (vlan 2 of eth0)\n   \
            1 change bridge br0 (uplink vlan1)\n   \
            2 remove vlan interface vlan0 (vlan 1 of eth0)\n"
    );
}

#[test]
fn of_two_bridges_that_swap_their_uplinks_one_is_made_anew() {
    let (from, to) = (
        of([plain_bridge(0, eth(0)), plain_bridge(1, eth(1))]),
        of([plain_bridge(0, eth(1)), plain_bridge(1, eth(0))]),
    );
    assert_eq!(
        steps(&from, &to),
        "   0 remove bridge br0 (uplink eth0)\n   \
            1 change bridge br1 (uplink eth0)\n   \
            2 add bridge br0 (uplink eth1)\n"
    );
}

#[test]
fn what_cannot_change_in_use_is_made_anew_with_all_that_needs_it() {
    let uplink = || Some(Uplink::Vlan(interface("vlan0")));
    let of_vlan = |id| of([vlan(0, 0, id), plain_bridge(0, uplink()), plain_bridge(1, None)]);
    assert_eq!(
        steps(&of_vlan(0), &of_vlan(1)),
        "   0 remove bridge br0 (uplink vlan0)\n   \
            1 remove vlan interface vlan0 (vlan 1 of eth0)\n   \
            2 add vlan interface vlan0 (vlan 2 of eth0)\n   \
            3 add bridge br0 (uplink vlan0)\n"
    );
}

#[test]
fn the_checker_names_what_a_plan_breaks() {
    let from = of([plain_bridge(0, None), public(9, 0), floating(9, 0, 0)]);
    let bridge_first = Plan::new([Action::Remove(plain_bridge(0, None))]);
    let wrong = check(&from, &bridge_first, &from).unwrap_err();
    assert!(matches!(wrong[0], Violation::Dangling { step: 0, .. }), "{wrong:?}");
    assert!(matches!(wrong[1], Violation::Unreached { .. }), "{wrong:?}");

    let gateway = BridgeAddress { bridge: bridge(0), address: "203.0.113.9/24".parse().unwrap() };
    let two = Plan::new([Action::Add(gateway.into())]);
    let wrong = check(&from, &two, &from).unwrap_err();
    assert!(matches!(wrong[0], Violation::Shared { .. }), "{wrong:?}");

    let lost = Plan::new([Action::Add(floating(7, 0, 0))]);
    assert!(matches!(check(&from, &lost, &from).unwrap_err()[0], Violation::Dangling { .. }));
    let again = Plan::new([Action::Add(public(9, 0))]);
    assert!(matches!(check(&from, &again, &from).unwrap_err()[0], Violation::Presence { .. }));
    let absent = Plan::new([Action::Remove(public(7, 0))]);
    assert!(matches!(check(&from, &absent, &from).unwrap_err()[0], Violation::Presence { .. }));
    let other = Plan::new([Action::Change(public(9, 1))]);
    assert!(matches!(check(&from, &other, &from).unwrap_err()[0], Violation::Fixed { .. }));
    assert_eq!(check(&from, &Plan::default(), &from), Ok(()));

    let text = r#"[{"number":1,"do":"add","what":{"part":"public_address","address":"1.2.3.4","interface":"eth0"}}]"#;
    let misnumbered: Plan = serde_json::from_str(text).unwrap();
    let wrong = check(&from, &misnumbered, &from).unwrap_err();
    assert_eq!(wrong[0], Violation::Misnumbered { place: 0, number: 1 });
}

#[test]
fn an_older_generation_is_refused_whole() {
    run(async {
        let recorder: Arc<dyn NetBackend> = Arc::new(Recorder::new());
        let up = diff(&HostNet::new(), &of([plain_bridge(0, None)]));
        recorder.apply(host(1), Revision(5), &Plan::default()).await.unwrap();
        let old = recorder.apply(host(1), Revision(4), &up).await;
        let (generation, accepted) = (Revision(4), Revision(5));
        assert!(matches!(old, Err(BackendError::Outdated { generation: g, accepted: a })
            if (g, a) == (generation, accepted)));
        assert!(recorder.observe(host(1)).await.unwrap().is_empty());
        recorder.apply(host(2), Revision(4), &up).await.unwrap();
        recorder.apply(host(1), Revision(5), &up).await.unwrap();
        assert_eq!(recorder.observe(host(1)).await.unwrap().len(), 1);
    });
}

#[test]
fn the_recorder_refuses_a_step_that_does_not_fit() {
    run(async {
        let recorder = Recorder::new();
        let lost = Plan::new([Action::Add(floating(7, 0, 0))]);
        let refused = recorder.apply(host(1), Revision(1), &lost).await;
        assert!(matches!(refused, Err(BackendError::Refused { step: 0, .. })));
        assert!(recorder.net(host(1)).is_empty());
    });
}

#[test]
fn a_network_that_contradicts_itself_cannot_be_read() {
    let text = r#"[{"part":"bridge_address","bridge":"br0","address":"10.0.0.1/24"}]"#;
    let error = serde_json::from_str::<HostNet>(text).unwrap_err().to_string();
    assert_eq!(error, "gateway address 10.0.0.1 needs bridge br0");
}
