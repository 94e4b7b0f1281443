//! A backend that makes networks on a Linux kernel.
//!
//! Links and addresses by netlink, the firewall by nftables, DHCP by one dnsmasq for each
//! network; `nft` and `dnsmasq` have to be installed, and root is needed. No shell is run.
//!
//! Each host is served by a thread of its own, in a network namespace of its own where one is
//! named, so that several hosts can live on one machine. What a host has is kept in a folder and
//! looked for in the kernel, so that an agent that starts again finds what it made, and what was
//! removed behind its back is made again. What it did not make it does not touch: links carry its
//! alias, firewall rules lie in tables of its own (`ip nova`, `ip6 nova` and `bridge nova`), and a
//! DHCP server is known by its settings file.
//!
//! - Nothing comes from a guest's interface but from its MAC and its addresses; it answers no DHCP,
//!   advertises no way out and speaks for no other address (ARP, neighbor discovery).
//! - The gateway's address is on every host: neither ARP or neighbor discovery for it nor DHCP or
//!   router advertisements cross a way out.
//! - Where a network has IPv6, guests make their addresses of what one more dnsmasq advertises, and
//!   of their MAC: one that makes others (RFC 4941, RFC 7217) is not heard. They are routed as they
//!   are, so that the way to the range has to be known outside. The host forwards then, and a host
//!   that itself hears of its way out by advertisements needs `accept_ra=2` on that interface.
//! - To a guest comes what it asked for, and what its security groups let in: from neighbours on
//!   the bridge, from the host, and through its floating IP. Connections end when their rule goes,
//!   or when the floating IP is led elsewhere. The kernel has to show what crosses a bridge to the
//!   tables of IP (its module `br_netfilter`); where it cannot, nothing is laid.
//! - A guest that asks `http://169.254.169.254` about itself is known by the port that it asks
//!   through.
//! - A floating IP that comes to a host is announced, so that the outside finds it there at once.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use nova_core::{clock::SystemClock, seed::Seed, store::MemoryStore};
//! use nova_net::Networks;
//! use nova_net::backend::linux::{HostPlace, Linux};
//!
//! # let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock::new()));
//! // In the process of a host's agent:
//! let linux = Linux::new().with_any_host(&HostPlace::new("/var/lib/nova-net"))?;
//! let networks = Networks::new(store, clock, Seed::new(1), Arc::new(linux));
//! # Ok::<(), nova_net::backend::linux::LinuxError>(())
//! ```

mod announce;
mod dnsmasq;
mod files;
mod filters;
mod firewall;
mod leases;
mod links;
mod metadata;
mod release;
mod ruleset;
mod station;
mod steps;
mod switches;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::clock::Meter;
use nova_core::domain::HostId;
use nova_core::store::Revision;
use tokio::sync::{mpsc, oneshot};

pub use self::leases::LeasedAddress;
use self::station::{Job, Station};
use crate::backend::{BackendError, NetBackend};
use crate::host::HostNet;
use crate::metadata::MetadataSource;
use crate::plan::Plan;

/// Where a host's network is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostPlace {
    /// The network namespace, by its name under `/run/netns`; none is the process's own.
    pub namespace: Option<String>,
    /// A folder that is the host's alone and outlives the process.
    pub folder: PathBuf,
}

impl HostPlace {
    /// The namespace of the process, with what is to be kept in `folder`, which is made when it
    /// is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { namespace: None, folder: folder.into() }
    }

    /// In this network namespace.
    #[must_use]
    pub fn in_namespace(self, name: impl Into<String>) -> Self {
        Self { namespace: Some(name.into()), ..self }
    }
}

/// Why a host cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// The folder cannot be used.
    #[error("cannot use the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name of the folder would not be safe in a settings file.
    #[error("the folder {} has other characters than A-Z, a-z, 0-9 and /._-", folder.display())]
    Name {
        /// The folder.
        folder: PathBuf,
    },
    /// The namespace cannot be entered.
    #[error("cannot enter the network namespace {namespace}")]
    Namespace {
        /// Its name.
        namespace: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel or the runtime refused.
    #[error("cannot begin")]
    Begin(#[source] io::Error),
}

/// The host is not one of those that are served here, or its thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("host {0} is not served here")]
struct NotHere(HostId);

/// Networks on the kernel of this machine; see [the module](self).
#[derive(Debug, Default)]
pub struct Linux {
    hosts: BTreeMap<HostId, mpsc::UnboundedSender<Job>>,
    /// Who serves all others.
    rest: Option<mpsc::UnboundedSender<Job>>,
    /// Who knows the servers that guests ask about.
    source: Option<Arc<dyn MetadataSource>>,
    meter: Option<Meter>,
}

impl Linux {
    /// A backend that serves no host yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets hosts that are served from now on ask this source what guests want to know about
    /// themselves. Without one, a plan with a [metadata service](crate::host::MetadataService)
    /// fails.
    #[must_use]
    pub fn with_metadata(self, source: Arc<dyn MetadataSource>) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Adds up for how long `nft` and `dnsmasq` are waited for, for hosts that are served from now
    /// on.
    #[must_use]
    pub fn with_meter(self, meter: Meter) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Serves a host from now on.
    ///
    /// # Errors
    /// [`LinuxError`]; nothing has changed then.
    pub fn with_host(mut self, host: HostId, place: &HostPlace) -> Result<Self, LinuxError> {
        self.hosts.insert(host, Station::begin(place, self.source.clone(), self.meter.clone())?);
        Ok(self)
    }

    /// Serves every host from now on that has no place of its own. That is what an agent wants: it
    /// is that of one host, whose id it learns when it registers.
    ///
    /// # Errors
    /// [`LinuxError`]; nothing has changed then.
    pub fn with_any_host(mut self, place: &HostPlace) -> Result<Self, LinuxError> {
        self.rest = Some(Station::begin(place, self.source.clone(), self.meter.clone())?);
        Ok(self)
    }

    /// Which guests of a host have taken their address by DHCP, sorted by network and MAC. An
    /// address belongs to its guest with or without a lease; this tells how far the guest has come.
    ///
    /// # Errors
    /// [`BackendError::Observe`] when the host is not served here, or its files cannot be read.
    pub async fn leased(&self, host: HostId) -> Result<Vec<LeasedAddress>, BackendError> {
        let leased = self.ask(host, Job::Leased).await;
        leased.unwrap_or_else(|gone| Err(BackendError::Observe { source: gone.into() }))
    }

    async fn ask<T>(
        &self,
        host: HostId,
        job: impl FnOnce(oneshot::Sender<T>) -> Job,
    ) -> Result<T, NotHere> {
        let station = self.hosts.get(&host).or(self.rest.as_ref()).ok_or(NotHere(host))?;
        let (answer, answered) = oneshot::channel();
        station.send(job(answer)).map_err(|_| NotHere(host))?;
        answered.await.map_err(|_| NotHere(host))
    }
}

impl std::fmt::Display for Linux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("linux networks")
    }
}

#[async_trait]
impl NetBackend for Linux {
    async fn observe(&self, host: HostId) -> Result<HostNet, BackendError> {
        let observed = self.ask(host, Job::Observe).await;
        observed.unwrap_or_else(|gone| Err(BackendError::Observe { source: gone.into() }))
    }

    async fn apply(
        &self,
        host: HostId,
        generation: Revision,
        plan: &Plan,
    ) -> Result<(), BackendError> {
        let plan = plan.clone();
        let applied = self.ask(host, |answer| Job::Apply { generation, plan, answer }).await;
        applied.unwrap_or_else(|gone| Err(BackendError::Step { step: 0, source: gone.into() }))
    }
}
