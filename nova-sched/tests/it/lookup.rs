//! The index answers what is answered when every host is asked.

use std::sync::Arc;

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::{Chance, Seed};
use nova_sched::{
    Ends, FilterScheduler, Lookup, Reason, Verdict, Weigher, filter_fn, filters, host_weigher_fn,
    weighers,
};

use crate::kit::{host, request};

/// Weighs by the host's id, in a way that has few values, between fixed ends.
#[derive(Debug)]
struct Shade {
    values: u128,
    ends: Ends,
}

impl Weigher for Shade {
    fn name(&self) -> &str {
        "shade"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        (host.id.as_u128() % self.values) as f64 / 3.0
    }

    fn ends(&self) -> Ends {
        self.ends
    }

    fn by_host(&self) -> bool {
        true
    }
}

/// A policy of some filters and weighers, with multipliers of either sign.
fn any_policy(chance: &mut Chance) -> FilterScheduler {
    let mut policy = match chance.index(5) {
        0 => FilterScheduler::nova(),
        1 => FilterScheduler::best_fit(),
        2 => FilterScheduler::worst_fit(),
        3 => FilterScheduler::first_fit(),
        _ => FilterScheduler::new("mine"),
    };
    if chance.index(3) == 0 {
        policy = policy.with_filter(filters::AggregateMultiTenancy);
    }
    if chance.index(3) == 0 {
        let most = 1 + chance.below(6);
        policy = policy.with_filter(filter_fn("even", move |host, request| {
            let busy = host.instance_count() as u64 + u64::from(request.flavor.vcpus().0);
            Verdict::pass_if(busy % 7 <= most, Reason("odd"))
        }));
    }
    for _ in 0..chance.index(4) {
        let multiplier = [-2.5, -1.0, 0.0, 0.1, 1.0, 1e6][chance.index(6)];
        let low = Some(chance.below(3) as f64 / 2.0);
        let high = Some(1.5 + chance.below(20) as f64);
        let ends = [
            Ends::FREE,
            Ends { min: low, max: None },
            Ends { min: None, max: high },
            Ends { min: low, max: high },
        ][chance.index(4)];
        let values = [1, 2, 5, 1000][chance.index(4)];
        let added = match chance.index(6) {
            0 => policy.with_weigher(weighers::Ram, multiplier),
            1 => policy.with_weigher(weighers::Cpu, multiplier),
            2 => policy.with_weigher(weighers::IoOps, multiplier),
            3 => policy.with_weigher(weighers::NumInstances, multiplier),
            4 => policy.with_weigher(Shade { values, ends }, multiplier),
            _ => policy.with_weigher(
                host_weigher_fn("share", |host| {
                    host.free(ResourceKind::Memory) / (1.0 + host.free(ResourceKind::Vcpus))
                }),
                multiplier,
            ),
        };
        policy = added.unwrap();
    }
    policy
}

fn any_host(id: u128, chance: &mut Chance) -> HostState {
    let size = [(4, 4096), (8, 8192), (8, 16_384)][chance.index(3)];
    let mut row = host(id, size.0, size.1);
    if chance.index(4) == 0 {
        let ratio = AllocationRatio::new([0.7, 1.5, 16.0][chance.index(3)]).unwrap();
        row.inventory.vcpus = row.inventory.vcpus.with_ratio(ratio);
    }
    change(&mut row, chance);
    for _ in 0..chance.index(4) {
        row.claim(InstanceId::from_u128(chance.below(1 << 40).into()), any_amount(chance));
    }
    row
}

fn any_amount(chance: &mut Chance) -> Resources {
    let memory = MiB([512, 1024, 1000, 3072][chance.index(4)]);
    Resources { vcpus: Vcpus(1 + chance.index(4) as u32), memory, disk: GiB(chance.below(30)) }
}

