//! A host, an outside and guests, each in a network namespace of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nova_core::domain::{
    HostId, InterfaceName, Mac, NetworkId, SecurityGroupId, ServerName, Traffic,
};
use nova_core::store::Revision;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::backend::{BackendError, NetBackend};
use nova_net::check::check;
use nova_net::host::*;
use nova_net::metadata::MetadataSource;
use nova_net::plan::diff;
use pnet_datalink::{DataLinkReceiver, DataLinkSender};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const HOST: HostId = HostId::from_u128(1);
pub(crate) const NETWORK: NetworkId = NetworkId::from_u128(7);

/// The public address of the outside's own end.
pub(crate) const OUTSIDE: &str = "172.24.4.2";
pub(crate) const FLOATING: &str = "172.24.4.10";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A machine of its own: namespaces that go when it is dropped.
pub(crate) struct Lab {
    prefix: String,
    namespaces: Vec<String>,
    pub(crate) folder: tempfile::TempDir,
    /// Those of other hosts.
    folders: Vec<tempfile::TempDir>,
    pub(crate) host: String,
    pub(crate) backend: Arc<Linux>,
    /// Who knows what guests ask about, from the next [`restart`](Self::restart) on.
    pub(crate) source: Option<Arc<dyn MetadataSource>>,
    generation: std::cell::Cell<u64>,
}

/// Runs a test in a lab, or says why not.
pub(crate) fn run(name: &str, test: impl AsyncFnOnce(&mut Lab)) {
    if std::env::var_os("NOVA_NET_LAB").is_none() {
        println!("skipped: {name}: NOVA_NET_LAB is not set");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut lab = Lab::new();
        test(&mut lab).await;
    });
}

