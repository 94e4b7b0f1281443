//! Failures, and windows of maintenance.

use nova_core::domain::{MiB, Vcpus};
use nova_sched::sim::{Failures, HostGroup, Maintenance, Waiting};

use super::{check, run, told};

const OFTEN: Failures = Failures { mtbf_h: 0.5, mttr_h: 0.1, restart: true, by_rack: false };

fn window(hosts: &str, from_s: u64, until_s: u64, notice_s: u64) -> Maintenance {
    Maintenance { hosts: hosts.to_owned(), from_s, until_s, notice_s }
}

#[test]
fn a_rack_fails_as_one_and_nobody_flees_within_it() {
    let mut run = run(1, "1:0-20000:1 2:0-20000:1 3:20000-:1", |scenario| {
        scenario.failures = Some(Failures { by_rack: true, ..OFTEN });
        scenario.waiting = Some(Waiting::default());
    });
    let racks = HostGroup { racks: 2, ..HostGroup::new("r", 6, Vcpus(4), MiB(4096)) };
    run.cluster.hosts = vec![racks];
    let (log, report) = run.checked();
    assert!(report.host_failures > 3 && report.host_failures.is_multiple_of(3));
    let told = told(&log);
    for (at, line) in told.iter().enumerate().filter(|(_, line)| line.contains("host_down")) {
        let when = line.split(' ').next().unwrap();
        let same = |other: &&String| other.starts_with(&format!("{when} host_down"));
        let downs = told.iter().filter(same).count();
        assert_eq!(downs, 3, "{line}");
        let first = told.iter().position(|other| same(&other)).unwrap();
        assert!(at - first < 3, "VMs looked for a host before {line}");
    }
    // Each goes once for each failure of its rack.
    let moments = |what: &str| {
        let lines = told.iter().filter(|line| line.contains(what));
        let mut keys: Vec<String> =
            lines.map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
        let all = keys.len();
        keys.dedup();
        (all, keys.len())
    };
    let (all, different) = moments("put_off");
    assert!(all > 0 && all == different, "{all} {different}");
}

#[test]
fn without_restart_vms_of_a_failed_host_are_lost() {
    let rows = "1:0-:1 2:40000-:1";
    let report = |restart| {
        let run = run(1, rows, |scenario| {
            scenario.failures = Some(Failures { restart, ..OFTEN });
            scenario.waiting = Some(Waiting { patience_s: 1_000_000, backfill: 0 });
        });
        run.checked().1
    };
    let (lost, kept) = (report(false), report(true));
    assert_eq!((lost.lost, lost.put_off["failure"], lost.remaining), (1, 1, 1));
    assert_eq!((kept.lost, kept.remaining), (0, 2));
    assert!(kept.put_off["failure"] > 1);
}

#[test]
fn resizes_and_policies_do_not_move_failures() {
    let failures = |per_vm_day, policy| {
        let mut run = run(3, "1:0-:1 2:10-:1 3:50000-:1", |scenario| {
            scenario.failures = Some(OFTEN);
            scenario.waiting = Some(Waiting::default());
            scenario.resizes =
                Some(nova_sched::sim::Resizes { per_vm_day, factors: vec![2.0, 0.5] });
        });
        run.policy = super::Policy::Named(policy);
        let downs = told(&run.checked().0).into_iter().filter(|line| line.contains("host_"));
        downs.collect::<Vec<_>>()
    };
    assert!(failures(0.0, "first-fit").len() > 10);
    assert_eq!(failures(0.0, "first-fit"), failures(200.0, "first-fit"));
    assert_eq!(failures(0.0, "first-fit"), failures(200.0, "worst-fit"));
}

#[test]
fn maintenance_moves_vms_away_before_it_begins() {
    let run = run(2, "1:0-:2 2:2000-:1", |scenario| {
        scenario.maintenance = vec![window("h-0000001", 1000, 3000, 100)];
    });
    let expected = [
        "0 placed 1 h1",
        "900 host_closed h1",
        "900 move_began 1 h1 h2",
        "900.502 move_ended 1 h1 h2 true",
        "2000 placed 2 h2",
        "3000 host_opened h1",
    ];
    let report = check(&run, &expected);
    assert_eq!((report.migrations, report.put_off.len()), (1, 0));
}

#[test]
fn what_cannot_move_in_time_is_put_off_and_none_comes_back_while_it_lasts() {
    let run = run(1, "1:0-:2 2:1500-:1", |scenario| {
        scenario.maintenance = vec![window("h-0000001", 1000, 2000, 0)];
        scenario.waiting = Some(Waiting::default());
    });
    let expected = [
        "0 placed 1 h1",
        "1000 host_closed h1",
        "1000 put_off 1 h1 maintenance",
        "1000 waits 1",
        "1500 waits 2",
        "2000 host_opened h1",
        "2000 placed 1 h1",
        "2000 placed 2 h1",
    ];
    let report = check(&run, &expected);
    assert_eq!(report.migrations_refused, 1);
}

#[test]
fn a_host_stays_closed_while_any_window_is_open() {
    let run = run(1, "1:0-:1 2:25-:1 3:35-:1", |scenario| {
        scenario.maintenance = vec![window("h-0000001", 10, 20, 0), window("zone:sim", 15, 30, 0)];
    });
    let expected = [
        "0 placed 1 h1",
        "10 host_closed h1",
        "10 put_off 1 h1 maintenance",
        "10 refused 1 no_host",
        "25 refused 2 no_host",
        "30 host_opened h1",
        "35 placed 3 h1",
    ];
    check(&run, &expected);
}