/// What an operator, an agent or somebody else's server changes.
fn change(row: &mut HostState, chance: &mut Chance) {
    match chance.index(14) {
        0 => row.liveness = Liveness::Down,
        1 => row.liveness = Liveness::Up,
        2 => row.admission = Admission::Disabled,
        3 => row.admission = Admission::Enabled,
        4 => row.zone = ZoneName::new(["a", "b"][chance.index(2)]).unwrap(),
        5 => row.io_ops = chance.index(3) as u32,
        6 => row.hypervisor_version = Some(chance.below(2) * 1000),
        7 => row.failed_builds = chance.index(2) as u32,
        8 => {
            let metadata = [
                ("ram_weight_multiplier", ["-1", "2.5", "x"][chance.index(3)]),
                ("ssd", ["1", "2"][chance.index(2)]),
                ("filter_tenant_id", ["p", "q"][chance.index(2)]),
            ];
            row.aggregates = vec![Arc::new(Aggregate {
                id: AggregateId::from_u128(1),
                name: Label::new("agg").unwrap(),
                hosts: vec![row.id],
                metadata: AggregateMetadata::new(metadata[chance.index(3)..].iter().copied())
                    .unwrap(),
            })];
        }
        9 => row.aggregates = Vec::new(),
        10 => {
            let name = ["CUSTOM_GOLD", "HW_NIC_SRIOV"][chance.index(2)].parse().unwrap();
            let traits = [name].into_iter().take(chance.index(2)).collect();
            row.report = Arc::new(HostReport { traits, ..HostReport::default() });
        }
        11 => row.set_classes([(class(), Stock::new(chance.below(9)))].into()),
        _ => {}
    }
}

fn class() -> ResourceClass {
    "CUSTOM_LICENCE".parse().unwrap()
}

fn any_request(nth: u128, chance: &mut Chance) -> RequestSpec {
    let amount = any_amount(chance);
    let mut asked = request(1, amount.vcpus.0, amount.memory.0);
    asked.instances = vec![InstanceId::from_u128((1 << 50) + nth)];
    match chance.index(8) {
        0 => asked.zone = Some(ZoneName::new(["a", "b", "c"][chance.index(3)]).unwrap()),
        1 => {
            let specs = ExtraSpecs::new([("ssd", ["1", ">= 2"][chance.index(2)])]).unwrap();
            asked.flavor = Arc::new((*asked.flavor).clone().with_extra_specs(specs));
        }
        2 => asked.tried = (1..chance.below(20).into()).map(HostId::from_u128).collect(),
        3 => {
            let mut group = crate::kit::group(
                [GroupPolicy::AntiAffinity, GroupPolicy::SoftAffinity][chance.index(2)],
            );
            (0..5).for_each(|_| group.join(HostId::from_u128(chance.below(40).into())));
            asked.group = Some(group);
        }
        4 => {
            let key = ["trait:CUSTOM_GOLD", "trait:HW_NIC_SRIOV"][chance.index(2)];
            let specs = [(key, ["required", "forbidden"][chance.index(2)])];
            let specs = ExtraSpecs::new(specs).unwrap();
            asked.flavor = Arc::new((*asked.flavor).clone().with_extra_specs(specs));
        }
        5 => {
            let amount = chance.index(4).to_string();
            let specs = ExtraSpecs::new([("resources:CUSTOM_LICENCE", amount)]).unwrap();
            asked.flavor = Arc::new((*asked.flavor).clone().with_extra_specs(specs));
        }
        _ => {}
    }
    asked
}

/// A table that lives for a while under one policy, asked both ways after every change.
fn live(seed: u64) {
    let mut chance = Seed::new(seed).chance();
    let policy = any_policy(&mut chance);
    let (indexed, by_row) =
        (policy.clone().with_lookup(Lookup::Indexed), policy.with_lookup(Lookup::RowByRow));
    let count = 1 + chance.below(60);
    let mut table = HostTable::new((1..=count.into()).map(|id| any_host(id, &mut chance)));
    let mut placed = Vec::new();
    for nth in 0..12 {
        for _ in 0..chance.index(4) {
            let id = HostId::from_u128(1 + u128::from(chance.below(count + 4)));
            match chance.index(8) {
                0 => drop(table.remove(id)),
                1 => table.put(any_host(id.as_u128(), &mut chance)),
                2 | 3 if !placed.is_empty() => {
                    let (host, instance) = placed.swap_remove(chance.index(placed.len()));
                    table.update(host, |row| {
                        row.release(instance);
                    });
                }
                _ => drop(table.update(id, |row| change(row, &mut chance))),
            }
        }
        let asked = any_request(nth, &mut chance);
        let answer = indexed.select(&table, &asked, Seed::new(1));
        assert_eq!(answer, by_row.select(&table, &asked, Seed::new(1)), "seed {seed}: {asked:?}");
        if let Ok(placement) = answer {
            let (host, instance) = (placement.hosts[0], asked.instances[0]);
            table.update(host, |row| {
                row.claim(instance, asked.flavor.resources());
                row.claim_classes(instance, asked.flavor.classes().unwrap_or(&ClassAmounts::NONE));
            });
            placed.push((host, instance));
        }
    }
}

