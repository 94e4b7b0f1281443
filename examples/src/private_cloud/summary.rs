//! What a machine sees: one object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use nova_core::domain::{HostName, Refusal, Resources};

use super::progress::Stage;

/// Everything that a run found, did and checked.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Whether every check holds.
    pub ok: bool,
    /// Which run this was on its directory; one that was interrupted and its continuation count
    /// once.
    pub run: u64,
    /// Where chance started.
    pub seed: u64,
    /// Where everything is stored.
    pub data_dir: PathBuf,
    /// How often a process opened the directory, this one included.
    pub opening: u64,
    /// The stage at which this run went on; absent when it is a new one.
    pub continued_at: Option<Stage>,
    /// The stages that were completed now.
    pub stages: Vec<Stage>,
    /// What was there at the beginning.
    pub found: Found,
    /// The hosts.
    pub hosts: Vec<HostRow>,
    /// The servers before anything was deleted.
    pub servers: Vec<ServerRow>,
    /// The request that fitted nowhere; absent when an earlier process made it.
    pub refusal: Option<Refused>,
    /// The host that died; absent when it died in an earlier process.
    pub failure: Option<Died>,
    /// What was counted.
    pub census: CensusRow,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// What differs between runs that are otherwise alike.
    pub timing: Timing,
}

/// What was stored when a run began.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Found {
    /// Hosts.
    pub hosts: usize,
    /// Servers.
    pub servers: usize,
    /// Volumes.
    pub volumes: usize,
    /// Floating IPs.
    pub floating_ips: usize,
    /// Guests on the simulated hosts, whatever the records say.
    pub guests: usize,
}

/// A host.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct HostRow {
    /// Its name.
    pub name: HostName,
    /// Its zone.
    pub zone: String,
    /// What it has.
    pub total: Resources,
    /// Whether it was known from an earlier run.
    pub known: bool,
}

/// A server.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct ServerRow {
    /// Its project and its name.
    pub server: String,
    /// Its flavor.
    pub flavor: String,
    /// Its state.
    pub state: String,
    /// Its host.
    pub host: Option<HostName>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its floating IPs.
    pub floating_ips: Vec<IpAddr>,
    /// How many volumes it has.
    pub volumes: usize,
}

/// A request that no host could take.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Refused {
    /// The server.
    pub server: String,
    /// The reason in one line.
    pub message: String,
    /// The reason as data.
    pub refusal: Refusal,
    /// What to ask for instead.
    pub advice: Vec<String>,
    /// Where the server went that was asked for as advised.
    pub followed: Option<HostName>,
}

/// A host that lost its power.
#[derive(Debug, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Died {
    /// The host.
    pub host: HostName,
    /// The servers that were on it.
    pub servers: Vec<String>,
    /// The floating IP that had to move.
    pub address: IpAddr,
    /// The server it led to.
    pub from: String,
    /// The server it leads to now.
    pub to: String,
}

/// Records by table: at the beginning, before the deletion, at the end.
#[derive(Debug, Default, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct CensusRow {
    /// When the run began and its hosts were registered.
    pub before: BTreeMap<String, usize>,
    /// Before anything was deleted.
    pub most: BTreeMap<String, usize>,
    /// At the end; absent when the cloud was kept.
    pub after: Option<BTreeMap<String, usize>>,
    /// Addresses and VLANs that nobody has and that rest before they are handed out again, at
    /// the end.
    pub resting: BTreeMap<String, usize>,
}

/// Something that has to be so.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What.
    pub claim: String,
    /// Whether it is so.
    pub holds: bool,
}

/// How long things took.
#[derive(Debug, Default, Clone, serde::Serialize)]
#[non_exhaustive]
pub struct Timing {
    /// The whole run, in seconds.
    pub wall_s: f64,
    /// Booting a server, in milliseconds: shortest, median, longest. Absent when none was.
    pub boot_ms: Option<[f64; 3]>,
    /// The most memory that was resident; absent where the system does not tell.
    pub peak_rss_mib: Option<f64>,
}
