//! A connection through libvirt's own library.
//!
//! Each of its calls keeps the thread that makes it waiting, so that they are made off the threads
//! of the caller's and only so many at a time. It can do less than the connection over the socket:
//! what a daemon tells unasked takes callbacks that only unsafe code can be, and copies of the
//! disks of a running guest are not in the library's safe part.

use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Meter;
use nova_core::domain::InstanceId;
use tokio::sync::{Semaphore, broadcast};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber, clear_error_callback};
use virt_sys as sys;

use super::daemon::{
    Agents, Change, CopyDisks, Daemon, DomainId, DomainState, Habits, LibvirtError, Migrations,
    SAVE_RUNNING, Traffic, Which,
};

/// Calls under way at a time, each on a thread of its own; more wait. A daemon that nobody told
/// otherwise does not work on more than these for one connection.
const CALLS_MAX: usize = 5;

/// Changes that somebody may be behind before being told that there were too many.
const CHANGES_MAX: usize = 256;

/// A daemon behind the library.
#[derive(Debug)]
pub(super) struct Library {
    shared: Arc<Shared>,
    calls: Arc<Semaphore>,
}

/// What the threads that call the library share.
#[derive(Debug)]
struct Shared {
    uri: String,
    habits: Habits,
    link: Mutex<Option<Arc<Link>>>,
    meter: OnceLock<Meter>,
    changes: broadcast::Sender<Change>,
}

/// A connection. When the last one who uses it drops it, it is closed.
#[derive(Debug)]
struct Link(Connect);

impl Drop for Link {
    fn drop(&mut self) {
        // The library forgets it even where the daemon cannot be told.
        let _ = self.0.close();
    }
}

impl Library {
    /// The daemon for `uri`. Nothing is connected before the first call.
    pub(super) fn new(uri: &str) -> Self {
        static QUIET: Once = Once::new();
        // Otherwise it writes each error to the standard error as well.
        QUIET.call_once(clear_error_callback);
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let (uri, habits, link) = (uri.to_owned(), Habits::of(uri), Mutex::default());
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        let meter = OnceLock::new();
        Self { shared: Arc::new(Shared { uri, habits, link, meter, changes }), calls }
    }

    /// Work with the library, on a thread that may wait. It goes on to its end, and keeps its
    /// place until then, when its caller gives up.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T, LibvirtError> {
        let place = Arc::clone(&self.calls).acquire_owned().await;
        let shared = Arc::clone(&self.shared);
        let torn = |_| LibvirtError::Message { reason: "a call was torn" };
        let call = tokio::task::spawn_blocking(move || {
            let _place = place;
            let _waiting = shared.meter.get().map(Meter::wait);
            work(&shared)
        });
        call.await.map_err(torn)?
    }

    /// A question. That the connection was lost is only seen by using it, and asking twice is not
    /// more than asking once: it is asked again on a new one.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl Fn(&Connect) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, LibvirtError> {
        self.off_thread(move |shared| match shared.call(&work) {
            Err(LibvirtError::Lost) => shared.call(&work),
            other => other,
        })
        .await
    }

    /// A question about a domain.
    async fn ask_of<T: Send + 'static>(
        &self,
        domain: DomainId,
        work: impl Fn(&Domain) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, LibvirtError> {
        self.ask(move |connect| work(&find(connect, domain)?)).await
    }

    /// Does something to a domain, once.
    async fn act<T: Send + 'static>(
        &self,
        domain: DomainId,
        work: impl Fn(&Domain, Habits) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, LibvirtError> {
        self.off_thread(move |shared| {
            shared.call(&|connect: &Connect| work(&find(connect, domain)?, shared.habits))
        })
        .await
    }

    /// The same for what is done when the call is, and tells so.
    async fn change<T: Send + 'static>(
        &self,
        domain: DomainId,
        work: impl Fn(&Domain, Habits) -> Result<T, Error> + Send + 'static,
    ) -> Result<(), LibvirtError> {
        self.act(domain, work).await?;
        // Nobody has to listen.
        let _ = self.shared.changes.send(Change::Domain(domain));
        Ok(())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // Closing waits for the daemon.
        let link = self.shared.with(Option::take);
        if let (Some(link), Ok(runtime)) = (link, tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(link));
        }
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Option<Arc<Link>>) -> T) -> T {
        work(&mut self.link.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection that is there, or a new one.
    fn link(&self) -> Result<Arc<Link>, LibvirtError> {
        self.with(|kept| {
            if let Some(link) = kept {
                return Ok(Arc::clone(link));
            }
            let link = Connect::open(Some(plain(&self.uri)?));
            let link = Arc::new(Link(link.map_err(|error| self.unopened(error))?));
            *kept = Some(Arc::clone(&link));
            // Nobody has to listen.
            let _ = self.changes.send(Change::Anything);
            Ok(link)
        })
    }

    fn unopened(&self, error: Error) -> LibvirtError {
        match error.code() {
            ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable => {
                LibvirtError::Unauthenticated
            }
            ErrorNumber::SystemError => {
                let (address, source) = (self.uri.clone(), std::io::Error::other(error));
                LibvirtError::Unreachable { address, source }
            }
            _ => refused(&error),
        }
    }

    /// One call.
    fn call<T>(&self, work: &impl Fn(&Connect) -> Result<T, Error>) -> Result<T, LibvirtError> {
        let link = self.link()?;
        work(&link.0).map_err(|error| {
            // A driver that cannot say is no daemon, and cannot be lost.
            if link.0.is_alive().unwrap_or(true) {
                return refused(&error);
            }
            self.with(|kept| {
                if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &link)) {
                    *kept = None;
                }
            });
            LibvirtError::Lost
        })
    }
}

