//! What is chosen, compared with the definition written down a second time and without haste.

use std::collections::BTreeMap;
use std::sync::Arc;

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::explain::Limit;
use nova_sched::{
    Ends, Filter, FilterScheduler, Runs, Sense, Ties, Verdict, Weigher, filters, weighers,
};
use proptest::prelude::*;

use crate::kit::{any_hosts, any_request, group, host, ids, request};

/// Places `request` by the book: filter by filter, weigher by weigher, whole tables copied.
fn by_the_book(hosts: &HostTable, request: &RequestSpec) -> Option<Vec<HostId>> {
    let mut hosts = hosts.clone();
    let mut request = request.clone();
    let mut candidates: Vec<HostId> = hosts.rows().map(|row| row.id).collect();
    let mut chosen = Vec::new();
    for nth in 0..request.instances.len() {
        for filter in filters::defaults() {
            if nth == 0 || filter.runs() == Runs::PerInstance {
                let passes = |id: &HostId| filter.check(hosts.get(*id).unwrap(), &request);
                candidates.retain(|id| passes(id) == Verdict::Pass);
            }
        }
        let mut weights: BTreeMap<HostId, f64> = candidates.iter().map(|id| (*id, 0.0)).collect();
        if candidates.len() > 1 {
            for (weigher, multiplier) in weighers::defaults() {
                let row = |id: &HostId| hosts.get(*id).unwrap();
                let raw = |id: &HostId| clamp(weigher.weigh(row(id), &request), weigher.ends());
                let all: Vec<f64> = candidates.iter().map(raw).collect();
                let least = all.iter().copied().fold(f64::INFINITY, f64::min);
                let low = weigher.ends().min.unwrap_or(least);
                let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                for id in &candidates {
                    let normal = if low == high { 0.0 } else { (raw(id) - low) / (high - low) };
                    let own = if weigher.name() == "ram" { override_of(row(id)) } else { None };
                    let sign = if weigher.sense() == Sense::Avoid { -1.0 } else { 1.0 };
                    *weights.get_mut(id).unwrap() += sign * own.unwrap_or(multiplier) * normal;
                }
            }
        }
        candidates.sort_by(|a, b| weights[b].partial_cmp(&weights[a]).unwrap());
        let best = *candidates.first()?;
        chosen.push(best);
        let instance = request.instances.remove(0);
        hosts.update(best, |row| {
            row.claim(instance, request.flavor.resources());
            row.io_ops += 1;
        });
        if let Some(group) = &mut request.group {
            group.join(best);
        }
    }
    Some(chosen)
}

fn clamp(raw: f64, ends: Ends) -> f64 {
    raw.max(ends.min.unwrap_or(f64::NEG_INFINITY))
}

