//! Volumes as files in a directory.

pub(crate) mod copies;
pub(crate) mod filling;
pub(crate) mod ledger;
mod verbs;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{Fence, GiB, HostId, VolumeId, VolumeSize};
use nova_core::port::{
    CloneVolumes, Connection, ExtendVolumes, FillVolumes, ShareVolumes, SnapshotVolumes,
    VolumeDriver, VolumeError, VolumeFacts,
};

use crate::cache::ImageCache;
use crate::files::{self, FileError};
use crate::inspect::Format;
use ledger::{Copied, Ledger, Part, Parts, Writers, as_written};

/// Keeps each volume as a sparse file, `<id>.volume`, with what is known of it beside it in
/// `<id>.json`, and each snapshot as `<id>.<snapshot>.snapshot`.
///
/// A volume is there when its `.json` is. Every change is one file replaced under a lock of the
/// directory, so several processes may use it at a time, and one that is killed leaves nothing
/// half done. Hosts reach a volume by its path: they share the directory, or there is one host.
///
/// Volumes are made of images where the driver was given a [place](Self::with_images) for those;
/// whoever else wants something of the directory waits while the disk in an image is copied.
///
/// The fences of volumes that were removed are in `.removed.json`.
///
/// Files are sparse: a volume takes as much of the disk as was written to it.
/// [`with_limit`](Self::with_limit) bounds what all of them may come to.
///
/// Where the file system lets files share what they have in common (XFS, Btrfs, bcachefs),
/// snapshots and clones are made at once, also of a volume that a host has. Elsewhere they are
/// copies without the holes, of volumes that no host has, and whoever else wants something of the
/// directory waits while one is made.
#[derive(Debug, Clone)]
pub struct FileVolumes {
    ledger: Ledger,
}

impl FileVolumes {
    /// The volumes in `directory`, which is made when it is not there. Leftovers of changes that
    /// were interrupted are removed, on the calling thread.
    ///
    /// # Errors
    /// [`FileError::Io`], also when the directory's path is not UTF-8.
    pub fn at(directory: impl AsRef<Path>) -> Result<Self, FileError> {
        let directory = files::directory(directory.as_ref())?;
        if directory.to_str().is_none() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8");
            return Err(FileError::io(&directory, "use the directory")(error));
        }
        let directory: Arc<Path> = directory.into();
        let parts = Arc::new(Directory(Arc::clone(&directory)));
        let ledger = Ledger::new(directory, parts);
        ledger.clean(&ledger.lock()?)?;
        Ok(Self { ledger })
    }

    /// Refuses a volume, an extension, a snapshot or a clone with which all of them together
    /// would be larger than `limit`.
    #[must_use]
    pub fn with_limit(self, limit: GiB) -> Self {
        Self { ledger: self.ledger.with_limit(limit) }
    }
}

impl FileVolumes {
    /// Makes volumes of images, too: an image comes to `images` once, is measured and inspected
    /// there, and its disk is copied into each volume that is made of it. `qemu-img` and `prlimit`
    /// have to be installed where images are not raw.
    #[must_use]
    pub fn with_images(self, images: ImageCache) -> Self {
        Self { ledger: self.ledger.with_images(images) }
    }
}

/// Files beside their descriptions.
#[derive(Debug)]
struct Directory(Arc<Path>);

impl Directory {
    fn file_of(&self, part: Part) -> PathBuf {
        let Part { volume, snapshot } = part;
        self.0.join(match snapshot {
            None => format!("{volume}.volume"),
            Some(snapshot) => format!("{volume}.{snapshot}.snapshot"),
        })
    }

    fn fresh(&self, part: Part) -> io::Result<File> {
        // Truncated: what lies there without a description is a leftover.
        OpenOptions::new().write(true).create(true).truncate(true).open(self.file_of(part))
    }

    /// The whole file of what should be as large as that.
    fn whole(&self, part: Part, size: VolumeSize) -> io::Result<File> {
        let file = File::open(self.file_of(part))?;
        if file.metadata()?.len() < size.get().to_bytes() {
            let why = "its file is shorter than the volume";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(file)
    }
}

impl std::fmt::Display for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volumes in {}", self.0.display())
    }
}

impl Parts for Directory {
    fn make(&self, part: Part, size: VolumeSize) -> io::Result<()> {
        let file = self.fresh(part)?;
        file.set_len(size.get().to_bytes())?;
        file.sync_all()
    }

    fn grow(&self, part: Part, size: VolumeSize) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.file_of(part))?;
        let (is, size) = (file.metadata()?.len(), size.get().to_bytes());
        if is < size {
            file.set_len(size)?;
            file.sync_all()?;
        }
        Ok(())
    }

    fn copy(&self, from: Part, to: Part, size: VolumeSize, writers: Writers) -> io::Result<Copied> {
        let (from, to) = (self.whole(from, size)?, self.fresh(to)?);
        let length = size.get().to_bytes();
        if copies::share(&from, &to)? {
            to.set_len(length)?;
        } else if writers == Writers::Possible {
            return Ok(Copied::NotWhileWritten);
        } else {
            copies::copy(&from, &to, length)?;
        }
        to.sync_all()?;
        Ok(Copied::Whole)
    }

    fn fill(&self, part: Part, size: VolumeSize, disk: &Path, format: Format) -> io::Result<()> {
        let to = self.fresh(part)?;
        match format {
            Format::Raw => {
                let from = File::open(disk)?;
                if !copies::share(&from, &to)? {
                    copies::copy_written(&from, &to, from.metadata()?.len())?;
                }
            }
            format => filling::convert(disk, format, &self.file_of(part))?,
        }
        to.set_len(size.get().to_bytes())?;
        to.sync_all()
    }

    fn remove(&self, parts: &[Part]) -> io::Result<()> {
        parts.iter().try_for_each(|part| files::remove(&self.file_of(*part)))
    }

    fn list(&self) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(&*self.0)? {
            let name = entry?.file_name();
            parts.extend(name.to_str().and_then(part_of));
        }
        Ok(parts)
    }

    fn open(&self, part: Part, size: VolumeSize) -> io::Result<Connection> {
        self.whole(part, size)?;
        let path = self.file_of(part).into_os_string().into_string();
        let path = path.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Connection::File { path })
    }

    fn close(&self, _: Part) -> io::Result<()> {
        Ok(())
    }

    fn room(&self, _: GiB) -> io::Result<Option<GiB>> {
        Ok(None)
    }
}

/// The part whose file has this name.
fn part_of(name: &str) -> Option<Part> {
    if let Some(volume) = name.strip_suffix(".volume") {
        return Some(Part { volume: as_written(volume)?, snapshot: None });
    }
    let (volume, snapshot) = name.strip_suffix(".snapshot")?.split_once('.')?;
    Some(Part { volume: as_written(volume)?, snapshot: Some(as_written(snapshot)?) })
}

impl std::fmt::Display for FileVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.ledger.fmt(f)
    }
}

#[async_trait]
impl VolumeDriver for FileVolumes {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.ledger.create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.ledger.remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.ledger.connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.ledger.disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.ledger.list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        Some(&self.ledger)
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        Some(&self.ledger)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        Some(&self.ledger)
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        Some(&self.ledger)
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        self.ledger.filling()
    }
}
