//! How many packets a second reach a guest whose security groups have few rules, or many.
//!
//! Two guests in network namespaces on one bridge: one sends datagrams as fast as it can, the other
//! counts what comes. Once over one connection, where only the first packet meets the rules; once
//! with a connection for each packet, where every packet does. Needs root, `ip` and `nft`.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use comfy_table::Table;
use etherparse::PacketBuilder;
use nova_core::domain::{HostId, InterfaceName, Mac, PortRange, SecurityGroupId, Traffic};
use nova_core::store::Revision;
use nova_net::backend::NetBackend as _;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::host::{Allowed, Bridge, BridgeOrigin, GuestPort, HostNet, Part, PortFilter};
use nova_net::plan::diff;

type Failure = Box<dyn Error>;

#[derive(Parser)]
struct Arguments {
    /// Numbers of rules to compare.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    rules: Vec<u32>,
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(subcommand)]
    part: Option<Role>,
}

/// What runs inside a guest.
#[derive(Subcommand, Clone, Copy)]
enum Role {
    /// Sends datagrams for a second, over one connection.
    Flood,
    /// Sends that many datagrams, each over a connection of its own.
    Sprinkle {
        /// How many.
        count: u32,
    },
    /// Counts datagrams until nothing came for a while, and prints how many came in a second.
    Count,
}

const ADDRESSES: [[u8; 4]; 2] = [[10, 0, 0, 2], [10, 0, 0, 3]];
const MACS: [[u8; 6]; 2] = [[0xfa, 0x16, 0x3e, 0, 0, 2], [0xfa, 0x16, 0x3e, 0, 0, 3]];
const PORT: u16 = 9;
/// As many connections as a kernel tracks without being told to track more.
const CONNECTIONS: u32 = 50_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Role::Flood) => return flood(),
        Some(Role::Sprinkle { count }) => return sprinkle(count),
        Some(Role::Count) => return count(),
        None => {}
    }
    let mut table = Table::new();
    table.set_header(["rules", "one connection: packets/s", "a connection each: packets/s"]);
    let mut measured = vec![(Vec::new(), Vec::new()); arguments.rules.len()];
    // Round by round, so that what else the machine does falls upon all alike.
    for _ in 0..arguments.rounds {
        for (rules, (one, each)) in arguments.rules.iter().zip(&mut measured) {
            one.push(measure(*rules, Role::Flood).await?);
            each.push(measure(*rules, Role::Sprinkle { count: CONNECTIONS }).await?);
        }
    }
    for (rules, (one, each)) in arguments.rules.iter().zip(&mut measured) {
        table.add_row([rules.to_string(), median(one).to_string(), median(each).to_string()]);
    }
    println!("{table}");
    Ok(())
}

fn median(of: &mut [u64]) -> u64 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or_default()
}

/// Packets a second that come to a guest with so many rules.
async fn measure(rules: u32, role: Role) -> Result<u64, Failure> {
    let lab = Lab::new()?;
    let folder = tempfile::tempdir()?;
    let place = HostPlace::new(folder.path()).in_namespace(lab.name("host"));
    let host = HostId::from_u128(1);
    let linux = Linux::new().with_host(host, &place)?;
    let plan = diff(&HostNet::new(), &wanted(rules)?);
    linux.apply(host, Revision(1), &plan).await?;
    let counter = lab.run("guest1", Role::Count)?;
    // It has to listen, and the cables have to carry, before anything comes.
    let listens = || lab.shows("guest1", "/proc/net/udp", &format!(":{PORT:04X}"));
    let carries = |at: usize| -> Result<bool, Failure> {
        let forwards = lab.shows("host", &format!("/sys/class/net/tap{at}/brport/state"), "3")?;
        Ok(forwards && lab.shows(&format!("guest{at}"), "/sys/class/net/eth0/operstate", "up")?)
    };
    while !(listens()? && carries(0)? && carries(1)?) {
        std::thread::yield_now();
    }
    let sent = lab.run("guest0", role)?.wait_with_output()?;
    if !sent.status.success() {
        return Err("the sender failed".into());
    }
    let counted = counter.wait_with_output()?;
    Ok(String::from_utf8(counted.stdout)?.trim().parse()?)
}

