//! What is known of volumes wherever their bytes lie: who has which, and what came before.
//!
//! Each volume has a description, `<id>.json`, and is there when that is. Every change is one
//! description replaced under a lock of the directory, before or after the bytes change so that
//! whoever is killed in between leaves bytes without a description, which are a leftover, and
//! never a description without bytes. Where bytes lie is a [`Parts`]; what the verbs do with both
//! is in [`verbs`](super::verbs).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nova_core::domain::{Fence, GiB, HostId, RemovedFences, SnapshotId, VolumeId, VolumeSize};
use nova_core::port::{CloneSource, Connection, SnapshotFacts, VolumeError, VolumeFacts};

use crate::cache::ImageCache;
use crate::files::{self, FORMAT, FileError, Lock};
use crate::inspect::Format;

/// The bytes of a volume, or those of a snapshot of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) volume: VolumeId,
    pub(crate) snapshot: Option<SnapshotId>,
}

impl Part {
    pub(super) const fn all_of(volume: VolumeId) -> Self {
        Self { volume, snapshot: None }
    }

    pub(super) const fn of(volume: VolumeId, snapshot: SnapshotId) -> Self {
        Self { volume, snapshot: Some(snapshot) }
    }
}

/// Whether somebody may write to what is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writers {
    /// Nobody.
    None,
    /// Perhaps.
    Possible,
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// It is there, and of one moment.
    Whole,
    /// It cannot be of one moment while somebody writes.
    NotWhileWritten,
}

/// Where bytes lie. The caller sees to it that two calls never come at the same time.
pub(crate) trait Parts: std::fmt::Debug + std::fmt::Display + Send + Sync + 'static {
    /// Makes a part of zeros in place of what may lie there. What an error leaves is removed by
    /// the caller.
    fn make(&self, part: Part, size: VolumeSize) -> io::Result<()>;

    /// Makes a part at least as large, with zeros; one that is may be left as it is.
    fn grow(&self, part: Part, size: VolumeSize) -> io::Result<()>;

    /// Makes `to` of the first bytes of `from`, in place of what may lie there. What an error
    /// leaves is removed by the caller.
    fn copy(&self, from: Part, to: Part, size: VolumeSize, writers: Writers) -> io::Result<Copied>;

    /// Makes a part that begins with the disk in a file and goes on with zeros, in place of what may
    /// lie there. What an error leaves is removed by the caller.
    fn fill(&self, part: Part, size: VolumeSize, disk: &Path, format: Format) -> io::Result<()>;

    /// Removes these; those that are not there are success.
    fn remove(&self, parts: &[Part]) -> io::Result<()>;

    /// Every part that there is, be it half made.
    fn list(&self) -> io::Result<Vec<Part>>;

    /// Makes a part ready to be used, and says how a host reaches it.
    fn open(&self, part: Part, size: VolumeSize) -> io::Result<Connection>;

    /// Ends that, because no host has it any more.
    fn close(&self, part: Part) -> io::Result<()>;

    /// What all parts together may come to, where that is known: at least what it was when it was
    /// last asked for, if that is enough for what is `wanted`.
    fn room(&self, wanted: GiB) -> io::Result<Option<GiB>>;
}

/// The descriptions of all volumes in one place.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    directory: Arc<Path>,
    pub(super) parts: Arc<dyn Parts>,
    limit: Option<GiB>,
    /// Where the images come to that volumes are made of.
    pub(super) images: Option<ImageCache>,
}

impl Ledger {
    /// The descriptions in `directory`, which is there, of what lies in `parts`.
    pub(crate) fn new(directory: Arc<Path>, parts: Arc<dyn Parts>) -> Self {
        Self { directory, parts, limit: None, images: None }
    }

    /// Makes volumes of images, too, which come to `images` first.
    pub(crate) fn with_images(mut self, images: ImageCache) -> Self {
        self.images = Some(images);
        self
    }

