//! What a request to create a server costs: until it is accepted, and until the server runs.
//!
//! One project without quota, one network, hosts of the reference driver that are never full.
//! With redb every acceptance waits for the disk; requests that come together wait together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nova_core::clock::{Clock, SystemClock};
use nova_core::cloud::{Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, ServerSpec};
use nova_core::domain::{GiB, ImageFormat, MiB, NetworkKind, Quota, Resources, Vcpus};
use nova_core::memory::MemoryHost;
use nova_core::port::NetworkSpec;
use nova_core::seed::Seed;
use nova_core::store::{MemoryStore, RedbStore, Store};
use tokio::runtime::Runtime;

/// Requests that are under way at the same time.
const AT_ONCE: usize = 64;

/// A cloud with room for everything, and the server that is asked for.
async fn cloud(store: Arc<dyn Store>) -> (Cloud, ServerSpec) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ports = Ports::over(Arc::clone(&store), Arc::clone(&clock), Seed::new(1));
    let network = nova_net::Networks::new(
        store,
        clock,
        Seed::new(2),
        Arc::new(nova_net::backend::Recorder::new()),
    );
    let ports = ports.with_scheduler(nova_sched::FilterScheduler::nova()).with_network(network);
    let mut cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
    for host in 0..20 {
        let room = Resources { vcpus: Vcpus(1 << 20), memory: MiB(1 << 32), disk: GiB(1 << 20) };
        let spec = HostSpec::new(format!("host-{host}").parse().unwrap());
        cloud.add_host(spec, MemoryHost::new(room)).await.unwrap();
    }
    let admin = cloud.admin();
    let new = || admin.new_request();
    let image = ImageSpec::new("tiny".parse().unwrap(), ImageFormat::Raw);
    let image = admin.register_image(new(), &image, Box::new(&b"disk"[..])).await.unwrap();
    let flavor = FlavorSpec::new("small".parse().unwrap(), Vcpus(1), MiB(512));
    admin.create_flavor(new(), &flavor).await.unwrap();
    let range = "10.0.0.0/12".parse().unwrap();
    let network = NetworkSpec::new("net".parse().unwrap(), NetworkKind::FlatDhcp, range)
        .with_subnets(1, 1 << 20);
    admin.create_networks(new(), &network).await.unwrap();
    admin.set_quota(new(), &"demo".parse().unwrap(), Quota::UNLIMITED).await.unwrap();
    let server = ServerSpec::new("web".parse().unwrap(), "small".parse().unwrap(), image);
    (cloud, server)
}

/// Creates `count` servers, [`AT_ONCE`] at the same time, and says how long it took until all
/// were accepted or, when asked to wait, until all ran.
async fn create(cloud: &Cloud, server: &ServerSpec, count: u64, wait: Until) -> Duration {
    let begun = Instant::now();
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..count {
        if under_way.len() == AT_ONCE {
            under_way.join_next().await;
        }
        let (project, server) = (cloud.project("demo".parse().unwrap()), server.clone());
        under_way.spawn(async move {
            let accepted = project.create_server(project.new_request(), &server).await.unwrap();
            if matches!(wait, Until::Running) {
                project.wait(accepted.operation).await.unwrap();
            }
        });
    }
    while under_way.join_next().await.is_some() {}
    begun.elapsed()
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Accepted,
    Running,
}

fn api(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("create_server");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for until in [Until::Accepted, Until::Running] {
        for back_end in ["memory", "redb"] {
            let id = BenchmarkId::new(format!("{until:?}"), back_end);
            group.bench_function(id, |b| {
                let directory = tempfile::tempdir().unwrap();
                let store: Arc<dyn Store> = match back_end {
                    "redb" => Arc::new(RedbStore::open(directory.path()).unwrap()),
                    _ => Arc::new(MemoryStore::new()),
                };
                let (cloud, server) = runtime.block_on(cloud(store));
                b.iter_custom(|count| runtime.block_on(create(&cloud, &server, count, until)));
                runtime.block_on(cloud.stop());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, api);
criterion_main!(benches);
