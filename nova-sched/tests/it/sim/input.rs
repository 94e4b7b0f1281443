//! Input that makes no sense is an error that names it, and never a panic.

use nova_core::domain::{GiB, MiB, Vcpus};
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::sim::trace::{BadRow, TraceError};
use nova_sched::sim::{
    Cluster, ClusterConfig, HostGroup, OnBadRow, Report, Scenario, Simulation, SimulationError,
    TraceRow, uniform_hosts,
};
use proptest::prelude::*;

use super::checker::Row;
use super::runs::trace_row;

/// The fault that a scenario of this TOML has, by the field that is named.
fn fault(toml: &str) -> String {
    let scenario: Scenario = toml::from_str(toml).unwrap();
    let shape = nova_core::domain::Resources { vcpus: Vcpus(1), memory: MiB(1), disk: GiB(0) };
    let policy = FilterScheduler::first_fit();
    match Simulation::new(uniform_hosts(1, shape).unwrap(), &policy, scenario, Seed::new(1)) {
        Err(SimulationError::Scenario(invalid)) => invalid.field.to_owned(),
        other => panic!("{toml}: {other:?}"),
    }
}

#[test]
fn a_scenario_out_of_range_is_refused_by_the_name_of_the_field() {
    let window = |text: &str| format!("maintenance = [{{ hosts = 'host-0000001', {text} }}]");
    let faults = [
        ("sample_every_s = 0", "sample_every_s"),
        ("sample_every_s = 31536001", "sample_every_s"),
        ("planning = { every_s = 0 }", "planning.every_s"),
        ("waiting = { patience_s = 0 }", "waiting.patience_s"),
        ("waiting = { patience_s = 1000000001 }", "waiting.patience_s"),
        ("waiting = { backfill = 10001 }", "waiting.backfill"),
        ("preemption = { priority_gap = 0 }", "preemption.priority_gap"),
        ("preemption = { hosts_tried = 0 }", "preemption.hosts_tried"),
        ("foresight = { noise = -0.1 }", "foresight.noise"),
        ("foresight = { noise = nan }", "foresight.noise"),
        ("schedulers = { count = 0 }", "schedulers.count"),
        ("schedulers = { count = 1025 }", "schedulers.count"),
        ("schedulers = { decision_ms = 86400001 }", "schedulers.decision_ms"),
        ("schedulers = { sync_ms = 0 }", "schedulers.sync_ms"),
        ("failures = { mtbf_h = 0.0 }", "failures.mtbf_h"),
        ("failures = { mtbf_h = inf }", "failures.mtbf_h"),
        ("failures = { mttr_h = nan }", "failures.mttr_h"),
        ("resizes = { per_vm_day = -1.0 }", "resizes.per_vm_day"),
        ("resizes = { factors = [] }", "resizes.factors"),
        ("resizes = { factors = [1.0, 0.0] }", "resizes.factors"),
        ("moves = { bandwidth_mib_s = 0.0 }", "moves.bandwidth_mib_s"),
        ("moves = { bandwidth_mib_s = 1e-300 }", "moves.bandwidth_mib_s"),
        ("moves = { dirty_share = inf }", "moves.dirty_share"),
        ("moves = { overhead_ms = 86400001 }", "moves.overhead_ms"),
        (&window("from_s = 5, until_s = 5"), "maintenance.until_s"),
        (&window("from_s = 5, until_s = 1000000000001"), "maintenance.until_s"),
        (&window("from_s = 1000000000001, until_s = 5"), "maintenance.from_s"),
        ("maintenance = [{ hosts = 'x', from_s = 1, until_s = 2 }]", "maintenance.hosts"),
        ("maintenance = [{ hosts = 'rack:x', from_s = 1, until_s = 2 }]", "maintenance.hosts"),
    ];
    for (toml, field) in faults {
        assert_eq!(fault(toml), field, "{toml}");
    }
}

#[test]
fn a_cluster_out_of_range_is_refused_by_the_name_of_the_field() {
    let fault = |change: &dyn Fn(&mut HostGroup)| {
        let mut group = HostGroup::new("h", 2, Vcpus(4), MiB(4096));
        change(&mut group);
        Cluster::new(&ClusterConfig { hosts: vec![group] }).map(|_| ()).unwrap_err().field
    };
    assert_eq!(fault(&|group| group.count = 0), "hosts");
    assert_eq!(fault(&|group| group.count = 1_000_001), "hosts");
    assert_eq!(fault(&|group| group.vcpus = 0), "host.vcpus");
    assert_eq!(fault(&|group| group.memory_mib = 0), "host.memory");
    assert!(!fault(&|group| group.reserved_memory_mib = 4097).is_empty());
    for ratio in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(!fault(&|group| group.vcpu_ratio = ratio).is_empty());
        assert!(!fault(&|group| group.memory_ratio = ratio).is_empty());
    }
    assert!(!fault(&|group| group.name = "a b".to_owned()).is_empty());
    assert!(!fault(&|group| group.zone = String::new()).is_empty());
    let twice = HostGroup::new("h", 1, Vcpus(1), MiB(1));
    let twice = Cluster::new(&ClusterConfig { hosts: vec![twice.clone(), twice] });
    assert_eq!(twice.unwrap_err().field, "host.name");
    let power = toml::from_str::<ClusterConfig>(
        "[[hosts]]\nname = 'h'\ncount = 1\nvcpus = 1\nmemory_mib = 1\npower_watts = [1.0, -1.0]",
    );
    assert!(power.unwrap_err().to_string().contains("power_watts"));
}

