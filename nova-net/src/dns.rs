//! Names of guests for those who do not ask their DHCP server.
//!
//! Inside a network the host's own DHCP server knows the names of that host's guests. [`Dns`] is
//! for everybody else: an extension point that is told, host by host, which names there are.
//! [`DnsTable`] keeps them in memory; [`HostsFiles`] writes a file for each host, in the form of
//! `/etc/hosts`, which DNS servers such as dnsmasq (`--hostsdir`) and CoreDNS (`hosts`) serve.
//!
//! ```
//! # use std::sync::Arc;
//! # use nova_core::{clock::SystemClock, seed::Seed, store::MemoryStore};
//! use nova_net::{Networks, backend::Recorder, dns::DnsTable};
//!
//! # let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()));
//! let dns = Arc::new(DnsTable::default());
//! let networks = Networks::new(store, clock, Seed::new(1), Arc::new(Recorder::new()))
//!     .with_dns(dns.clone());
//! assert!(dns.addresses("web.novalocal").is_empty(), "before there is such a server");
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use nova_core::domain::{HostId, ServerName};

use crate::host::{HostNet, Part};
use crate::metadata::DOMAIN;

/// Names with their addresses: servers of one name share it.
pub type Names = BTreeMap<String, BTreeSet<IpAddr>>;

/// Tells the world the names of guests.
#[async_trait]
pub trait Dns: Display + Debug + Send + Sync + 'static {
    /// The guests of `host` have these names from now on, and no others: what was told of it
    /// before is forgotten. Telling the same again changes nothing.
    ///
    /// # Errors
    /// [`DnsError`]; the next convergence of the host tells it again.
    async fn tell(&self, host: HostId, names: &Names) -> Result<(), DnsError>;
}

/// Names could not be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell the names of host {host}")]
#[non_exhaustive]
pub struct DnsError {
    /// Of which host.
    pub host: HostId,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl DnsError {
    /// The names of `host` could not be told because of `source`.
    pub fn new(host: HostId, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { host, source: source.into() }
    }
}

/// The names of the guests that a host's DHCP servers know: `NAME.novalocal`.
pub(crate) fn names(net: &HostNet) -> Names {
    let mut names = Names::new();
    let mut add = |name: &ServerName, address: IpAddr| {
        names.entry(format!("{name}.{DOMAIN}")).or_default().insert(address);
    };
    for (_, part) in net.parts() {
        match part {
            Part::Lease(lease) => add(&lease.name, lease.address),
            Part::GuestIpv6(guest) => {
                if let Some(lease) = net.lease_of(guest) {
                    add(&lease.name, guest.address.into());
                }
            }
            _ => {}
        }
    }
    names
}

/// Names in memory, for tests and for programs that answer themselves.
#[derive(Debug, Default)]
pub struct DnsTable {
    hosts: Mutex<BTreeMap<HostId, Names>>,
}

impl DnsTable {
    /// The addresses of a name, on whatever hosts.
    pub fn addresses(&self, name: &str) -> BTreeSet<IpAddr> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.values().filter_map(|names| names.get(name)).flatten().copied().collect()
    }
}

impl Display for DnsTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("names in memory")
    }
}

#[async_trait]
impl Dns for DnsTable {
    async fn tell(&self, host: HostId, names: &Names) -> Result<(), DnsError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        match names.is_empty() {
            true => drop(hosts.remove(&host)),
            false => drop(hosts.insert(host, names.clone())),
        }
        Ok(())
    }
}

/// A folder with a file for each host that has guests with names.
///
/// A file is replaced whole. Its lines are an address and a name, in order; names are of letters,
/// digits, dots and hyphens alone.
#[derive(Debug)]
pub struct HostsFiles {
    folder: PathBuf,
}

impl HostsFiles {
    /// Files in this folder, which has to be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn write(&self, host: HostId, names: &Names) -> io::Result<()> {
        let file = self.folder.join(format!("{host}.hosts"));
        if names.is_empty() {
            return match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut text = String::new();
        for (name, addresses) in names {
            addresses.iter().for_each(|address| text.push_str(&format!("{address} {name}\n")));
        }
        if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
            return Ok(());
        }
        // Begun with a dot, so that no server takes it for a file of hosts.
        let new = self.folder.join(format!(".{host}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(new, file)
    }
}

impl Display for HostsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "names in {}", self.folder.display())
    }
}

#[async_trait]
impl Dns for HostsFiles {
    async fn tell(&self, host: HostId, names: &Names) -> Result<(), DnsError> {
        self.write(host, names).map_err(|source| DnsError::new(host, source))
    }
}

const _: fn(Box<dyn Dns>) = |dns| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(dns);
};
