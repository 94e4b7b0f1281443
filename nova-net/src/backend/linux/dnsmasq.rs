//! DHCP, DNS and router advertisements for guests: one dnsmasq for each network, and another one
//! for its IPv6, which we start, find again and stop.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnetwork::IpNetwork;
use nova_core::clock::Meter;
use nova_core::domain::NetworkId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::files::write_whole;
use super::leases::{LeasedAddress, leased};
use super::release::release;
use crate::host::{DhcpServer, HostNet, Lease, Part, RouterAdvertiser};

/// How long a server may take to end before it is killed.
const END_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long a guest may keep an address without asking again, in seconds.
const LEASE_SECONDS: u32 = 120;
/// How often guests are told of IPv6 without asking, and for how long they believe in the way out
/// without hearing of it again, in seconds.
const TELL_EVERY: u32 = 10;
const ROUTER_SECONDS: u32 = 60;
/// The domain of the names of guests.
const DOMAIN: &str = "novalocal";

/// What went wrong with a DHCP server.
#[derive(Debug, thiserror::Error)]
pub(super) enum DhcpError {
    #[error("cannot {what}")]
    Files { what: &'static str, source: io::Error },
    #[error("dnsmasq did not start: {0}")]
    Refused(String),
    #[error("DHCP for {0} is not there yet")]
    NoIpv6(IpNetwork),
}

/// The files of the DHCP servers of one host.
#[derive(Debug)]
pub(super) struct Servers {
    folder: PathBuf,
    /// What adds up how long `dnsmasq` takes to start.
    meter: Option<Meter>,
}

impl Servers {
    pub(super) fn new(folder: PathBuf, meter: Option<Meter>) -> Self {
        Self { folder, meter }
    }

    fn file(&self, process: Process, what: &str) -> PathBuf {
        self.folder.join(format!("{process}.{what}"))
    }

    /// Starts a server anew, with the leases of its guests.
    pub(super) fn start(&self, server: &DhcpServer, net: &HostNet) -> Result<(), DhcpError> {
        let process = Process::Dhcp(server.network);
        self.stop(process)?;
        let settings = self.settings(server)?;
        self.put_guests(server.network, net)?;
        self.run(process, &settings)
    }

    /// Starts to tell guests of IPv6, anew.
    pub(super) fn advertise(&self, advertiser: &RouterAdvertiser) -> Result<(), DhcpError> {
        let process = Process::Advertiser(advertiser.network);
        self.stop(process)?;
        self.run(process, &self.advertiser_settings(advertiser))
    }

