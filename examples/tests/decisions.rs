//! A whole cloud writes its decisions down; they replay, and the trace of them is what happened.

use nova_core::clock::Timestamp;
use nova_core::domain::Resources;
use nova_core::seed::Seed;
use nova_examples::decisions::{Plan, judge, live};
use nova_sched::FilterScheduler;
use nova_sched::explain::LogReader;
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

    // What changes is seen at the next question.
    let mut reader = LogReader::new(&lived.log[..]);
    let mut questions = Vec::new();
    while let Some(asked) = reader.next_question() {
        questions.push(asked.unwrap().at);
    }
    let next = |at: Timestamp| questions.iter().copied().find(|question| *question > at);
    let second = |at: Timestamp| at.since(questions[0]).as_secs();
    let mut expected = Vec::new();
    for server in &lived.servers {
        let gone = server.gone.and_then(next);
        // The first size counts from the moment in which it was asked for.
        let seen = |(nth, (since, size)): (usize, &(Timestamp, Resources))| {
            (if nth == 0 { Some(*since) } else { next(*since) }, *size)
        };
        let sizes: Vec<_> = server.sizes.iter().enumerate().map(seen).collect();
        for (nth, (since, size)) in sizes.iter().enumerate() {
            let Some(since) = *since else { continue };
            let until = [sizes.get(nth + 1).and_then(|(next, _)| *next), gone];
            let until = until.into_iter().flatten().min();
            // It has to be there at a question after the one that placed it, if there is one.
            let first_seen = if nth == 0 { next(since) } else { Some(since) };
            if until.is_none() || first_seen < until {
                expected.push((second(since), until.map(second), size.vcpus, size.memory));
            }
        }
    }
    let mut rows: Vec<_> =
        recorded.rows.iter().map(|row| (row.arrival_s, row.end_s, row.vcpus, row.memory)).collect();
    expected.sort();
    rows.sort();
    assert_eq!(rows, expected);
    assert!(expected.iter().filter(|(_, until, ..)| until.is_some()).count() > 50);
}
