//! Two real hosts in a cloud: guests that the orchestration takes from one to the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nova_core::cloud::{
    Accepted, ApiError, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, Project,
    ServerSpec,
};
use nova_core::domain::{
    GiB, HostId, ImageFormat, ImageId, InstanceId, MiB, NetworkKind, OpState, PowerState, Vcpus,
};
use nova_core::memory::MemoryImages;
use nova_core::port::{Guest, ImageStore, NetworkSpec, VirtDriver as _};
use nova_core::seed::Seed;
use nova_virt::libvirt::LibvirtHost;
use nova_virt::{FileVolumes, ImageCache};

use crate::hosts::{Pair, are_here, boot, lose_power, two_live};
use crate::lab;

pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) project: Project,
    pub(crate) hosts: BTreeMap<HostId, LibvirtHost>,
    first: HostId,
}

impl World {
    /// A cloud whose volumes are files that all hosts reach, and the image of the guest.
    pub(crate) async fn new(pair: Pair, test: &str) -> (Self, ImageId) {
        // Tests meet on the same daemons: their guests should not.
        let seed = Seed::new(5).child(&format!("{pair:?}")).child(test);
        let images: Arc<dyn ImageStore> = Arc::new(MemoryImages::new());
        let mut ports = Ports::memory(seed);
        ports.images = Arc::clone(&images);
        let folder = lab::folder("cloud");
        let fetched = ImageCache::at(folder.join("images"), Arc::clone(&ports.clock)).unwrap();
        let volumes = FileVolumes::at(folder.join("volumes")).unwrap();
        ports.volumes = Arc::new(volumes.with_images(fetched));
        let mut cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
        let mut hosts = BTreeMap::new();
        let mut first = None;
        for (name, host) in ["one", "two"].into_iter().zip(two_live(pair, &images)) {
            let spec = HostSpec::new(name.parse().unwrap());
            let id = cloud.add_host(spec, host.driver.clone()).await.unwrap();
            first.get_or_insert(id);
            hosts.insert(id, host.driver);
        }
        let admin = cloud.admin();
        let new = || admin.new_request();
        let image = ImageSpec::new("guest".parse().unwrap(), ImageFormat::Qcow2);
        let bytes = Box::new(std::io::Cursor::new(lab::qcow2()));
        let image = admin.register_image(new(), &image, bytes).await.unwrap();
        for (name, disk) in [("small", 1), ("large", 2)] {
            let flavor = FlavorSpec::new(name.parse().unwrap(), Vcpus(1), MiB(128));
            let flavor = flavor.with_root_disk(GiB(disk));
            admin.create_flavor(new(), &flavor).await.unwrap();
        }
        let cidr = "10.0.0.0/24".parse().unwrap();
        let network = NetworkSpec::new("net".parse().unwrap(), NetworkKind::Flat, cidr);
        admin.create_networks(new(), &network).await.unwrap();
        let project = cloud.project("demo".parse().unwrap());
        (Self { cloud, project, hosts, first: first.unwrap() }, image)
    }

    /// The same with a server that runs.
    async fn with_server(pair: Pair, test: &str) -> (Self, InstanceId) {
        let (world, image) = Self::new(pair, test).await;
        let server = ServerSpec::new("web".parse().unwrap(), "small".parse().unwrap(), image);
        let project = &world.project;
        let id = world.done(project.create_server(project.new_request(), &server).await).await;
        (world, id)
    }

    /// Waits for an operation that has to succeed.
    pub(crate) async fn done<T>(&self, accepted: Result<Accepted<T>, ApiError>) -> T {
        let accepted = accepted.unwrap();
        let op = self.project.wait(accepted.operation).await.unwrap();
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        accepted.id
    }

    /// The host that has a server, and the guests of all hosts by their host.
    pub(crate) async fn places(&self, id: InstanceId) -> (HostId, BTreeMap<HostId, Guest>) {
        let home = self.project.server(id).await.unwrap().instance.host.unwrap();
        let mut guests = BTreeMap::new();
        for (host, driver) in &self.hosts {
            guests.extend(driver.guest(id).await.unwrap().map(|guest| (*host, guest)));
        }
        (home, guests)
    }

    /// It is at one host, and runs there.
    async fn runs_at_one(&self, id: InstanceId) -> HostId {
        let (home, guests) = self.places(id).await;
        let powers: Vec<_> = guests.iter().map(|(host, guest)| (*host, guest.power)).collect();
        assert_eq!(powers, [(home, PowerState::Running)]);
        home
    }

    pub(crate) async fn end(self, id: InstanceId) {
        let project = &self.project;
        self.done(project.delete_server(project.new_request(), id).await).await;
        assert_eq!(self.places_of_nobody(id).await, 0);
        self.cloud.stop().await;
    }