#[test]
fn the_index_answers_what_every_host_together_answers() {
    (0..10_000).for_each(live);
}

#[test]
fn one_index_serves_one_table_after_the_other() {
    let policy = FilterScheduler::best_fit().with_lookup(Lookup::Indexed);
    let mut chance = Seed::new(1).chance();
    let tables: Vec<HostTable> =
        (0..3).map(|_| HostTable::new((1..60).map(|id| any_host(id, &mut chance)))).collect();
    for nth in 0..9 {
        let table = &tables[nth % 3];
        let asked = request(1, 1, 512);
        let by_row = policy.clone().with_lookup(Lookup::RowByRow);
        let expected = by_row.select(table, &asked, Seed::new(1));
        assert_eq!(policy.select(table, &asked, Seed::new(1)), expected);
    }
    assert!(policy.memory_bytes() > 0);
}

#[test]
fn a_policy_that_gets_another_weigher_or_filter_forgets_what_it_knew_of_the_hosts() {
    let mut chance = Seed::new(2).chance();
    let table = HostTable::new((1..60).map(|id| any_host(id, &mut chance)));
    let asked = request(1, 1, 512);
    let used = FilterScheduler::first_fit().with_lookup(Lookup::Indexed);
    let first = used.find(&table, &asked, Seed::new(1)).unwrap();
    let packs = host_weigher_fn("crowd", |host| host.free_memory() as f64);
    let grown = used.with_weigher(packs, 1.0).unwrap();
    let by_row = grown.clone().with_lookup(Lookup::RowByRow);
    let most = by_row.find(&table, &asked, Seed::new(1));
    assert_ne!(most, Some(first));
    assert_eq!(grown.find(&table, &asked, Seed::new(1)), most);
    let hosts = most.unwrap().hosts;
    let not_there = filter_fn("not-there", move |host, _| {
        Verdict::pass_if(!hosts.contains(&host.id), Reason("it was there"))
    });
    let grown = grown.with_filter(not_there);
    let by_row = grown.clone().with_lookup(Lookup::RowByRow);
    let second = by_row.find(&table, &asked, Seed::new(1));
    assert_eq!(grown.find(&table, &asked, Seed::new(1)), second);
}

#[test]
fn the_index_answers_the_same_while_a_cloud_fills_up_and_the_scales_change() {
    let crowd = host_weigher_fn("crowd", |host| host.instance_count() as f64);
    let indexed = FilterScheduler::nova().with_weigher(crowd, -0.5).unwrap();
    let indexed = indexed.with_lookup(Lookup::Indexed);
    let by_row = indexed.clone().with_lookup(Lookup::RowByRow);
    let mut table = HostTable::new((1..=50).map(|id| host(id, 64, 256 << 10)));
    let (mut chance, mut placed) = (Seed::new(3).chance(), Vec::new());
    for nth in 0..1500_u128 {
        let vcpus = 1 + chance.index(4) as u32;
        let mut asked = request(1, vcpus, u64::from(vcpus) * (1 + chance.below(6)) * 1024);
        asked.instances[0] = InstanceId::from_u128(1 + nth);
        let found = indexed.find(&table, &asked, Seed::new(1));
        assert_eq!(found, by_row.find(&table, &asked, Seed::new(1)), "{nth}");
        if let Some(placement) = found {
            let (id, wanted) = (placement.hosts[0], asked.flavor.resources());
            table.update(id, |row| row.claim(asked.instances[0], wanted));
            placed.push((id, asked.instances[0]));
        }
        // It fills up, and empties again in the end.
        if !placed.is_empty() && chance.below(1000) < if nth < 900 { 200 } else { 1000 } {
            let (id, instance) = placed.swap_remove(chance.index(placed.len()));
            table.update(id, |row| {
                row.release(instance);
            });
        }
    }
    assert!(placed.len() > 200, "{}", placed.len());
}
