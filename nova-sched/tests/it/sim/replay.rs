//! Replays: the order of events, conservation, bad rows, and a real trace.

use std::fs::File;
use std::path::PathBuf;

use nova_core::domain::*;
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::sim::{
    OnBadRow, Report, Scenario, Simulation, SimulationError, TraceReader, uniform_hosts,
};

const HEADER: &str = "vm,arrival_s,end_s,vcpu,mem_mib\n";

/// Replays these rows with first-fit on so many hosts of 4 vCPU and 4096 MiB; the hosts at the
/// end besides.
fn replay(
    hosts: u32,
    rows: &str,
    on_bad_row: OnBadRow,
) -> Result<(Report, HostTable), SimulationError> {
    let shape = Resources { vcpus: Vcpus(4), memory: MiB(4096), disk: GiB(0) };
    let policy = FilterScheduler::first_fit();
    let mut scenario = Scenario::default();
    scenario.on_bad_row = on_bad_row;
    let hosts = uniform_hosts(hosts, shape).unwrap();
    let mut simulation = Simulation::new(hosts, &policy, scenario, Seed::new(1))?;
    let text = format!("{HEADER}{rows}");
    let report = simulation.run(TraceReader::new(text.as_bytes())?)?;
    Ok((report, simulation.world().hosts().clone()))
}

fn check(hosts: u32, rows: &str, placed: u64, rejected: u64) -> Report {
    let (report, _) = replay(hosts, rows, OnBadRow::Refuse).unwrap();
    assert_eq!((report.placed, report.rejected), (placed, rejected), "{rows:?}");
    assert_eq!(report.requests, placed + rejected);
    report
}

#[test]
fn departures_come_before_arrivals_of_the_same_second() {
    check(1, "1,0,10,4,1\n2,10,20,4,1\n", 2, 0);
    check(1, "1,0,11,4,1\n2,10,20,4,1\n", 1, 1);
}

#[test]
fn arrivals_of_one_second_keep_the_order_of_the_file() {
    check(1, "1,0,-1,3,1\n2,0,-1,2,1\n3,0,-1,1,1\n", 2, 1);
}

#[test]
fn what_comes_and_goes_in_one_second_makes_room_for_the_next() {
    check(1, "1,5,5,4,1\n2,5,5,4,1\n", 2, 0);
}

#[test]
fn everything_that_leaves_gives_back_what_it_took() {
    let rows = "1,0,10,4,4096\n2,0,-1,1,100\n3,3,7,2,50\n4,9,50,4,1\n5,9,9,1,1\n";
    let (report, hosts) = replay(2, rows, OnBadRow::Refuse).unwrap();
    assert_eq!((report.departed, report.remaining), (report.placed - 1, 1));
    let left: Resources = hosts.rows().map(|row| *row.used()).sum();
    assert_eq!(left, Resources { vcpus: Vcpus(1), memory: MiB(100), disk: GiB(0) });
}

#[test]
fn use_is_measured_from_the_first_arrival_to_the_last() {
    // 4 vCPU for 10 s, none for 10 s, then 2 at the end.
    let report = check(2, "1,100,110,4,1024\n2,120,999,2,512\n", 2, 0);
    assert_eq!((report.first_arrival_s, report.last_arrival_s), (Some(100), Some(120)));
    assert_eq!((report.vcpus.peak, report.vcpus.mean), (4, 2.0));
    assert_eq!((report.vcpus.peak_share, report.vcpus.mean_share), (0.5, 0.25));
    assert_eq!((report.memory_mib.peak, report.memory_mib.mean), (1024, 512.0));
    assert_eq!((report.peak_hosts_in_use, report.mean_hosts_in_use), (1, 0.5));
}

#[test]
fn fragmentation_is_the_free_share_that_the_usual_vm_cannot_have() {
    // Host 1 is left with 3 vCPU without memory, host 2 is empty: of 7 free, 3 are of no use.
    let report = check(2, "1,0,-1,1,4096\n", 1, 0);
    assert_eq!(report.fragmentation.at_end, 3.0 / 7.0);
    assert_eq!((report.fragmentation.mean, report.fragmentation.peak), (3.0 / 14.0, 3.0 / 7.0));
}

#[test]
fn a_trace_of_nothing_is_a_report_of_zeros() {
    let report = check(1, "", 0, 0);
    assert_eq!((report.first_arrival_s, report.bad_rows_skipped), (None, 0));
    assert!(!serde_json::to_string(&report).unwrap().contains('-'));
}

#[test]
fn rejections_are_counted_by_reason() {
    let report = check(2, "1,0,-1,4,1\n2,0,-1,1,4096\n3,0,-1,3,1\n4,0,-1,4,1\n", 2, 2);
    let reasons: Vec<String> = report
        .rejected_for
        .iter()
        .map(|r| format!("{} {}: {} on {}", r.filter, r.reason, r.vms, r.hosts))
        .collect();
    let expected = ["capacity too few vcpus: 2 on 3", "capacity too little memory: 1 on 1"];
    assert_eq!(reasons, expected);
}