fn override_of(row: &HostState) -> Option<f64> {
    row.aggregates.iter().find_map(|a| a.metadata.get("ram_weight_multiplier")?.parse().ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_choice_is_the_one_by_the_book(hosts in any_hosts(), request in any_request()) {
        let selected = FilterScheduler::nova().select(&hosts, &request, Seed::new(1));
        prop_assert_eq!(selected.ok().map(|p| p.hosts), by_the_book(&hosts, &request));
    }

    #[test]
    fn a_chosen_host_passes_every_filter(hosts in any_hosts(), mut request in any_request()) {
        request.instances.truncate(1);
        for policy in FilterScheduler::named() {
            let policy = policy.with_ties(Ties::Shuffled).with_subset_size(4).unwrap();
            let Ok(placement) = policy.select(&hosts, &request, Seed::new(7)) else { continue };
            let row = hosts.get(placement.hosts[0]).unwrap();
            prop_assert_eq!(row.lacks(&request.flavor.resources()), None);
            let has = |filter: &str| policy.filter_names().any(|name| name == filter);
            for filter in filters::defaults().iter().filter(|filter| has(filter.name())) {
                prop_assert_eq!(filter.check(row, &request), Verdict::Pass, "{}", filter.name());
            }
        }
    }

    #[test]
    fn a_refusal_counts_every_host_once(hosts in any_hosts(), request in any_request()) {
        if let Err(refused) = FilterScheduler::nova().select(&hosts, &request, Seed::new(1)) {
            let stages = refused.funnel.stages;
            let counted: usize = stages.iter().flat_map(|stage| stage.reasons.values()).sum();
            prop_assert_eq!(counted, hosts.len());
            prop_assert_eq!(stages.last().map(|stage| stage.hosts_out), Some(0));
            for pair in stages.windows(2) {
                prop_assert_eq!(pair[0].hosts_out, pair[1].hosts_in);
            }
        }
    }
}

fn check(policy: &FilterScheduler, hosts: &HostTable, request: &RequestSpec, expected: &[u128]) {
    let selected = policy.select(hosts, request, Seed::new(1));
    let said = selected.map(|placement| ids(&placement.hosts)).map_err(|e| e.to_string());
    assert_eq!(said, Ok(expected.to_vec()), "{policy}");
}

/// Hosts 1 to 3 of 8 vCPU with 8, 2 and 4 of them free.
fn three() -> HostTable {
    let mut hosts = HostTable::new((1..=3).map(|id| host(id, 8, 65_536)));
    for (id, vcpus) in [(2, 6), (3, 4)] {
        let amount = Resources { vcpus: Vcpus(vcpus), ..Resources::ZERO };
        hosts.update(HostId::from_u128(id), |row| row.claim(InstanceId::from_u128(99), amount));
    }
    hosts
}

#[test]
fn the_named_policies_choose_what_their_names_say() {
    let hosts = three();
    check(&FilterScheduler::first_fit(), &hosts, &request(1, 2, 1), &[1]);
    check(&FilterScheduler::best_fit(), &hosts, &request(1, 2, 1), &[2]);
    check(&FilterScheduler::best_fit(), &hosts, &request(1, 3, 1), &[3]);
    check(&FilterScheduler::worst_fit(), &hosts, &request(1, 2, 1), &[1]);
    check(&FilterScheduler::nova(), &hosts, &request(1, 2, 1), &[1]);
}

#[test]
fn ties_go_to_the_lowest_id() {
    let hosts = HostTable::new((1..=3).map(|id| host(id, 8, 1024)));
    for policy in FilterScheduler::named() {
        check(&policy, &hosts, &request(1, 1, 1), &[1]);
    }
}

#[test]
fn a_batch_counts_what_its_earlier_instances_took() {
    check(&FilterScheduler::best_fit(), &three(), &request(4, 2, 1), &[2, 3, 3, 1]);
}

#[test]
fn a_batch_is_placed_whole_or_not_at_all() {
    let policy = FilterScheduler::nova();
    // Not host 1 first and always: each instance that is being built there counts against it.
    check(&policy, &three(), &request(7, 2, 1), &[1, 3, 2, 1, 3, 1, 1]);
    let refused = policy.select(&three(), &request(8, 2, 1), Seed::new(1)).unwrap_err();
    assert_eq!(refused.instances, 8);
    assert_eq!(refused.funnel.stages.last().map(|stage| stage.hosts_out), Some(0));
}

#[test]
fn a_batch_counts_resource_classes_too() {
    let licence: ResourceClass = "CUSTOM_LICENCE".parse().unwrap();
    let with = |id, licences| {
        let mut host = host(id, 8, 8192);
        host.set_classes([(licence.clone(), Stock::new(licences))].into());
        host
    };
    let hosts = HostTable::new([with(1, 3), host(2, 8, 8192), with(3, 2)]);
    let two_each = |count| {
        let specs = ExtraSpecs::new([("resources:CUSTOM_LICENCE", "2")]).unwrap();
        let mut request = request(count, 1, 512);
        request.flavor = Arc::new((*request.flavor).clone().with_extra_specs(specs));
        request
    };
    for policy in [FilterScheduler::first_fit(), FilterScheduler::nova_compat()] {
        check(&policy, &hosts, &two_each(2), &[1, 3]);
        assert!(policy.find(&hosts, &two_each(3), Seed::new(1)).is_none(), "{policy}");
        let room = policy.how_many_fit(&hosts, &two_each(1));
        let class = Limit::Class(licence.clone());
        let expected = [(1, &class), (0, &class), (1, &class)];
        let found: Vec<_> = room.hosts.iter().map(|host| (host.count, &host.limit)).collect();
        assert_eq!(found, expected, "{policy}");
    }
}

#[test]
fn a_batch_keeps_its_group_apart_or_together() {
    let grouped = |count, policy| {
        let mut request = request(count, 1, 1);
        request.group = Some(group(policy));
        request
    };
    let best = FilterScheduler::best_fit();
    check(&best, &three(), &grouped(3, GroupPolicy::AntiAffinity), &[2, 3, 1]);
    check(&best, &three(), &grouped(2, GroupPolicy::Affinity), &[2, 2]);
    assert!(best.select(&three(), &grouped(4, GroupPolicy::AntiAffinity), Seed::new(1)).is_err());
}

#[test]
fn a_subset_is_drawn_by_the_seed_from_the_best() {
    let policy = FilterScheduler::first_fit().with_subset_size(2).unwrap();
    let drawn = |seed| {
        let placement = policy.select(&three(), &request(1, 1, 1), Seed::new(seed)).unwrap();
        ids(&placement.hosts)[0]
    };
    let mut counts = BTreeMap::<u128, u32>::new();
    (0..100).for_each(|seed| *counts.entry(drawn(seed)).or_default() += 1);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 2], "{counts:?}");
    assert!(counts.values().all(|count| *count > 30), "{counts:?}");
}

