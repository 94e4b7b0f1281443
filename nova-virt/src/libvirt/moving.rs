//! Guests that are shut down and go to other hosts.
//!
//! A parcel says where the disks are: in storage that hosts share, at an address where the source
//! offers them, or both. Of a disk only what it adds to its image travels; the image comes from
//! where images come from, by its checksum. The destination copies, so that the guest stays at its
//! source as it was; what has come is inspected before anything opens it, and laid over the
//! destination's own image.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{ImageContent, InstanceId};
use nova_core::port::{GuestSpec, ImageStore, MoveGuests, Parcel, VirtError};

use super::bases::Bases;
use super::daemon::DomainState;
use super::host::{Inner, LibvirtHost, host, no_room, power, to_its_end};
use super::record::Record;
use super::seal::Secret;
use super::tools::Tools;
use super::{disks, extents, offer};
use crate::domain::{Disk, DiskFormat, DiskRole, DomainSpec};
use crate::files::{FORMAT, FileError};
use crate::inspect::{Format, inspect, inspect_overlay};

/// What a parcel says of the disks.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Packed {
    format: u32,
    /// What lies below the root disk.
    base: ImageContent,
    /// The machine that the guest first started on.
    machine: Option<String>,
    disks: Vec<PackedDisk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<Shared>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offered: Option<Offered>,
}

/// A disk: its file, in the guest's order.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct PackedDisk {
    file: String,
    bytes: u64,
}

/// Disks in storage that hosts share.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Shared {
    directory: String,
    number: u32,
}

/// Disks that a host offers.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Offered {
    address: SocketAddr,
    secret: String,
}

/// Where disks are brought from.
enum Source {
    Shared(std::path::PathBuf),
    Offered(SocketAddr, Secret),
}

#[async_trait]
impl MoveGuests for LibvirtHost {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        let operation = "pack a guest";
        self.alone(instance, operation, move |inner| async move {
            let (state, record) = inner.own(instance, operation).await?;
            if state != DomainState::Off {
                let power = power(state);
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            inner.pack(record, operation).await
        })
        .await
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let operation = "unpack a guest";
        let turn = self.turn(spec.instance).await;
        let inner = Arc::clone(&self.inner);
        let Some(half) = inner.is_to_be_made(spec.instance).await? else { return Ok(()) };
        let packed = inner.read(spec, parcel).map_err(host(operation))?;
        let bases = inner.fetch(spec, None, images).await?;
        let mut record = Record::new(spec.clone());
        (record.boot, record.machine) = (parcel.boot, packed.machine.clone());
        // It goes along as it is: what the guest was told when it was made.
        let config = |disk: &PackedDisk| disk.file.ends_with(DomainSpec::CONFIG_DRIVE);
        record.config_drive = packed.disks.iter().any(config);
        to_its_end(turn, operation, async move {
            let guest = record.spec.instance;
            if half {
                inner.scrub(guest).await?;
            }
            let unpacked = inner.unpack(record, packed, bases).await;
            if unpacked.is_err() {
                // The first error is the one to tell. What is left is removed before it is tried
                // again, or with the guest.
                let _ = inner.scrub(guest).await;
            }
            unpacked
        })
        .await
    }
}

impl Inner {
    /// Whether there is a way to other hosts for the guests of this one.
    pub(super) fn reaches_others(&self) -> bool {
        self.has_disks() && (self.storage.is_some() || self.offers.is_some())
    }

    async fn pack(
        self: &Arc<Self>,
        record: Record,
        operation: &'static str,
    ) -> Result<Parcel, VirtError> {
        if record.rescue.is_some() {
            return Err(host(operation)("it is rescued"));
        }
        let instance = record.spec.instance;
        let domain = self.domain(&record)?;
        let measured = self.files(operation, move |_| {
            let measure = |disk: &Disk| {
                let path = Path::new(&disk.path);
                let meta = path.metadata().map_err(FileError::io(path, "look at it"))?;
                Ok(PackedDisk { file: file_of(disk), bytes: meta.len() })
            };
            domain.disks().iter().map(measure).collect()
        });
        let disks = measured.await?;
        let shared = self.storage.as_ref().zip(record.place).map(|(storage, number)| {
            let directory = storage.directory().to_string_lossy().into_owned();
            Shared { directory, number }
        });
        let offered = self.offering().await?.map(|address| {
            let secret = self.secret_of(instance).to_hex();
            Offered { address, secret }
        });
        let (base, machine) = (record.spec.image.content, record.machine);
        let packed = Packed { format: FORMAT, base, machine, disks, shared, offered };
        let disks = serde_json::to_string(&packed).map_err(host(operation))?;
        Ok(Parcel { instance, boot: record.boot, disks })
    }

