//! A whole cloud writes its decisions down; they replay, and the trace of them is what happened.

use nova_core::clock::Timestamp;
use nova_core::seed::Seed;
use nova_examples::decisions::{Plan, judge, live};
use nova_sched::FilterScheduler;
use nova_sched::sim::trace::decisions::recorded;

#[test]
fn the_decisions_of_a_cloud_replay_and_other_policies_decide_otherwise() {
    for seed in [1, 2] {
        let mut plan = Plan::default();
        (plan.actions, plan.seed) = (200, seed);
        let own = FilterScheduler::nova();
        let lived = live(&plan, own.clone()).unwrap();
        assert_eq!(live(&plan, own.clone()).unwrap().log, lived.log);
        assert!(lived.moved > 5, "{}", lived.moved);
        let recorded = recorded(&lived.log[..]).unwrap();
        let same = judge(&lived.log, &recorded, &own, Seed::new(1)).unwrap();
        assert!(same.replay.is_same() && same.replay.faults == 0, "{:?}", same.replay);
        assert_eq!(same.replay.asked, recorded.told.questions);
        let other = FilterScheduler::best_fit();
        let other = judge(&lived.log, &recorded, &other, Seed::new(1)).unwrap();
        assert!(other.replay.elsewhere > 50, "{:?}", other.replay);
        assert!(other.report.mean_hosts_in_use < same.report.mean_hosts_in_use);
    }
}

#[test]
fn the_trace_of_a_log_is_what_happened_in_the_cloud() {
    let mut plan = Plan::default();
    // So few hosts that not everybody finds one.
    (plan.hosts, plan.actions) = (6, 250);
    let lived = live(&plan, FilterScheduler::nova()).unwrap();
    assert!(lived.refused > 0 && lived.moved > 0);
    let recorded = recorded(&lived.log[..]).unwrap();
    assert_eq!((recorded.told.unasked, recorded.told.later_hosts, recorded.told.faults), (0, 0, 0));
    assert_eq!(recorded.cluster.hosts().len(), plan.hosts);
    assert!(recorded.told.moves as usize >= lived.moved);

    // Each server is a row for each size that it had, but for those that came and went unseen.
    let began = lived.servers[0].asked;
    let second = |at: Timestamp| at.since(began).as_secs();
    let mut expected = Vec::new();
    for server in &lived.servers {
        for (nth, (since, size)) in server.sizes.iter().enumerate() {
            let until = server.sizes.get(nth + 1).map(|(next, _)| *next).or(server.gone);
            expected.push((*since, until, *size));
        }
    }
    expected.sort_by_key(|(since, ..)| *since);
    let unseen = expected.len() - recorded.rows.len();
    assert_eq!(unseen as u64, recorded.told.unseen);
    assert!(unseen * 10 < expected.len(), "{unseen} of {}", expected.len());
    // A row may begin and end later than what it tells of, by the time to the next question.
    let mut questions: Vec<u64> = expected.iter().map(|(since, ..)| second(*since)).collect();
    questions.sort_unstable();
    let mut rows = recorded.rows.iter();
    for (since, until, size) in expected {
        let Some(row) = rows.as_slice().first() else { break };
        let begins = second(since).abs_diff(row.arrival_s) <= 1200;
        if row.resources() != size || !begins {
            continue;
        }
        rows.next();
        match (until, row.end_s) {
            (Some(until), Some(end_s)) => assert!(end_s + 1 >= second(until), "{row:?}"),
            (None, None) => {}
            (until, _) => panic!("{row:?} until {until:?}"),
        }
    }
    assert_eq!(rows.as_slice(), []);
}
