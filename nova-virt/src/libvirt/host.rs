//! A host whose guests a libvirt daemon runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _};
use nova_core::domain::{Image, ImageContent, ImageFormat, ImageId, InstanceId, PowerState};
use nova_core::port::{Guest, GuestSpec, ImageError, ImageStore, VirtError};

use super::Libvirtd;
use super::daemon::{DomainId, DomainState, LibvirtError, Which};
use super::definition::{Extras, VolumeDisk, definition};
use super::disks;
use super::record::{KernelFiles, Rebooting, Record, Records};
use super::turns::{Turn, Turns};
use super::xml::Element;
use crate::cache::{Base, ImageCache};
use crate::domain::{Boot, DomainOptions, DomainSpec, Hypervisor, MachineType};
use crate::files::{self, FileError};

/// A driver for one host, whose guests a libvirt daemon runs: whole machines of QEMU and KVM, or
/// containers.
///
/// What belongs to a guest lies in a directory of its own below that of the
/// [`DomainOptions`], images that guests share in another, and both are this driver's alone. A
/// guest is defined anew from there before each start; what was changed in its definition
/// meanwhile is lost, and a definition that was lost is made again.
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
    first_user: Option<u32>,
    turns: Turns,
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
        let records = Records::at(Path::new(&options.homes()))?;
        let (patience, turns) = (Self::PATIENCE, Turns::default());
        let first_user = None;
        let inner = Inner { libvirtd, options, cache, records, clock, patience, first_user, turns };
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

/// The images that a guest was started from, held while they are needed.
#[derive(Debug)]
pub(super) struct Bases {
    pub(super) root: Base,
    kernel: Option<(KernelFiles, Vec<Base>)>,
}

impl Bases {
    pub(super) fn kernel(&self) -> Option<KernelFiles> {
        self.kernel.as_ref().map(|(files, _)| files.clone())
    }

