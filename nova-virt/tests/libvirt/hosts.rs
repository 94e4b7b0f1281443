//! Hosts of their own, each with a daemon, that `LAB_HOSTS` puts into the world of the tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use nova_core::clock::{ClockExt as _, SystemClock};
use nova_core::conformance::virt::Subject;
use nova_core::domain::{Image, ImageFormat};
use nova_core::port::{ImageStore, VirtDriver as _, VolumeLink};
use nova_virt::domain::{DomainOptions, Hypervisor};
use nova_virt::libvirt::{LibvirtHost, Libvirtd};
use tokio::sync::Mutex;

use crate::lab;

/// Two hosts, by how they reach each other's disks. Each pair has tests of its own: a law has the
/// same guests wherever it is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    /// They lie where both see them.
    Shared,
    /// Each has its own, and offers them.
    Offered,
    /// Each has its own; they lose power in one test after the other.
    Failing,
    /// They belong to a cloud, which removes every guest that is not its own; as the first.
    SharedCloud,
    /// As the second.
    OfferedCloud,
}

impl Pair {
    pub(crate) fn numbers(self) -> [u8; 2] {
        match self {
            Self::Shared => [1, 2],
            Self::Offered => [3, 4],
            Self::Failing => [5, 6],
            Self::SharedCloud | Self::OfferedCloud => [7, 8],
        }
    }
}

/// Whether there are such hosts; says which test is skipped otherwise.
pub(crate) fn are_here(test: &str) -> bool {
    let count = std::env::var("NOVA_VIRT_HOSTS").ok().and_then(|count| count.parse().ok());
    let here = lab::is_here(test) && count.unwrap_or(0) >= 8;
    if !here {
        eprintln!("skipped {test}: there are no four pairs of hosts (LAB_HOSTS=8)");
    }
    here
}

/// A driver of a host, and where its files are.
pub(crate) struct Host {
    pub(crate) driver: LibvirtHost,
    pub(crate) directory: PathBuf,
}

/// The daemon of a host.
pub(crate) fn daemon(number: u8) -> Libvirtd {
    let socket = format!("/run/lab/hosts/{number}/sock/libvirt-sock");
    Libvirtd::native_at("qemu:///system", Path::new(&socket))
}

/// Drivers of two hosts, with nothing on them.
pub(crate) fn two(pair: Pair) -> [Host; 2] {
    drivers(pair, |_, driver| driver)
}

/// The same, and they take guests in that run, whose images come from here.
pub(crate) fn two_live(pair: Pair, images: &Arc<dyn ImageStore>) -> [Host; 2] {
    drivers(pair, |number, driver| takes_in(number, driver, images))
}

/// The driver of a host that takes guests in while they run.
pub(crate) fn takes_in(
    number: u8,
    driver: LibvirtHost,
    images: &Arc<dyn ImageStore>,
) -> LibvirtHost {
    let driver = driver.with_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    driver.with_incoming(IpAddr::from([10, 5, 0, number]), Arc::clone(images))
}

/// Two hosts that lose power, and send each other guests while they run.
pub(crate) async fn failing() -> (Subject, Subject) {
    static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);
    let turn = Arc::new(Arc::clone(&TURN).lock_owned().await);
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let hosts = two_live(Pair::Failing, &images);
    let [here, there] = [0, 1].map(|index| {
        let (number, driver) = (Pair::Failing.numbers()[index], hosts[index].driver.clone());
        let turn = Arc::clone(&turn);
        let outage = move || {
            let (turn, driver) = (Arc::clone(&turn), driver.clone());
            let outage = async move {
                lose_power(number);
                boot(number).await;
                // Whoever asks first is told that the connection was lost.
                drop(driver.guests().await);
                drop(turn);
            };
            Box::pin(outage) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
        };
        subject(hosts[index].driver.clone(), &images, &image, lab::volumes())
            .with_outage(Box::new(outage))
    });
    (here, there)
}

/// Every process of a host is killed.
pub(crate) fn lose_power(number: u8) {
    let holder = std::fs::read_to_string(format!("/run/lab/hosts/{number}/holder.pid")).unwrap();
    let processes = tool("ip", &["netns", "pids", &format!("host{number}")]);
    for process in processes.split_whitespace().filter(|process| *process != holder.trim()) {
        // One may be gone by now.
        let _ = Command::new("kill").args(["-9", process]).status();
    }
}

/// Its daemon is there again.
pub(crate) async fn boot(number: u8) {
    let folder = format!("/run/lab/hosts/{number}");
    let holder = std::fs::read_to_string(format!("{folder}/holder.pid")).unwrap();
    let inside = ["--target", holder.trim(), "--mount", "--net", "--uts"];
    let pid_file = format!("{folder}/libvirtd.pid");
    tool("nsenter", &[&inside[..], &["libvirtd", "--daemon", "--pid-file", &pid_file]].concat());
    let socket = format!("qemu:///system?socket={folder}/sock/libvirt-sock");
    let clock = SystemClock::new();
    let asks = || Command::new("virsh").args(["--quiet", "--connect", &socket, "uri"]).output();
    while !asks().unwrap().status.success() {
        clock.sleep(Duration::from_millis(50)).await;
    }
}

/// Two hosts that send each other guests while they run.
pub(crate) async fn live(pair: Pair) -> (Subject, Subject) {
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let volumes = lab::volumes();
    let [here, there] =
        two_live(pair, &images).map(|host| subject(host.driver, &images, &image, volumes.clone()));
    (here, there)
}

fn subject(
    driver: LibvirtHost,
    images: &Arc<dyn ImageStore>,
    image: &Image,
    volumes: [VolumeLink; 2],
) -> Subject {
    Subject::new(driver)
        .with_image(Arc::clone(images), image.clone())
        .with_template(lab::spec(image.clone(), 128))
        .with_volumes(volumes)
}

fn drivers(pair: Pair, with: impl Fn(u8, LibvirtHost) -> LibvirtHost) -> [Host; 2] {
    let shared = matches!(pair, Pair::Shared | Pair::SharedCloud);
    let shared = shared.then(|| lab::folder("shared"));
    pair.numbers().map(|number| {
        let directory = lab::folder("host");
        let driver = driver(number, &directory, shared.as_deref());
        Host { driver: with(number, driver), directory }
    })
}

/// The driver of a host with its files in this directory.
pub(crate) fn driver(number: u8, directory: &Path, shared: Option<&Path>) -> LibvirtHost {
    let options = DomainOptions::new(Hypervisor::Qemu, directory.to_str().unwrap()).unwrap();
    let options = match shared {
        Some(shared) => options.with_shared(shared.to_str().unwrap()).unwrap(),
        None => options,
    };
    let clock = Arc::new(SystemClock::new());
    let driver = LibvirtHost::new(daemon(number), options, clock).unwrap();
    let driver = driver.with_patience(Duration::from_secs(20));
    match shared {
        Some(_) => driver,
        None => driver.with_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    }
}

/// A host that takes guests to another one.
pub(crate) async fn neighbours(pair: Pair) -> Subject {
    let [here, there] = two(pair);
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let template = lab::spec(image.clone(), 128);
    Subject::new(here.driver)
        .with_image(images, image)
        .with_template(template)
        .with_volumes(lab::volumes())
        .with_neighbour(there.driver)
}

/// What a tool of the machine says, when it succeeds.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
    said
}