    /// Bounds what all volumes may come to, instead of what they have room for.
    pub(crate) fn with_limit(mut self, limit: GiB) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Removes what changes that were interrupted have left, under the lock of the directory.
    pub(crate) fn clean(&self, _lock: &Lock) -> Result<(), FileError> {
        let clean = || {
            for entry in std::fs::read_dir(&*self.directory)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "tmp") {
                    files::remove(&path)?;
                }
            }
            let mut leftovers = Vec::new();
            for part in self.parts.list()? {
                match self.load(part.volume) {
                    Ok(Some(description)) if description.has(part) => {}
                    Ok(_) => leftovers.push(part),
                    Err(error @ FileError::Io { .. }) => return Err(error.into_io()),
                    // What it says does not read: this may be its volume.
                    Err(_) => {}
                }
            }
            self.parts.remove(&leftovers)
        };
        clean().map_err(FileError::io(&self.directory, "remove leftovers"))
    }

    pub(crate) fn lock(&self) -> Result<Lock, FileError> {
        Lock::wait(&self.directory.join(".lock"))
    }

    fn file_of(&self, volume: VolumeId) -> PathBuf {
        self.directory.join(format!("{volume}.json"))
    }

    pub(super) fn load(&self, volume: VolumeId) -> Result<Option<Description>, FileError> {
        files::load(&self.file_of(volume))
    }

    /// What is known of a volume, if it is there, for a call that was not overtaken.
    pub(super) fn load_for(
        &self,
        volume: VolumeId,
        fence: Fence,
    ) -> Result<Option<Description>, Failure> {
        let description = self.load(volume)?;
        let seen = match &description {
            Some(description) => description.fence,
            None => self.removed()?.fences.seen(volume),
        };
        VolumeError::if_overtaken(volume, fence, seen)?;
        Ok(description)
    }

    /// The same for what cannot be done without one.
    pub(super) fn existing(&self, volume: VolumeId, fence: Fence) -> Result<Description, Failure> {
        let description = self.load_for(volume, fence)?;
        Ok(description.ok_or(VolumeError::NoSuchVolume { volume })?)
    }

    fn removed(&self) -> Result<Removed, FileError> {
        Ok(files::load(&self.directory.join(REMOVED))?.unwrap_or_default())
    }

    pub(super) fn save(&self, volume: VolumeId, new: &Description) -> Result<(), FileError> {
        files::save(&self.file_of(volume), new)
    }

    /// Writes what a call has changed, be it only its fence.
    pub(super) fn change(
        &self,
        volume: VolumeId,
        old: &Description,
        new: &Description,
    ) -> Result<(), FileError> {
        if new == old { Ok(()) } else { self.save(volume, new) }
    }

    /// Removes a description. The fence stays known.
    pub(super) fn forget(&self, volume: VolumeId, fence: Fence) -> Result<(), Failure> {
        let mut removed = self.removed()?;
        removed.fences.note(volume, fence);
        files::save(&self.directory.join(REMOVED), &removed)?;
        let file = self.file_of(volume);
        files::remove(&file)?;
        Ok(files::sync_directory_of(&file)?)
    }

    /// Refuses what would make all volumes and snapshots together too large.
    pub(super) fn has_room_for(&self, more: GiB) -> Result<(), Failure> {
        if self.limit.is_none() && self.parts.room(GiB::ZERO)?.is_none() {
            return Ok(());
        }
        let described = self.descriptions()?;
        let sizes = described.values().flat_map(|description| {
            std::iter::once(&description.size).chain(description.snapshots.values())
        });
        let used = sizes.fold(GiB::ZERO, |sum, size| sum.saturating_add(size.get()));
        let wanted = used.saturating_add(more);
        let limit = match self.limit {
            Some(limit) => Some(limit),
            None => self.parts.room(wanted)?,
        };
        match limit {
            Some(limit) if wanted > limit => {
                let why = format!("{used} of {limit} are taken");
                Err(io::Error::new(io::ErrorKind::StorageFull, why).into())
            }
            _ => Ok(()),
        }
    }

    fn descriptions(&self) -> io::Result<BTreeMap<VolumeId, Description>> {
        let mut described = BTreeMap::new();
        for entry in std::fs::read_dir(&*self.directory)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(volume) = id.and_then(as_written) else { continue };
            if let Some(description) = self.load(volume).map_err(FileError::into_io)? {
                described.insert(volume, description);
            }
        }
        Ok(described)
    }

    pub(super) fn facts(&self) -> io::Result<Vec<VolumeFacts>> {
        let facts = self.descriptions()?.into_iter().map(|(volume, description)| {
            let Description { size, connected_to, shared_with, .. } = description;
            VolumeFacts { volume, size, connected_to, shared_with }
        });
        Ok(facts.collect())
    }

    pub(super) fn snapshot_facts(&self) -> io::Result<Vec<SnapshotFacts>> {
        let facts = self.descriptions()?.into_iter().flat_map(|(volume, description)| {
            let of = move |(snapshot, size)| SnapshotFacts { volume, snapshot, size };
            description.snapshots.into_iter().map(of)
        });
        Ok(facts.collect())
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.fmt(f)
    }
}

/// An id in the only spelling that is looked up again: whatever has another name is not ours.
pub(super) fn as_written<T: std::str::FromStr + std::fmt::Display>(text: &str) -> Option<T> {
    text.parse().ok().filter(|id: &T| id.to_string() == text)
}

/// The file with the fences of volumes that were removed.
const REMOVED: &str = ".removed.json";

/// What is in it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Removed {
    format: u32,
    #[serde(flatten)]
    fences: RemovedFences,
}

impl Default for Removed {
    fn default() -> Self {
        Self { format: FORMAT, fences: RemovedFences::default() }
    }
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Description {
    format: u32,
    #[serde(rename = "size_gib")]
    pub(super) size: VolumeSize,
    pub(super) connected_to: Option<HostId>,
    /// Absent in files of earlier releases, and while only one host has the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_with: Option<HostId>,
    /// What it was made of, where it is a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<CloneSource>,
    /// The checksum of the image that it was made of, where it was made of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    /// Its snapshots, and the size of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) snapshots: BTreeMap<SnapshotId, VolumeSize>,
    /// The highest of the calls that were carried out. Absent in files of earlier releases.
    #[serde(default)]
    pub(super) fence: Fence,
}

impl Description {
    pub(super) fn new(size: VolumeSize, fence: Fence) -> Self {
        Self {
            format: FORMAT,
            size,
            connected_to: None,
            shared_with: None,
            origin: None,
            image: None,
            snapshots: BTreeMap::new(),
            fence,
        }
    }

    /// The same after a call that did nothing else.
    pub(super) fn seen(&self, fence: Fence) -> Self {
        Self { fence, ..self.clone() }
    }

    fn has(&self, part: Part) -> bool {
        part.snapshot.is_none_or(|snapshot| self.snapshots.contains_key(&snapshot))
    }
}

/// Why a step failed, before it is said which.
pub(super) enum Failure {
    Volume(VolumeError),
    Io(io::Error),
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        Self::Volume(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Io(error.into_io())
    }
}
