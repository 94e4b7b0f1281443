//! A host whose guests a libvirt daemon runs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nova_core::clock::{Clock, Meter};
use nova_core::domain::{InstanceId, PowerState};
use nova_core::port::{Connection, Guest, ImageStore, VirtError};

use super::Libvirtd;
use super::config_drive::GuestFiles;
use super::daemon::{DomainId, DomainState};
use super::definition::VolumeSource;
use super::live::Incoming;
use super::offer::Offers;
use super::passthrough::PciSpec;
use super::record::{Record, Records};
use super::seal::Secret;
use super::sending::Sendings;
use super::storage::Storage;
use super::tools::Tools;
use super::turns::{Turn, Turns};
use crate::cache::{Conversion, ImageCache};
use crate::domain::{DomainOptions, Hypervisor};
use crate::files::{self, FileError};

/// A driver for one host, whose guests a libvirt daemon runs: whole machines of QEMU and KVM, or
/// containers.
///
/// What belongs to a guest lies in a directory of its own below that of the
/// [`DomainOptions`], images that guests share in another, and both are this driver's alone. A
/// guest is defined anew from there before each start; what was changed in its definition
/// meanwhile is lost, and a definition that was lost is made again.
///
/// Domains of the daemon that do not have
/// [the name of a guest](crate::domain::DomainSpec::name_of) are not looked at: the machine may run
/// others.
///
/// A verb that was begun goes on to its end when its caller gives up, and the next one on the same
/// guest waits for it.
#[derive(Debug, Clone)]
pub struct LibvirtHost {
    pub(super) inner: Arc<Inner>,
}

/// What all verbs work with.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) libvirtd: Libvirtd,
    pub(super) options: DomainOptions,
    pub(super) cache: ImageCache,
    pub(super) records: Records,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) patience: Duration,
    pub(super) first_user: Option<u32>,
    /// What confines machines here, once it was asked.
    pub(super) confined_by: Mutex<Option<Option<String>>>,
    pub(super) guest_files: Option<Arc<dyn GuestFiles>>,
    /// Which PCI devices guests may have.
    pub(super) pci: Vec<PciSpec>,
    /// What secrets of this host follow from.
    pub(super) key: Secret,
    pub(super) storage: Option<Storage>,
    pub(super) offers: Option<Offers>,
    pub(super) incoming: Option<Incoming>,
    pub(super) sendings: Sendings,
    pub(super) tools: Tools,
    pub(super) turns: Turns,
    pub(super) thaws: super::agents::Thaws,
}