impl Lab {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("nova{}x{number}", std::process::id());
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let mut lab = Self {
            host: format!("{prefix}-host"),
            prefix,
            namespaces: Vec::new(),
            folder,
            folders: Vec::new(),
            backend: Arc::new(Linux::new()),
            source: None,
            generation: std::cell::Cell::new(1),
        };
        let outside = lab.namespace("out");
        // What joins the hosts out there.
        lab.ip(&outside, &["link", "add", "pub0", "type", "bridge"]);
        lab.ip(&outside, &["addr", "add", "172.24.4.2/24", "dev", "pub0"]);
        lab.ip(&outside, &["link", "set", "pub0", "up"]);
        lab.host = lab.machine("host", "172.24.4.1/24");
        lab.restart();
        lab
    }

    /// A machine whose `ext0` is outside under this address.
    fn machine(&mut self, name: &str, address: &str) -> String {
        let (machine, outside) = (self.namespace(name), self.outside());
        let link = ["link", "add", "ext0", "netns", &machine, "type", "veth"];
        ip(&[&link[..], &["peer", "name", name, "netns", &outside]].concat());
        self.ip(&outside, &["link", "set", name, "master", "pub0", "up"]);
        self.ip(&machine, &["addr", "add", address, "dev", "ext0"]);
        self.ip(&machine, &["link", "set", "ext0", "up"]);
        machine
    }

    /// One more host, with its own agent, which is the one that is meant from now on; the first
    /// one's.
    pub(crate) fn turn_to_another_host(&mut self) -> Arc<Linux> {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        self.host = self.machine("host2", "172.24.4.3/24");
        let before = std::mem::replace(&mut self.folder, folder);
        self.folders.push(before);
        let first = Arc::clone(&self.backend);
        self.restart();
        first
    }

    /// A new process of the host's agent.
    pub(crate) fn restart(&mut self) {
        let place = HostPlace::new(self.folder.path()).in_namespace(&self.host);
        // The old one ends before the new one begins, as processes do.
        self.backend = Arc::new(Linux::new());
        let listens = || self.exec(&self.host, &["cat", "/proc/net/tcp"]).stdout;
        while String::from_utf8(listens()).unwrap().contains(":0050 00000000:0000 0A") {
            std::thread::yield_now();
        }
        let linux = self.source.iter().cloned().fold(Linux::new(), Linux::with_metadata);
        self.backend = Arc::new(linux.with_host(HOST, &place).unwrap());
    }

    /// A namespace with its loopback up.
    pub(crate) fn namespace(&mut self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        ip(&["netns", "add", &name]);
        self.namespaces.push(name.clone());
        self.ip(&name, &["link", "set", "lo", "up"]);
        name
    }

    pub(crate) fn outside(&self) -> String {
        format!("{}-out", self.prefix)
    }

    pub(crate) fn ip(&self, namespace: &str, arguments: &[&str]) {
        ip(&[&["-n", namespace], arguments].concat());
    }

    /// Runs a command in a namespace.
    pub(crate) fn exec(&self, namespace: &str, command: &[&str]) -> Output {
        let all = [&["netns", "exec", namespace], command].concat();
        Command::new("ip").args(all).output().unwrap()
    }

    /// A guest: a namespace whose `eth0` is the other end of the port's tap.
    pub(crate) fn guest(&mut self, port: &GuestPort) -> String {
        let guest = self.namespace(port.tap.as_str());
        let (tap, mac) = (port.tap.as_str(), port.mac.to_string());
        ip(&[
            "link", "add", tap, "netns", &self.host, "type", "veth", "peer", "name", "eth0",
            "netns", &guest,
        ]);
        self.ip(&guest, &["link", "set", "eth0", "address", &mac]);
        self.ip(&guest, &["link", "set", "eth0", "up"]);
        guest
    }

    /// Asks for an address by DHCP as a guest does, and takes it; what it got, as text.
    pub(crate) fn dhcp(&self, guest: &str) -> String {
        let script = self.folder.path().join("lease.sh");
        let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n\
                    ip addr replace $ip/$mask dev $interface\n\
                    [ -z \"$router\" ] || ip route replace default via $router\n\
                    echo \"ip=$ip router=$router dns=$dns domain=$domain\"\n";
        std::fs::write(&script, text).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, executable).unwrap();
        let path = script.display().to_string();
        let client = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "1"];
        let output = self.exec(guest, &[&client[..], &["-s", &path]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().find(|line| line.starts_with("ip=")).unwrap_or_default().to_owned()
    }

    /// Whether one answers another's ping.
    pub(crate) fn pings(&self, from: &str, to: &str) -> bool {
        self.exec(from, &["busybox", "ping", "-c", "1", "-W", "1", to]).status.success()
    }

    /// A socket for datagrams in a namespace, which waits a second for one.
    pub(crate) fn socket(&self, namespace: &str, address: &str) -> UdpSocket {
        self.socket_at(namespace, address, 0)
    }

    /// The same at a port of choice.
    pub(crate) fn socket_at(&self, namespace: &str, address: &str, port: u16) -> UdpSocket {
        let address: IpAddr = address.parse().unwrap();
        let socket = inside(namespace, move || UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    }

    /// Waits for connections in a namespace.
    pub(crate) fn listen(&self, namespace: &str, address: &str, port: u16) -> TcpListener {
        let address: IpAddr = address.parse().unwrap();
        inside(namespace, move || TcpListener::bind((address, port)).unwrap())
    }

    /// Connects from a namespace, within a second.
    pub(crate) fn call(&self, from: &str, to: &str, port: u16) -> std::io::Result<TcpStream> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        inside(from, move || TcpStream::connect_timeout(&to, Duration::from_secs(1)))
    }

    /// Whose address the outside sees when this namespace sends it a packet; none when nothing
    /// comes.
    pub(crate) fn seen_as(&self, from: &str) -> Option<String> {
        let listener = self.socket(&self.outside(), OUTSIDE);
        let to = listener.local_addr().unwrap();
        self.socket(from, "0.0.0.0").send_to(b"hello", to).ok()?;
        heard(&listener).map(|seen| seen.ip().to_string())
    }

    /// Sends a frame out of a guest's `eth0`.
    pub(crate) fn send_frame(&self, guest: &str, frame: Vec<u8>) {
        inside(guest, move || {
            eth0().0.send_to(&frame, None).unwrap().unwrap();
        });
    }

    /// Sends frames out of a guest's `eth0`, and then one that is always let through; which of them
    /// another guest has received.
    pub(crate) fn sent(
        &self,
        from: (&str, u8),
        to: (&str, u8),
        frames: Vec<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let mut ears = inside(to.0, || eth0().1);
        let arp = [0, 1, 8, 0, 6, 4, 0, 1];
        let (own, it) = (octets(from.1), octets(to.1));
        let address = [10, 0, 0, own[5]];
        let last = [&it[..], &own, &[8, 6], &arp, &own, &address, &[0; 10]].concat();
        let (end, sent) = (last.clone(), frames.clone());
        inside(from.0, move || {
            let mut voice = eth0().0;
            for frame in sent.iter().chain([&last]) {
                voice.send_to(frame, None).unwrap().unwrap();
            }
        });
        let mut heard = Vec::new();
        loop {
            let frame = ears.next().unwrap();
            // What is short has been filled up on the way.
            if frame.starts_with(&end) {
                return heard;
            }
            heard.extend(frames.iter().find(|sent| frame.starts_with(sent)).cloned());
        }
    }

    /// How many frames a guest has received.
    pub(crate) fn frames_heard(&self, guest: &str) -> u64 {
        let file = "/sys/class/net/eth0/statistics/rx_packets";
        let shown = self.exec(guest, &["cat", file]).stdout;
        String::from_utf8(shown).unwrap().trim().parse().unwrap()
    }

    /// The MACs that the host's bridge has heard.
    pub(crate) fn known_macs(&self) -> String {
        let shown = self.exec(&self.host, &["bridge", "fdb", "show", "br", "br100"]);
        String::from_utf8(shown.stdout).unwrap()
    }

    /// Brings the host to this network, by a plan that was checked; how many steps that took.
    pub(crate) async fn converge(&self, desired: &HostNet) -> Result<usize, BackendError> {
        self.generation.set(self.generation.get() + 1);
        let observed = self.backend.observe(HOST).await?;
        let plan = diff(&observed, desired);
        check(&observed, &plan, desired).unwrap();
        self.backend.apply(HOST, Revision(self.generation.get()), &plan).await?;
        Ok(plan.steps().len())
    }

    /// The same, decided on this revision; the host is so afterwards.
    pub(crate) async fn converge_from(&self, desired: &HostNet, generation: Revision) {
        let observed = self.backend.observe(HOST).await.unwrap();
        let plan = diff(&observed, desired);
        check(&observed, &plan, desired).unwrap();
        self.backend.apply(HOST, generation, &plan).await.unwrap();
        assert_eq!(self.backend.observe(HOST).await.unwrap(), *desired);
    }

    /// Everything that the host's namespace has: links, addresses, rules.
    pub(crate) fn state(&self) -> String {
        let links = self.exec(&self.host, &["ip", "-o", "addr"]).stdout;
        let rules = self.exec(&self.host, &["nft", "list", "ruleset"]).stdout;
        let (v4, v6) = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding");
        let forward = self.exec(&self.host, &["cat", v4, v6]).stdout;
        let all = [links, rules, forward].map(|text| String::from_utf8(text).unwrap()).concat();
        // An address that the kernel gave itself settles in its own time.
        all.replace(" tentative", "")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // DHCP servers that are still there.
        for folder in self.folders.iter().chain([&self.folder]) {
            for entry in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|end| end == "pid")
                    && let Ok(pid) = std::fs::read_to_string(entry.path())
                {
                    let _ = Command::new("kill").arg(pid.trim()).status();
                }
            }
        }
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// Who sent what comes; none when nothing does.
pub(crate) fn heard(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.recv_from(&mut [0; 16]).ok().map(|(_, from)| from)
}

