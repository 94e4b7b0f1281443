//! The cloud that is killed, and what servers need in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, SystemClock};
use nova_core::cloud::{ApiError, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports};
use nova_core::domain::{
    FloatingPool, GiB, ImageFormat, ImageId, InterfaceName, Invalid, MiB, NetworkKind, Quota,
    Resources, Vcpus, VlanId,
};
use nova_core::port::NetworkSpec;
use nova_core::seed::Seed;
use nova_core::store::{RedbStore, Store};
use nova_net::Networks;
use nova_net::backend::Recorder;
use nova_sched::Registry;
use nova_virt::sim::Latency;
use nova_virt::{DirImageStore, FileVolumes, Fleet, SimOptions};

use super::KillError;
use crate::cold::{HOSTS, VOLUMES};

/// The projects; several tasks ask in the name of each.
pub(super) const PROJECTS: [&str; 3] = ["shop", "lab", "media"];
/// The only flavor.
pub(super) const FLAVOR: &str = "small";
/// The only pool of floating IPs.
pub(super) const POOL: &str = "public";

const FLEET: u32 = 4;
const HOST: Resources = Resources { vcpus: Vcpus(12), memory: MiB(32 << 10), disk: GiB(400) };
/// The longest that a simulated host takes for one thing.
const SLOWEST: Duration = Duration::from_millis(12);

/// Opens the cloud in a directory, with an agent for every host.
pub(super) async fn open(
    directory: &Path,
    seed: Seed,
    clock: Arc<dyn Clock>,
) -> Result<Cloud, KillError> {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory).map_err(opening("the store"))?);
    let networks = Networks::new(
        Arc::clone(&store),
        Arc::clone(&clock),
        seed.child("network"),
        Arc::new(Recorder::new()),
    );
    let images = DirImageStore::at(directory.join("images")).map_err(opening("the images"))?;
    let volumes = FileVolumes::at(directory.join(VOLUMES)).map_err(opening("the volumes"))?;
    let policy = Registry::default().policy("nova").map_err(opening("the policy"))?;
    let ports = Ports::over(store, Arc::clone(&clock), seed)
        .with_scheduler(policy)
        .with_network(networks)
        .with_images(images)
        .with_volumes(volumes);
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    let mut options = CloudOptions::default()
        .with_beat_interval(Duration::from_millis(200))
        .with_sweep_interval(Duration::from_millis(400))
        .with_order_limit(Duration::from_secs(10))
        .with_takeover_after(Duration::from_secs(20))
        .with_journal_kept(week);
    // A busy machine is slow, not dead.
    options.down_after = Duration::from_secs(60);
    let started = Cloud::start(ports, options).await;
    let mut cloud = started.map_err(refused("start the cloud"))?;
    let latency = Latency::between(Duration::ZERO, SLOWEST)?;
    let fleet = Fleet::new("host", FLEET, HOST)
        .with_options(SimOptions::default().with_latency(latency))
        .with_clock(clock)
        .with_seed(seed)
        .in_directory(directory.join(HOSTS));
    for host in fleet.build().map_err(opening("the hosts"))? {
        let spec = HostSpec::new(host.name());
        cloud.add_host(spec, host).await.map_err(refused("add a host"))?;
    }
    Ok(cloud)
}

/// The system's clock; a process of its own has to take its time from somewhere.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Makes what servers need; asking again finds it, and tells the image.
pub(super) async fn lay(cloud: &Cloud) -> Result<ImageId, KillError> {
    let admin = cloud.admin();
    let spec = ImageSpec::new("tiny".parse()?, ImageFormat::Raw);
    let bytes = Box::new(&b"the quick brown fox"[..]);
    let image = admin.register_image("ground-image".parse()?, &spec, bytes).await;
    let image = image.map_err(refused("register the image"))?;
    let flavor = FlavorSpec::new(FLAVOR.parse()?, Vcpus(1), MiB(1024)).with_root_disk(GiB(10));
    let made = admin.create_flavor("ground-flavor".parse()?, &flavor).await;
    made.map_err(refused("make the flavor"))?;
    for (number, project) in PROJECTS.iter().enumerate() {
        let request = format!("ground-quota-{project}").parse()?;
        let raised = admin.set_quota(request, &project.parse()?, Quota::UNLIMITED).await;
        raised.map_err(refused("raise a quota"))?;
        let spec = NetworkSpec::new(
            project.parse()?,
            NetworkKind::Vlan,
            cidr(&format!("10.{number}.0.0/20"))?,
        )
        .with_parent(InterfaceName::new("eth1")?)
        .with_first_vlan(VlanId::new(101)?)
        .with_project(project.parse()?);
        let request = format!("ground-network-{project}").parse()?;
        let made = admin.create_networks(request, &spec).await;
        made.map_err(refused("make a network"))?;
    }
    let pool = FloatingPool {
        name: POOL.parse()?,
        range: cidr("198.18.0.0/20")?,
        interface: InterfaceName::new("eth0")?,
    };
    let made = admin.create_floating_pool("ground-pool".parse()?, &pool).await;
    made.map_err(refused("make the pool of floating IPs"))?;
    Ok(image)
}

fn cidr<T: std::str::FromStr>(text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|_| Invalid::new("range", text, "a range of addresses"))
}

fn opening<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> KillError {
    move |source| KillError::Open { what, source: source.into() }
}

pub(super) fn refused(doing: &'static str) -> impl FnOnce(ApiError) -> KillError {
    move |source| KillError::Cloud { doing, source }
}