    fn run(&self, process: Process, settings: &str) -> Result<(), DhcpError> {
        self.put(process, "conf", settings)?;
        let conf = self.file(process, "conf");
        // It goes into the background when it serves, and says what is wrong before that.
        let _waiting = self.meter.as_ref().map(Meter::wait);
        let output = Command::new("dnsmasq")
            .arg(format!("--conf-file={}", conf.display()))
            .stdin(Stdio::null())
            .output()
            .map_err(|source| DhcpError::Files { what: "run dnsmasq", source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(DhcpError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Lets a server know what leases there are now. Those that are no more end at once.
    pub(super) fn tell(&self, server: &DhcpServer, net: &HostNet) -> Result<(), DhcpError> {
        let network = server.network;
        let before = self.told(network);
        self.put_guests(network, net)?;
        let Some(pid) = self.process(Process::Dhcp(network)) else {
            // When it is started again it reads what there is.
            return Ok(());
        };
        let now = self.told(network);
        for (mac, line) in before {
            let address = |line: &str| line.split(',').nth(1)?.parse().ok();
            let still = now.get(&mac).and_then(|line| address(line));
            if let (Ok(mac), Some(address)) = (mac.parse(), address(&line))
                && still != Some(address)
            {
                let released = release(server, mac, address);
                released.map_err(|source| DhcpError::Files { what: "end a lease", source })?;
            }
        }
        // One that has ended meanwhile reads the files when it is started again.
        let _ = kill_process(pid, Signal::HUP);
        Ok(())
    }

    /// What all servers have leased.
    pub(super) fn leased(&self) -> io::Result<Vec<LeasedAddress>> {
        leased(&self.folder)
    }

    /// Ends a server, and waits until it is gone.
    pub(super) fn stop(&self, process: Process) -> Result<(), DhcpError> {
        if let Some(pid) = self.process(process)
            && let Ok(running) = pidfd_open(pid, PidfdFlags::empty())
        {
            for signal in [Signal::TERM, Signal::KILL] {
                let _ = pidfd_send_signal(&running, signal);
                let mut ends = [PollFd::new(&running, PollFlags::IN)];
                if matches!(poll(&mut ends, Some(&END_WITHIN)), Ok(1..)) {
                    break;
                }
            }
        }
        for what in ["pid", "hosts", "names", "leases", "conf"] {
            match std::fs::remove_file(self.file(process, what)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(DhcpError::Files { what: "remove a server's file", source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a server runs with these settings.
    pub(super) fn serves(&self, server: &DhcpServer) -> bool {
        let settings = self.settings(server).ok();
        self.runs_with(Process::Dhcp(server.network), settings)
    }

    /// Whether guests are told just this.
    pub(super) fn advertises(&self, advertiser: &RouterAdvertiser) -> bool {
        let settings = Some(self.advertiser_settings(advertiser));
        self.runs_with(Process::Advertiser(advertiser.network), settings)
    }

    fn runs_with(&self, process: Process, settings: Option<String>) -> bool {
        let there = std::fs::read_to_string(self.file(process, "conf"));
        there.ok() == settings && self.process(process).is_some()
    }

    /// The leases that a server was told of: of each MAC, the whole line.
    pub(super) fn told(&self, network: NetworkId) -> BTreeMap<String, String> {
        let file = self.file(Process::Dhcp(network), "hosts");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = |line: &str| Some((line.split_once(',')?.0.to_owned(), line.to_owned()));
        text.lines().filter_map(line).collect()
    }

    fn put_guests(&self, network: NetworkId, net: &HostNet) -> Result<(), DhcpError> {
        let process = Process::Dhcp(network);
        self.put(process, "hosts", &hosts(network, net))?;
        self.put(process, "names", &names(network, net))
    }

    fn put(&self, process: Process, what: &str, text: &str) -> Result<(), DhcpError> {
        let written = write_whole(&self.file(process, what), text.as_bytes());
        written.map_err(|source| DhcpError::Files { what: "write a server's file", source })
    }

    /// The server's process, if that is what runs under the number that it left.
    fn process(&self, process: Process) -> Option<Pid> {
        let text = std::fs::read_to_string(self.file(process, "pid")).ok()?;
        let number: i32 = text.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let conf = format!("--conf-file={}", self.file(process, "conf").display());
        command.split(|byte| *byte == 0).any(|word| word == conf.as_bytes()).then_some(())?;
        Pid::from_raw(number)
    }

    /// The settings of a server. Every value is of a type whose text cannot have a line's end in
    /// it.
    fn settings(&self, server: &DhcpServer) -> Result<String, DhcpError> {
        let IpNetwork::V4(range) = server.range else {
            return Err(DhcpError::NoIpv6(server.range));
        };
        let process = Process::Dhcp(server.network);
        let path = |what| self.file(process, what).display().to_string();
        let mut text = String::new();
        let mut line = |key: &str, value: &str| set(&mut text, key, value);
        for flag in ["bind-interfaces", "dhcp-authoritative", "no-hosts", "no-resolv", "no-ping"] {
            line(flag, "");
        }
        line("user", "root");
        line("except-interface", "lo");
        line("listen-address", &server.listen.to_string());
        line("pid-file", &path("pid"));
        line("dhcp-leasefile", &path("leases"));
        line("dhcp-hostsfile", &path("hosts"));
        line("addn-hosts", &path("names"));
        line("domain", DOMAIN);
        line("local", &format!("/{DOMAIN}/"));
        line(
            "dhcp-range",
            &format!("{},static,{},{LEASE_SECONDS}s", range.network(), range.mask()),
        );
        match server.gateway {
            Some(gateway) => line("dhcp-option", &format!("option:router,{gateway}")),
            None => line("dhcp-option", "option:router"),
        }
        // Where none is named, guests are told this server, which knows their names.
        if !server.dns.is_empty() {
            let dns: Vec<String> = server.dns.iter().map(ToString::to_string).collect();
            line("dhcp-option", &format!("option:dns-server,{}", dns.join(",")));
        }
        if let Some(mtu) = server.mtu {
            line("dhcp-option", &format!("option:mtu,{mtu}"));
        }
        Ok(text)
    }

    /// The settings of who tells of IPv6, and answers nothing.
    fn advertiser_settings(&self, advertiser: &RouterAdvertiser) -> String {
        let path = |what| self.file(Process::Advertiser(advertiser.network), what);
        let mut text = String::new();
        let mut line = |key: &str, value: &str| set(&mut text, key, value);
        for flag in ["bind-interfaces", "no-hosts", "no-resolv", "enable-ra", "quiet-ra"] {
            line(flag, "");
        }
        line("user", "root");
        line("port", "0");
        line("interface", advertiser.bridge.as_str());
        line("except-interface", "lo");
        line("pid-file", &path("pid").display().to_string());
        line("dhcp-leasefile", &path("leases").display().to_string());
        let (range, bits) = (advertiser.gateway.network(), advertiser.gateway.prefix());
        line("dhcp-range", &format!("{range},ra-only,{bits}"));
        let mtu = advertiser.mtu.map_or_else(String::new, |mtu| format!("mtu:{mtu},"));
        let bridge = advertiser.bridge;
        line("ra-param", &format!("{bridge},{mtu}{TELL_EVERY},{ROUTER_SECONDS}"));
        if !advertiser.dns.is_empty() {
            let dns: Vec<String> = advertiser.dns.iter().map(|dns| format!("[{dns}]")).collect();
            line("dhcp-option", &format!("option6:dns-server,{}", dns.join(",")));
        }
        text
    }
}

/// What runs for a network.
#[derive(Debug, Clone, Copy)]
pub(super) enum Process {
    Dhcp(NetworkId),
    Advertiser(NetworkId),
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dhcp(network) => write!(f, "dnsmasq-{network}"),
            Self::Advertiser(network) => write!(f, "advertiser-{network}"),
        }
    }
}

/// Adds a line to settings.
fn set(text: &mut String, key: &str, value: &str) {
    let equals = if value.is_empty() { "" } else { "=" };
    // It takes whatever is written into it.
    let _ = writeln!(text, "{key}{equals}{value}");
}

/// The line of a lease.
pub(super) fn lease(lease: &Lease) -> String {
    format!("{},{},{}", lease.mac, lease.address, lease.name)
}

fn hosts(network: NetworkId, net: &HostNet) -> String {
    let mut text = String::new();
    for (_, part) in net.parts() {
        if let Part::Lease(known) = part
            && known.network == network
        {
            text.push_str(&lease(known));
            text.push('\n');
        }
    }
    text
}

/// The IPv6 addresses of guests, which no lease tells, with their names.
fn names(network: NetworkId, net: &HostNet) -> String {
    let mut text = String::new();
    for (_, part) in net.parts() {
        if let Part::GuestIpv6(guest) = part
            && guest.network == network
            && let Some(Lease { name, .. }) = net.lease_of(guest)
        {
            // It takes whatever is written into it.
            let _ = writeln!(text, "{} {name}.{DOMAIN} {name}", guest.address);
        }
    }
    text
}

/// Whether a path can stand in a line of settings.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    path.to_str().is_some_and(|text| text.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(range: &str) -> DhcpServer {
        DhcpServer {
            network: NetworkId::from_u128(7),
            bridge: nova_core::domain::InterfaceName::new("br100").unwrap(),
            listen: "10.0.0.1".parse().unwrap(),
            range: range.parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            dns: vec!["192.0.2.53".parse().unwrap(), "192.0.2.54".parse().unwrap()],
            mtu: Some(1450),
        }
    }

    #[test]
    fn the_settings_say_what_the_server_is() {
        let servers = Servers::new(PathBuf::from("/srv/net"), None);
        let expected = "\
bind-interfaces
dhcp-authoritative
no-hosts
no-resolv
no-ping
user=root
except-interface=lo
listen-address=10.0.0.1
pid-file=/srv/net/dnsmasq-ID.pid
dhcp-leasefile=/srv/net/dnsmasq-ID.leases
dhcp-hostsfile=/srv/net/dnsmasq-ID.hosts
addn-hosts=/srv/net/dnsmasq-ID.names
domain=novalocal
local=/novalocal/
dhcp-range=10.0.0.0,static,255.255.255.0,120s
dhcp-option=option:router,10.0.0.1
dhcp-option=option:dns-server,192.0.2.53,192.0.2.54
dhcp-option=option:mtu,1450
";
        let settings = servers.settings(&server("10.0.0.0/24")).unwrap();
        assert_eq!(settings, expected.replace("ID", &NetworkId::from_u128(7).to_string()));
    }

    #[test]
    fn who_tells_of_ipv6_answers_nothing() {
        let servers = Servers::new(PathBuf::from("/srv/net"), None);
        let advertiser = RouterAdvertiser {
            network: NetworkId::from_u128(7),
            bridge: nova_core::domain::InterfaceName::new("br100").unwrap(),
            gateway: "fd00:0:0:7::1/64".parse().unwrap(),
            dns: vec!["2001:db8::53".parse().unwrap()],
            mtu: Some(1450),
        };
        let expected = "\
bind-interfaces
no-hosts
no-resolv
enable-ra
quiet-ra
user=root
port=0
interface=br100
except-interface=lo
pid-file=/srv/net/advertiser-ID.pid
dhcp-leasefile=/srv/net/advertiser-ID.leases
dhcp-range=fd00:0:0:7::,ra-only,64
ra-param=br100,mtu:1450,10,60
dhcp-option=option6:dns-server,[2001:db8::53]
";
        let settings = servers.advertiser_settings(&advertiser);
        assert_eq!(settings, expected.replace("ID", &NetworkId::from_u128(7).to_string()));
    }

    #[test]
    fn a_range_of_ipv6_is_refused() {
        let servers = Servers::new(PathBuf::from("/srv/net"), None);
        assert!(matches!(servers.settings(&server("fd00::/64")), Err(DhcpError::NoIpv6(_))));
    }

    #[test]
    fn a_folder_that_could_slip_a_line_in_is_not_plain() {
        for (path, plain) in
            [("/srv/net-1.d", true), ("/srv/a b", false), ("/srv/a\nuser=x", false), ("/é", false)]
        {
            assert_eq!(is_plain(Path::new(path)), plain, "{path:?}");
        }
    }
}
