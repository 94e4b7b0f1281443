//! VMs that ask for more than room, and claims of others that go.

use std::sync::Arc;

use nova_core::domain::*;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::sim::{
    Cluster, EventLog, Maintenance, Requests, Resizes, Scenario, Several, Simulation, TraceReader,
    Waiting,
};

use crate::kit::{group, host, request};

/// Two hosts with 8 vCPUs in zone a, and one in zone b.
fn hosts() -> HostTable {
    let mut other = host(3, 8, 8192);
    other.zone = ZoneName::new("b").unwrap();
    HostTable::new([host(1, 8, 8192), host(2, 8, 8192), other])
}

/// What a VM with 2 vCPUs asks for.
fn asks(change: impl FnOnce(&mut RequestSpec)) -> RequestSpec {
    let mut asked = request(1, 2, 1024);
    change(&mut asked);
    asked
}

fn zone(name: &str) -> RequestSpec {
    asks(|asked| asked.zone = Some(ZoneName::new(name).unwrap()))
}

fn member(policy: GroupPolicy) -> RequestSpec {
    asks(|asked| asked.group = Some(group(policy)))
}

/// Runs VMs of 2 vCPUs that come at 0, 1, 2 and so on for 10 000 seconds, and says what happened
/// with hosts, but for departures.
fn run(
    cluster: impl Into<Cluster>,
    asked: &[(u64, RequestSpec)],
    count: u64,
    change: impl FnOnce(&mut Scenario),
) -> Vec<String> {
    let mut requests = Requests::default();
    asked.iter().for_each(|(vm, asked)| requests.insert(*vm, asked.clone()));
    let rows = (1..=count).map(|vm| format!("{vm},{},10000,2,1024\n", vm - 1));
    let trace = format!("vm,arrival_s,end_s,vcpu,mem_mib\n{}", rows.collect::<String>());
    let policy = FilterScheduler::worst_fit();
    let mut scenario = Scenario::default();
    change(&mut scenario);
    let mut log = EventLog::new(Vec::new());
    Simulation::new(cluster, &policy, scenario, Seed::new(1))
        .unwrap()
        .with_requests(Arc::new(requests))
        .with_watcher(&mut log)
        .run(TraceReader::new(trace.as_bytes()).unwrap())
        .unwrap();
    let text = String::from_utf8(log.finish().unwrap()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told = ["placed", "refused", "move_began", "resized"];
    let lines = lines.filter(|line| told.contains(&line["what"].as_str().unwrap()));
    lines
        .map(|line| {
            let host = ["to", "host"].iter().find_map(|key| line[*key].as_str()).unwrap_or("");
            let t = line["t"].as_u64().unwrap() / 1000;
            format!("{t} {} {} {host}", line["what"].as_str().unwrap(), line["vm"])
        })
        .collect()
}

#[test]
fn vms_go_where_they_ask_to_go() {
    let asked = [(1, zone("b")), (2, zone("b")), (3, zone("c"))];
    let expected = ["0 placed 1 host-3", "1 placed 2 host-3", "2 refused 3 ", "3 placed 4 host-1"];
    assert_eq!(run(hosts(), &asked, 4, |_| {}), expected);
    let same = asks(|asked| {
        asked.hints.same_host = [InstanceId::from_u128(1003)].into();
    });
    let mut before = hosts();
    before.update(HostId::from_u128(3), |row| {
        row.claim(InstanceId::from_u128(1003), Resources::ZERO);
    });
    assert_eq!(run(before, &[(1, same)], 1, |_| {}), ["0 placed 1 host-3"]);
}

#[test]
fn groups_are_where_their_members_are() {
    let together = member(GroupPolicy::Affinity);
    let asked = [(1, together.clone()), (3, together.clone())];
    let expected = ["0 placed 1 host-1", "1 placed 2 host-2", "2 placed 3 host-1"];
    assert_eq!(run(hosts(), &asked, 3, |_| {}), expected);

    let apart = member(GroupPolicy::AntiAffinity);
    let asked: Vec<_> = (1..=4).map(|vm| (vm, apart.clone())).collect();
    let expected = ["0 placed 1 host-1", "1 placed 2 host-2", "2 placed 3 host-3", "3 refused 4 "];
    assert_eq!(run(hosts(), &asked, 4, |_| {}), expected);

    // Another member, not of the trace, stays on the second host.
    let mut known = member(GroupPolicy::AntiAffinity);
    known.group.as_mut().unwrap().join(HostId::from_u128(2));
    let asked: Vec<_> = (1..=3).map(|vm| (vm, known.clone())).collect();
    let expected = ["0 placed 1 host-1", "1 placed 2 host-3", "2 refused 3 "];
    assert_eq!(run(hosts(), &asked, 3, |_| {}), expected);
}

#[test]
fn a_member_that_moves_does_not_count_itself() {
    let asked = [(1, member(GroupPolicy::Affinity))];
    let moves = |scenario: &mut Scenario| {
        let hosts = "host-1".to_owned();
        scenario.maintenance =
            vec![Maintenance { hosts, from_s: 5000, until_s: 6000, notice_s: 1000 }];
    };
    let expected = ["0 placed 1 host-1", "4000 move_began 1 host-2"];
    assert_eq!(run(hosts(), &asked, 1, moves), expected);
}

#[test]
fn what_is_asked_for_holds_for_several_schedulers_and_after_a_resize() {
    let asked = [(1, zone("b")), (2, zone("b"))];
    let two = |scenario: &mut Scenario| {
        scenario.schedulers = Some(Several { count: 2, ..Several::default() });
    };
    let placed = run(hosts(), &asked, 2, two);
    assert!(placed.iter().all(|line| line.ends_with("host-3")), "{placed:?}");

    // Four of them fill the only host of their zone, so that they cannot grow, though others could.
    let asked: Vec<_> = (1..=4).map(|vm| (vm, zone("b"))).collect();
    let grow = |scenario: &mut Scenario| {
        scenario.resizes = Some(Resizes { per_vm_day: 1000.0, factors: vec![2.0] });
    };
    let all = run(hosts(), &asked, 4, grow);
    assert!(all.iter().all(|line| line.ends_with("host-3")), "{all:?}");
}

#[test]
fn claims_of_others_are_given_back_when_they_go() {
    let mut before = hosts();
    let all = Resources { vcpus: Vcpus(8), memory: MiB(8192), disk: GiB(0) };
    for id in 1..=3 {
        before.update(HostId::from_u128(id), |row| row.claim(InstanceId::from_u128(9), all));
    }
    let (second, nine) = (HostId::from_u128(2), InstanceId::from_u128(9));
    let cluster = || Cluster::from(before.clone()).with_departure(second, nine, 50);
    let patient = |scenario: &mut Scenario| {
        scenario.waiting = Some(Waiting { patience_s: 1000, backfill: 0 });
    };
    assert_eq!(run(cluster(), &[], 1, patient), ["50 placed 1 host-2"]);
    assert_eq!(run(before.clone(), &[], 1, patient), ["1000 refused 1 "]);
    // What is not there is given back without effect.
    let nobody = cluster().with_departure(HostId::from_u128(7), nine, 1);
    let nobody = nobody.with_departure(second, InstanceId::from_u128(8), 1);
    assert_eq!(run(nobody, &[], 1, patient), ["50 placed 1 host-2"]);
}