fn simulate(rows: Vec<TraceRow>, on_bad_row: OnBadRow) -> Result<Report, SimulationError> {
    let shape = nova_core::domain::Resources { vcpus: Vcpus(4), memory: MiB(4096), disk: GiB(9) };
    let policy = FilterScheduler::first_fit();
    let mut scenario = Scenario::default();
    scenario.on_bad_row = on_bad_row;
    let hosts = uniform_hosts(2, shape).unwrap();
    let mut simulation = Simulation::new(hosts, &policy, scenario, Seed::new(1))?;
    simulation.run(rows.into_iter().map(Ok))
}

fn good(vm: u64, arrival_s: u64, end_s: Option<u64>) -> TraceRow {
    let row =
        Row { vm, arrival_s, end_s, takes: [1, 1, 0], priority: 0, gang: None, cpu_permille: None };
    trace_row(&row, vm)
}

#[test]
fn a_row_that_makes_no_sense_is_refused_by_its_fault() {
    let fault = |row: TraceRow| match simulate(vec![good(1, 5, None), row], OnBadRow::Refuse) {
        Err(SimulationError::Trace(TraceError::BadRow { line: 2, why })) => why,
        other => panic!("{row:?}: {other:?}"),
    };
    let value = |change: &dyn Fn(&mut TraceRow)| {
        let mut row = good(2, 6, None);
        change(&mut row);
        match fault(row) {
            BadRow::Value(invalid) => invalid.field,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(fault(good(2, 4, None)), BadRow::ArrivesBeforePrevious { previous_s: 5, .. }));
    assert!(matches!(fault(good(2, 6, Some(5))), BadRow::EndsBeforeArrival { end_s: 5, .. }));
    let again = TraceRow { line: 2, ..good(1, 6, None) };
    assert!(matches!(fault(again), BadRow::RunsAlready { vm: 1 }));
    assert_eq!(value(&|row| row.vcpus = Vcpus(0)), "vcpu");
    assert_eq!(value(&|row| row.vcpus = Vcpus(u32::MAX)), "vcpu");
    assert_eq!(value(&|row| row.memory = MiB(0)), "mem_mib");
    assert_eq!(value(&|row| row.memory = MiB(u64::MAX)), "mem_mib");
    assert_eq!(value(&|row| row.disk = GiB(u64::MAX)), "disk_gib");
    assert_eq!(value(&|row| row.arrival_s = u64::MAX), "arrival_s");
    assert_eq!(value(&|row| row.end_s = Some(u64::MAX)), "end_s");
    assert_eq!(value(&|row| row.cpu_permille = Some(1001)), "cpu_permille");
}

prop_compose! {
    /// Numbers small, large and at the edges.
    fn number()(small in 0_u64..4, any in any::<u64>(), shift in 0_u32..64, which in 0_u8..4) -> u64 {
        match which {
            0 => any >> shift,
            1 => u64::MAX - small,
            _ => small,
        }
    }
}

prop_compose! {
    fn any_row()(
        numbers in prop::collection::vec(number(), 9),
        ends in any::<bool>(),
        stands in any::<bool>(),
        tells in any::<bool>(),
    ) -> TraceRow {
        TraceRow {
            line: numbers[0],
            vm: numbers[1],
            arrival_s: numbers[2],
            end_s: ends.then_some(numbers[3]),
            vcpus: Vcpus(numbers[4] as u32),
            memory: MiB(numbers[5]),
            disk: GiB(numbers[6]),
            priority: numbers[7] as u8,
            gang: stands.then_some(numbers[8]),
            cpu_permille: tells.then_some(numbers[7] as u16),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_row_is_a_panic_and_what_is_left_out_is_told(
        rows in prop::collection::vec(any_row(), 0..12),
    ) {
        let _ = simulate(rows.clone(), OnBadRow::Refuse);
        let all = rows.len() as u64;
        let report = simulate(rows, OnBadRow::Skip).unwrap();
        prop_assert_eq!(report.requests + report.bad_rows_skipped, all);
        prop_assert_eq!(report.placed + report.rejected, report.requests);
    }
}
