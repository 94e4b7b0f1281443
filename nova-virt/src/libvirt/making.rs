//! Making guests, defining them, and removing all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nova_core::domain::{ImageContent, InstanceId};
use nova_core::port::{GuestSpec, VirtError};

use super::bases::Bases;
use super::config_drive;
use super::daemon::{DomainState, Which};
use super::definition::{Extras, VolumeDisk, definition};
use super::disks;
use super::host::{Inner, domain_of, host, no_room, source_of};
use super::record::{KernelFiles, Record};
use super::xml::Element;
use crate::domain::{Boot, DiskRole, DomainSpec, MachineType};
use crate::files::FileError;

/// The files of a config drive.
type Config = BTreeMap<String, Vec<u8>>;

impl Inner {
    /// What the hypervisor is to know of a guest.
    pub(super) fn domain(&self, record: &Record) -> Result<DomainSpec, VirtError> {
        let domain = DomainSpec::derive(&record.spec, &self.options);
        let mut domain = domain.map_err(host("describe a guest"))?;
        if record.config_drive {
            domain = domain.with_config_drive();
        }
        if let Some(number) = record.place {
            let missing = "its disks are in a storage that this host does not share any more";
            let storage = self.storage.as_ref().ok_or_else(|| host("describe a guest")(missing))?;
            let folder = storage.folder(record.spec.instance, number);
            domain = domain.with_disks_in(&folder.to_string_lossy());
        }
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
        let begun = self.try_begin(record).await;
        if begun.is_err() {
            self.forget_confinement();
        }
        begun
    }

    async fn try_begin(self: &Arc<Self>, record: &mut Record) -> Result<(), VirtError> {
        record.has_root()?;
        if record.leaving.take().is_some() | std::mem::take(&mut record.frozen) {
            // That was another life.
            self.save(record).await?;
        }
        self.define(record).await?;
        let domain = domain_of(record.spec.instance);
        let started = self.daemon().start(domain).await;
        match (started, self.daemon().state(domain).await) {
            // Perhaps somebody else was faster.
            (Ok(()), Ok(Some(DomainState::Running))) => Ok(()),
            (Err(error), Ok(Some(DomainState::Running))) if error.is_wrong_state() => Ok(()),
            // What an earlier life of it still had to say came late.
            (Ok(()), Ok(Some(DomainState::Paused))) => {
                self.daemon().resume(domain).await.map_err(host("start a guest"))
            }
            // One that ended at once was started, too.
            (Ok(()), Ok(_)) => Ok(()),
            (Err(error), _) | (Ok(()), Err(error)) => Err(host("start a guest")(error)),
        }
    }

    /// What the definition of a guest says beside what it is.
    pub(super) async fn extras(
        &self,
        record: &Record,
        domain: &DomainSpec,
    ) -> Result<Extras, VirtError> {
        let taken: Vec<_> = record.volumes.values().map(|plugged| plugged.target.clone()).collect();
        let volumes = record.volumes.iter().filter_map(|(volume, plugged)| {
            // Its root disk makes room for the one that it is rescued from.
            let moved = record.rescue.is_some() && record.spec.root == Some(*volume);
            let target = match moved {
                true => domain.free_target(&taken)?,
                false => plugged.target.clone(),
            };
            Some(VolumeDisk { volume: *volume, source: source_of(&plugged.connection)?, target })
        });
        let confined_by = self.confined_by().await.map_err(host("ask what the host is"))?;
        Ok(Extras { volumes: volumes.collect(), first_user: self.first_user, confined_by })
    }

