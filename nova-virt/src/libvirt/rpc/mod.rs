//! A connection to a daemon's local socket: its protocol, spoken without its library.
//!
//! A daemon answers many calls at a time over one socket; no call takes a thread. A connection that
//! was lost is made anew by the next call.

mod link;
mod migration;
mod procedures;
mod xdr;

#[cfg(fuzzing)]
pub(super) use self::link::fuzzing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Meter;
use tokio::sync::{Mutex, Semaphore, broadcast};

use self::link::{Link, Told};
use self::procedures as ask;
use self::xdr::{Reader, Writer};
use super::daemon::{
    Agents, Change, CopyDisks, Daemon, DomainId, DomainState, Habits, Job, LibvirtError,
    Migrations, SAVE_RUNNING, Traffic, Which,
};
use super::host::guest_of;
use crate::domain::DomainSpec;

/// The number of the protocol, and its version.
const PROGRAM: u32 = 0x2000_8086;
const VERSION: u32 = 1;

/// The number of the protocol for what only QEMU can; its version is the same.
const QEMU_PROGRAM: u32 = 0x2000_8087;

/// Calls under way at a time; more wait.
const CALLS_MAX: usize = 32;

/// Changes that somebody may be behind before being told that there were too many.
const CHANGES_MAX: usize = 256;

/// Figures of a domain's memory that are taken; there are not as many.
const MEMORY_FIGURES_MAX: u32 = 64;

/// The one of them that says what the domain takes of the host's memory, in KiB:
/// `VIR_DOMAIN_MEMORY_STAT_RSS`.
const RESIDENT: i32 = 7;

/// Bytes that say nothing sensible.
#[derive(Debug)]
struct Unreadable;

impl From<Unreadable> for LibvirtError {
    fn from(_: Unreadable) -> Self {
        Self::Message { reason: "the answer does not read" }
    }
}

/// A daemon behind its local socket.
#[derive(Debug)]
pub(super) struct Rpc {
    uri: String,
    socket: PathBuf,
    habits: Habits,
    link: Mutex<Option<Arc<Link>>>,
    calls: Semaphore,
    changes: broadcast::Sender<Change>,
    meter: OnceLock<Meter>,
}

impl Rpc {
    /// The daemon for `uri` that listens at `socket`. Nothing is connected before the first call.
    pub(super) fn new(uri: &str, socket: Option<&Path>) -> Self {
        let socket = socket.map_or_else(|| usual_socket(uri), Path::to_owned);
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let (calls, habits) = (Semaphore::new(CALLS_MAX), Habits::of(uri));
        let (uri, link, meter) = (uri.to_owned(), Mutex::default(), OnceLock::new());
        Self { uri, socket, habits, link, calls, changes, meter }
    }

