//! Live migrations, resizes, and who plans moves.

use nova_core::domain::{MiB, Vcpus};
use nova_sched::sim::{HostGroup, Maintenance, MoveCost, Preemption, Resizes};

use super::{Mover, check, run, told};

/// A second a MiB, and nothing besides.
const SLOW: MoveCost = MoveCost { bandwidth_mib_s: 1.0, dirty_share: 0.0, overhead_ms: 0 };

fn window(hosts: &str, from_s: u64, until_s: u64, notice_s: u64) -> Maintenance {
    Maintenance { hosts: hosts.to_owned(), from_s, until_s, notice_s }
}

#[test]
fn a_move_that_is_cut_short_leaves_the_vm_where_it_was() {
    // The goal's own window begins before the memory is there.
    let run = run(2, "1:0-:2:m100 2:500-:1", |scenario| {
        scenario.moves = SLOW;
        scenario.maintenance =
            vec![window("h-0000001", 1000, 1001, 950), window("h-0000002", 90, 95, 10)];
    });
    let expected = [
        "0 placed 1 h1",
        "50 host_closed h1",
        "50 move_began 1 h1 h2",
        "80 host_closed h2",
        "90 move_ended 1 h1 h2 false",
        "95 host_opened h2",
        "500 placed 2 h2",
        "1000 put_off 1 h1 maintenance",
        "1000 placed 1 h2",
        "1001 host_opened h1",
    ];
    let report = check(&run, &expected);
    assert_eq!((report.migrations, report.migrations_cut_short), (1, 1));
}

#[test]
fn the_end_of_a_move_that_was_cut_short_ends_no_later_one() {
    let run = run(2, "1:0-:2:m100 2:500-:1", |scenario| {
        scenario.moves = SLOW;
        scenario.maintenance = vec![
            window("h-0000001", 1000, 1001, 950),
            window("h-0000002", 90, 95, 10),
            // Once more, while the first move would still have gone on.
            window("h-0000001", 400, 401, 300),
        ];
    });
    let moves: Vec<String> =
        told(&run.checked().0).into_iter().filter(|line| line.contains("move_")).collect();
    let expected = [
        "50 move_began 1 h1 h2",
        "90 move_ended 1 h1 h2 false",
        "100 move_began 1 h1 h2",
        "200 move_ended 1 h1 h2 true",
    ];
    assert_eq!(moves, expected);
}

#[test]
fn a_vm_on_its_way_claims_both_hosts() {
    let run = run(2, "1:0-:2:m100 2:60-:3 3:160-:3", |scenario| {
        scenario.moves = SLOW;
        scenario.maintenance = vec![window("h-0000001", 155, 156, 105)];
    });
    let expected = [
        "0 placed 1 h1",
        "50 host_closed h1",
        "50 move_began 1 h1 h2",
        "60 refused 2 no_host",
        "150 move_ended 1 h1 h2 true",
        "156 host_opened h1",
        "160 placed 3 h1",
    ];
    let report = check(&run, &expected);
    assert_eq!((report.vcpus.peak, report.peak_vms), (5, 2));
}

#[test]
fn a_resize_stays_goes_elsewhere_or_is_refused() {
    let resized = |hosts, vcpus: u32, factor| {
        let rows = format!("1:0-:{vcpus} 2:0-:1 3:100000-:1");
        let run = run(hosts, &rows, |scenario| {
            scenario.resizes = Some(Resizes { per_vm_day: 1.0, factors: vec![factor] });
        });
        let mut lines = told(&run.checked().0).into_iter().filter(|line| line.contains(" 1 "));
        let first = lines.find(|line| line.contains("resize")).unwrap();
        first.split_once(' ').unwrap().1.to_owned()
    };
    assert_eq!(resized(1, 1, 2.0), "resized 1 h1 h1");
    assert_eq!(resized(2, 2, 2.0), "resized 1 h1 h2");
    assert_eq!(resized(1, 2, 2.0), "resize_refused 1 h1");
}