fn refused(error: &Error) -> LibvirtError {
    let code = i32::try_from(error.code().to_raw()).unwrap_or_default();
    LibvirtError::Refused { code, message: error.message().to_owned() }
}

fn find(connect: &Connect, domain: DomainId) -> Result<Domain, Error> {
    let name = InstanceId::from_u128(u128::from_be_bytes(domain)).to_string();
    Domain::lookup_by_uuid_string(connect, &name)
}

/// A counter; one that a hypervisor does not have is negative.
fn counted(counter: i64) -> u64 {
    u64::try_from(counter).unwrap_or_default()
}

/// A text that C can hold.
fn plain(text: &str) -> Result<&str, LibvirtError> {
    let zero = LibvirtError::Message { reason: "it holds a zero" };
    if text.contains('\0') { Err(zero) } else { Ok(text) }
}

impl std::fmt::Display for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by its library", self.shared.uri)
    }
}

#[async_trait]
impl Daemon for Library {
    fn measured_by(&self, meter: Meter) {
        let _ = self.shared.meter.set(meter);
    }

    async fn version(&self) -> Result<u64, LibvirtError> {
        self.ask(|connect| connect.get_hyp_version().map(u64::from)).await
    }

    async fn capabilities(&self) -> Result<String, LibvirtError> {
        self.ask(Connect::get_capabilities).await
    }

    async fn machine_capabilities(&self, kind: &str) -> Result<String, LibvirtError> {
        let kind = plain(kind)?.to_owned();
        // Of the usual program, architecture and machine.
        let ask = move |connect: &Connect| {
            connect.get_domain_capabilities(None, None, None, Some(&kind), 0)
        };
        self.ask(ask).await
    }

    async fn pci_devices(&self) -> Result<Vec<String>, LibvirtError> {
        self.ask(|connect| {
            let devices =
                connect.list_all_node_devices(sys::VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV)?;
            let described = devices.iter().map(|device| device.get_xml_desc(0));
            let gone = |described: &Result<String, Error>| {
                described.as_ref().is_err_and(|error| refused(error).is_no_node_device())
            };
            described.filter(|described| !gone(described)).collect()
        })
        .await
    }

    async fn domains(&self) -> Result<Vec<(DomainId, String)>, LibvirtError> {
        let every = 0;
        self.ask(move |connect| {
            let domains = connect.list_all_domains(every)?;
            let named = |domain: &Domain| Ok((domain.get_uuid()?.into_bytes(), domain.get_name()?));
            domains.iter().map(named).collect()
        })
        .await
    }

