//! What VMs use of their vCPUs, and what follows from it.

use std::sync::Arc;

use nova_core::domain::{MiB, Vcpus};
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::sim::trace::planetlab::SAMPLE_S;
use nova_sched::sim::{
    CPU_PERCENT, Cluster, ClusterConfig, Courses, CpuUse, Follow, HostGroup, Maintenance, MoveCost,
    PowerCurve, Scenario, Simulation,
};

use super::super::checker::Given;
use super::super::replay::trace_file;
use super::super::runs::{Run, planner_of, trace};
use super::{Mover, check, row, run};

/// Use is read every 10 seconds.
const TEN: CpuUse =
    CpuUse { every_s: 10, untold_permille: 1000, lost_in_moves: 0.1, tells_hosts: false };

/// One host of 4 CPUs that may promise 8, and what it uses.
fn tight(rows: &str) -> Run {
    let mut run = run(1, rows, |scenario| scenario.cpu_use = Some(TEN));
    run.cluster.hosts[0].vcpu_ratio = 2.0;
    run
}

#[test]
fn what_is_wanted_and_not_there_is_told() {
    // 2 and 3 CPUs for 50 s, then 2 alone; the last row ends measuring.
    let report = tight("1:0-100:4:u500 2:0-50:4:u750 3:100-101:1:u0").checked().1.cpu_use.unwrap();
    assert_eq!((report.mean_wanted, report.peak_wanted), (3.5, 5.0));
    assert_eq!(report.unserved_share, 1.0 * 50.0 / 350.0);
    assert_eq!(report.of_hosts_in_use, (4.0 * 50.0 + 2.0 * 50.0) / 400.0);
    assert_eq!((report.mean_overloaded_hosts, report.peak_overloaded_hosts), (0.5, 1));
    assert_eq!((report.overloaded_share, report.lost_in_moves), (0.5, 0.0));
}

#[test]
fn who_wants_all_there_is_overloads_nobody() {
    let report = tight("1:0-100:4 3:100-101:1").checked().1.cpu_use.unwrap();
    assert_eq!((report.of_hosts_in_use, report.peak_overloaded_hosts), (1.0, 0));
}

