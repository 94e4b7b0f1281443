//! Explanations: nearest misses, and the smallest change, verified by asking again.

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::{FilterScheduler, explain};
use proptest::prelude::*;

use crate::kit::{any_hosts, any_request, host, request};

#[test]
fn where_the_least_of_several_instances_does_not_fit_more_of_it_may() {
    // Of the least the first goes to the host with one CPU left, and the second cannot follow.
    let mut full = host(1, 8, 8192);
    let taken = Resources { vcpus: Vcpus(7), ..Resources::ZERO };
    full.claim(InstanceId::from_u128(1001), taken);
    let mut disliked = host(2, 8, 8192);
    disliked.claim(InstanceId::from_u128(1002), Resources { disk: GiB(1), ..Resources::ZERO });
    let key = [("ram_weight_multiplier".to_owned(), "-1".to_owned())];
    disliked.aggregates.push(std::sync::Arc::new(Aggregate {
        id: AggregateId::from_u128(2),
        name: Label::new("agg").unwrap(),
        hosts: vec![disliked.id],
        metadata: AggregateMetadata::new(key).unwrap(),
    }));
    let hosts = HostTable::new([full, disliked]);
    let mut pair = request(2, 5, 1024);
    pair.group = Some(crate::kit::group(GroupPolicy::Affinity));
    let refusal = FilterScheduler::nova().explain(&hosts, &pair);
    let four = Change::Shrink { resource: ResourceKind::Vcpus, from: 5, to: 4 };
    assert_eq!(refusal.smallest_change, Some(vec![four]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_smallest_change_helps_and_nothing_less_of_it_does(
        hosts in any_hosts(),
        request in any_request(),
    ) {
        let policy = FilterScheduler::nova();
        let refusal = policy.explain(&hosts, &request);
        let fits = |changes: &[Change]| {
            let changed = explain::apply(&request, changes).unwrap();
            policy.select(&hosts, &changed, Seed::new(0)).is_ok()
        };
        let placed = fits(&[]);
        prop_assert_eq!(placed, refusal.funnel.stages.last().unwrap().hosts_out > 0);
        let Some(changes) = refusal.smallest_change else { return Ok(()) };
        prop_assert!(!placed);
        prop_assert!(fits(&changes), "{:?}", changes);
        if request.instances.len() > 1 {
            // Less is not always easier to place: see the test below.
            return Ok(());
        }
        for nth in 0..changes.len() {
            let mut less = changes.clone();
            match &mut less[nth] {
                Change::Shrink { to, from, .. } if *to + 1 < *from => *to += 1,
                _ => {
                    less.remove(nth);
                }
            }
            prop_assert!(!fits(&less), "{:?} was enough", less);
        }
    }

    #[test]
    fn near_misses_are_at_most_three_and_say_why(hosts in any_hosts(), request in any_request()) {
        let refusal = FilterScheduler::nova().explain(&hosts, &request);
        prop_assert!(refusal.nearest.len() <= explain::NEAREST_MAX);
        let refusals: Vec<usize> = refusal.nearest.iter().map(|m| m.refused_by.len()).collect();
        prop_assert!(refusals.is_sorted() && !refusals.contains(&0), "{:?}", refusals);
        for miss in &refusal.nearest {
            let short = !miss.short_of.is_empty();
            prop_assert_eq!(short, miss.refused_by.contains_key("capacity"), "{:?}", miss);
        }
    }
}

/// The explanation as one line: nearest hosts, then the smallest change.
fn check(hosts: &HostTable, request: &RequestSpec, expected: &str) {
    let refusal = FilterScheduler::nova().explain(hosts, request);
    let miss = |miss: &NearMiss| format!("{} {:?} {:?}", miss.name, miss.refused_by, miss.short_of);
    let nearest: Vec<String> = refusal.nearest.iter().map(miss).collect();
    let change = refusal.smallest_change.map_or("nothing helps".to_owned(), |changes| {
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    });
    assert_eq!(format!("{}; {change}", nearest.join("; ")), expected);
}

#[test]
fn the_host_that_lacks_the_smallest_share_is_nearest() {
    let hosts = HostTable::new([host(1, 4, 8192), host(2, 6, 8192)]);
    check(
        &hosts,
        &request(1, 8, 4096),
        "host-2 {\"capacity\": \"too few vcpus\"} {Vcpus: 2}; \
         host-1 {\"capacity\": \"too few vcpus\"} {Vcpus: 4}; \
         ask for 6 of vcpus instead of 8",
    );
}

#[test]
fn a_small_shrink_is_less_than_a_wish_and_a_large_one_is_more() {
    let mut other_zone = host(2, 16, 65_536);
    other_zone.zone = ZoneName::new("b").unwrap();
    let wish = |vcpus| {
        let mut request = request(1, vcpus, 1024);
        request.zone = ZoneName::new("a").ok();
        let refusal = FilterScheduler::nova()
            .explain(&HostTable::new([host(1, 4, 8192), other_zone.clone()]), &request);
        refusal.smallest_change.map(|changes| changes[0].to_string())
    };
    assert_eq!(wish(6).as_deref(), Some("ask for 4 of vcpus instead of 6"));
    assert_eq!(wish(12).as_deref(), Some("allow any availability zone"));
}

#[test]
fn two_changes_are_tried_when_one_is_not_enough() {
    let hosts = HostTable::new([host(1, 4, 8192)]);
    let mut request = request(1, 8, 16_384);
    check(
        &hosts,
        &request,
        "host-1 {\"capacity\": \"too few vcpus\"} {Vcpus: 4, Memory: 8192}; \
         ask for 4 of vcpus instead of 8 and ask for 8192 MiB of memory instead of 16384 MiB",
    );
    request.flavor = std::sync::Arc::new(
        Flavor::new(FlavorName::new("f").unwrap(), Vcpus(5), MiB(1024)).unwrap(),
    );
    request.zone = ZoneName::new("c").ok();
    check(
        &hosts,
        &request,
        "host-1 {\"capacity\": \"too few vcpus\", \"zone\": \"in another zone\"} {Vcpus: 1}; \
         ask for 4 of vcpus instead of 5 and allow any availability zone",
    );
}

#[test]
fn a_disabled_cloud_cannot_be_helped_by_the_request() {
    let mut down = host(1, 8, 8192);
    down.liveness = Liveness::Down;
    check(
        &HostTable::new([down]),
        &request(1, 1, 1024),
        "host-1 {\"host-up\": \"down\"} {}; nothing helps",
    );
}

#[test]
fn a_request_that_fits_has_nothing_to_explain() {
    check(&HostTable::new([host(1, 8, 8192)]), &request(1, 1, 1024), "; nothing helps");
}
