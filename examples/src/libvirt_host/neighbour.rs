//! A second host for the cloud: in namespaces of its own beside the first one, with a libvirt daemon
//! of its own, and a wire between the two.
//!
//! It is there in the world that `.ci/lab` makes with `LAB_HOSTS=1`, not with `--here`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nova_core::cloud::{Agent, CloudOptions, HostSpec};
use nova_core::domain::AllocationRatio;
use nova_core::seed::Seed;
use nova_net::Networks;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::metadata::{MetadataSource, Records};
use nova_virt::domain::{DomainOptions, Hypervisor};
use nova_virt::libvirt::{LibvirtHost, Libvirtd};

use super::Result;
use super::ground::{Ground, ip};

/// The network namespace of the host.
pub(super) const NAMESPACE: &str = "host1";

/// What both hosts see of it.
const FOLDER: &str = "/run/lab/hosts/1";
const SOCKET: &str = "/run/lab/hosts/1/sock/libvirt-sock";

/// The end of the wire, on either host.
pub(super) const WIRE: &str = "nova-wire";

/// Where a host offers disks. Both agents are in this process.
pub(super) const OFFERS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// What shows whether something is left there.
pub(super) const LOOKS: [&[&str]; 3] = [
    &["ip", "-n", NAMESPACE, "-o", "link"],
    &["ip", "netns", "exec", NAMESPACE, "nft", "list", "tables"],
    &[
        "virsh",
        "-q",
        "-c",
        "qemu:///system?socket=/run/lab/hosts/1/sock/libvirt-sock",
        "list",
        "--all",
        "--name",
    ],
];

/// Whether there is such a host.
pub(super) fn is_here() -> bool {
    Path::new(SOCKET).exists()
}

/// Where its guests are.
pub(super) fn home() -> Option<PathBuf> {
    let home = Path::new(FOLDER).join("guests").join("instances");
    home.exists().then_some(home)
}

/// Joins the two hosts.
pub(super) fn lay_wire() -> Result<()> {
    if !is_here() {
        return Ok(());
    }
    ip(&["link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", NAMESPACE])?;
    ip(&["link", "set", WIRE, "up"])?;
    ip(&["-n", NAMESPACE, "link", "set", WIRE, "up"])
}

/// Takes the wire away.
pub(super) fn take_wire() -> Result<()> {
    if is_here() { ip(&["link", "del", WIRE]) } else { Ok(()) }
}

impl Ground {
    /// The host joins the cloud: an agent with ways of its own to its daemon and its network, which
    /// has nothing in common with the first one but the store.
    pub(super) async fn join_neighbour(&mut self) -> Result<()> {
        let mut ports = self.cloud()?.ports().clone();
        let seed = Seed::new(std::process::id().into()).child("neighbour");
        let source = Arc::new(Records::new(Arc::clone(&ports.store)));
        let place = HostPlace::new(Path::new(FOLDER).join("network")).in_namespace(NAMESPACE);
        let linux = Linux::new().with_metadata(source as Arc<dyn MetadataSource>);
        let linux = Arc::new(linux.with_any_host(&place)?);
        let networks =
            Networks::new(Arc::clone(&ports.store), Arc::clone(&self.clock), seed, linux);
        ports.network = Arc::new(networks.with_metadata());
        let directory = Path::new(FOLDER).join("guests").display().to_string();
        let options = DomainOptions::new(Hypervisor::Qemu, directory)?;
        let daemon = Libvirtd::native_at("qemu:///system", Path::new(SOCKET));
        let driver = LibvirtHost::new(daemon, options, Arc::clone(&self.clock))?;
        let driver = driver.with_address(OFFERS);
        let spec = HostSpec::new("host-2".parse()?).with_cpu_ratio(AllocationRatio::new(64.0)?);
        let agent = Agent::start(ports, CloudOptions::default(), spec, Arc::new(driver)).await?;
        self.joined.push(agent);
        Ok(())
    }
}

/// What is heard in a network namespace when a guest is asked; nothing when it does not answer.
pub(super) fn heard_in(namespace: &str, address: &str, path: &str) -> String {
    let url = format!("http://{address}{path}");
    let inside = ["netns", "exec", namespace, "timeout", "3"];
    let asked =
        Command::new("ip").args(inside).args(["busybox", "wget", "-q", "-O", "-", &url]).output();
    asked.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned())
}
