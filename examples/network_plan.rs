//! What would change on a host's network, and the change itself when it is asked for.
//!
//! The network that is wanted is a file of parts as JSON, or Flat DHCP with so many guests. It is
//! compared with what the kernel has, in a network namespace when one is named. Needs root, and
//! `nft` and `dnsmasq` where something is applied.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use nova_core::domain::{
    HostId, InterfaceName, Mac, NetworkId, PortRange, SecurityGroupId, ServerName, Traffic,
};
use nova_core::store::Revision;
use nova_net::backend::NetBackend as _;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::check::check;
use nova_net::host::{
    Allowed, Bridge, BridgeAddress, BridgeOrigin, DhcpServer, GuestPort, HostNet, Lease, Nat, Part,
    PortFilter,
};
use nova_net::plan::diff;

/// Shows what would change on this host's network.
#[derive(Parser)]
struct Arguments {
    /// The network that is wanted: a JSON array of parts.
    #[arg(long, conflicts_with = "guests")]
    net: Option<PathBuf>,
    /// Flat DHCP on `br100`, 10.0.0.0/16, with so many guests.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(..60_000))]
    guests: u16,
    /// Nothing is wanted: everything of ours is taken down.
    #[arg(long, conflicts_with_all = ["net", "guests"])]
    down: bool,
    /// The network namespace; the program's own without it.
    #[arg(long)]
    namespace: Option<String>,
    /// Where is kept what the host has.
    #[arg(long, default_value = "/var/lib/nova-net")]
    folder: PathBuf,
    /// Applies the plan.
    #[arg(long)]
    apply: bool,
    /// Applies so many plans more, each for one guest more, and tells how long each took.
    #[arg(long, default_value_t = 0, requires = "apply", conflicts_with_all = ["net", "down"])]
    grow: u16,
    /// The plan as JSON.
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let desired = match &arguments.net {
        _ if arguments.down => HostNet::new(),
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => flat_dhcp(arguments.guests)?,
    };
    let host = HostId::from_u128(1);
    let mut place = HostPlace::new(&arguments.folder);
    if let Some(namespace) = &arguments.namespace {
        place = place.in_namespace(namespace);
    }
    let linux = Linux::new().with_host(host, &place)?;

    let began = Instant::now();
    let observed = linux.observe(host).await?;
    let plan = diff(&observed, &desired);
    let planned = began.elapsed();
    if let Err(violations) = check(&observed, &plan, &desired) {
        let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
        return Err(format!("the plan is unsound: {}", violations.join("; ")).into());
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        print!("{plan}");
    }
    eprintln!("{} steps, seen and planned in {planned:.1?}", plan.steps().len());
    if arguments.apply {
        let began = Instant::now();
        // Whoever runs this by hand is not overtaken by anybody.
        linux.apply(host, Revision(u64::MAX), &plan).await?;
        eprintln!("applied in {:.1?}", began.elapsed());
    }
    for more in 1..=arguments.grow {
        let desired = flat_dhcp(arguments.guests.saturating_add(more))?;
        let began = Instant::now();
        let plan = diff(&linux.observe(host).await?, &desired);
        linux.apply(host, Revision(u64::MAX), &plan).await?;
        eprintln!(
            "{} steps, seen, planned and applied in {:.1?}",
            plan.steps().len(),
            began.elapsed()
        );
    }
    Ok(())
}

fn flat_dhcp(guests: u16) -> Result<HostNet, Box<dyn Error>> {
    let bridge = InterfaceName::new("br100")?;
    let (network, range, listen) =
        (NetworkId::from_u128(1), "10.0.0.0/16".parse()?, "10.0.0.1".parse()?);
    let name = bridge;
    let mut parts: Vec<Part> = vec![
        Bridge { name, uplink: None, origin: BridgeOrigin::Ours }.into(),
        BridgeAddress { bridge, address: "10.0.0.1/16".parse()? }.into(),
        Nat { range, bridge }.into(),
    ];
    let (gateway, dns) = (Some(listen), Vec::new());
    let server = bridge;
    let mtu = None;
    parts.push(DhcpServer { network, bridge: server, listen, range, gateway, dns, mtu }.into());
    // Everybody may see their web pages, and each other everything.
    let groups = BTreeSet::from([SecurityGroupId::from_u128(1)]);
    let web = Allowed { traffic: Traffic::Tcp(PortRange::one(80)), from: "0.0.0.0/0".parse()? };
    let inside = Allowed { traffic: Traffic::Any, from: range };
    parts.push(PortFilter { groups: groups.clone(), allows: [web, inside].into() }.into());
    for n in 2..guests.saturating_add(2) {
        let [high, low] = n.to_be_bytes();
        let address = format!("10.0.{high}.{low}").parse()?;
        let mac: Mac = format!("fa:16:3e:00:{high:02x}:{low:02x}").parse()?;
        let name = ServerName::new(format!("guest-{n}"))?;
        let tap = InterfaceName::new(format!("tap{n}"))?;
        parts.push(Lease { network, mac, address, name }.into());
        parts.push(GuestPort { tap, bridge, mac, address, groups: groups.clone() }.into());
    }
    Ok(HostNet::try_from(parts)?)
}
