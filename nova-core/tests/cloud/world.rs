//! A small cloud on reference parts, on a clock that moves by itself when nobody has work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::Clock;
use nova_core::cloud::{
    Accepted, Admin, ApiError, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports,
    Project, Server, ServerSpec,
};
use nova_core::doctor::{Snapshot, Strictness, examine};
use nova_core::domain::{
    GiB, HostId, ImageFormat, ImageId, InstanceId, MiB, NetworkKind, OpId, OpState, Operation,
    PowerState, RequestId, Resources, Vcpus,
};
use nova_core::memory::{MemoryHost, VirtualClock};
use nova_core::port::{NetworkSpec, VirtDriver};
use nova_core::seed::Seed;
use nova_core::store::MemoryStore;

pub(crate) struct World {
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) cloud: Cloud,
    pub(crate) hosts: BTreeMap<HostId, Arc<MemoryHost>>,
    pub(crate) image: ImageId,
}

/// What every test host has.
pub(crate) const HOST: Resources =
    Resources { vcpus: Vcpus(8), memory: MiB(16_384), disk: GiB(100) };

impl World {
    /// Two hosts, one network, one image, and the flavors `small` and `huge`.
    pub(crate) async fn new(change: impl FnOnce(Ports) -> Ports) -> Self {
        Self::over(change, CloudOptions::default()).await
    }

    async fn over(change: impl FnOnce(Ports) -> Ports, options: CloudOptions) -> Self {
        let clock = Arc::new(VirtualClock::new());
        let ports = Ports::over(
            Arc::new(MemoryStore::new()),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Seed::new(7),
        );
        let cloud = Cloud::start(change(ports), options).await.unwrap();
        let mut world = Self { clock, cloud, hosts: BTreeMap::new(), image: ImageId::from_u128(0) };
        for name in ["alpha", "beta"] {
            world.add_host(name).await;
        }
        let admin = world.cloud.admin();
        let image = ImageSpec::new("tiny".parse().unwrap(), ImageFormat::Raw);
        let bytes = Box::new(&b"not much of a disk"[..]);
        world.image = admin.register_image(admin.new_request(), &image, bytes).await.unwrap();
        for (name, vcpus) in [("small", 2), ("huge", 16)] {
            let spec = FlavorSpec::new(name.parse().unwrap(), Vcpus(vcpus), MiB(2048))
                .with_root_disk(GiB(10));
            admin.create_flavor(admin.new_request(), &spec).await.unwrap();
        }
        let net = NetworkSpec::new(
            "net".parse().unwrap(),
            NetworkKind::FlatDhcp,
            "10.0.0.0/24".parse().unwrap(),
        );
        admin.create_networks(admin.new_request(), &net).await.unwrap();
        world
    }

    pub(crate) async fn add_host(&mut self, name: &str) -> HostId {
        let driver = Arc::new(MemoryHost::new(HOST));
        let id = self.cloud.add_host(spec(name), Arc::clone(&driver)).await.unwrap();
        self.hosts.insert(id, driver);
        id
    }

    pub(crate) fn admin(&self) -> Admin {
        self.cloud.admin()
    }

    pub(crate) fn project(&self) -> Project {
        self.cloud.project("demo".parse().unwrap())
    }

    pub(crate) fn server(&self, name: &str, flavor: &str) -> ServerSpec {
        ServerSpec::new(name.parse().unwrap(), flavor.parse().unwrap(), self.image)
    }

    /// Boots a server and waits for it.
    pub(crate) async fn boot(&self, name: &str) -> Server {
        let project = self.project();
        let spec = self.server(name, "small");
        let id = self.done(project.create_server(project.new_request(), &spec).await).await;
        project.server(id).await.unwrap()
    }

    /// Waits for an operation that has to succeed.
    pub(crate) async fn done<T>(&self, accepted: Result<Accepted<T>, ApiError>) -> T {
        let accepted = accepted.unwrap();
        let op = self.project().wait(accepted.operation).await.unwrap();
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        accepted.id
    }

    pub(crate) async fn ended(&self, operation: OpId) -> Operation {
        self.project().wait(operation).await.unwrap()
    }

    /// What the host of a server says of its guest.
    pub(crate) async fn power(&self, id: InstanceId) -> Option<PowerState> {
        let host = self.project().server(id).await.unwrap().instance.host?;
        self.hosts[&host].guest(id).await.unwrap().map(|guest| guest.power)
    }

    /// Nothing is wrong, as far as anybody can see, and nothing is left half done.
    pub(crate) async fn healthy(&self) {
        self.healthy_but_for(HostId::from_u128(0)).await;
    }

    /// As [`healthy`](Self::healthy), but for the guests of a host that cannot be asked.
    pub(crate) async fn healthy_but_for(&self, silent: HostId) {
        let ports = self.cloud.ports();
        let mut snapshot = Snapshot::read(&*ports.store).await.unwrap();
        let hosts = self.admin().hosts().await.unwrap();
        let lost =
            |id: &HostId| hosts.iter().any(|h| h.host.id == *id && h.host.forced_down.is_some());
        for (id, host) in self.hosts.iter().filter(|(id, _)| **id != silent && !lost(id)) {
            snapshot = snapshot.with_guests(*id, host.guests().await.unwrap());
        }
        let snapshot = snapshot.with_volumes(ports.volumes.list().await.unwrap());
        let snapshot = snapshot.with_images(ports.images.list().await.unwrap());
        assert_eq!(examine(&snapshot, Strictness::Idle), []);
    }

    /// Guests on all hosts, whoever made them.
    pub(crate) async fn guests(&self) -> usize {
        let mut count = 0;
        for host in self.hosts.values() {
            count += host.guests().await.unwrap().len();
        }
        count
    }

    /// Lets virtual time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now().after(time)).await;
    }
}

pub(crate) fn spec(name: &str) -> HostSpec {
    HostSpec::new(name.parse().unwrap())
}

pub(crate) fn request(id: &str) -> RequestId {
    id.parse().unwrap()
}

/// Runs a test in a world whose clock moves on whenever all tasks have had their turn.
pub(crate) fn run(test: impl AsyncFnOnce(&mut World)) {
    run_with(|ports| ports, test);
}

pub(crate) fn run_with(change: impl FnOnce(Ports) -> Ports, test: impl AsyncFnOnce(&mut World)) {
    run_over(change, CloudOptions::default(), test);
}

pub(crate) fn run_over(
    change: impl FnOnce(Ports) -> Ports,
    options: CloudOptions,
    test: impl AsyncFnOnce(&mut World),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::over(change, options).await;
        let clock = Arc::clone(&world.clock);
        clock.drive(test(&mut world)).await;
    });
}