#[test]
fn a_vm_follows_its_course_from_when_it_came() {
    let mut run = tight("1:0-:4:u1000 2:5-60:4 3:60-61:1:u0");
    // The second comes after a reading, and its samples are taken at the readings.
    let courses = [(1, vec![0, 1000]), (2, vec![500])].into();
    run.courses = Some(Given { step_s: 20, own: true, courses });
    let (log, report) = run.checked();
    assert_eq!(report.cpu_use.unwrap().mean_wanted, (4.0 * 20.0 + 2.0 * 55.0) / 60.0);
    assert_eq!(log.matches("use_read").count(), 6);
    assert!(log.contains(r#""cpu_permille":500,"course":2,"course_from":0"#), "{log}");
}

#[test]
fn what_is_drawn_is_the_same_under_every_policy_and_seed_for_seed() {
    let courses = (0..40).map(|vm| (vm, vec![vm as u16; 5])).collect();
    let given = Given { step_s: 20, own: false, courses };
    let followed = |hosts, seed| {
        let mut run = run(hosts, "1:0-:2 2:0-:2 3:3-:1 4:9-:2", |_| {});
        (run.courses, run.seed) = (Some(given.clone()), seed);
        let (log, report) = run.watched();
        assert!(report.cpu_use.is_some(), "courses alone are enough to measure");
        let mut of: Vec<String> = log
            .lines()
            .filter_map(|line| Some(line.split_once("\"cpu_permille\"")?.1.to_owned()))
            .collect();
        of.dedup();
        of
    };
    assert_eq!(followed(2, 1), followed(9, 1));
    assert_ne!(followed(2, 1), followed(2, 2));
}

#[test]
fn migrations_cost_their_share() {
    let run = run(2, "1:0-:2:m10 2:100-:1", |scenario| {
        scenario.moves = MoveCost { bandwidth_mib_s: 1.0, dirty_share: 0.0, overhead_ms: 0 };
        scenario.cpu_use = Some(CpuUse { lost_in_moves: 0.2, ..TEN });
        let (hosts, notice_s) = ("h-0000001".to_owned(), 30);
        scenario.maintenance = vec![Maintenance { hosts, from_s: 80, until_s: 90, notice_s }];
    });
    let report = run.checked().1.cpu_use.unwrap();
    // Ten of a hundred seconds; the second VM has wanted nothing yet.
    assert!((report.lost_in_moves - 0.2 * 0.1).abs() < 1e-12, "{report:?}");
}

#[test]
fn power_follows_what_is_used() {
    let energy = |used: &str| {
        let rows = format!("1:0-3600:4:{used} 2:3600-3601:1:u0");
        let mut run = tight(&rows);
        run.cluster.hosts[0].power_watts = Some(PowerCurve::new(vec![100.0, 200.0]).unwrap());
        run.checked().1.energy_kwh.unwrap()
    };
    assert_eq!((energy("u0"), energy("u500"), energy("u1000")), (0.1, 0.15, 0.2));
}

#[test]
fn hosts_tell_their_use_to_weighers_of_metrics() {
    let rows = [row("1:0-:4:u250"), row("2:20-:1:u0")];
    let group = HostGroup::new("h", 2, Vcpus(4), MiB(4096));
    let cluster = Cluster::new(&ClusterConfig { hosts: vec![group] }).unwrap();
    let mut scenario = Scenario::default();
    scenario.cpu_use = Some(CpuUse { tells_hosts: true, ..TEN });
    let policy = FilterScheduler::first_fit();
    let mut simulation = Simulation::new(cluster, &policy, scenario, Seed::new(1)).unwrap();
    simulation.run(trace(&rows)).unwrap();
    let told = simulation.world().hosts().rows().map(|row| row.report.metrics.get(CPU_PERCENT));
    assert_eq!(told.collect::<Vec<_>>(), [Some(&25), Some(&0)]);
}

#[test]
fn hosts_of_which_too_much_is_wanted_are_relieved() {
    let mut run =
        run(3, "1:0-:4:u300:m900 2:0-:3:u900:m50 3:0-:1:u1000:m70 4:60-:1:u0", |scenario| {
            scenario.moves = MoveCost { bandwidth_mib_s: 10.0, dirty_share: 0.0, overhead_ms: 0 };
            scenario.cpu_use = Some(TEN);
            scenario.planning.every_s = 20;
        });
    run.cluster.hosts[0].vcpu_ratio = 2.0;
    run.mover = Mover::Relieve;
    // Wanted are 1.2 + 2.7 + 1 of 2.8 CPUs: no single one is enough but the second, and the busiest
    // other host that stays below is as good as any.
    let expected = [
        "0 placed 1 h1",
        "0 placed 2 h1",
        "0 placed 3 h1",
        "10 use_read",
        "20 use_read",
        "20 move_began 2 h1 h2",
        "25 move_ended 2 h1 h2 true",
        "30 use_read",
        "40 use_read",
        "50 use_read",
        "60 use_read",
        "60 placed 4 h1",
    ];
    let report = check(&run, &expected);
    assert_eq!(report.cpu_use.unwrap().peak_overloaded_hosts, 1);
}

#[test]
fn a_day_of_planetlab_on_the_hosts_of_the_paper() {
    let path = trace_file("planetlab/20110303.tar.gz");
    if !path.exists() {
        println!("skipped: the trace {} is not there (set NOVA_TRACES)", path.display());
        return;
    }
    let courses = Arc::new(Courses::of_planetlab(&path).unwrap());
    assert_eq!(courses.len(), 1052);
    // The hosts of Beloglazov and Buyya: ProLiant G4 and G5, 2 cores each, of which a VM has one,
    // four VMs to a core.
    let group = |name: &str, watts: &[f64]| {
        let mut group = HostGroup::new(name, 400, Vcpus(2), MiB(4096));
        (group.vcpu_ratio, group.power_watts) = (4.0, PowerCurve::new(watts.to_vec()).ok());
        group
    };
    let hosts = vec![group("g4", &[86.0, 117.0]), group("g5", &[93.7, 135.0])];
    let rows: Vec<_> = (1..=1052).map(|vm| row(&format!("{vm}:0-86400:1:m870"))).collect();
    let used = |mover: Mover| {
        let mut scenario = Scenario::default();
        scenario.planning.every_s = SAMPLE_S;
        scenario.cpu_use = Some(CpuUse::default());
        (scenario.switch_off_empty_hosts, scenario.measure_until_s) = (true, Some(86_399));
        let cluster = Cluster::new(&ClusterConfig { hosts: hosts.clone() }).unwrap();
        let policy = FilterScheduler::best_fit();
        let mut planner = planner_of(mover);
        let mut simulation = Simulation::new(cluster, &policy, scenario, Seed::new(1))
            .unwrap()
            .with_courses(Arc::clone(&courses), Follow::Own);
        if let Some(planner) = &mut planner {
            simulation = simulation.with_planner(&mut **planner);
        }
        simulation.run(trace(&rows)).unwrap()
    };
    let (alone, relieved) = (used(Mover::Nobody), used(Mover::Relieve));
    let (before, after) = (alone.cpu_use.unwrap(), relieved.cpu_use.unwrap());
    assert_eq!(alone.migrations, 0);
    assert!(before.overloaded_share > 0.0 && before.lost_in_moves == 0.0, "{before:?}");
    assert!(
        relieved.migrations > 0 && after.overloaded_share < before.overloaded_share,
        "{after:?}"
    );
    assert!(after.sla_violation > 0.0 && relieved.energy_kwh > alone.energy_kwh);
    // What VMs want is a matter of the trace alone: the mean of all samples, to a thousandth.
    assert!((after.mean_wanted / before.mean_wanted - 1.0).abs() < 1e-3);
}