    /// The connection that is there, or a new one.
    async fn link(&self) -> Result<Arc<Link>, LibvirtError> {
        let mut kept = self.link.lock().await;
        if let Some(link) = kept.as_ref().filter(|link| !link.is_lost()) {
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(self.connect().await?);
        *kept = Some(Arc::clone(&link));
        // Nobody has to listen.
        let _ = self.changes.send(Change::Anything);
        Ok(link)
    }

    async fn connect(&self) -> Result<Link, LibvirtError> {
        let changes = self.changes.clone();
        let told: Told = Box::new(move |number, body| {
            if let Some(change) = change(number, body) {
                let _ = changes.send(change);
            }
        });
        let link = Link::to(&self.socket, told).await.map_err(|source| {
            let address = self.socket.display().to_string();
            LibvirtError::Unreachable { address, source }
        })?;
        let ways = link.call(PROGRAM, ask::AUTH_LIST, Writer::default()).await?;
        let ways = Reader::new(&ways).list(Reader::u32)?;
        match () {
            () if ways.contains(&auth::NONE) => {}
            () if ways.contains(&auth::POLKIT) => {
                link.call(PROGRAM, ask::AUTH_POLKIT, Writer::default()).await?;
            }
            () => return Err(LibvirtError::Unauthenticated),
        }
        let open = Writer::default().maybe_text(Some(&self.uri)).u32(0);
        link.call(PROGRAM, ask::CONNECT_OPEN, open).await?;
        let events =
            [ask::event_id::LIFECYCLE, ask::event_id::DEVICE_REMOVED, ask::event_id::JOB_COMPLETED];
        for event in events {
            // Of every domain. A driver that cannot tell refuses, and is asked instead.
            let registered = Writer::default().i32(event).u32(0);
            match link.call(PROGRAM, ask::EVENT_REGISTER, registered).await {
                Ok(_) | Err(LibvirtError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(link)
    }

    async fn call(&self, procedure: u32, body: Writer) -> Result<Vec<u8>, LibvirtError> {
        let _turn = self.calls.acquire().await.map_err(|_| LibvirtError::Lost)?;
        let _waiting = self.meter.get().map(Meter::wait);
        self.link().await?.call(PROGRAM, procedure, body).await
    }

    /// A call that only names a domain and flags.
    async fn simple(
        &self,
        procedure: u32,
        domain: DomainId,
        flags: u32,
    ) -> Result<Vec<u8>, LibvirtError> {
        self.call(procedure, of(domain).u32(flags)).await
    }
}

/// Where the daemon for `uri` listens: one daemon for each hypervisor, or one for all.
fn usual_socket(uri: &str) -> PathBuf {
    let own = match uri.split(':').next() {
        Some("qemu") => "/run/libvirt/virtqemud-sock",
        Some("lxc") => "/run/libvirt/virtlxcd-sock",
        _ => "",
    };
    let one = if Path::new(own).exists() { own } else { "/run/libvirt/libvirt-sock" };
    PathBuf::from(one)
}

/// A domain as a call names it. Daemons look at the UUID only; the number matters to none.
fn of(domain: DomainId) -> Writer {
    Writer::default().text("by-uuid").fixed(&domain).i32(-1)
}

fn domain(reader: &mut Reader<'_>) -> Result<(DomainId, String), Unreadable> {
    let name = reader.text()?;
    let domain = reader.fixed()?;
    reader.i32()?;
    Ok((domain, name))
}

/// What was told unasked, if it is about a domain.
fn change(number: u32, body: &[u8]) -> Option<Change> {
    if ![ask::told::LIFECYCLE, ask::told::DEVICE_REMOVED, ask::told::JOB_COMPLETED]
        .contains(&number)
    {
        return None;
    }
    let mut body = Reader::new(body);
    // Which registration it answers.
    body.i32().ok()?;
    let (domain, name) = domain(&mut body).ok()?;
    // Nobody is to look at the host's other domains.
    (name == DomainSpec::name_of(guest_of(domain))).then_some(Change::Domain(domain))
}

/// Ways to say who one is.
mod auth {
    pub(super) const NONE: u32 = 0;
    pub(super) const POLKIT: u32 = 2;
}

/// How a job is: `virDomainJobType`.
mod job {
    pub(super) const NONE: i32 = 0;
    pub(super) const COMPLETED: i32 = 3;
}

mod flag {
    /// Of listing devices: those on a PCI bus.
    pub(super) const PCI: u32 = 2;
    /// Of defining: only what the schema allows.
    pub(super) const VALIDATE: u32 = 1;
    /// Of plugging: now, and not for the next start.
    pub(super) const LIVE: u32 = 1;
    /// Of asking for a job: the last one that ended.
    pub(super) const COMPLETED: u32 = 1;
    /// Of describing: as it is kept.
    pub(super) const INACTIVE: u32 = 2;
}

impl std::fmt::Display for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.uri, self.socket.display())
    }
}

#[async_trait]
impl Daemon for Rpc {
    fn measured_by(&self, meter: Meter) {
        let _ = self.meter.set(meter);
    }

    async fn version(&self) -> Result<u64, LibvirtError> {
        let answer = self.call(ask::GET_VERSION, Writer::default()).await?;
        Ok(Reader::new(&answer).u64()?)
    }

