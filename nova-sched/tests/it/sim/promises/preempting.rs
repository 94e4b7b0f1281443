//! Putting off the less important.

use nova_sched::sim::{Preemption, Several, Waiting};

use super::{check, run};

#[test]
fn the_fewest_and_least_important_go_and_others_stay() {
    // On the first host two would have to go, on the second one; the third is as important.
    let rows = "1:0-:2:p1 2:0-:2:p1 3:0-:1 4:0-:3:p1 5:0-:4:p2 6:1-:3:p2";
    let run = run(3, rows, |scenario| scenario.preemption = Some(Preemption::default()));
    let expected = [
        "0 placed 1 h1",
        "0 placed 2 h1",
        "0 placed 3 h2",
        "0 placed 4 h2",
        "0 placed 5 h3",
        "1 put_off 4 h2 preemption",
        "1 placed 6 h2",
        "1 refused 4 no_host",
    ];
    let report = check(&run, &expected);
    assert_eq!((report.preemptions, report.lost, report.rejected), (1, 1, 0));
}

#[test]
fn among_as_many_the_less_important_go() {
    let rows = "1:0-:4:p2 2:0-:4:p1 3:1-:1:p3";
    let run = run(2, rows, |scenario| scenario.preemption = Some(Preemption::default()));
    let report = check(
        &run,
        &[
            "0 placed 1 h1",
            "0 placed 2 h2",
            "1 put_off 2 h2 preemption",
            "1 placed 3 h2",
            "1 refused 2 no_host",
        ],
    );
    assert_eq!(report.put_off["preemption"], 1);
}

#[test]
fn a_gap_protects_those_that_are_nearly_as_important() {
    let rows = "1:0-:4:p2 2:1-:4:p3 3:2-:4:p4";
    let rule = Preemption { priority_gap: 2, ..Preemption::default() };
    let run = run(1, rows, |scenario| scenario.preemption = Some(rule));
    let expected =
        ["0 placed 1 h1", "1 refused 2 no_host", "2 put_off 1 h1 preemption", "2 placed 3 h1"];
    check(&run, &[&expected[..], &["2 refused 1 no_host"]].concat());
}

#[test]
fn who_was_put_off_waits_with_new_patience_and_still_leaves_at_its_end() {
    let rows = "1:0-300:4 2:150-200:4:p1 3:201-400:4:p1";
    let run = run(1, rows, |scenario| {
        scenario.preemption = Some(Preemption::default());
        scenario.waiting = Some(Waiting { patience_s: 100, backfill: 0 });
    });
    let expected = [
        "0 placed 1 h1",
        "150 put_off 1 h1 preemption",
        "150 placed 2 h1",
        "150 waits 1",
        "200 placed 1 h1",
        "201 put_off 1 h1 preemption",
        "201 placed 3 h1",
        "201 waits 1",
    ];
    // At 250 it has waited for less than its patience, and at 300 its time is over.
    let report = check(&run, &expected);
    assert_eq!((report.departed, report.lost, report.preemptions), (3, 0, 2));
}

#[test]
fn of_several_schedulers_one_that_sees_no_host_puts_others_off() {
    let run = run(1, "1:0-:4 2:5-:4:p1 3:6-:4:p1", |scenario| {
        scenario.preemption = Some(Preemption::default());
        scenario.schedulers = Some(Several { count: 2, decision_ms: 10, sync_ms: 500, retries: 0 });
    });
    let expected = [
        "0.01 placed 1 h1",
        "5.01 put_off 1 h1 preemption",
        "5.01 placed 2 h1",
        "5.02 refused 1 no_host",
        "6.01 refused 3 no_host",
    ];
    assert_eq!(check(&run, &expected).preemptions, 1);
}