    async fn state(&self, domain: DomainId) -> Result<Option<DomainState>, LibvirtError> {
        let saves = self.shared.habits.saves;
        let asked = self.ask_of(domain, move |domain| {
            let (state, _reason) = domain.get_state()?;
            let state = DomainState::from_number(i32::try_from(state).unwrap_or(i32::MAX));
            let saved = saves && state == DomainState::Off && domain.has_managed_save(0)?;
            Ok(if saved { DomainState::Saved } else { state })
        });
        match asked.await {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.is_no_domain() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn description(&self, domain: DomainId, which: Which) -> Result<String, LibvirtError> {
        let flags = if which == Which::Kept { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
        self.ask_of(domain, move |domain| domain.get_xml_desc(flags)).await
    }

    async fn define(&self, xml: &str) -> Result<(), LibvirtError> {
        let xml = plain(xml)?.to_owned();
        let defined = self.off_thread(move |shared| {
            shared.call(&|connect: &Connect| {
                let flags = sys::VIR_DOMAIN_DEFINE_VALIDATE;
                Ok(Domain::define_xml_flags(connect, &xml, flags)?.get_uuid()?.into_bytes())
            })
        });
        let _ = self.shared.changes.send(Change::Domain(defined.await?));
        Ok(())
    }

    async fn start(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, habits| domain.create_with_flags(habits.start)).await
    }

    async fn save(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, _| domain.managed_save(SAVE_RUNNING)).await
    }

    async fn restore(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, _| domain.create_with_flags(0)).await
    }

    async fn forget_memory(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, _| domain.managed_save_remove(0)).await
    }

    async fn ask_to_shut_down(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.act(domain, |domain, _| domain.shutdown_flags(0).map(drop)).await
    }

    async fn destroy(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, _| domain.destroy_flags(0)).await
    }

    async fn undefine(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, habits| domain.undefine_flags(habits.undefine)).await
    }

    async fn suspend(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, _| domain.suspend()).await
    }

    async fn resume(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.change(domain, |domain, _| domain.resume()).await
    }

    async fn plug(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError> {
        let (xml, now) = (plain(xml)?.to_owned(), sys::VIR_DOMAIN_AFFECT_LIVE);
        self.change(domain, move |domain, _| domain.attach_device_flags(&xml, now)).await
    }

    async fn unplug(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError> {
        let (xml, now) = (plain(xml)?.to_owned(), sys::VIR_DOMAIN_AFFECT_LIVE);
        self.act(domain, move |domain, _| domain.detach_device_flags(&xml, now).map(drop)).await
    }

    async fn cpu_time(&self, domain: DomainId) -> Result<Duration, LibvirtError> {
        let info = self.ask_of(domain, Domain::get_info).await?;
        Ok(Duration::from_nanos(info.cpu_time))
    }

    async fn memory(&self, domain: DomainId) -> Result<Option<u64>, LibvirtError> {
        let figures = self.ask_of(domain, |domain| domain.memory_stats(0)).await?;
        let resident = figures.iter().find(|one| one.tag == sys::VIR_DOMAIN_MEMORY_STAT_RSS);
        Ok(resident.map(|one| one.val.saturating_mul(1024)))
    }

    async fn disk_traffic(&self, domain: DomainId, disk: &str) -> Result<Traffic, LibvirtError> {
        let disk = plain(disk)?.to_owned();
        let stats = self.ask_of(domain, move |domain| domain.get_block_stats(&disk)).await?;
        Ok(Traffic {
            bytes_in: counted(stats.rd_bytes),
            count_in: counted(stats.rd_req),
            bytes_out: counted(stats.wr_bytes),
            count_out: counted(stats.wr_req),
        })
    }

    async fn card_traffic(&self, domain: DomainId, card: &str) -> Result<Traffic, LibvirtError> {
        let card = plain(card)?.to_owned();
        let stats = self.ask_of(domain, move |domain| domain.interface_stats(&card)).await?;
        Ok(Traffic {
            bytes_in: counted(stats.rx_bytes),
            count_in: counted(stats.rx_packets),
            bytes_out: counted(stats.tx_bytes),
            count_out: counted(stats.tx_packets),
        })
    }

    fn migrations(&self) -> Option<&dyn Migrations> {
        None
    }

    fn copying(&self) -> Option<&dyn CopyDisks> {
        None
    }

    fn agents(&self) -> Option<&dyn Agents> {
        self.shared.habits.saves.then_some(self as &dyn Agents)
    }

    fn is_told(&self) -> bool {
        false
    }

    /// Only that there is a new connection, and what was done over this one. Whoever waits for
    /// something else has to look.
    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}

#[async_trait]
impl Agents for Library {
    async fn command(
        &self,
        domain: DomainId,
        command: &str,
        seconds: u32,
    ) -> Result<String, LibvirtError> {
        let command = plain(command)?.to_owned();
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        self.act(domain, move |domain, _| domain.qemu_agent_command(&command, seconds, 0)).await
    }
}

#[cfg(test)]
mod tests;