/// Does something in a namespace. A socket that is made there stays there.
fn inside<T: Send + 'static>(namespace: &str, what: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    let enter = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        what()
    };
    std::thread::spawn(enter).join().unwrap()
}

/// The raw sides of the `eth0` of a guest, in whose namespace this has to be called.
fn eth0() -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    let eth0 = pnet_datalink::interfaces().into_iter().find(|found| found.name == "eth0");
    let patience = Some(Duration::from_secs(5));
    let config = pnet_datalink::Config { read_timeout: patience, ..Default::default() };
    let channel = pnet_datalink::channel(&eth0.unwrap(), config).unwrap();
    let pnet_datalink::Channel::Ethernet(voice, ears) = channel else { panic!() };
    (voice, ears)
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {said}");
}

pub(crate) fn interface(name: &str) -> InterfaceName {
    InterfaceName::new(name).unwrap()
}

/// The interface of guest `n`, which is 10.0.0.n.
pub(crate) fn port(n: u8) -> GuestPort {
    GuestPort {
        tap: interface(&format!("tap{n}")),
        bridge: interface("br100"),
        mac: mac(n),
        address: format!("10.0.0.{n}").parse().unwrap(),
        groups: open(),
    }
}

/// The group of guests that anything may be sent to.
pub(crate) fn open() -> BTreeSet<SecurityGroupId> {
    [SecurityGroupId::from_u128(1)].into()
}