    async fn places_of_nobody(&self, id: InstanceId) -> usize {
        let mut count = 0;
        for driver in self.hosts.values() {
            count += usize::from(driver.guest(id).await.unwrap().is_some());
        }
        count
    }
}

pub(crate) fn check(name: &str, test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    if !are_here(name) {
        return;
    }
    // One cloud at a time has the hosts; one that failed is in nobody's way.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

async fn resized_and_migrated(pair: Pair) {
    let (world, id) = World::with_server(pair, "resized and migrated").await;
    let project = &world.project;
    let first = world.runs_at_one(id).await;
    let large = "large".parse().unwrap();
    world.done(project.resize_server(project.new_request(), id, &large).await).await;
    let (second, guests) = world.places(id).await;
    assert_ne!(first, second);
    assert_eq!(guests[&first].power, PowerState::Shutdown);
    assert_eq!(guests[&second].power, PowerState::Running);
    // Back, where its disk is as it was; and away again, for good.
    world.done(project.revert_resize(project.new_request(), id).await).await;
    assert_eq!(world.runs_at_one(id).await, first);
    world.done(project.resize_server(project.new_request(), id, &large).await).await;
    world.done(project.confirm_resize(project.new_request(), id).await).await;
    assert_eq!(world.runs_at_one(id).await, second);
    let admin = world.cloud.admin();
    world.done(admin.migrate_server(admin.new_request(), id).await).await;
    world.done(project.confirm_resize(project.new_request(), id).await).await;
    assert_eq!(world.runs_at_one(id).await, first);
    world.end(id).await;
}

#[test]
fn a_server_is_resized_and_migrated_over_shared_storage() {
    check(
        "a_server_is_resized_and_migrated_over_shared_storage",
        resized_and_migrated(Pair::SharedCloud),
    );
}

#[test]
fn a_server_is_resized_and_migrated_between_hosts_that_share_nothing() {
    check(
        "a_server_is_resized_and_migrated_between_hosts_that_share_nothing",
        resized_and_migrated(Pair::OfferedCloud),
    );
}

async fn migrated_while_it_runs(pair: Pair) {
    let (world, id) = World::with_server(pair, "migrated while it runs").await;
    let admin = world.cloud.admin();
    let first = world.runs_at_one(id).await;
    world.done(admin.live_migrate_server(admin.new_request(), id).await).await;
    let second = world.runs_at_one(id).await;
    assert_ne!(first, second);
    world.done(admin.live_migrate_server(admin.new_request(), id).await).await;
    assert_eq!(world.runs_at_one(id).await, first);
    world.end(id).await;
}

#[test]
fn a_running_server_is_migrated_over_shared_storage() {
    check(
        "a_running_server_is_migrated_over_shared_storage",
        migrated_while_it_runs(Pair::SharedCloud),
    );
}

#[test]
fn a_running_server_is_migrated_between_hosts_that_share_nothing() {
    check(
        "a_running_server_is_migrated_between_hosts_that_share_nothing",
        migrated_while_it_runs(Pair::OfferedCloud),
    );
}

impl World {
    /// The host of a server is killed, the server goes to the other one, and the host comes back.
    pub(crate) async fn evacuates(&mut self, pair: Pair, id: InstanceId) {
        let admin = self.cloud.admin();
        let lost = self.runs_at_one(id).await;
        let number = pair.numbers()[usize::from(lost != self.first)];
        let name = self.project.server(id).await.unwrap().host.unwrap();
        lose_power(number);
        self.cloud.stop_host(&name).await;
        admin.force_down(admin.new_request(), lost, "burnt").await.unwrap();
        self.done(admin.evacuate_server(admin.new_request(), id).await).await;
        let home = self.project.server(id).await.unwrap().instance.host.unwrap();
        assert_ne!(home, lost);
        let guest = self.hosts[&home].guest(id).await.unwrap().unwrap();
        assert_eq!(guest.power, PowerState::Running);
        // When the host comes back it has a guest that is not its own any more.
        boot(number).await;
        assert!(self.hosts[&lost].guest(id).await.unwrap().is_some());
        admin.clear_forced_down(admin.new_request(), lost).await.unwrap();
        let driver = self.hosts[&lost].clone();
        self.cloud.add_host(HostSpec::new(name), driver).await.unwrap();
        assert_eq!(self.runs_at_one(id).await, home);
    }
}

async fn evacuated() {
    let (mut world, id) = World::with_server(Pair::OfferedCloud, "evacuated").await;
    world.evacuates(Pair::OfferedCloud, id).await;
    world.end(id).await;
}

#[test]
fn a_server_of_a_killed_host_is_evacuated() {
    check("a_server_of_a_killed_host_is_evacuated", evacuated());
}
