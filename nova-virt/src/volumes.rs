//! Volumes as files in a directory.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{Fence, GiB, HostId, RemovedFences, VolumeId, VolumeSize};
use nova_core::port::{Connection, ShareVolumes, VolumeDriver, VolumeError, VolumeFacts};

use crate::files::{self, FORMAT, FileError, Lock};

/// Keeps each volume as a sparse file, `<id>.volume`, with its size and the host that has it
/// beside it in `<id>.json`.
///
/// A volume is there when its `.json` is. Every change is one file replaced under a lock of the
/// directory, so several processes may use it at a time, and one that is killed leaves nothing
/// half done. Hosts reach a volume by its path: they share the directory, or there is one host.
///
/// The fences of volumes that were removed are in `.removed.json`.
///
/// Files are sparse: a volume takes as much of the disk as was written to it.
/// [`with_limit`](Self::with_limit) bounds what all of them may come to.
#[derive(Debug, Clone)]
pub struct FileVolumes {
    directory: Arc<Path>,
    limit: Option<GiB>,
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
        let driver = Self { directory: directory.into(), limit: None };
        let _lock = driver.lock()?;
        let clean = driver.clean();
        clean.map_err(FileError::io(&driver.directory, "remove leftovers"))?;
        Ok(driver)
    }

    /// Refuses a volume with which all of them together would be larger than `limit`.
    #[must_use]
    pub fn with_limit(mut self, limit: GiB) -> Self {
        self.limit = Some(limit);
        self
    }

    fn clean(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&*self.directory)? {
            let path = entry?.path();
            let leftover = match path.extension().and_then(std::ffi::OsStr::to_str) {
                Some("tmp") => true,
                Some("volume") => !path.with_extension("json").exists(),
                _ => false,
            };
            if leftover {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock, FileError> {
        Lock::wait(&self.directory.join(".lock"))
    }

    fn file_of(&self, volume: VolumeId) -> PathBuf {
        self.directory.join(format!("{volume}.volume"))
    }

    fn sidecar_of(&self, volume: VolumeId) -> PathBuf {
        self.directory.join(format!("{volume}.json"))
    }

    fn load(&self, volume: VolumeId) -> Result<Option<Sidecar>, FileError> {
        files::load(&self.sidecar_of(volume))
    }

    /// What lies beside a volume, if it is there, for a call that was not overtaken.
    fn load_for(&self, volume: VolumeId, fence: Fence) -> Result<Option<Sidecar>, Failure> {
        let sidecar = self.load(volume)?;
        let seen = match &sidecar {
            Some(sidecar) => sidecar.fence,
            None => self.removed()?.fences.seen(volume),
        };
        VolumeError::if_overtaken(volume, fence, seen)?;
        Ok(sidecar)
    }

    fn removed(&self) -> Result<Removed, FileError> {
        Ok(files::load(&self.directory.join(REMOVED))?.unwrap_or_default())
    }

    fn save(&self, volume: VolumeId, sidecar: &Sidecar) -> Result<(), FileError> {
        files::save(&self.sidecar_of(volume), sidecar)
    }

    /// Writes what a call has changed, be it only its fence.
    fn change(&self, volume: VolumeId, old: &Sidecar, new: &Sidecar) -> Result<(), FileError> {
        if new == old { Ok(()) } else { self.save(volume, new) }
    }

    fn make(&self, volume: VolumeId, size: VolumeSize, fence: Fence) -> Result<(), Failure> {
        if let Some(sidecar) = self.load_for(volume, fence)? {
            if sidecar.size != size {
                return Err(VolumeError::Exists { volume }.into());
            }
            return Ok(self.change(volume, &sidecar, &Sidecar { fence, ..sidecar })?);
        }
        if let Some(limit) = self.limit {
            let listed = self.facts()?;
            let used = listed.iter().fold(GiB::ZERO, |sum, v| sum.saturating_add(v.size.get()));
            if used.saturating_add(size.get()) > limit {
                let why = format!("{used} of {limit} are taken");
                return Err(io::Error::new(io::ErrorKind::StorageFull, why).into());
            }
        }
        let path = self.file_of(volume);
        let make = || {
            // Truncated: what lies there without a description is a leftover.
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            file.set_len(size.get().to_bytes())?;
            file.sync_all()
        };
        if let Err(error) = make() {
            // The first error is the one to tell; a leftover is removed later.
            let _ = files::remove(&path);
            return Err(error.into());
        }
        Ok(self.save(volume, &Sidecar::new(size, fence))?)
    }

    fn destroy(&self, volume: VolumeId, fence: Fence) -> Result<(), Failure> {
        if let Some(sidecar) = self.load_for(volume, fence)? {
            if let Some(host) = sidecar.connected_to {
                return Err(VolumeError::Connected { volume, host }.into());
            }
            // Nothing earlier may connect it, should this be interrupted.
            self.change(volume, &sidecar, &Sidecar { fence, ..sidecar })?;
        }
        let mut removed = self.removed()?;
        removed.fences.note(volume, fence);
        files::save(&self.directory.join(REMOVED), &removed)?;
        // The description first: without it the file is a leftover.
        let sidecar = self.sidecar_of(volume);
        files::remove(&sidecar)?;
        files::sync_directory_of(&sidecar)?;
        Ok(files::remove(&self.file_of(volume))?)
    }

    fn give(&self, volume: VolumeId, host: HostId, fence: Fence) -> Result<Connection, Failure> {
        let sidecar = self.load_for(volume, fence)?.ok_or(VolumeError::NoSuchVolume { volume })?;
        let mut next = Sidecar { fence, ..sidecar };
        match sidecar.connected_to {
            Some(_) if sidecar.shared_with == Some(host) => {}
            Some(other) if other != host => {
                return Err(VolumeError::Connected { volume, host: other }.into());
            }
            Some(_) => {}
            None => {
                let path = self.file_of(volume);
                if path.metadata()?.len() < sidecar.size.get().to_bytes() {
                    let why = "its file is shorter than the volume";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why).into());
                }
                next.connected_to = Some(host);
            }
        }
        self.change(volume, &sidecar, &next)?;
        self.connection(volume)
    }

    fn connection(&self, volume: VolumeId) -> Result<Connection, Failure> {
        let path = self.file_of(volume);
        match path.into_os_string().into_string() {
            Ok(path) => Ok(Connection::File { path }),
            Err(_) => Err(io::Error::from(io::ErrorKind::InvalidInput).into()),
        }
    }

    fn lend(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, Failure> {
        let sidecar = self.load_for(volume, fence)?.ok_or(VolumeError::NoSuchVolume { volume })?;
        let mut next = Sidecar { fence, ..sidecar };
        let has = |host| sidecar.connected_to == Some(host) || sidecar.shared_with == Some(host);
        match sidecar.shared_with {
            _ if !has(from) => {
                return Err(VolumeError::NotConnected { volume, host: from }.into());
            }
            _ if has(to) => {}
            Some(host) => return Err(VolumeError::Connected { volume, host }.into()),
            None => next.shared_with = Some(to),
        }
        self.change(volume, &sidecar, &next)?;
        self.connection(volume)
    }

    fn take(&self, volume: VolumeId, host: HostId, fence: Fence) -> Result<(), Failure> {
        let Some(sidecar) = self.load_for(volume, fence)? else { return Ok(()) };
        let (first, second) = (sidecar.connected_to, sidecar.shared_with);
        let (connected_to, shared_with) = match Some(host) {
            host if host == second => (first, None),
            host if host == first => (second, None),
            _ => (first, second),
        };
        let next = Sidecar { connected_to, shared_with, fence, ..sidecar };
        Ok(self.change(volume, &sidecar, &next)?)
    }

    fn facts(&self) -> io::Result<Vec<VolumeFacts>> {
        let mut facts = Vec::new();
        for entry in std::fs::read_dir(&*self.directory)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            // Only the spelling that is looked up again: other files are not ours.
            let Some(volume) = id.and_then(|id| {
                id.parse().ok().filter(|volume: &VolumeId| volume.to_string() == id)
            }) else {
                continue;
            };
            if let Some(Sidecar { size, connected_to, shared_with, .. }) =
                self.load(volume).map_err(FileError::into_io)?
            {
                facts.push(VolumeFacts { volume, size, connected_to, shared_with });
            }
        }
        facts.sort_unstable_by_key(|fact| fact.volume);
        Ok(facts)
    }

    /// One change or look at one volume, alone in the directory.
    async fn alone<T: Send + 'static>(
        &self,
        volume: VolumeId,
        operation: &'static str,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let driver = self.clone();
        let work = move || {
            let _lock = driver.lock()?;
            work(&driver)
        };
        files::off_thread(work, Failure::Io).await.map_err(|failure| match failure {
            Failure::Volume(error) => error,
            Failure::Io(source) => VolumeError::Io { volume, operation, source },
        })
    }
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