#[test]
fn a_bad_row_stops_the_replay_or_is_skipped_and_told() {
    let rows = "1,0,9,1,1\nx,0,9,1,1\n2,1,9,1,1\n2,2,9,1,1\n3,1,9,1,1\n4,3,9,1,1\n";
    let refused = replay(1, rows, OnBadRow::Refuse).unwrap_err().to_string();
    assert_eq!(refused, "line 3: vm: \"x\" is not allowed; allowed: a number from 0");
    let (report, _) = replay(1, rows, OnBadRow::Skip).unwrap();
    let skipped: Vec<String> =
        report.bad_rows.iter().map(|row| format!("{}: {}", row.line, row.why)).collect();
    assert_eq!(
        skipped,
        [
            "3: vm: \"x\" is not allowed; allowed: a number from 0",
            "5: vm 2 is running already",
            "6: arrives at 1 s, before the row above it at 2 s",
        ]
    );
    assert_eq!((report.placed, report.bad_rows_skipped), (3, 3));
}

#[test]
fn a_vm_number_may_come_again_when_the_first_has_left() {
    check(1, "1,0,10,1,1\n1,10,20,1,1\n", 2, 0);
}

#[test]
fn a_scheduler_that_overcommits_is_found_out() {
    #[derive(Debug)]
    struct Careless;
    impl std::fmt::Display for Careless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("careless")
        }
    }
    impl Scheduler for Careless {
        fn select(
            &self,
            hosts: &HostTable,
            _: &RequestSpec,
            _: Seed,
        ) -> Result<Placement, NoValidHost> {
            Ok(Placement { hosts: vec![hosts.rows().next().unwrap().id] })
        }
        fn explain(&self, _: &HostTable, _: &RequestSpec) -> Refusal {
            unreachable!("a replay does not ask for explanations")
        }
        fn check_extra_spec(&self, _: &str, _: &str) -> Result<(), Invalid> {
            unreachable!("a replay makes no flavors")
        }
        fn check_hint(&self, _: &str, _: &[String]) -> Result<(), Invalid> {
            unreachable!("a replay has no hints")
        }
    }
    let shape = Resources { vcpus: Vcpus(4), memory: MiB(4096), disk: GiB(0) };
    let mut scenario = Scenario::default();
    scenario.on_bad_row = OnBadRow::Skip;
    let hosts = uniform_hosts(2, shape).unwrap();
    let mut simulation = Simulation::new(hosts, &Careless, scenario, Seed::new(1)).unwrap();
    let text = format!("{HEADER}1,0,-1,4,1\n2,0,-1,4,1\n");
    let trace = TraceReader::new(text.as_bytes()).unwrap();
    let error = simulation.run(trace).unwrap_err();
    assert!(matches!(error, SimulationError::BadAnswer { vm: 2, .. }), "{error}");
    assert!(error.to_string().ends_with("which has no room"), "{error}");
}

#[test]
fn hosts_out_of_range_are_refused() {
    let field = |count, vcpus, memory| {
        let shape = Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(0) };
        uniform_hosts(count, shape).map(|_| ()).map_err(|invalid| invalid.field)
    };
    assert_eq!(field(1, 1, 1), Ok(()));
    assert_eq!(field(0, 1, 1), Err("hosts"));
    assert_eq!(field(1, 0, 1), Err("host.vcpus"));
    assert_eq!(field(1, 1, 0), Err("host.memory"));
}

/// Where the traces are: `NOVA_TRACES`, or beside the repository.
pub(crate) fn trace_file(name: &str) -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    std::env::var_os("NOVA_TRACES").map_or_else(beside, PathBuf::from).join(name)
}

#[test]
fn the_head_of_a_real_trace_is_placed_alike_every_time() {
    use std::io::{BufRead, BufReader};

    let file = trace_file("azure_v1_dev.csv");
    let Ok(trace) = File::open(&file) else {
        println!("skipped: the trace {} is not there (set NOVA_TRACES)", file.display());
        return;
    };
    let lines = BufReader::new(trace).lines().take(5001);
    let head = lines.map(|line| line.unwrap() + "\n").collect::<String>();
    let shape = Resources { vcpus: Vcpus(64), memory: MiB(262_144), disk: GiB(0) };
    for policy in FilterScheduler::named() {
        let run = || {
            let hosts = uniform_hosts(60, shape).unwrap();
            let scenario = Scenario::default();
            let mut simulation = Simulation::new(hosts, &policy, scenario, Seed::new(1)).unwrap();
            let report = simulation.run(TraceReader::new(head.as_bytes()).unwrap()).unwrap();
            let left: Resources = simulation.world().hosts().rows().map(|row| *row.used()).sum();
            (serde_json::to_string(&report).unwrap(), report, left)
        };
        let (json, report, left) = run();
        assert_eq!(json, run().0, "{policy}: not the same twice");
        assert_eq!(report.requests, 5000);
        assert_eq!(report.placed, report.departed + report.remaining, "{policy}");
        assert_eq!(left == Resources::ZERO, report.remaining == 0, "{policy}");
        assert!(report.vcpus.peak_share <= 1.0 && report.memory_mib.peak_share <= 1.0);
    }
}