    async fn capabilities(&self) -> Result<String, LibvirtError> {
        let answer = self.call(ask::GET_CAPABILITIES, Writer::default()).await?;
        Ok(Reader::new(&answer).text()?)
    }

    async fn machine_capabilities(&self, kind: &str) -> Result<String, LibvirtError> {
        // Of the usual program, architecture and machine.
        let usual = Writer::default().maybe_text(None).maybe_text(None).maybe_text(None);
        let body = usual.maybe_text(Some(kind)).u32(0);
        let answer = self.call(ask::GET_DOMAIN_CAPABILITIES, body).await?;
        Ok(Reader::new(&answer).text()?)
    }

    async fn pci_devices(&self) -> Result<Vec<String>, LibvirtError> {
        let body = Writer::default().i32(1).u32(flag::PCI);
        let answer = self.call(ask::LIST_ALL_NODE_DEVICES, body).await?;
        let names = Reader::new(&answer).list(Reader::text)?;
        let mut described = Vec::with_capacity(names.len());
        for name in names {
            let body = Writer::default().text(&name).u32(0);
            match self.call(ask::NODE_DEVICE_GET_XML_DESC, body).await {
                Ok(answer) => described.push(Reader::new(&answer).text()?),
                Err(error) if error.is_no_node_device() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(described)
    }

    async fn domains(&self) -> Result<Vec<(DomainId, String)>, LibvirtError> {
        let (with_results, every) = (1, 0);
        let body = Writer::default().i32(with_results).u32(every);
        let answer = self.call(ask::LIST_ALL_DOMAINS, body).await?;
        Ok(Reader::new(&answer).list(domain)?)
    }

    async fn state(&self, domain: DomainId) -> Result<Option<DomainState>, LibvirtError> {
        let asked = async {
            let state = self.simple(ask::GET_STATE, domain, 0).await?;
            let state = DomainState::from_number(Reader::new(&state).i32()?);
            if state != DomainState::Off || !self.habits.saves {
                return Ok(state);
            }
            let saved = self.simple(ask::HAS_MANAGED_SAVE_IMAGE, domain, 0).await?;
            let saved = Reader::new(&saved).i32()? != 0;
            Ok(if saved { DomainState::Saved } else { state })
        };
        match asked.await {
            Ok(state) => Ok(Some(state)),
            Err(error) if LibvirtError::is_no_domain(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn description(&self, domain: DomainId, which: Which) -> Result<String, LibvirtError> {
        let flags = if which == Which::Kept { flag::INACTIVE } else { 0 };
        let answer = self.simple(ask::GET_XML_DESC, domain, flags).await?;
        Ok(Reader::new(&answer).text()?)
    }

    async fn define(&self, xml: &str) -> Result<(), LibvirtError> {
        let body = Writer::default().text(xml).u32(flag::VALIDATE);
        self.call(ask::DEFINE_XML_FLAGS, body).await.map(drop)
    }

    async fn start(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::CREATE_WITH_FLAGS, domain, self.habits.start).await.map(drop)
    }

    async fn save(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::MANAGED_SAVE, domain, SAVE_RUNNING).await.map(drop)
    }

    async fn restore(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::CREATE_WITH_FLAGS, domain, 0).await.map(drop)
    }

    async fn forget_memory(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::MANAGED_SAVE_REMOVE, domain, 0).await.map(drop)
    }

    async fn ask_to_shut_down(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::SHUTDOWN_FLAGS, domain, 0).await.map(drop)
    }

    async fn destroy(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::DESTROY_FLAGS, domain, 0).await.map(drop)
    }

    async fn undefine(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.simple(ask::UNDEFINE_FLAGS, domain, self.habits.undefine).await.map(drop)
    }

    async fn suspend(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.call(ask::SUSPEND, of(domain)).await.map(drop)
    }

    async fn resume(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.call(ask::RESUME, of(domain)).await.map(drop)
    }

