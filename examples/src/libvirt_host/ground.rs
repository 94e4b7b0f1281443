//! The cloud of the story, what it stands on, and how both are cleared away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _, Meter, SystemClock};
use nova_core::cloud::{
    Accepted, Agent, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, Project,
};
use nova_core::domain::{
    AllocationRatio, FloatingPool, GiB, ImageFormat, ImageId, ImageProperties, InstanceId,
    InterfaceName, Label, Limit, MiB, NetworkKind, OpState, Peer, PoolName, PortRange, Quota,
    SecurityGroupId, SecurityRule, Traffic, Vcpus,
};
use nova_core::port::NetworkSpec;
use nova_core::seed::Seed;
use nova_core::store::{RedbStore, Store};
use nova_net::Networks;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::metadata::{MetadataSource, Records};
use nova_virt::domain::{DomainOptions, Hypervisor};
use nova_virt::libvirt::{LibvirtHost, Libvirtd};
use nova_virt::{DirImageStore, FileVolumes, Several};

use super::neighbour::{self, WIRE};
use super::told::Told;
use super::{Check, Options, Result};
use crate::private_cloud::Screen;

/// The floating IPs.
pub(super) const POOL: &str = "public";

/// The namespace that plays the world outside, and the two ends of the way there.
pub(super) const OUTSIDE: &str = "nova-outside";
const NEAR: &str = "nova-ext";
const FAR: &str = "nova-far";

/// The cloud, and what the stages need of it.
pub(super) struct Ground {
    /// None while it does not run.
    running: Option<Running>,
    pub(super) clock: Arc<dyn Clock>,
    /// For how long others were waited for.
    pub(super) meter: Meter,
    pub(super) machine: ImageId,
    pub(super) container: ImageId,
    /// Agents of hosts that joined later.
    pub(super) joined: Vec<Agent>,
    pub(super) folder: tempfile::TempDir,
    before: BTreeSet<String>,
}

struct Running {
    cloud: Cloud,
    project: Project,
}

impl Running {
    fn new(cloud: Cloud) -> Result<Self> {
        let project = cloud.project("demo".parse()?);
        Ok(Self { cloud, project })
    }
}

impl Ground {
    /// Makes the world outside, starts the cloud, and says what it has.
    pub(super) async fn lay(options: &Options, screen: &mut dyn Screen) -> Result<Self> {
        let sentence = "One host with two hypervisors, a Flat-DHCP network, floating IPs, and the \
                        images of the two guests.";
        screen.section("The ground", sentence);
        let folder = tempfile::Builder::new().prefix("nova-").tempdir_in("/var/lib/libvirt")?;
        // Hypervisors have users of their own.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody)?;
        let before = on_the_kernel()?;
        for step in [
            &["netns", "add", OUTSIDE][..],
            &["link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", OUTSIDE],
            &["address", "add", "172.24.4.1/24", "dev", NEAR],
            &["link", "set", NEAR, "up"],
            &["-n", OUTSIDE, "address", "add", "172.24.4.2/24", "dev", FAR],
            &["-n", OUTSIDE, "link", "set", FAR, "up"],
        ] {
            ip(step)?;
        }
        neighbour::lay_wire()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let meter = Meter::new(Arc::clone(&clock));
        let running = Running::new(start(folder.path(), &clock, &meter).await?)?;
        let (admin, project) = (running.cloud.admin(), &running.project);
        let mut images = Vec::new();
        for (file, format, kind, mode) in [
            ("disk.qcow2", ImageFormat::Qcow2, "qemu", "hvm"),
            ("rootfs.tar", ImageFormat::RootfsTar, "lxc", "exe"),
        ] {
            let properties = ImageProperties::new([("img_hv_type", kind), ("hw_vm_mode", mode)])?;
            let spec = ImageSpec::new(Label::new(file)?, format).with_properties(properties);
            let bytes = tokio::fs::File::open(options.guest.join(file)).await?;
            images.push(admin.register_image(admin.new_request(), &spec, Box::new(bytes)).await?);
        }
        for (name, vcpus, memory, disk) in
            [("machine", 1, 128, 1), (LARGER, 2, 256, 2), ("container", 1, 64, 0)]
        {
            let flavor = FlavorSpec::new(name.parse()?, Vcpus(vcpus), MiB(memory));
            let flavor = flavor.with_root_disk(GiB(disk));
            admin.create_flavor(admin.new_request(), &flavor).await?;
        }
        let quota =
            Quota { instances: Limit::Unlimited, vcpus: Limit::Unlimited, ..Quota::default() };
        admin.set_quota(admin.new_request(), project.id(), quota).await?;
        let network =
            NetworkSpec::new(Label::new("lan")?, NetworkKind::FlatDhcp, "10.0.0.0/24".parse()?);
        let network = network.with_bridge(InterfaceName::new("nova-lan")?);
        let network = match neighbour::is_here() {
            true => network.with_parent(InterfaceName::new(WIRE)?),
            false => network,
        };
        admin.create_networks(admin.new_request(), &network).await?;
        let (name, range) = (PoolName::new(POOL)?, "172.24.4.8/29".parse()?);
        let pool = FloatingPool { name, range, interface: InterfaceName::new(NEAR)? };
        admin.create_floating_pool(admin.new_request(), &pool).await?;
        let ground = Self {
            running: Some(running),
            clock,
            meter,
            joined: Vec::new(),
            machine: images[0],
            container: images[1],
            folder,
            before,
        };
        ground.open_the_web().await?;
        screen.say(&format!("Everything lies in {}.", ground.folder.path().display()));
        Ok(ground)
    }