#[test]
fn who_is_placed_again_is_not_resized_more_often() {
    let resizes = |others: &str| {
        let rows = format!("1:0-10000000:1 {others} 9999999:10000000-:1");
        let run = run(1, &rows, |scenario| {
            scenario.preemption = Some(Preemption::default());
            scenario.waiting = Some(nova_sched::sim::Waiting::default());
            scenario.resizes = Some(Resizes { per_vm_day: 4.0, factors: vec![1.0] });
        });
        let lines = told(&run.checked().0);
        lines.into_iter().filter(|line| line.contains("resized 1 ")).count() as f64
    };
    // A hundred times for one second somebody needs all of the host.
    let others: String =
        (2..102).map(|vm| format!("{vm}:{}-{}:4:p1 ", vm * 10, vm * 10 + 1)).collect();
    let (alone, disturbed) = (resizes(""), resizes(&others));
    // Some 460 in 116 days.
    assert!((300.0..600.0).contains(&alone), "{alone}");
    assert!((disturbed / alone - 1.0).abs() < 0.3, "{alone} {disturbed}");
}

#[test]
fn consolidating_empties_whole_hosts() {
    let mut run = run(4, "1:0-5:3 2:0-:1 3:0-5:3 4:0-:1 5:0-5:3 6:0-:1 7:9000-:1", |_| {});
    run.mover = Mover::Consolidate;
    let (log, report) = run.checked();
    let began = told(&log).iter().filter(|line| line.contains("move_began")).count();
    // Three hosts with one vCPU each become two: what one uses, the other must have free.
    let before_the_last = &report.series[report.series.len() - 2];
    assert_eq!((began, before_the_last.hosts_in_use), (1, 2));
}

#[test]
fn consolidating_never_leaves_too_little_for_the_fullest_host() {
    for seed in 0..40_u64 {
        let sizes = (0..8).map(|vm| (seed >> (vm % 6)) % 2 + 1 + (seed + vm) % 2);
        let stay = sizes.zip(1..).map(|(vcpus, vm)| format!("{vm}:0-:{vcpus} "));
        let rows = stay.collect::<String>() + "99:9000-9001:1";
        let mut run = run(8, &rows, |scenario| scenario.sample_every_s = 60);
        run.policy = super::Policy::Named("worst-fit");
        run.cluster.hosts = vec![HostGroup::new("h", 8, Vcpus(8), MiB(65_536))];
        run.mover = Mover::Consolidate;
        let (_, report) = run.checked();
        let (before, after) = (&report.series[1], &report.series[report.series.len() - 2]);
        assert!(before.n_plus_one.holds && after.n_plus_one.holds, "{seed}");
        assert!(report.migrations > 0 && after.hosts_in_use < before.hosts_in_use, "{seed}");
        // What is free on the hosts in use is enough for the fullest of them.
        let used = told_use(&run);
        let fullest = used.iter().max().unwrap();
        let free: u64 = used.iter().filter(|used| **used > 0).map(|used| 8 - used).sum();
        assert!(free - (8 - fullest) >= *fullest, "{seed}: {used:?}");
    }
}

/// The vCPUs on each host at the end, by adding up the log.
fn told_use(run: &super::Run) -> Vec<u64> {
    let mut at: std::collections::BTreeMap<u64, (String, u64)> = Default::default();
    for line in run.watched().0.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let vm = line["vm"].as_u64().unwrap_or(0);
        let host = |name: &str| line[name].as_str().unwrap().to_owned();
        match line["what"].as_str().unwrap() {
            "placed" => drop(at.insert(vm, (host("host"), line["vcpus"].as_u64().unwrap()))),
            "move_ended" => drop(at.insert(vm, (host("to"), line["vcpus"].as_u64().unwrap()))),
            "departed" => drop(at.remove(&vm)),
            _ => {}
        }
    }
    let mut by_host: std::collections::BTreeMap<String, u64> = Default::default();
    at.into_values().for_each(|(host, vcpus)| *by_host.entry(host).or_default() += vcpus);
    by_host.into_values().collect()
}

#[test]
fn defragmenting_makes_room_for_the_largest_shape() {
    let rows = "1:0-5:4 2:0-5:2 3:0-:2 4:0-5:2 5:0-:2 6:4000-:4 7:4001-:4";
    let placed = |mover| {
        let mut run = run(3, rows, |_| {});
        run.mover = mover;
        run.checked().1.placed
    };
    assert_eq!([placed(Mover::Nobody), placed(Mover::Defragment)], [6, 7]);
}