    /// Notes that a guest needs them.
    pub(super) fn keep(&self, cache: &ImageCache, guest: InstanceId) -> Result<(), FileError> {
        let kernel = self.kernel.iter().flat_map(|(_, bases)| bases);
        [&self.root].into_iter().chain(kernel).try_for_each(|base| cache.keep(base, guest))
    }
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
        let power = match (state, &record) {
            (Some(state), _) => power(state),
            // Its definition was lost; it is defined again before it starts.
            (None, Some(record)) if record.whole => PowerState::Shutdown,
            (None, _) => return Ok(None),
        };
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
        match state {
            Some(state) => Ok((state, record)),
            None if record.as_ref().is_some_and(|record| record.whole) => {
                Ok((DomainState::Off, record))
            }
            None => Err(VirtError::NoSuchGuest { instance }),
        }
    }

    /// The same for what only a guest can be asked that this driver made.
    pub(super) async fn own(
        self: &Arc<Self>,
        instance: InstanceId,
        operation: &'static str,
    ) -> Result<(DomainState, Record), VirtError> {
        match self.existing(instance).await? {
            (state, Some(record)) => Ok((state, record)),
            (_, None) => Err(host(operation)("somebody else made the guest")),
        }
    }

    /// What a guest starts from.
    pub(super) async fn fetch(
        &self,
        spec: &GuestSpec,
        image: &Image,
        size_max: Option<u64>,
        images: &dyn ImageStore,
    ) -> Result<Bases, VirtError> {
        let instance = spec.instance;
        let root = self.base(instance, image, size_max, images).await?;
        let Some(kernel) = image.properties.get("kernel_id") else {
            return Ok(Bases { root, kernel: None });
        };
        let mut bases = Vec::new();
        let mut contents = Vec::new();
        for id in [Some(kernel), image.properties.get("ramdisk_id")].into_iter().flatten() {
            let wrong = || {
                let why = format!("its image names {id} as a kernel, which is no image");
                host("find a kernel")(why)
            };
            let id: ImageId = id.parse().map_err(|_| wrong())?;
            let content = images.content(id).await;
            let content = content.map_err(|source| VirtError::Image { instance, source })?;
            let missing = ImageError::NoSuchImage { image: id };
            let content = content.ok_or(VirtError::Image { instance, source: missing })?;
            let properties = Default::default();
            let format = ImageFormat::Raw;
            let file = Image { id, format, content: content.clone(), properties, ..image.clone() };
            bases.push(self.base(instance, &file, None, images).await?);
            contents.push(content);
        }
        let mut contents = contents.into_iter();
        let kernel = contents.next().map(|kernel| {
            let command_line = image.properties.get("os_command_line");
            let command_line = command_line.unwrap_or_default().to_owned();
            (KernelFiles { kernel, ramdisk: contents.next(), command_line }, bases)
        });
        Ok(Bases { root, kernel })
    }

    async fn base(
        &self,
        instance: InstanceId,
        image: &Image,
        size_max: Option<u64>,
        images: &dyn ImageStore,
    ) -> Result<Base, VirtError> {
        self.cache.base(image, size_max, images).await.map_err(|source| match source {
            ImageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                VirtError::NoRoom { instance }
            }
            source => VirtError::Image { instance, source },
        })
    }

    /// What the hypervisor is to know of a guest.
    pub(super) fn domain(&self, record: &Record) -> Result<DomainSpec, VirtError> {
        let domain = DomainSpec::derive(&record.spec, &self.options);
        let mut domain = domain.map_err(host("describe a guest"))?;
        if let Some(machine) = &record.machine {
            domain =
                domain.on_machine(MachineType::new(machine).map_err(host("describe a guest"))?);
        }
        let kernel = match &record.rescue {
            Some(rescue) => &rescue.kernel,
            None => &record.kernel,
        };
        if let Some(files) = kernel {
            domain = domain.booting(self.kernel_boot(files));
        }
        if let Some(rescue) = &record.rescue {
            let taken: Vec<_> =
                record.volumes.values().map(|plugged| plugged.target.clone()).collect();
            domain = super::rescue::rescued(domain, rescue, &self.options, &taken);
        }
        Ok(domain)
    }

    fn kernel_boot(&self, files: &KernelFiles) -> Boot {
        let path = |content: &ImageContent| self.options.base_of(content);
        Boot::Kernel {
            kernel: path(&files.kernel),
            ramdisk: files.ramdisk.as_ref().map(path),
            command_line: files.command_line.clone(),
        }
    }

    /// Defines a guest as it is to be, and starts it.
    pub(super) async fn begin(self: &Arc<Self>, record: &mut Record) -> Result<(), VirtError> {
        self.define(record).await?;
        let domain = domain_of(record.spec.instance);
        match self.daemon().start(domain).await {
            // Somebody else was faster.
            Err(error) if error.is_wrong_state() => match self.daemon().state(domain).await {
                Ok(Some(DomainState::Running)) => Ok(()),
                _ => Err(host("start a guest")(error)),
            },
            other => other.map_err(host("start a guest")),
        }
    }

    pub(super) async fn define(self: &Arc<Self>, record: &mut Record) -> Result<(), VirtError> {
        let spec = self.domain(record)?;
        let volumes = record.volumes.iter().filter_map(|(volume, plugged)| {
            let (path, target) = (file_of(&plugged.connection)?, plugged.target.clone());
            Some(VolumeDisk { volume: *volume, path, target })
        });
        let extras = Extras { volumes: volumes.collect(), first_user: self.first_user };
        let tree = definition(&spec, &extras).map_err(host("describe a guest"))?;
        let xml = tree.write().map_err(host("describe a guest"))?;
        self.daemon().define(&xml).await.map_err(host("define a guest"))?;
        if record.machine.is_none() && spec.root_fs().is_none() {
            let domain = domain_of(record.spec.instance);
            let kept = self.daemon().description(domain, Which::Kept).await;
            let kept = kept.map_err(host("read a guest's definition"))?;
            let machine = Element::read(&kept).and_then(|tree| {
                tree.at(&["os", "type"]).and_then(|kind| kind.get("machine").map(ToOwned::to_owned))
            });
            if machine.is_some() {
                record.machine = machine;
                self.save(record).await?;
            }
        }
        Ok(())
    }

    /// Makes a new guest whole and running.
    pub(super) async fn make(
        self: &Arc<Self>,
        mut record: Record,
        bases: Bases,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        let made = self.try_make(&mut record, bases).await;
        if made.is_err() {
            // The first error is the one to tell. What is left is removed before it is tried
            // again, or with the guest.
            let _ = self.scrub(guest).await;
        }
        made
    }

    async fn try_make(
        self: &Arc<Self>,
        record: &mut Record,
        bases: Bases,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        record.kernel = bases.kernel();
        self.save(record).await?;
        let domain = self.domain(record)?;
        let first_user = self.first_user.unwrap_or_default();
        let made = self.files("make a guest's disks", move |inner| {
            bases.keep(&inner.cache, guest)?;
            if let Some(root) = domain.root_fs() {
                let root = Path::new(&root.source);
                let unpacked = super::rootfs::unpack(bases.root.path(), root, first_user);
                return unpacked.map_err(FileError::io(root, "unpack the image"));
            }
            for disk in domain.disks() {
                let path = Path::new(&disk.path);
                disks::make(disk).map_err(FileError::io(path, "make a disk"))?;
            }
            Ok(())
        });
        made.await.map_err(|error| no_room(guest, error))?;
        self.begin(record).await?;
        record.whole = true;
        self.save(record).await
    }

    /// Nothing of a guest is left.
    pub(super) async fn scrub(self: &Arc<Self>, guest: InstanceId) -> Result<(), VirtError> {
        let record = self.record(guest).await?;
        if let Some(mut record) = record.filter(|record| record.whole) {
            // Whatever happens next, it is not a guest any more.
            record.whole = false;
            self.save(&record).await?;
        }
        self.end(guest).await?;
        let gone = |error: &LibvirtError| error.is_no_domain();
        match self.daemon().undefine(domain_of(guest)).await {
            Err(error) if !gone(&error) => return Err(host("forget a guest")(error)),
            _ => {}
        }
        self.files("remove a guest's files", move |inner| {
            inner.records.remove(guest)?;
            inner.cache.let_go(guest)
        })
        .await
    }

    /// Ends a guest at once, if it executes.
    pub(super) async fn end(&self, guest: InstanceId) -> Result<(), VirtError> {
        match self.daemon().destroy(domain_of(guest)).await {
            Err(error) if error.is_no_domain() || error.is_wrong_state() => Ok(()),
            other => other.map_err(host("end a guest")),
        }
    }

    /// Asks a running guest to shut down, and makes it when it takes too long.
    pub(super) async fn shut_down(&self, guest: InstanceId) -> Result<(), VirtError> {
        let domain = domain_of(guest);
        let is_off = || async {
            if matches!(self.daemon().state(domain).await?, None | Some(DomainState::Off)) {
                return Ok(true);
            }
            // Again and again: one that was still starting has not heard. That it cannot hear at
            // all is found out by waiting.
            match self.daemon().ask_to_shut_down(domain).await {
                Ok(()) | Err(LibvirtError::Refused { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if self.wait_until(guest, is_off).await? { Ok(()) } else { self.end(guest).await }
    }

    /// Waits until something is true of a guest, for as long as one is patient with it: whether it
    /// became true.
    pub(super) async fn wait_until<F>(
        &self,
        guest: InstanceId,
        mut is_true: impl FnMut() -> F + Send,
    ) -> Result<bool, VirtError>
    where
        F: Future<Output = Result<bool, LibvirtError>> + Send,
    {
        let end = self.clock.now().after(self.patience);
        let mut changes = self.daemon().changes();
        loop {
            if is_true().await.map_err(host("ask how a guest is"))? {
                return Ok(true);
            }
            let left = end.since(self.clock.now());
            if left.is_zero() {
                return Ok(false);
            }
            // Not every driver tells of every change.
            let told = super::daemon::told(&mut changes, domain_of(guest));
            let _ = self.clock.within(left.min(LOOK_AGAIN), told).await;
        }
    }

    /// Restarts a guest for the number of a reboot, once.
    pub(super) async fn reboot(
        self: &Arc<Self>,
        mut record: Record,
        state: DomainState,
        boot: u64,
        softly: bool,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        let life = self.life(guest).await?;
        let begun = match record.rebooting {
            Some(begun) if begun.boot == boot => begun,
            _ => {
                let begun = Rebooting { boot, life };
                record.rebooting = Some(begun);
                self.save(&record).await?;
                begun
            }
        };
        // One that lives another life already was restarted, and only not noted.
        if life.is_none() || life == begun.life {
            match state {
                DomainState::Running if softly => self.shut_down(guest).await?,
                _ => self.end(guest).await?,
            }
            self.begin(&mut record).await?;
        }
        (record.boot, record.rebooting) = (boot, None);
        self.save(&record).await
    }

    /// The hypervisor's number for the life that a guest lives; none when it is shut down.
    async fn life(&self, guest: InstanceId) -> Result<Option<u32>, VirtError> {
        match self.daemon().description(domain_of(guest), Which::Current).await {
            Ok(xml) => Ok(Element::read(&xml).and_then(|tree| tree.get("id")?.parse().ok())),
            Err(error) if error.is_no_domain() => Ok(None),
            Err(error) => Err(host("ask how a guest is")(error)),
        }
    }

    /// Whether this is a host of whole machines, with disks.
    pub(super) fn has_disks(&self) -> bool {
        matches!(self.options.hypervisor(), Hypervisor::Kvm | Hypervisor::Qemu)
    }
}

/// How often a guest is looked at while nobody tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    }
}

/// The file that a host reaches a volume by.
pub(super) fn file_of(connection: &nova_core::port::Connection) -> Option<String> {
    match connection {
        nova_core::port::Connection::File { path } => Some(path.clone()),
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