    /// Everybody may ask the guests for their pages.
    async fn open_the_web(&self) -> Result<()> {
        let project = self.project()?;
        let group = SecurityGroupId::default_of(project.id());
        let web = Traffic::Tcp(PortRange::one(80));
        let rule = SecurityRule::new(web, Peer::Range("0.0.0.0/0".parse()?))?;
        let added = project.add_security_rule(project.new_request(), group, &rule).await?;
        self.done(added).await.map(drop)
    }

    /// The way in.
    pub(super) fn project(&self) -> Result<&Project> {
        let running = self.running.as_ref().ok_or("the cloud does not run")?;
        Ok(&running.project)
    }

    /// The whole of it.
    pub(super) fn cloud(&self) -> Result<&Cloud> {
        let running = self.running.as_ref().ok_or("the cloud does not run")?;
        Ok(&running.cloud)
    }

    /// Waits for an operation to be done.
    pub(super) async fn done<T>(&self, accepted: Accepted<T>) -> Result<T> {
        let operation = self.project()?.wait(accepted.operation).await?;
        match operation.state {
            OpState::Done => Ok(accepted.id),
            OpState::Failed(fault) | OpState::NeedsOperator(fault) => Err(fault.message.into()),
            other => Err(format!("an operation ended as {other:?}").into()),
        }
    }

    pub(super) async fn delete(&self, server: InstanceId) -> Result<()> {
        let project = self.project()?;
        self.done(project.delete_server(project.new_request(), server).await?).await.map(drop)
    }

    /// All parts stop and start again on what is stored.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.stop().await;
        let cloud = start(self.folder.path(), &self.clock, &self.meter).await?;
        self.running = Some(Running::new(cloud)?);
        Ok(())
    }

    /// Nothing is left in memory, and the store is closed.
    async fn stop(&mut self) {
        for agent in self.joined.drain(..) {
            agent.stop().await;
        }
        if let Some(Running { cloud, project }) = self.running.take() {
            drop(project);
            cloud.stop().await;
        }
    }

    /// Deletes every server, stops the cloud, and looks whether something is left.
    pub(super) async fn clear(mut self, screen: &mut dyn Screen) -> Result<Vec<Check>> {
        screen.section("The end", "Everything is deleted, and then looked for.");
        for server in self.project()?.servers().await? {
            self.delete(server.instance.id).await?;
        }
        self.stop().await;
        let guests = self.folder.path().join("hosts");
        let homes = ["machines", "containers"].map(|host| guests.join(host).join("instances"));
        let homes: Vec<PathBuf> = homes.into_iter().chain(neighbour::home()).collect();
        let empty = |home: &PathBuf| {
            std::fs::read_dir(home)
                .is_ok_and(|mut all| all.all(|one| one.is_ok_and(|one| !one.path().is_dir())))
        };
        let mut checks = vec![("no guest has left a file".to_owned(), homes.iter().all(empty))];
        ip(&["link", "del", NEAR])?;
        neighbour::take_wire()?;
        ip(&["netns", "del", OUTSIDE])?;
        let after = on_the_kernel()?;
        let left: Vec<&String> = after.difference(&self.before).collect();
        for one in &left {
            screen.say(&format!("left: {one}"));
        }
        checks.push(("the kernel has no domain, link or rule more".to_owned(), left.is_empty()));
        self.folder.close()?;
        screen.say("Nothing is left.");
        Ok(checks)
    }
}