/// What lies beside a volume.
#[derive(Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
struct Sidecar {
    format: u32,
    #[serde(rename = "size_gib")]
    size: VolumeSize,
    connected_to: Option<HostId>,
    /// Absent in files of earlier releases, and while only one host has the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_with: Option<HostId>,
    /// The highest of the calls that were carried out. Absent in files of earlier releases.
    #[serde(default)]
    fence: Fence,
}

impl Sidecar {
    fn new(size: VolumeSize, fence: Fence) -> Self {
        Self { format: FORMAT, size, connected_to: None, shared_with: None, fence }
    }
}

/// Why a step failed, before it is said which.
enum Failure {
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

impl std::fmt::Display for FileVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volumes in {}", self.directory.display())
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
        self.alone(volume, "create it", move |driver| driver.make(volume, size, fence)).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.alone(volume, "remove it", move |driver| driver.destroy(volume, fence)).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.alone(volume, "connect it", move |driver| driver.give(volume, host, fence)).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.alone(volume, "disconnect it", move |driver| driver.take(volume, host, fence)).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        let driver = self.clone();
        let work = move || {
            let _lock = driver.lock().map_err(FileError::into_io)?;
            driver.facts()
        };
        files::off_thread(work, |error| error).await.map_err(|source| VolumeError::List { source })
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        Some(self)
    }
}

#[async_trait]
impl ShareVolumes for FileVolumes {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.alone(volume, "share it", move |driver| driver.lend(volume, from, to, fence)).await
    }
}
