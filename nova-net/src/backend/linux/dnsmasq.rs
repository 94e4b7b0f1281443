//! DHCP and DNS for guests: one dnsmasq for each network, which we start, find again and stop.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnetwork::IpNetwork;
use nova_core::domain::NetworkId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::files::write_whole;
use crate::host::{DhcpServer, HostNet, Lease, Part};

/// How long a server may take to end before it is killed.
const END_WITHIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long a guest may keep an address without asking again, in seconds.
const LEASE_SECONDS: u32 = 120;
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
}

impl Servers {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn file(&self, network: NetworkId, what: &str) -> PathBuf {
        self.folder.join(format!("dnsmasq-{network}.{what}"))
    }

    /// Starts a server anew, with the leases of its guests.
    pub(super) fn start(&self, server: &DhcpServer, net: &HostNet) -> Result<(), DhcpError> {
        self.stop(server.network)?;
        let settings = self.settings(server)?;
        self.put(server.network, "conf", &settings)?;
        self.put(server.network, "hosts", &hosts(server.network, net))?;
        let conf = self.file(server.network, "conf");
        // It goes into the background when it serves, and says what is wrong before that.
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

    /// Lets the servers of these networks know what leases there are now.
    pub(super) fn tell(&self, network: NetworkId, net: &HostNet) -> Result<(), DhcpError> {
        self.put(network, "hosts", &hosts(network, net))?;
        if let Some(pid) = self.process(network) {
            // One that has ended meanwhile reads the file when it is started again.
            let _ = kill_process(pid, Signal::HUP);
        }
        Ok(())
    }

    /// Ends a server, and waits until it is gone.
    pub(super) fn stop(&self, network: NetworkId) -> Result<(), DhcpError> {
        if let Some(pid) = self.process(network)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        {
            for signal in [Signal::TERM, Signal::KILL] {
                let _ = pidfd_send_signal(&process, signal);
                let mut ends = [PollFd::new(&process, PollFlags::IN)];
                if matches!(poll(&mut ends, Some(&END_WITHIN)), Ok(1..)) {
                    break;
                }
            }
        }
        for what in ["pid", "hosts", "leases", "conf"] {
            match std::fs::remove_file(self.file(network, what)) {
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
        let there = std::fs::read_to_string(self.file(server.network, "conf"));
        let same = there.ok() == self.settings(server).ok();
        same && self.process(server.network).is_some()
    }

    /// The leases that a server was told of: of each MAC, the whole line.
    pub(super) fn told(&self, network: NetworkId) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(self.file(network, "hosts")).unwrap_or_default();
        let line = |line: &str| Some((line.split_once(',')?.0.to_owned(), line.to_owned()));
        text.lines().filter_map(line).collect()
    }

    fn put(&self, network: NetworkId, what: &str, text: &str) -> Result<(), DhcpError> {
        let written = write_whole(&self.file(network, what), text.as_bytes());
        written.map_err(|source| DhcpError::Files { what: "write a server's file", source })
    }

    /// The server's process, if that is what runs under the number that it left.
    fn process(&self, network: NetworkId) -> Option<Pid> {
        let text = std::fs::read_to_string(self.file(network, "pid")).ok()?;
        let number: i32 = text.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let conf = format!("--conf-file={}", self.file(network, "conf").display());
        command.split(|byte| *byte == 0).any(|word| word == conf.as_bytes()).then_some(())?;
        Pid::from_raw(number)
    }

    /// The settings of a server. Every value is of a type whose text cannot have a line's end in
    /// it.
    fn settings(&self, server: &DhcpServer) -> Result<String, DhcpError> {
        let IpNetwork::V4(range) = server.range else {
            return Err(DhcpError::NoIpv6(server.range));
        };
        let path = |what| self.file(server.network, what).display().to_string();
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            let equals = if value.is_empty() { "" } else { "=" };
            // It takes whatever is written into it.
            let _ = writeln!(text, "{key}{equals}{value}");
        };
        for flag in ["bind-interfaces", "dhcp-authoritative", "no-hosts", "no-resolv", "no-ping"] {
            line(flag, "");
        }
        line("user", "root");
        line("except-interface", "lo");
        line("listen-address", &server.listen.to_string());
        line("pid-file", &path("pid"));
        line("dhcp-leasefile", &path("leases"));
        line("dhcp-hostsfile", &path("hosts"));
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
        let servers = Servers::new(PathBuf::from("/srv/net"));
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
    fn a_range_of_ipv6_is_refused() {
        let servers = Servers::new(PathBuf::from("/srv/net"));
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