/// What may come to the guests of these groups.
pub(crate) fn filter(groups: BTreeSet<SecurityGroupId>, allows: &[(Traffic, &str)]) -> PortFilter {
    let allowed = |(traffic, from): &(Traffic, &str)| Allowed {
        traffic: *traffic,
        from: from.parse().unwrap(),
    };
    PortFilter { groups, allows: allows.iter().map(allowed).collect() }
}

pub(crate) fn mac(n: u8) -> Mac {
    Mac::new(octets(n)).unwrap()
}

pub(crate) fn octets(n: u8) -> [u8; 6] {
    [0xfa, 0x16, 0x3e, 0, 0, n]
}

/// Flat DHCP with these guests.
pub(crate) fn flat(guests: &[u8]) -> HostNet {
    let bridge = interface("br100");
    let range = "10.0.0.0/24".parse().unwrap();
    let listen = "10.0.0.1".parse().unwrap();
    let mut parts: Vec<Part> = vec![
        Bridge { name: bridge, uplink: None, origin: BridgeOrigin::Ours }.into(),
        BridgeAddress { bridge, address: "10.0.0.1/24".parse().unwrap() }.into(),
        DhcpServer {
            network: NETWORK,
            bridge,
            listen,
            range,
            gateway: Some(listen),
            dns: Vec::new(),
            mtu: None,
        }
        .into(),
        Nat { range, bridge }.into(),
        filter(open(), &[(Traffic::Any, "0.0.0.0/0")]).into(),
    ];
    for n in guests {
        let port = port(*n);
        let name = ServerName::new(format!("web{n}")).unwrap();
        let (mac, address) = (port.mac, port.address);
        parts.push(Lease { network: NETWORK, mac, address, name }.into());
        parts.push(port.into());
    }
    HostNet::try_from(parts).unwrap()
}

/// The same with a floating IP that leads to one of the guests.
pub(crate) fn with_floating(mut net: HostNet, to: u8) -> HostNet {
    let address = FLOATING.parse().unwrap();
    net.insert(PublicAddress { address, interface: interface("ext0") }).unwrap();
    let fixed = port(to).address;
    net.insert(Floating { address, fixed, bridge: interface("br100") }).unwrap();
    net
}
