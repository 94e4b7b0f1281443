//! Logs of decisions as traces: what is derived is what happened, and happens again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nova_core::domain::*;
use nova_core::memory::VirtualClock;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::explain::DecisionLog;
use nova_sched::sim::trace::decisions::{Recorded, recorded};
use nova_sched::sim::trace::{Format, ReadOptions, TraceRow, read};
use nova_sched::sim::{Event, Scenario, Simulation, Watcher, World};
use proptest::prelude::*;

use super::shown;
use crate::kit::{any_hosts, any_request, host, request};

type Log = DecisionLog<FilterScheduler, Vec<u8>>;

/// A cloud as small as it can be: a table, a log, a clock.
struct Small {
    hosts: HostTable,
    clock: Arc<VirtualClock>,
    log: Log,
}

impl Small {
    fn new(hosts: HostTable) -> Self {
        let clock = Arc::new(VirtualClock::new());
        clock.advance(Duration::from_secs(1_000_000));
        let log = DecisionLog::new(FilterScheduler::first_fit(), clock.clone(), Vec::new());
        Self { hosts, clock, log }
    }

    /// Two hosts with 8 vCPUs.
    fn two() -> Self {
        Self::new(HostTable::new([host(1, 8, 8192), host(2, 8, 8192)]))
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Asks for servers and claims what was found.
    fn ask(&mut self, request: &RequestSpec) -> Option<Vec<HostId>> {
        let placed = self.log.find(&self.hosts, request, Seed::new(1))?.hosts;
        for (instance, host) in request.instances.iter().zip(&placed) {
            self.hosts.update(*host, |row| row.claim_flavor(*instance, &request.flavor));
        }
        Some(placed)
    }

    fn server(&mut self, id: u128, vcpus: u32) {
        let mut request = request(1, vcpus, 512);
        request.instances = vec![InstanceId::from_u128(id)];
        self.ask(&request);
    }

    fn release(&mut self, host: u128, instance: u128) {
        let instance = InstanceId::from_u128(instance);
        self.hosts.update(HostId::from_u128(host), |row| _ = row.release(instance));
    }

    fn recorded(self) -> Recorded {
        recorded(&self.log.finish().unwrap()[..]).unwrap()
    }
}

fn check(recorded: &Recorded, expected: &[&str]) {
    let rows: Vec<String> = recorded
        .rows
        .iter()
        .map(|row| shown(&TraceRow { line: 0, ..*row }).replace("0: vm ", ""))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn servers_come_when_they_are_asked_for_and_go_when_they_are_seen_gone() {
    let mut cloud = Small::two();
    cloud.server(1, 2);
    cloud.pass(10);
    cloud.server(2, 3);
    cloud.pass(10);
    cloud.release(1, 1);
    cloud.pass(10);
    cloud.server(3, 1);
    cloud.pass(10);
    cloud.server(4, 9);
    cloud.server(5, 1);
    let recorded = cloud.recorded();
    check(&recorded, &["1 0-30 2x512", "2 10-on 3x512", "3 30-on 1x512", "4 40-on 1x512"]);
    let told = &recorded.told;
    assert_eq!((told.questions, told.refused, told.moves, told.unseen), (5, 1, 0, 0));
    assert_eq!(recorded.cluster.hosts().rows().map(HostState::instance_count).sum::<usize>(), 0);
    assert!(recorded.rows.iter().all(|row| recorded.request(row).is_some()));
}

#[test]
fn a_server_that_was_never_seen_is_no_row() {
    let mut cloud = Small::two();
    cloud.server(1, 2);
    cloud.release(1, 1);
    cloud.pass(10);
    cloud.server(2, 3);
    let recorded = cloud.recorded();
    check(&recorded, &["2 10-on 3x512"]);
    assert_eq!(recorded.told.unseen, 1);
}

#[test]
fn a_move_is_no_row_and_a_resize_is_another() {
    let mut cloud = Small::two();
    cloud.server(1, 2);
    cloud.pass(10);
    // To the second host.
    let mut migrate = request(1, 2, 512);
    migrate.ignore_hosts = vec![HostName::new("host-1").unwrap()];
    assert_eq!(cloud.ask(&migrate), Some(vec![HostId::from_u128(2)]));
    cloud.release(1, 1);
    cloud.pass(10);
    cloud.server(2, 1);
    cloud.pass(10);
    // Back, and larger.
    let mut resize = request(1, 4, 512);
    resize.destination =
        Some(Destination { host: Some(HostName::new("host-1").unwrap()), ..Default::default() });
    assert_eq!(cloud.ask(&resize), Some(vec![HostId::from_u128(1)]));
    cloud.pass(10);
    cloud.server(3, 1);
    cloud.release(2, 1);
    cloud.pass(10);
    cloud.server(4, 1);
    cloud.release(1, 1);
    cloud.pass(10);
    cloud.server(5, 1);
    let recorded = cloud.recorded();
    let rows = ["1 0-40 2x512", "2 20-on 1x512", "3 40-60 4x512", "4 40-on 1x512"];
    check(&recorded, &[&rows[..], &["5 50-on 1x512", "6 60-on 1x512"]].concat());
    assert_eq!(recorded.told.moves, 2);
    let larger = recorded.request(&recorded.rows[2]).unwrap();
    assert_eq!((larger.flavor.vcpus(), &larger.destination), (Vcpus(4), &None));
}

#[test]
fn what_was_there_before_stays_where_it_was_and_goes_when_it_went() {
    let mut cloud = Small::two();
    let amount = Resources { vcpus: Vcpus(8), memory: MiB(512), disk: GiB(0) };
    let id = InstanceId::from_u128;
    for (host, instance) in [(1, 100), (2, 200), (2, 300)] {
        let amount = if instance == 100 { amount } else { Resources { vcpus: Vcpus(4), ..amount } };
        cloud.hosts.update(HostId::from_u128(host), |row| {
            row.claim(id(instance), amount);
            row.io_ops = 1;
        });
    }
    cloud.server(1, 1);
    cloud.pass(10);
    cloud.release(1, 100);
    // Another process has placed one.
    cloud.hosts.update(HostId::from_u128(1), |row| row.claim(id(400), amount));
    cloud.pass(10);
    cloud.server(2, 1);
    cloud.pass(10);
    cloud.release(2, 200);
    cloud.pass(10);
    cloud.server(3, 4);
    let recorded = cloud.recorded();
    check(&recorded, &["1 20-on 8x512", "2 40-on 4x512"]);
    assert_eq!((recorded.told.unasked, recorded.told.refused), (1, 2));
    let hosts = recorded.cluster.hosts();
    assert_eq!(hosts.rows().map(|row| row.used().vcpus.get()).collect::<Vec<_>>(), [8, 8]);
    assert!(hosts.rows().all(|row| row.io_ops == 0));
    let report = recorded
        .simulate(&FilterScheduler::first_fit(), Scenario::default(), Seed::new(1))
        .unwrap();
    assert_eq!((report.placed, report.rejected), (2, 0));
}

#[test]
fn a_log_is_recognised_and_its_faults_are_bad_rows() {
    let mut cloud = Small::two();
    cloud.server(1, 2);
    cloud.pass(10);
    cloud.server(2, 3);
    let log = cloud.log.finish().unwrap();
    let rows = ["6: vm 1 0-on 2x512", "8: vm 2 10-on 3x512"];
    super::check(Format::Decisions, std::str::from_utf8(&log).unwrap(), &rows);
    // The last line is torn: no fault, but it has not been asked.
    let torn = &log[..log.len() - 9];
    assert!(recorded(torn).unwrap().told.torn);
    super::check(Format::Decisions, std::str::from_utf8(torn).unwrap(), &rows[..1]);
    let two_parts = [&log[..], &log[..]].concat();
    let damaged = String::from_utf8(two_parts).unwrap().replacen("[5,", "[7,", 1);
    let fault = "line 7: lines are missing before it: it has the number 7, not 5";
    let rows = super::all(read(std::io::Cursor::new(damaged), None, &ReadOptions::default()));
    assert!(rows[0].contains(fault), "{rows:?}");
    let none = b"[0,{\"log\":{\"decisions\":1,\"policy\":\"x\"}}]\n";
    assert_eq!(
        recorded(&none[..]).unwrap_err().to_string(),
        "the log of decisions has no question"
    );
    let other = b"[0,{\"log\":{\"decisions\":2,\"policy\":\"x\"}}]\n";
    assert_eq!(recorded(&other[..]).unwrap_err().to_string(), "line 1: version 2; 1 is read");
}

/// Where every server of a simulation was placed, by its number.
#[derive(Debug, Default)]
struct Placements(BTreeMap<u64, HostId>);

impl Watcher for Placements {
    fn saw(&mut self, world: &World, event: &Event) {
        if let Event::Placed { vm, host } = event {
            let host = world.hosts().at(*host).unwrap().id;
            self.0.insert(world.vm(*vm).unwrap().number, host);
        }
    }
}

/// A server of the drawn cloud below.
#[derive(Debug, Clone)]
struct Server {
    host: HostId,
    came_s: u64,
    /// Whether a question came while it was there, or none came since.
    seen: bool,
    gone_s: Option<u64>,
    request: RequestSpec,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// In a cloud whose servers come and go, with groups, hints, zones and others on the hosts, the
    /// rows are those that were there, and its own policy places each of them where it was.
    #[test]
    fn what_is_derived_is_what_happened_and_happens_again(
        hosts in any_hosts(),
        policy in prop_oneof![
            Just(GroupPolicy::Affinity), Just(GroupPolicy::AntiAffinity), Just(GroupPolicy::SoftAffinity),
        ],
        steps in prop::collection::vec((any_request(), 0_u8..6, any::<prop::sample::Index>()), 1..50),
    ) {
        let mut cloud = Small::new(hosts);
        let mut others: Vec<(HostId, InstanceId)> = cloud.hosts.rows()
            .flat_map(|row| row.claims().map(|(instance, _)| (row.id, instance))).collect();
        let (mut servers, mut now_s, mut began) = (BTreeMap::<InstanceId, Server>::new(), 0, None);
        // Of a group, in the order of coming; the first of the others is in it too.
        let member = others.first().copied();
        for (nth, (mut request, what, which)) in (1_u128..).zip(steps) {
            cloud.pass(7);
            now_s += 7;
            let alive: Vec<InstanceId> =
                servers.iter().filter(|(_, one)| one.gone_s.is_none()).map(|(id, _)| *id).collect();
            // Where a part of a gang was never seen, the others would not find its members.
            let may_go = |one: &Server| one.seen || one.request.instances.len() == 1;
            if what == 0
                && !alive.is_empty()
                && let id = alive[which.index(alive.len())]
                && let Some(one) = servers.get_mut(&id).filter(|one| may_go(one))
            {
                one.gone_s = Some(u64::MAX);
                let host = one.host;
                cloud.hosts.update(host, |row| _ = row.release(id));
                continue;
            }
            if what == 1 && !others.is_empty() && began.is_some() {
                let (host, id) = others.swap_remove(which.index(others.len()));
                cloud.hosts.update(host, |row| _ = row.release(id));
                continue;
            }
            let count = request.instances.len().min(2) as u128;
            request.instances = (0..count).map(|n| InstanceId::from_u128(nth * 10 + n)).collect();
            if what == 2 && !alive.is_empty() {
                request.hints.different_host.insert(alive[which.index(alive.len())]);
            }
            if what == 3 && !alive.is_empty() {
                request.hints.same_host.insert(alive[which.index(alive.len())]);
            }
            if let Some(group) = &mut request.group {
                *group = GroupView::new(group.id, policy, 2);
                let first = member.filter(|one| others.contains(one)).map(|(host, _)| host);
                first.into_iter().for_each(|host| group.join(host));
                for one in alive.iter().map(|id| &servers[id]).filter(|one| one.request.group.is_some()) {
                    group.join(one.host);
                }
            }
            let start_s = *began.get_or_insert(now_s);
            let now_s = now_s - start_s;
            for one in servers.values_mut() {
                one.seen |= one.gone_s.is_none();
                if one.gone_s == Some(u64::MAX) {
                    one.gone_s = Some(now_s);
                }
            }
            let placed = cloud.ask(&request);
            // What was never seen, though somebody asked later, is gone without a trace.
            servers.retain(|_, one| one.seen);
            for (instance, host) in request.instances.iter().zip(placed.into_iter().flatten()) {
                let request = request.clone();
                let one = Server { host, came_s: now_s, seen: false, gone_s: None, request };
                servers.insert(*instance, one);
            }
        }
        prop_assume!(began.is_some());
        let recorded = cloud.recorded();
        let mut expected: Vec<(u64, InstanceId, &Server)> =
            servers.iter().map(|(id, one)| (one.came_s, *id, one)).collect();
        expected.sort_by_key(|(came_s, id, _)| (*came_s, *id));
        prop_assert_eq!(recorded.rows.len(), expected.len(), "{:#?}", recorded.told);
        let mut placements = Placements::default();
        let first_fit = FilterScheduler::first_fit();
        let seed = Seed::new(1);
        let report = Simulation::new(recorded.cluster.clone(), &first_fit, Scenario::default(), seed)
            .unwrap()
            .with_requests(Arc::clone(&recorded.requests))
            .with_watcher(&mut placements)
            .run(recorded.rows())
            .unwrap();
        prop_assert_eq!(report.rejected, 0);
        for (row, (came_s, _, one)) in recorded.rows.iter().zip(expected) {
            let gone_s = one.gone_s.filter(|gone_s| *gone_s < u64::MAX);
            prop_assert_eq!((row.arrival_s, row.end_s), (came_s, gone_s));
            prop_assert_eq!(row.resources(), one.request.flavor.resources());
            prop_assert_eq!(row.gang.is_some(), one.request.instances.len() > 1);
            prop_assert_eq!(&recorded.request(row).unwrap().flavor, &one.request.flavor);
            prop_assert_eq!(placements.0[&row.vm], one.host);
        }
    }
}