    /// What a parcel says, if it is one of this guest.
    fn read(&self, spec: &GuestSpec, parcel: &Parcel) -> Result<Packed, String> {
        let wrong = |error: serde_json::Error| format!("the parcel does not read: {error}");
        let packed: Packed = serde_json::from_str(&parcel.disks).map_err(wrong)?;
        if packed.format != FORMAT {
            return Err(format!("the parcel has format {}, known is {FORMAT}", packed.format));
        }
        if parcel.instance != spec.instance || packed.base != spec.image.content {
            return Err("the parcel is of another guest".to_owned());
        }
        Ok(packed)
    }

    /// Where a parcel's disks can be had.
    fn source(&self, guest: InstanceId, packed: &Packed) -> Result<Source, String> {
        if let (Some(storage), Some(shared)) = (&self.storage, &packed.shared)
            && storage.directory() == Path::new(&shared.directory)
            // Of the same name, but perhaps another one.
            && storage.is_claimed(guest, shared.number).is_ok_and(|claimed| claimed)
        {
            return Ok(Source::Shared(storage.folder(guest, shared.number)));
        }
        let Some(offered) = &packed.offered else {
            return Err("this host does not share the storage of the other one".to_owned());
        };
        let secret = Secret::from_hex(&offered.secret).ok_or("the parcel has no secret")?;
        Ok(Source::Offered(offered.address, secret))
    }

    async fn unpack(
        self: &Arc<Self>,
        mut record: Record,
        packed: Packed,
        bases: Bases,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        record.kernel = bases.kernel();
        // Before a place of its own is made, which is claimed as well.
        let source = self.source(guest, &packed).map_err(host("find a guest's disks"))?;
        record.place = self.place(guest).await?;
        self.save(&record).await?;
        let domain = self.domain(&record)?;
        let made = self.files("bring a guest's disks", move |inner| {
            bases.keep(&inner.cache, guest)?;
            for disk in domain.disks() {
                let failed = FileError::io(Path::new(&disk.path), "bring it");
                bring(&inner.tools, guest, disk, &packed, &source).map_err(failed)?;
            }
            Ok(())
        });
        made.await.map_err(|error| no_room(guest, error))?;
        self.define(&mut record).await?;
        record.whole = true;
        self.save(&record).await
    }
}

/// The name of a disk's file, which is the same on every host.
fn file_of(disk: &Disk) -> String {
    let name = Path::new(&disk.path).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Brings a disk, as large as it is to be; one that was not packed is made.
fn bring(
    tools: &Tools,
    guest: InstanceId,
    disk: &Disk,
    packed: &Packed,
    source: &Source,
) -> std::io::Result<()> {
    let wrong = |why| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let name = file_of(disk);
    let found = packed.disks.iter().zip(0..).find(|(packed, _)| packed.file == name);
    let Some((PackedDisk { bytes, .. }, number)) = found else { return disks::make(tools, disk) };
    let path = Path::new(&disk.path);
    crate::files::remove(path)?;
    match source {
        Source::Shared(folder) => extents::copy(&folder.join(&name), path, *bytes)?,
        Source::Offered(from, secret) => {
            offer::bring(*from, secret, guest, number, path, *bytes)?;
        }
    }
    let mut file = std::fs::File::open(path)?;
    let size = match (disk.format, &disk.backing) {
        (DiskFormat::Qcow2, Some(_)) => inspect_overlay(&mut file, None),
        (DiskFormat::Qcow2, None) => inspect(&mut file, Format::Qcow2, None),
        // What a guest wrote may look like anything; its format is said to all who open it.
        (DiskFormat::Raw, _) => {
            Ok(crate::inspect::Disk { format: Format::Raw, virtual_size: *bytes })
        }
    };
    let size = size.map_err(|refusal| wrong(refusal.to_string()))?.virtual_size;
    disks::lay_over(tools, disk)?;
    match disk.size_bytes {
        Some(wanted) if wanted > size => disks::grow(tools, disk, wanted),
        // Nobody relies on what is in swap.
        Some(wanted) if wanted < size && disk.role == DiskRole::Swap => disks::make(tools, disk),
        Some(wanted) if wanted < size => {
            Err(wrong(format!("it has {size} bytes, more than the {wanted} that it may have")))
        }
        _ => Ok(()),
    }
}