    async fn plug(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError> {
        let body = of(domain).text(xml).u32(flag::LIVE);
        self.call(ask::ATTACH_DEVICE_FLAGS, body).await.map(drop)
    }

    async fn unplug(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError> {
        let body = of(domain).text(xml).u32(flag::LIVE);
        self.call(ask::DETACH_DEVICE_FLAGS, body).await.map(drop)
    }

    async fn cpu_time(&self, domain: DomainId) -> Result<Duration, LibvirtError> {
        let answer = self.call(ask::GET_INFO, of(domain)).await?;
        let mut answer = Reader::new(&answer);
        // Its state, two sizes of memory, and how many CPUs it has.
        let _before = (answer.u32()?, answer.u64()?, answer.u64()?, answer.u32()?);
        Ok(Duration::from_nanos(answer.u64()?))
    }

    async fn memory(&self, domain: DomainId) -> Result<Option<u64>, LibvirtError> {
        let body = of(domain).u32(MEMORY_FIGURES_MAX).u32(0);
        let answer = self.call(ask::MEMORY_STATS, body).await?;
        let figures = Reader::new(&answer).list(|each| Ok((each.i32()?, each.u64()?)))?;
        let kib = figures.iter().find(|(what, _)| *what == RESIDENT);
        Ok(kib.map(|(_, kib)| kib.saturating_mul(1024)))
    }

    async fn disk_traffic(&self, domain: DomainId, disk: &str) -> Result<Traffic, LibvirtError> {
        let answer = self.call(ask::BLOCK_STATS, of(domain).text(disk)).await?;
        let mut answer = Reader::new(&answer);
        let (count_in, bytes_in) = (answer.count()?, answer.count()?);
        let (count_out, bytes_out) = (answer.count()?, answer.count()?);
        Ok(Traffic { bytes_in, count_in, bytes_out, count_out })
    }

    async fn card_traffic(&self, domain: DomainId, card: &str) -> Result<Traffic, LibvirtError> {
        let answer = self.call(ask::INTERFACE_STATS, of(domain).text(card)).await?;
        let mut answer = Reader::new(&answer);
        let (bytes_in, count_in) = (answer.count()?, answer.count()?);
        let _errors_and_drops = (answer.count()?, answer.count()?);
        let (bytes_out, count_out) = (answer.count()?, answer.count()?);
        Ok(Traffic { bytes_in, count_in, bytes_out, count_out })
    }

    fn migrations(&self) -> Option<&dyn Migrations> {
        Some(self)
    }

    fn copying(&self) -> Option<&dyn CopyDisks> {
        Some(self)
    }

    fn agents(&self) -> Option<&dyn Agents> {
        self.habits.saves.then_some(self as &dyn Agents)
    }

    fn is_told(&self) -> bool {
        true
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

#[async_trait]
impl Agents for Rpc {
    async fn command(
        &self,
        domain: DomainId,
        command: &str,
        seconds: u32,
    ) -> Result<String, LibvirtError> {
        let body = of(domain).text(command).u32(seconds).u32(0);
        let _turn = self.calls.acquire().await.map_err(|_| LibvirtError::Lost)?;
        let link = self.link().await?;
        let answer = link.call(QEMU_PROGRAM, ask::QEMU_AGENT_COMMAND, body).await?;
        Ok(Reader::new(&answer).maybe_text()?.unwrap_or_default())
    }
}

#[async_trait]
impl CopyDisks for Rpc {
    async fn begin_backup(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError> {
        let body = of(domain).text(xml).maybe_text(None).u32(0);
        self.call(ask::BACKUP_BEGIN, body).await.map(drop)
    }

    async fn job(&self, domain: DomainId) -> Result<Job, LibvirtError> {
        let now = self.simple(ask::GET_JOB_STATS, domain, 0).await?;
        if Reader::new(&now).i32()? != job::NONE {
            return Ok(Job::UnderWay);
        }
        let last = self.simple(ask::GET_JOB_STATS, domain, flag::COMPLETED).await?;
        let completed = Reader::new(&last).i32()? == job::COMPLETED;
        Ok(if completed { Job::Completed } else { Job::Failed })
    }
}
