//! One placement: row by row and by the index, with and without a record of how it was
//! decided, and with a log of what was.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nova_benches::{busy_hosts, small_request};
use nova_core::clock::SystemClock;
use nova_core::domain::{HostTable, Liveness, Slot};
use nova_core::port::Scheduler as _;
use nova_core::seed::Seed;
use nova_sched::explain::{DecisionLog, Recorder};
use nova_sched::{FilterScheduler, Lookup};

fn placement(criterion: &mut Criterion) {
    let request = small_request().expect("a good request");
    let mut group = criterion.benchmark_group("placement");
    group.throughput(Throughput::Elements(1));
    for count in [1_000, 10_000] {
        let hosts = busy_hosts(count).expect("good hosts");
        let policies =
            [FilterScheduler::nova(), FilterScheduler::best_fit(), FilterScheduler::worst_fit()];
        for (policy, lookup) in policies.into_iter().flat_map(|policy| {
            [Lookup::RowByRow, Lookup::Indexed].map(|lookup| (policy.clone(), lookup))
        }) {
            let policy = policy.with_lookup(lookup);
            let id = BenchmarkId::new(format!("{policy} {lookup:?}"), count);
            group.bench_function(id, |bencher| {
                bencher.iter(|| policy.select(&hosts, &request, Seed::new(1)));
            });
        }
    }
    group.finish();
}

/// What a record costs. A host changes before each decision, as in use.
fn record(criterion: &mut Criterion) {
    let request = small_request().expect("a good request");
    let mut group = criterion.benchmark_group("record");
    for count in [100, 1_000, 10_000] {
        let mut hosts = busy_hosts(count).expect("good hosts");
        let policy = FilterScheduler::nova().with_lookup(Lookup::RowByRow);
        let mut turn = 0;
        let mut next = move |hosts: &mut HostTable| {
            turn = (turn + 1) % count;
            hosts.update_at(Slot(turn), |row| row.failed_builds ^= 1);
        };
        group.bench_function(BenchmarkId::new("off", count), |bencher| {
            bencher.iter(|| {
                next(&mut hosts);
                policy.select(&hosts, &request, Seed::new(1))
            });
        });
        let clock = Arc::new(SystemClock::new());
        let log = DecisionLog::new(policy.clone(), clock, std::io::sink());
        group.bench_function(BenchmarkId::new("log", count), |bencher| {
            bencher.iter(|| {
                next(&mut hosts);
                log.select(&hosts, &request, Seed::new(1))
            });
        });
        let mut recorder = Recorder::new(policy, 5);
        group.bench_function(BenchmarkId::new("on", count), |bencher| {
            bencher.iter(|| {
                next(&mut hosts);
                recorder.decide(&hosts, &request, Seed::new(1))
            });
        });
    }
    group.finish();
}

/// What it costs the index to follow a host that joins and leaves, or changes its state: one such
/// change and a placement, beside a placement alone.
fn change(criterion: &mut Criterion) {
    let request = small_request().expect("a good request");
    let mut group = criterion.benchmark_group("change");
    for count in [1_000, 10_000, 100_000] {
        let mut hosts = busy_hosts(count).expect("good hosts");
        let policy = FilterScheduler::nova().with_lookup(Lookup::Indexed);
        let middle = Slot(count / 2);
        let row = hosts.at(middle).cloned().expect("a host in the middle");
        let found = policy.find(&hosts, &request, Seed::new(1));
        assert!(found.is_some());
        group.bench_function(BenchmarkId::new("none", count), |bencher| {
            bencher.iter(|| policy.find(&hosts, &request, Seed::new(1)));
        });
        group.bench_function(BenchmarkId::new("state", count), |bencher| {
            bencher.iter(|| {
                hosts.update_at(middle, |row| {
                    row.liveness = match row.liveness {
                        Liveness::Up => Liveness::Down,
                        Liveness::Down => Liveness::Up,
                    };
                });
                policy.find(&hosts, &request, Seed::new(1))
            });
        });
        let mut there = true;
        group.bench_function(BenchmarkId::new("membership", count), |bencher| {
            bencher.iter(|| {
                if there {
                    hosts.remove(row.id);
                } else {
                    hosts.put(row.clone());
                }
                there = !there;
                policy.find(&hosts, &request, Seed::new(1))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, placement, record, change);
criterion_main!(benches);
