//! One placement, row by row: the baseline for whatever is faster.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nova_benches::{busy_hosts, small_request};
use nova_core::port::Scheduler as _;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;

fn placement(criterion: &mut Criterion) {
    let request = small_request().expect("a good request");
    let mut group = criterion.benchmark_group("placement");
    group.throughput(Throughput::Elements(1));
    for count in [1_000, 10_000] {
        let hosts = busy_hosts(count).expect("good hosts");
        let policies =
            [FilterScheduler::nova(), FilterScheduler::best_fit(), FilterScheduler::worst_fit()];
        for policy in policies {
            let id = BenchmarkId::new(policy.to_string(), count);
            group.bench_function(id, |bencher| {
                bencher.iter(|| policy.select(&hosts, &request, Seed::new(1)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);
