//! Waiting, and gangs.

use nova_sched::sim::Waiting;

use super::{check, run};

const PATIENT: Waiting = Waiting { patience_s: 100, backfill: 0 };

#[test]
fn a_gang_is_placed_whole_or_not_at_all() {
    let rows = "1:0-:3 2:1-:1:g7 3:1-:2:g7 4:2-:2:g8 5:2-:2:g8";
    let expected = ["0 placed 1 h1", "1 refused 2 gang", "1 refused 3 gang"];
    let rest = ["2 refused 4 gang", "2 refused 5 gang"];
    let report = check(&run(1, rows, |_| {}), &[&expected[..], &rest[..]].concat());
    assert_eq!(report.rejected, 4);
    check(&run(2, "1:0-:3:g1 2:0-:3:g1", |_| {}), &["0 placed 1 h1", "0 placed 2 h2"]);
}

#[test]
fn a_gang_that_was_refused_is_in_no_peak() {
    let report = run(2, "1:0-:1 2:1-:4:g7 3:1-:4:g7", |_| {}).checked().1;
    assert_eq!((report.vcpus.peak, report.peak_hosts_in_use, report.peak_hosts_needed), (1, 1, 1));
}

#[test]
fn a_gang_waits_until_there_is_room_for_all_of_it() {
    let rows = "1:0-10:4 2:0-20:4 3:1-:3:g7 4:1-:3:g7";
    let expected = [
        "0 placed 1 h1",
        "0 placed 2 h2",
        "1 waits 3",
        "1 waits 4",
        "20 placed 3 h1",
        "20 placed 4 h2",
    ];
    check(&run(2, rows, |scenario| scenario.waiting = Some(PATIENT)), &expected);
}

#[test]
fn the_more_important_is_served_first_then_the_earlier() {
    let rows = "1:0-10:4 2:1-:2 3:2-:2 4:3-:2:p1";
    let expected = ["10 placed 4 h1", "10 placed 2 h1", "102 refused 3 patience"];
    let waits = ["0 placed 1 h1", "1 waits 2", "2 waits 3", "3 waits 4"];
    let run = run(1, rows, |scenario| scenario.waiting = Some(PATIENT));
    check(&run, &[&waits[..], &expected[..]].concat());
}

#[test]
fn so_many_overtake_as_backfill_says() {
    // 4 vCPU are never free while the first stays; 2 are, at 10 s.
    let rows = "1:0-200:2 2:0-10:2 3:1-:4 4:2-:3 5:3-:2";
    let placed = |backfill| {
        let waiting = Waiting { backfill, ..PATIENT };
        run(1, rows, |scenario| scenario.waiting = Some(waiting)).checked().1.placed
    };
    assert_eq!([placed(0), placed(1), placed(2)], [2, 2, 3]);
}

#[test]
fn patience_ends_and_an_end_comes_first() {
    let rows = "1:0-:4 2:0-:1 3:1-50:1";
    let expected =
        ["0 placed 1 h1", "0 waits 2", "1 waits 3", "50 refused 3 ended", "100 refused 2 patience"];
    let report = check(&run(1, rows, |scenario| scenario.waiting = Some(PATIENT)), &expected);
    assert_eq!((report.rejected, report.wait_ms.count), (2, 1));
}

#[test]
fn what_leaves_makes_room_for_those_that_wait_before_those_that_come() {
    let rows = "1:0-10:4 2:1-:4 3:10-:4";
    let expected = ["0 placed 1 h1", "1 waits 2", "10 placed 2 h1", "10 waits 3"];
    let end = ["110 refused 3 patience"];
    let run = run(1, rows, |scenario| scenario.waiting = Some(PATIENT));
    check(&run, &[&expected[..], &end[..]].concat());
}
