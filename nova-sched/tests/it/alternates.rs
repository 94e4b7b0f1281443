//! Where else a request could go.

use std::collections::BTreeSet;

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::{FilterScheduler, Ties, Verdict, filters};
use proptest::prelude::*;

use crate::kit::{any_hosts, any_request, group, host, ids, request};

/// The hosts of `hosts` that would take one more of what `request` asks for, once it is placed, by
/// the book.
fn takers(hosts: &HostTable, request: &RequestSpec, placement: &Placement) -> BTreeSet<HostId> {
    let mut hosts = hosts.clone();
    let mut another = request.clone();
    let is_batch = request.instances.len() > 1;
    for (instance, host) in request.instances.iter().zip(&placement.hosts).filter(|_| is_batch) {
        hosts.update(*host, |row| row.claim(*instance, request.flavor.resources()));
        if let Some(group) = &mut another.group {
            group.join(*host);
        }
    }
    another.instances = vec![InstanceId::from_u128(999)];
    let passes = |row: &&HostState| {
        filters::defaults().iter().all(|f| f.check(row, &another) == Verdict::Pass)
    };
    let ids = hosts.rows().filter(passes).map(|row| row.id);
    ids.filter(|id| !placement.hosts.contains(id)).collect()
}

proptest! {
    #[test]
    fn the_alternates_are_the_others_that_take_one_more(
        hosts in any_hosts(), request in any_request(),
    ) {
        let policy = FilterScheduler::nova();
        let Some(placement) = policy.find(&hosts, &request, Seed::new(1)) else { return Ok(()) };
        let all = policy.alternates(&hosts, &request, &placement, usize::MAX);
        let set: BTreeSet<HostId> = all.iter().copied().collect();
        prop_assert_eq!(set.len(), all.len(), "one of them twice");
        prop_assert_eq!(set, takers(&hosts, &request, &placement));
        let few = policy.alternates(&hosts, &request, &placement, 2);
        prop_assert_eq!(&few[..], &all[..all.len().min(2)]);
    }

    #[test]
    fn where_one_weigher_decides_each_alternate_is_the_choice_without_those_before_it(
        hosts in any_hosts(), mut request in any_request(), shuffled in any::<bool>(),
    ) {
        let ties = if shuffled { Ties::Shuffled } else { Ties::InOrder };
        let policy = FilterScheduler::best_fit().with_ties(ties);
        request.instances.truncate(1);
        let Some(placement) = policy.find(&hosts, &request, Seed::new(1)) else { return Ok(()) };
        let in_order = FilterScheduler::best_fit();
        let (mut rest, mut expected) = (hosts.clone(), Vec::new());
        rest.remove(placement.hosts[0]);
        while let Some(next) = in_order.find(&rest, &request, Seed::new(1)) {
            expected.push(next.hosts[0]);
            rest.remove(next.hosts[0]);
        }
        let found = policy.alternates(&hosts, &request, &placement, usize::MAX);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn alternates_of_a_batch_know_what_its_instances_took() {
    let hosts = HostTable::new([host(1, 4, 8192), host(2, 8, 8192), host(3, 16, 8192)]);
    let policy = FilterScheduler::best_fit();
    let two = request(2, 4, 1024);
    let placement = policy.find(&hosts, &two, Seed::new(1)).unwrap();
    assert_eq!(ids(&placement.hosts), [1, 2]);
    assert_eq!(ids(&policy.alternates(&hosts, &two, &placement, 5)), [3]);

    let mut two = request(2, 2, 1024);
    two.group = Some(group(GroupPolicy::Affinity));
    let placement = policy.find(&hosts, &two, Seed::new(1)).unwrap();
    assert_eq!(ids(&placement.hosts), [1, 1]);
    assert!(policy.alternates(&hosts, &two, &placement, 5).is_empty(), "the group is on 1");
}

#[test]
fn a_request_without_instances_and_a_placement_elsewhere_have_no_effect() {
    let hosts = HostTable::new([host(1, 4, 8192)]);
    let policy = FilterScheduler::best_fit();
    let elsewhere = Placement { hosts: vec![HostId::from_u128(7)] };
    assert_eq!(ids(&policy.alternates(&hosts, &request(1, 1, 1), &elsewhere, 5)), [1]);
    assert!(policy.alternates(&hosts, &request(0, 1, 1), &elsewhere, 5).is_empty());
}