/// Two guests on a bridge; the second one has that many rules, of which one lets the first in.
fn wanted(rules: u32) -> Result<HostNet, Failure> {
    let bridge = InterfaceName::new("br100")?;
    let ports = PortRange::new(1, u16::MAX)?;
    let first = Allowed { traffic: Traffic::Udp(ports), from: "10.0.0.2/32".parse()? };
    let mut allows = BTreeSet::from([first]);
    for n in 1..rules {
        let [_, a, b, c] = n.to_be_bytes();
        let traffic = Traffic::Udp(PortRange::new(1, 1 + u16::from(c))?);
        allows.insert(Allowed { traffic, from: format!("11.{a}.{b}.{c}/32").parse()? });
    }
    let groups = [BTreeSet::new(), BTreeSet::from([SecurityGroupId::from_u128(1)])];
    let mut parts: Vec<Part> =
        vec![Bridge { name: bridge, uplink: None, origin: BridgeOrigin::Ours }.into()];
    for (at, groups) in groups.into_iter().enumerate() {
        let allows = if at == 1 { std::mem::take(&mut allows) } else { BTreeSet::new() };
        parts.push(PortFilter { groups: groups.clone(), allows }.into());
        let (tap, mac) = (InterfaceName::new(format!("tap{at}"))?, Mac::new(MACS[at])?);
        parts.push(GuestPort { tap, bridge, mac, address: ADDRESSES[at].into(), groups }.into());
    }
    Ok(HostNet::try_from(parts)?)
}

/// A host and two guests, which go when this is dropped.
struct Lab(String);

impl Lab {
    fn new() -> Result<Self, Failure> {
        let lab = Self(format!("rate{}", std::process::id()));
        ip(&["netns", "add", &lab.name("host")])?;
        for at in 0..2 {
            let (host, guest) = (lab.name("host"), lab.name(&format!("guest{at}")));
            let (tap, mac) = (format!("tap{at}"), Mac::new(MACS[at])?.to_string());
            ip(&["netns", "add", &guest])?;
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", &guest];
            ip(&[&["link", "add", &tap, "netns", &host][..], &peer].concat())?;
            ip(&["-n", &guest, "link", "set", "eth0", "address", &mac, "up"])?;
            let address = format!("10.0.0.{}/24", 2 + at);
            ip(&["-n", &guest, "addr", "add", &address, "dev", "eth0"])?;
            let (other, mac) = (format!("10.0.0.{}", 3 - at), Mac::new(MACS[1 - at])?.to_string());
            let known = ["neigh", "add", &other, "lladdr", &mac, "dev", "eth0"];
            ip(&[&["-n", &guest][..], &known].concat())?;
        }
        Ok(lab)
    }

    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.0)
    }

    /// Whether a file of the kernel says this inside a guest.
    fn shows(&self, guest: &str, file: &str, text: &str) -> Result<bool, Failure> {
        let arguments = ["netns", "exec", &self.name(guest), "cat", file];
        let shown = Command::new("ip").args(arguments).output()?;
        Ok(String::from_utf8(shown.stdout)?.contains(text))
    }

    /// Runs this program inside a guest.
    fn run(&self, guest: &str, role: Role) -> Result<Child, Failure> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(guest)]).arg(std::env::current_exe()?);
        match role {
            Role::Flood => command.arg("flood"),
            Role::Sprinkle { count } => command.args(["sprinkle", &count.to_string()]),
            Role::Count => command.arg("count"),
        };
        Ok(command.stdout(Stdio::piped()).spawn()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for what in ["host", "guest0", "guest1"] {
            // What is not there needs not go.
            drop(ip(&["netns", "del", &self.name(what)]));
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

fn flood() -> Result<(), Failure> {
    let socket = UdpSocket::bind(("10.0.0.2", 0))?;
    socket.connect(("10.0.0.3", PORT))?;
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        for _ in 0..64 {
            // What does not fit into a queue is not counted, and that is the measure.
            drop(socket.send(&[7; 64]));
        }
    }
    Ok(())
}

fn sprinkle(count: u32) -> Result<(), Failure> {
    let found = pnet_datalink::interfaces().into_iter().find(|found| found.name == "eth0");
    let eth0 = found.ok_or("there is no eth0")?;
    let channel = pnet_datalink::channel(&eth0, pnet_datalink::Config::default())?;
    let pnet_datalink::Channel::Ethernet(mut voice, _) = channel else {
        return Err("eth0 is not Ethernet".into());
    };
    let mut frames = Vec::new();
    for n in 0..count {
        let source = u16::try_from(1024 + n % 60_000)?;
        let ethernet = PacketBuilder::ethernet2(MACS[0], MACS[1]);
        let mut frame = Vec::new();
        let packet = ethernet.ipv4(ADDRESSES[0], ADDRESSES[1], 64).udp(source, PORT);
        packet.write(&mut frame, &[7; 64])?;
        frames.push(frame);
    }
    for frame in frames {
        voice.send_to(&frame, None).ok_or("no frame can be sent")??;
    }
    Ok(())
}

fn count() -> Result<(), Failure> {
    let socket = UdpSocket::bind(("10.0.0.3", PORT))?;
    let (mut buffer, mut count) = ([0; 128], 0_u64);
    socket.recv(&mut buffer)?;
    let began = Instant::now();
    let mut last = began;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    while socket.recv(&mut buffer).is_ok() {
        count += 1;
        last = Instant::now();
    }
    let seconds = last.duration_since(began).as_secs_f64();
    println!("{:.0}", if seconds > 0.0 { count as f64 / seconds } else { 0.0 });
    Ok(())
}