impl LibvirtHost {
    /// How long a guest may take for something that it is asked to do itself, unless told
    /// otherwise: to shut down, to give up a disk.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// The guests of `libvirtd`, with their files below the directory of `options`, which is made
    /// when it is not there. The daemon is not asked yet.
    ///
    /// # Errors
    /// [`FileError::InUse`] while another driver has the directory; [`FileError::Io`].
    pub fn new(
        libvirtd: Libvirtd,
        options: DomainOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FileError> {
        let cache = ImageCache::at(options.bases(), Arc::clone(&clock))?;
        let machines = matches!(options.hypervisor(), Hypervisor::Kvm | Hypervisor::Qemu);
        // Nothing else starts from a disk.
        let cache = if machines { cache.with_conversion(Conversion::default()) } else { cache };
        let records = Records::at(Path::new(&options.homes()))?;
        let key = records.key();
        let key = Secret::at(&key).map_err(FileError::io(&key, "keep a secret"))?;
        let name = &key.child(&[b"host"]).to_hex()[..32];
        let storage = options.shared().map(|shared| Storage::at(Path::new(shared), name));
        let inner = Inner {
            libvirtd,
            options,
            cache,
            records,
            clock,
            patience: Self::PATIENCE,
            first_user: None,
            guest_files: None,
            pci: Vec::new(),
            confined_by: Mutex::default(),
            key,
            storage,
            offers: None,
            incoming: None,
            sendings: Sendings::default(),
            tools: Tools::default(),
            turns: Turns::default(),
            thaws: super::agents::Thaws::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits so long for a guest to do something itself, such as to shut down, before it is made
    /// to.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        self.with(|inner| inner.patience = patience)
    }

    /// Lets the users of containers be 65 536 users of the host from `first` on, of which none
    /// should be anybody: root in a container is nobody outside. Containers only.
    #[must_use]
    pub fn with_users(self, first: u32) -> Self {
        self.with(|inner| inner.first_user = Some(first))
    }

    /// Offers the disks of packed guests at this address, to other hosts that were given the
    /// parcel; with port 0, at any port. Who else listens to that network can read them, but not
    /// change them. Whole machines only.
    #[must_use]
    pub fn with_address(self, address: SocketAddr) -> Self {
        self.with(|inner| inner.offers = Some(Offers::at(address)))
    }

    /// Takes guests in while they run elsewhere, and sends its own: their memory comes to this
    /// address of the host, and the images that they were made of come from `images`. Hosts agree
    /// on the rest at the address that [`with_address`](Self::with_address) gives them, which it
    /// takes as well. What is sent can be read by who listens to that network.
    #[must_use]
    pub fn with_incoming(self, address: IpAddr, images: Arc<dyn ImageStore>) -> Self {
        self.with(|inner| inner.incoming = Some(Incoming { address, images }))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        // Options are set before anybody shares it; to whoever shares it already, they are as
        // they were.
        match Arc::try_unwrap(self.inner) {
            Ok(mut inner) => {
                change(&mut inner);
                Self { inner: Arc::new(inner) }
            }
            Err(inner) => Self { inner },
        }
    }

    /// Gives each machine a config drive with what `files` says; one that was made before keeps
    /// what it has. `genisoimage` has to be installed.
    #[must_use]
    pub fn with_config_drives(self, files: Arc<dyn GuestFiles>) -> Self {
        self.with(|inner| inner.guest_files = Some(files))
    }

    /// Lets guests have those PCI devices of the host that one of these names, and that the host
    /// can keep from what is not theirs: others, and all when nothing is said, stay the host's.
    /// Whole machines only.
    #[must_use]
    pub fn with_pci(self, devices: impl IntoIterator<Item = PciSpec>) -> Self {
        self.with(|inner| inner.pci = devices.into_iter().collect())
    }

    /// Converts images that QEMU does not start from within these limits instead of the
    /// [usual](Conversion::default) ones. Whole machines only.
    #[must_use]
    pub fn with_conversion(self, conversion: Conversion) -> Self {
        self.with(|inner| {
            if inner.has_disks() {
                inner.cache = inner.cache.clone().with_conversion(conversion);
            }
        })
    }

    /// Adds up for how long the daemon is waited for, and the programs that make disks. The daemon's
    /// part counts for all who share the connection, and for the first meter that it was given.
    #[must_use]
    pub fn with_meter(self, meter: Meter) -> Self {
        self.with(|inner| {
            inner.daemon().measured_by(meter.clone());
            inner.tools.meter = Some(meter);
        })
    }

    /// The images that this host has.
    pub fn images(&self) -> &ImageCache {
        &self.inner.cache
    }

    /// One verb on a guest, alone and to its end.
    pub(super) async fn alone<T, F>(
        &self,
        instance: InstanceId,
        operation: &'static str,
        work: impl FnOnce(Arc<Inner>) -> F,
    ) -> Result<T, VirtError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VirtError>> + Send + 'static,
    {
        let turn = self.turn(instance).await;
        to_its_end(turn, operation, work(Arc::clone(&self.inner))).await
    }

    pub(super) async fn turn(&self, instance: InstanceId) -> Turn {
        self.inner.turns.take(instance).await
    }
}

/// Does the rest of a verb on a task of its own, so that it ends when its caller gives up.
pub(super) async fn to_its_end<T: Send + 'static>(
    turn: Turn,
    operation: &'static str,
    work: impl Future<Output = Result<T, VirtError>> + Send + 'static,
) -> Result<T, VirtError> {
    let task = tokio::spawn(async move {
        let _turn = turn;
        work.await
    });
    task.await.map_err(|torn| host(operation)(torn))?
}

/// An error of the host.
pub(super) fn host<E>(operation: &'static str) -> impl FnOnce(E) -> VirtError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| VirtError::Host { operation, source: source.into() }
}

impl Inner {
    pub(super) fn daemon(&self) -> &dyn super::daemon::Daemon {
        &*self.libvirtd.daemon
    }

    /// Work on files, off the threads that must not wait.
    pub(super) async fn files<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, VirtError> {
        let inner = Arc::clone(self);
        files::off_thread(move || work(&inner).map_err(host(operation)), host(operation)).await
    }

    pub(super) async fn record(
        self: &Arc<Self>,
        guest: InstanceId,
    ) -> Result<Option<Record>, VirtError> {
        self.files("read what is kept of a guest", move |inner| inner.records.load(guest)).await
    }

    pub(super) async fn save(self: &Arc<Self>, record: &Record) -> Result<(), VirtError> {
        let record = record.clone();
        self.files("keep what a guest is", move |inner| inner.records.save(&record)).await
    }