    pub(super) async fn define(self: &Arc<Self>, record: &mut Record) -> Result<(), VirtError> {
        let spec = self.domain(record)?;
        let extras = self.extras(record, &spec).await?;
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
                // One that is being made is saved when it is whole, and not before that needed.
                if record.whole {
                    self.save(record).await?;
                }
            }
        }
        Ok(())
    }

    /// What a new guest is to find on its config drive, where it is to have one.
    pub(super) async fn config(&self, spec: &GuestSpec) -> Result<Option<Config>, VirtError> {
        match self.guest_files.as_ref().filter(|_| self.has_disks()) {
            Some(known) => known.files(spec).await.map_err(host("ask what a guest is told")),
            None => Ok(None),
        }
    }

    /// Whether a guest is to be made, and half of it is there; none when all of it is.
    pub(super) async fn is_to_be_made(
        self: &Arc<Self>,
        guest: InstanceId,
    ) -> Result<Option<bool>, VirtError> {
        Ok(match self.record(guest).await? {
            // One that somebody else made is left as it is.
            None => self.state(guest).await?.is_none().then_some(false),
            // The rest is made, from the beginning.
            Some(record) => (!record.whole).then_some(true),
        })
    }

    /// A new place for a guest's disks in the storage that hosts share, where there is one.
    pub(super) async fn place(
        self: &Arc<Self>,
        guest: InstanceId,
    ) -> Result<Option<u32>, VirtError> {
        let take = move |inner: &Inner| {
            let Some(storage) = inner.storage.as_ref().filter(|_| inner.has_disks()) else {
                return Ok(None);
            };
            let failed = FileError::io(storage.directory(), "make a place for a guest's disks");
            storage.take(guest).map(Some).map_err(failed)
        };
        self.files("make a place for a guest's disks", take).await
    }

    /// Makes a new guest whole and running.
    pub(super) async fn make(
        self: &Arc<Self>,
        mut record: Record,
        bases: Bases,
        config: Option<Config>,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        let made = self.try_make(&mut record, bases, config).await;
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
        config: Option<Config>,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        record.kernel = bases.kernel();
        record.config_drive = config.is_some();
        record.place = self.place(guest).await?;
        self.save(record).await?;
        let domain = self.domain(record)?;
        let first_user = self.first_user.unwrap_or_default();
        let root_disk = record.spec.root_disk;
        let size_max = (root_disk.0 > 0).then(|| root_disk.to_bytes());
        let made = self.files("make a guest's disks", move |inner| {
            bases.keep(&inner.cache, guest)?;
            if let Some(root) = domain.root_fs() {
                let root = Path::new(&root.source);
                let failed = || FileError::io(root, "unpack the image");
                let none = || failed()(std::io::ErrorKind::NotFound.into());
                let base = bases.root.as_ref().ok_or_else(none)?;
                let unpacked = super::rootfs::unpack(base.path(), root, first_user, size_max);
                return unpacked.map_err(failed());
            }
            for disk in domain.disks() {
                let path = Path::new(&disk.path);
                let made = match &config {
                    Some(files) if disk.role == DiskRole::Config => {
                        config_drive::make(&inner.tools, path, files)
                    }
                    _ => disks::make(&inner.tools, disk),
                };
                made.map_err(FileError::io(path, "make a disk"))?;
            }
            Ok(())
        });
        made.await.map_err(|error| no_room(guest, error))?;
        match record.spec.root {
            None => self.begin(record).await?,
            // It is started when that is plugged in.
            Some(_) => self.define(record).await?,
        }
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
        let domain = domain_of(guest);
        let is_gone = || async {
            // A start that somebody asked for before may be under way, and show only when it is
            // through.
            self.destroy(guest).await?;
            match self.daemon().undefine(domain).await {
                Err(error) if !(error.is_no_domain() || error.is_wrong_state()) => Err(error),
                _ => Ok(self.daemon().state(domain).await?.is_none()),
            }
        };
        if !self.wait_until(guest, is_gone).await? {
            return Err(host("forget a guest")("it comes again and again"));
        }
        self.files("remove a guest's files", move |inner| {
            if let Some(storage) = &inner.storage {
                let failed = FileError::io(storage.directory(), "give up a guest's disks");
                storage.leave(guest).map_err(failed)?;
            }
            inner.records.remove(guest)?;
            inner.cache.let_go(guest)
        })
        .await
    }
}
