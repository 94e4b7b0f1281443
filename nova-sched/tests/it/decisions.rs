//! Decisions as data: what they say is so, and they can be replayed.

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::explain::{
    Decision, HostChange, Limit, Outcome, Recorder, ReplayError, WhatIfError, WhyNot, what_if,
};
use nova_sched::{FilterScheduler, Lookup, Ties};
use proptest::prelude::*;

use crate::kit::{any_hosts, any_request, group, host, request};

/// Policies that take the best, draw from several, shuffle equals, or follow Nova's rules.
fn policies() -> Vec<FilterScheduler> {
    let draws = FilterScheduler::nova().with_subset_size(3).unwrap().with_name("draws");
    let shuffles = FilterScheduler::best_fit().with_ties(Ties::Shuffled).with_name("shuffles");
    FilterScheduler::named().into_iter().chain([draws, shuffles]).collect()
}

fn check(policy: &FilterScheduler, hosts: &HostTable, request: &RequestSpec, seed: Seed) {
    let decision = policy.decide(hosts, request, seed, 3);
    let selected = policy.clone().with_lookup(Lookup::RowByRow).select(hosts, request, seed);
    match (&decision.outcome, selected) {
        (Outcome::Placed(hosts), Ok(placement)) => assert_eq!(*hosts, placement.hosts),
        (Outcome::NoValidHost, Err(refused)) => {
            let last = decision.choices.last().unwrap();
            assert_eq!(last.host, None);
            if request.instances.len() == 1 {
                assert_eq!(last.funnel, refused.funnel);
            }
        }
        (outcome, selected) => panic!("{policy}: {outcome:?}, and select says {selected:?}"),
    }
    for choice in &decision.choices {
        let mut left = None;
        for stage in &choice.funnel.stages {
            assert_eq!(left.unwrap_or(stage.hosts_in), stage.hosts_in);
            let refused: usize = stage.reasons.values().sum();
            assert_eq!(stage.hosts_in - refused, stage.hosts_out);
            left = Some(stage.hosts_out);
        }
        if choice.host.is_some() {
            assert_eq!(left.unwrap_or(choice.passed), choice.passed, "{choice:?}");
        }
        assert_eq!(choice.candidates.len(), choice.passed.min(3));
        for candidate in &choice.candidates {
            let mut sum = 0.0;
            for part in &candidate.parts {
                assert_eq!(part.weighted.to_bits(), (part.multiplier * part.normalised).to_bits());
                sum += part.weighted;
            }
            assert_eq!(sum, candidate.score, "{candidate:?}");
        }
        let scores: Vec<f64> = choice.candidates.iter().map(|one| -one.score).collect();
        assert!(scores.is_sorted(), "{scores:?}");
        let best = choice.candidates.first().map(|best| best.host);
        if choice.draw.among == 1
            && choice.draw.shuffled == 0
            && policy.to_string() != "nova-compat"
        {
            assert_eq!(choice.host, best);
        }
    }
    let bytes = decision.to_bytes().unwrap();
    let read: Decision = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(read, decision);
    assert_eq!(read.replay(policy, hosts).unwrap().to_bytes().unwrap(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_decision_says_what_was_selected_and_why_and_replays_to_the_same_bytes(
        hosts in any_hosts(),
        request in any_request(),
        seed in any::<u64>(),
    ) {
        for policy in policies() {
            check(&policy, &hosts, &request, Seed::new(seed));
        }
    }

    #[test]
    fn a_recorder_that_follows_a_table_says_what_a_new_one_says(
        hosts in any_hosts(),
        request in any_request(),
        changes in prop::collection::vec((0_u128..12, 0_u8..4), 1..12),
    ) {
        let policy = FilterScheduler::nova();
        let mut recorder = Recorder::new(policy.clone(), 2);
        let mut hosts = hosts;
        let mut before: Option<Decision> = None;
        for (id, what) in changes {
            let id = HostId::from_u128(id);
            let changed = match what {
                0 => hosts.remove(id).is_some(),
                1 => {
                    hosts.put(host(id.as_u128(), 4, 2048));
                    true
                }
                _ => hosts.update(id, |row| row.io_ops += 1),
            };
            let decision = recorder.decide(&hosts, &request, Seed::new(1));
            prop_assert_eq!(&decision, &policy.decide(&hosts, &request, Seed::new(1), 2));
            if let (Some(before), false) = (&before, changed) {
                prop_assert_eq!(&before.input_hash, &decision.input_hash);
            }
            before = Some(decision);
        }
    }

    #[test]
    fn so_many_fit_as_can_be_placed_until_the_policy_refuses(
        hosts in any_hosts(),
        asked in any_request(),
    ) {
        let mut asked = asked;
        asked.group = None;
        asked.instances.truncate(1);
        let policy = FilterScheduler::nova();
        let room = policy.how_many_fit(&hosts, &asked);
        let mut hosts = hosts;
        let mut placed = std::collections::BTreeMap::<HostId, u64>::new();
        for nth in 0_u64.. {
            asked.instances[0] = InstanceId::from_u128(5000 + u128::from(nth));
            let Some(placement) = policy.find(&hosts, &asked, Seed::new(1)) else { break };
            let (id, wanted) = (placement.hosts[0], asked.flavor.resources());
            hosts.update(id, |row| {
                row.claim(asked.instances[0], wanted);
                row.io_ops += 1;
            });
            *placed.entry(id).or_default() += 1;
        }
        for host in &room.hosts {
            prop_assert_eq!(host.count, placed.get(&host.host).copied().unwrap_or(0), "{:?}", host);
        }
        prop_assert_eq!(room.total, placed.values().sum::<u64>());
    }

    #[test]
    fn why_not_agrees_with_what_is_decided(hosts in any_hosts(), asked in any_request()) {
        let mut asked = asked;
        asked.instances.truncate(1);
        let policy = FilterScheduler::nova();
        let decision = policy.decide(&hosts, &asked, Seed::new(1), 100);
        let choice = &decision.choices[0];
        for row in hosts.rows() {
            let place = choice.candidates.iter().position(|one| one.host == row.id);
            match (policy.why_not(&hosts, row.id, &asked).unwrap(), place) {
                (WhyNot::Best, Some(0)) => prop_assert_eq!(choice.host, Some(row.id)),
                (WhyNot::Outranked { rank, of, it, best }, Some(place)) => {
                    prop_assert_eq!((rank, of), (place + 1, choice.passed));
                    prop_assert_eq!(&*it, &choice.candidates[place]);
                    prop_assert_eq!(&*best, &choice.candidates[0]);
                }
                (WhyNot::Refused { by, .. }, None) => prop_assert!(!by.is_empty()),
                (why, place) => prop_assert!(false, "{:?} at {:?}", why, place),
            }
        }
    }

    #[test]
    fn what_would_fit_fits(hosts in any_hosts(), asked in any_request(), forced in 0_u128..12) {
        let mut asked = asked;
        let name = HostName::new(format!("host-{forced}")).unwrap();
        asked.destination = Some(Destination { host: Some(name), ..Destination::default() });
        let policy = FilterScheduler::nova();
        if let Some(changes) = policy.what_would_fit(&hosts, &asked) {
            let changed = nova_sched::explain::apply(&asked, &changes).unwrap();
            prop_assert!(policy.find(&hosts, &changed, Seed::new(1)).is_some(), "{:?}", changes);
        }
    }
}

#[test]
fn a_decision_is_replayed_only_by_the_policy_and_on_the_hosts_that_it_was_made_with() {
    let hosts = HostTable::new([host(1, 8, 8192), host(2, 8, 8192)]);
    let policy = FilterScheduler::nova();
    let mut decision = policy.decide(&hosts, &request(1, 1, 512), Seed::new(7), 2);
    decision.note_conflict(HostId::from_u128(1), "somebody was faster");
    assert_eq!(decision.replay(&policy, &hosts).unwrap(), decision);
    let other = policy.clone().with_subset_size(2).unwrap();
    assert!(matches!(decision.replay(&other, &hosts), Err(ReplayError::Policy { .. })));
    let mut changed = hosts.clone();
    changed.update(HostId::from_u128(2), |row| row.failed_builds = 1);
    assert!(matches!(decision.replay(&policy, &changed), Err(ReplayError::Hosts { .. })));
    let old = Decision { version: 0, ..decision };
    assert_eq!(old.replay(&policy, &hosts), Err(ReplayError::Version { recorded: 0 }));
}

#[test]
fn a_draw_is_told() {
    let hosts = HostTable::new((1..=4).map(|id| host(id, 8, 8192)));
    let policy = FilterScheduler::nova().with_subset_size(3).unwrap();
    let mut drawn = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let decision = policy.decide(&hosts, &request(1, 1, 512), Seed::new(seed), 4);
        let choice = &decision.choices[0];
        assert_eq!((choice.tied, choice.draw.among), (4, 3));
        assert_eq!(choice.host, Some(choice.candidates[choice.draw.drawn].host));
        drawn.insert(choice.draw.drawn);
    }
    assert_eq!(drawn.len(), 3);
}

#[test]
fn a_group_that_stays_together_has_the_room_of_one_host() {
    let hosts = HostTable::new([host(1, 4, 8192), host(2, 8, 8192)]);
    let policy = FilterScheduler::nova();
    let mut asked = request(1, 1, 512);
    let limits = |asked: &RequestSpec| {
        let room = policy.how_many_fit(&hosts, asked);
        let limits: Vec<Limit> = room.hosts.into_iter().map(|host| host.limit).collect();
        (room.total, limits)
    };
    let full = Limit::Resource(ResourceKind::Vcpus);
    assert_eq!(limits(&asked), (12, vec![full.clone(), full.clone()]));
    asked.group = Some(group(GroupPolicy::Affinity));
    assert_eq!(limits(&asked), (8, vec![full.clone(), full]));
    asked.group = Some(group(GroupPolicy::AntiAffinity));
    let (total, limits) = limits(&asked);
    assert_eq!(total, 2);
    assert!(matches!(&limits[0], Limit::Filter { filter, .. } if filter == "anti-affinity"));
}

#[test]
fn what_cannot_happen_to_a_table_is_named_and_nothing_happens() {
    let hosts = HostTable::new([host(1, 4, 8192)]);
    let (id, gone) = (HostId::from_u128(1), HostId::from_u128(9));
    let of = |changes: &[HostChange]| what_if(&hosts, changes).map(|hosts| hosts.len());
    assert_eq!(
        of(&[HostChange::Remove(id), HostChange::Fail(id)]).unwrap_err(),
        WhatIfError::NoSuchHost(id)
    );
    assert_eq!(of(&[HostChange::Disable(gone)]).unwrap_err(), WhatIfError::NoSuchHost(gone));
    let again = HostChange::Add(Box::new(host(1, 1, 1)));
    assert_eq!(of(&[again]).unwrap_err(), WhatIfError::Exists(id));
    let too_much = HostChange::Reserve { host: None, resource: ResourceKind::Vcpus, amount: 5 };
    assert!(
        matches!(of(&[too_much]).unwrap_err(), WhatIfError::Invalid { host, .. } if host == id)
    );
    assert_eq!(of(&[HostChange::Add(Box::new(host(2, 1, 1)))]), Ok(2));
    let asked = request(1, 1, 512);
    let policy = FilterScheduler::nova();
    let total = |changes: &[HostChange]| {
        policy.how_many_fit(&what_if(&hosts, changes).unwrap(), &asked).total
    };
    let ratio = AllocationRatio::new(2.0).unwrap();
    let (host, resource) = (Some(id), ResourceKind::Vcpus);
    assert_eq!(total(&[HostChange::Ratio { host, resource, ratio }]), 8);
    assert_eq!(total(&[HostChange::Reserve { host, resource, amount: 3 }]), 1);
    assert_eq!(total(&[HostChange::Fail(id)]), 0);
    assert_eq!(total(&[]), 4);
}