#[test]
fn only_the_best_are_shuffled() {
    let policy = FilterScheduler::worst_fit().with_ties(Ties::Shuffled);
    let mut hosts = three();
    hosts.put(host(4, 8, 65_536));
    let drawn =
        |seed| ids(&policy.select(&hosts, &request(1, 1, 1), Seed::new(seed)).unwrap().hosts)[0];
    let seen: std::collections::BTreeSet<u128> = (0..50).map(drawn).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 4]);
}

#[test]
fn a_filter_that_does_not_concern_a_request_is_not_in_its_funnel() {
    let policy = FilterScheduler::nova();
    let refused = policy.select(&three(), &request(1, 9, 1), Seed::new(1)).unwrap_err();
    assert_eq!(refused.funnel.to_string(), "host-up 3 -> 3, capacity 3 -> 0 (too few vcpus: 3)");
    let none = policy.select(&HostTable::default(), &request(1, 1, 1), Seed::new(1));
    assert_eq!(none.unwrap_err().funnel.to_string(), "host-up 0 -> 0");
}

#[test]
fn values_out_of_range_are_refused() {
    #[derive(Debug)]
    struct Scaled(Ends);
    impl Weigher for Scaled {
        fn name(&self) -> &str {
            "scaled"
        }
        fn weigh(&self, _: &HostState, _: &RequestSpec) -> f64 {
            0.0
        }
        fn ends(&self) -> Ends {
            self.0
        }
    }
    let field = |ends, multiplier| {
        let policy = FilterScheduler::new("x").with_weigher(Scaled(ends), multiplier);
        policy.map(|_| ()).map_err(|invalid| invalid.field)
    };
    assert_eq!(field(Ends::FREE, 1.0), Ok(()));
    assert_eq!(field(Ends::FREE, f64::NAN), Err("weigher.multiplier"));
    assert_eq!(field(Ends::FREE, f64::INFINITY), Err("weigher.multiplier"));
    assert_eq!(field(Ends::at_least(f64::NAN), 1.0), Err("weigher.ends"));
    assert_eq!(field(Ends { min: Some(1.0), max: Some(0.0) }, 1.0), Err("weigher.ends"));
    let subset = FilterScheduler::new("x").with_subset_size(0).map(|_| ());
    assert_eq!(subset.map_err(|invalid| invalid.field), Err("subset_size"));
}

#[test]
fn extra_specs_are_read_by_the_filter_that_is_there() {
    let reads = |policy: FilterScheduler| {
        ["ssd", "aggregate_instance_extra_specs:ssd", "quota:ssd"]
            .map(|key| policy.check_extra_spec(key, "true").is_ok())
    };
    assert_eq!(reads(FilterScheduler::nova()), [true, true, false]);
    assert_eq!(reads(FilterScheduler::new("bare")), [false; 3]);
}
