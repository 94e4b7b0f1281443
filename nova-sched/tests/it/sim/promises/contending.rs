//! Several schedulers on views that are old.

use nova_sched::sim::{Several, Waiting};

use super::{check, run};

const BLIND: Several = Several { count: 2, decision_ms: 10, sync_ms: 1_000_000, retries: 3 };

#[test]
fn an_old_view_conflicts_and_learns() {
    let run = run(2, "1:0-:4 2:0-:4", |scenario| scenario.schedulers = Some(BLIND));
    let expected = ["0.01 placed 1 h1", "0.01 conflict 2 h1", "0.02 placed 2 h2"];
    let report = check(&run, &expected);
    assert_eq!((report.conflicts, report.placed), (1, 2));
}

#[test]
fn who_conflicts_too_often_is_refused() {
    let rules = Several { retries: 0, ..BLIND };
    let run = run(2, "1:0-:4 2:0-:4", |scenario| scenario.schedulers = Some(rules));
    check(&run, &["0.01 placed 1 h1", "0.01 conflict 2 h1", "0.01 refused 2 conflicts"]);
}

#[test]
fn a_view_that_was_synchronised_does_not_conflict() {
    let rules = Several { sync_ms: 1000, ..BLIND };
    let run = run(2, "1:0-:4 2:5-:4", |scenario| scenario.schedulers = Some(rules));
    assert_eq!(run.checked().1.conflicts, 0);
}

#[test]
fn the_first_request_is_decided_on_the_hosts_as_they_are() {
    let window = nova_sched::sim::Maintenance {
        hosts: "h-0000001".to_owned(),
        from_s: 10,
        until_s: 1000,
        notice_s: 0,
    };
    let run = run(2, "1:20-:4", |scenario| {
        scenario.schedulers = Some(BLIND);
        scenario.maintenance = vec![window];
    });
    assert_eq!(run.checked().1.conflicts, 0);
}

#[test]
fn patience_does_not_begin_anew_at_a_desk() {
    // Every ten seconds something becomes free that is too small, and the line is asked again.
    let small: String = (10..60).map(|vm| format!("{vm}:{}-{}:1 ", vm * 10, vm * 10 + 5)).collect();
    let run = run(1, &format!("1:0-:3 2:1-:4 {small}"), |scenario| {
        scenario.schedulers = Some(Several { sync_ms: 500, ..BLIND });
        scenario.waiting = Some(Waiting { patience_s: 300, backfill: 5 });
    });
    let (log, _) = run.checked();
    let of_it: Vec<String> =
        super::told(&log).into_iter().filter(|line| line.split(' ').nth(2) == Some("2")).collect();
    assert_eq!(of_it, ["1.01 waits 2", "301 refused 2 patience"]);
}

#[test]
fn who_leaves_while_it_queues_is_not_placed_and_nobody_is_in_its_stead() {
    let slow = Several { count: 1, decision_ms: 10_000, ..BLIND };
    let run = run(4, "1:0-:1 2:0-5:1 3:6-:1", |scenario| scenario.schedulers = Some(slow));
    check(&run, &["5 refused 2 ended", "10 placed 1 h1", "30 placed 3 h1"]);
}