    pub(super) async fn state(&self, guest: InstanceId) -> Result<Option<DomainState>, VirtError> {
        self.daemon().state(domain_of(guest)).await.map_err(host("ask how a guest is"))
    }

    /// The guest as it is, unless it is not here.
    pub(super) async fn describe(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<Option<Guest>, VirtError> {
        let state = self.state(instance).await?;
        let record = self.record(instance).await?;
        let Some(state) = seen(state, record.as_ref()) else { return Ok(None) };
        if state == DomainState::Running && record.as_ref().is_some_and(|record| record.frozen) {
            self.thaw_soon(instance);
        }
        let power = power(state);
        let (boot, volumes) = match record {
            Some(record) => (record.boot, record.volumes.into_keys().collect()),
            None => (0, Vec::new()),
        };
        Ok(Some(Guest { instance, power, boot, volumes }))
    }

    /// How a guest is, and what is kept of it.
    pub(super) async fn existing(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<(DomainState, Option<Record>), VirtError> {
        let state = self.state(instance).await?;
        let record = self.record(instance).await?;
        match seen(state, record.as_ref()) {
            Some(state) => Ok((state, record)),
            None => Err(VirtError::NoSuchGuest { instance }),
        }
    }

    /// The same for what a guest cannot be asked while it is still to come from elsewhere.
    pub(super) async fn arrived(
        self: &Arc<Self>,
        instance: InstanceId,
        operation: &'static str,
    ) -> Result<(DomainState, Option<Record>), VirtError> {
        let (state, record) = self.existing(instance).await?;
        if record.as_ref().is_some_and(|record| record.coming.is_some()) {
            return Err(VirtError::WrongPower { instance, power: power(state), operation });
        }
        Ok((state, record))
    }

    /// The same for what only a guest can be asked that this driver made.
    pub(super) async fn own(
        self: &Arc<Self>,
        instance: InstanceId,
        operation: &'static str,
    ) -> Result<(DomainState, Record), VirtError> {
        match self.arrived(instance, operation).await? {
            (state, Some(record)) => Ok((state, record)),
            (_, None) => Err(host(operation)("somebody else made the guest")),
        }
    }

    /// Whether guests really execute here.
    pub(super) fn is_real(&self) -> bool {
        self.options.hypervisor() != Hypervisor::Test
    }

    /// Whether this is a host of whole machines, with disks.
    pub(super) fn has_disks(&self) -> bool {
        matches!(self.options.hypervisor(), Hypervisor::Kvm | Hypervisor::Qemu)
    }
}

/// How a guest is whose domain is in this state, or is none, and of which this is kept.
fn seen(state: Option<DomainState>, record: Option<&Record>) -> Option<DomainState> {
    match (state, record.filter(|record| record.whole)) {
        (state, Some(Record { coming: Some(coming), .. })) => {
            // Before its source says how it is made there is nothing of it but a promise.
            let here = matches!(state, Some(DomainState::Running | DomainState::Paused));
            let waits = !coming.lost && (here || !coming.prepared);
            Some(if waits { DomainState::Paused } else { DomainState::Off })
        }
        (Some(state), _) => Some(state),
        // Its definition was lost; it is defined again before it starts.
        (None, Some(_)) => Some(DomainState::Off),
        (None, None) => None,
    }
}

/// A guest's domain has its id.
pub(super) fn domain_of(guest: InstanceId) -> DomainId {
    guest.as_u128().to_be_bytes()
}

pub(super) fn guest_of(domain: DomainId) -> InstanceId {
    InstanceId::from_u128(u128::from_be_bytes(domain))
}

pub(super) const fn power(state: DomainState) -> PowerState {
    match state {
        DomainState::Running => PowerState::Running,
        DomainState::Paused => PowerState::Paused,
        DomainState::Off => PowerState::Shutdown,
        DomainState::Saved => PowerState::Suspended,
    }
}

/// What a guest's hypervisor opens for a volume; none when there is nothing real to open.
pub(super) fn source_of(connection: &Connection) -> Option<VolumeSource> {
    match connection {
        Connection::File { path } => Some(VolumeSource::File(path.clone())),
        Connection::Block { path } => Some(VolumeSource::Device(path.clone())),
        _ => None,
    }
}

/// An error of files, told as what it is when the host is full.
pub(super) fn no_room(instance: InstanceId, error: VirtError) -> VirtError {
    let full = |source: &(dyn std::error::Error + 'static)| {
        let file = source.downcast_ref::<FileError>();
        matches!(file, Some(FileError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull)
    };
    match &error {
        VirtError::Host { source, .. } if full(&**source) => VirtError::NoRoom { instance },
        _ => error,
    }
}