/// The flavor of a machine that has grown.
pub(super) const LARGER: &str = "larger-machine";

/// Starts a cloud on what is stored in the folder.
async fn start(folder: &Path, clock: &Arc<dyn Clock>, meter: &Meter) -> Result<Cloud> {
    let seed = Seed::new(std::process::id().into());
    let store: Arc<dyn Store> = Arc::new(open(&folder.join("cloud"), &**clock).await?);
    let source = Arc::new(Records::new(Arc::clone(&store)));
    let linux = Linux::new().with_metadata(Arc::clone(&source) as Arc<dyn MetadataSource>);
    let linux = linux.with_meter(meter.clone());
    let linux = linux.with_any_host(&HostPlace::new(folder.join("network")))?;
    let networks = Networks::new(
        Arc::clone(&store),
        Arc::clone(clock),
        seed.child("network"),
        Arc::new(linux),
    );
    let ports = Ports::over(store, Arc::clone(clock), seed)
        .with_scheduler(nova_sched::FilterScheduler::nova())
        .with_network(networks.with_metadata())
        .with_images(DirImageStore::at(folder.join("images"))?)
        .with_volumes(FileVolumes::at(folder.join("volumes"))?);
    let mut cloud = Cloud::start(ports, CloudOptions::default()).await?;
    let driver = |hypervisor, uri, name: &str| -> Result<LibvirtHost> {
        let directory = folder.join("hosts").join(name).display().to_string();
        let options = DomainOptions::new(hypervisor, directory)?;
        let host = LibvirtHost::new(Libvirtd::native(uri), options, Arc::clone(clock))?;
        Ok(host.with_meter(meter.clone()))
    };
    let machines = driver(Hypervisor::Qemu, "qemu:///system", "machines")?;
    let machines = machines.with_config_drives(Arc::new(Told(source)));
    let machines = machines.with_address(neighbour::OFFERS);
    // Root in a container is nobody here.
    let containers = driver(Hypervisor::Lxc, "lxc:///system", "containers")?.with_users(1_000_000);
    // Guests that mostly wait may share processors.
    let host = HostSpec::new("host-1".parse()?).with_cpu_ratio(AllocationRatio::new(64.0)?);
    cloud.add_host(host, Several::new(machines).with_containers(containers)).await?;
    Ok(cloud)
}

/// Opens the store. The thread of a network that was stopped lets go of it in its own time.
async fn open(path: &Path, clock: &dyn Clock) -> Result<RedbStore> {
    let end = clock.now().after(LETTING_GO);
    loop {
        match RedbStore::open(path) {
            Ok(store) => return Ok(store),
            Err(error) if clock.now() >= end => return Err(error.into()),
            Err(_) => clock.sleep(LETTING_GO / 100).await,
        }
    }
}

/// How long what was stopped may hold the store.
const LETTING_GO: Duration = Duration::from_secs(5);

pub(super) fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("ip {}: {said}", arguments.join(" ")).into())
}

/// What a cloud might leave on a kernel and with libvirt, a line each.
fn on_the_kernel() -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for command in [
        &["ip", "-o", "link"][..],
        &["nft", "list", "tables"],
        &["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"],
        &["virsh", "-q", "-c", "lxc:///system", "list", "--all", "--name"],
    ]
    .into_iter()
    .chain(neighbour::LOOKS.into_iter().filter(|_| neighbour::is_here()))
    {
        let output = Command::new(command[0]).args(&command[1..]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Of a link, its name: what it is doing changes by itself.
        let line = |line: &str| match command[0] {
            "ip" if command.contains(&"link") => line.split(": ").nth(1).unwrap_or(line).to_owned(),
            _ => line.trim().to_owned(),
        };
        all.extend(text.lines().map(line).filter(|line| !line.is_empty()));
    }
    Ok(all)
}
