//! What a volume driver is asked to do, on descriptions and bytes.

use std::io;

use async_trait::async_trait;
use nova_core::domain::{Fence, GiB, HostId, SnapshotId, VolumeId, VolumeSize};
use nova_core::port::{
    CloneSource, CloneVolumes, Connection, ExtendVolumes, ShareVolumes, SnapshotFacts,
    SnapshotVolumes, VolumeError, VolumeFacts,
};

use super::ledger::{Copied, Description, Failure, Ledger, Part, Writers};
use crate::files::{self, FileError};

impl Ledger {
    fn make(&self, volume: VolumeId, size: VolumeSize, fence: Fence) -> Result<(), Failure> {
        if let Some(description) = self.load_for(volume, fence)? {
            if description.size != size {
                return Err(VolumeError::Exists { volume }.into());
            }
            return Ok(self.change(volume, &description, &description.seen(fence))?);
        }
        self.has_room_for(size.get())?;
        let part = Part::all_of(volume);
        if let Err(error) = self.parts.make(part, size) {
            // The first error is the one to tell; a leftover is removed later.
            let _ = self.parts.remove(&[part]);
            return Err(error.into());
        }
        Ok(self.save(volume, &Description::new(size, fence))?)
    }

    fn destroy(&self, volume: VolumeId, fence: Fence) -> Result<(), Failure> {
        if let Some(description) = self.load_for(volume, fence)? {
            if let Some(host) = description.connected_to {
                return Err(VolumeError::Connected { volume, host }.into());
            }
            if !description.snapshots.is_empty() {
                return Err(VolumeError::HasSnapshots { volume }.into());
            }
            // Nothing earlier may connect it, should this be interrupted.
            self.change(volume, &description, &description.seen(fence))?;
        }
        // The description first: without it the bytes are a leftover.
        self.forget(volume, fence)?;
        Ok(self.parts.remove(&[Part::all_of(volume)])?)
    }

    fn give(&self, volume: VolumeId, host: HostId, fence: Fence) -> Result<Connection, Failure> {
        let description = self.existing(volume, fence)?;
        let mut next = description.seen(fence);
        match description.connected_to {
            Some(_) if description.shared_with == Some(host) => {}
            Some(other) if other != host => {
                return Err(VolumeError::Connected { volume, host: other }.into());
            }
            _ => next.connected_to = Some(host),
        }
        let connection = self.parts.open(Part::all_of(volume), description.size)?;
        self.change(volume, &description, &next)?;
        Ok(connection)
    }

    fn lend(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, Failure> {
        let description = self.existing(volume, fence)?;
        let mut next = description.seen(fence);
        let has = |host| [description.connected_to, description.shared_with].contains(&Some(host));
        match description.shared_with {
            _ if !has(from) => {
                return Err(VolumeError::NotConnected { volume, host: from }.into());
            }
            _ if has(to) => {}
            Some(host) => return Err(VolumeError::Connected { volume, host }.into()),
            None => next.shared_with = Some(to),
        }
        let connection = self.parts.open(Part::all_of(volume), description.size)?;
        self.change(volume, &description, &next)?;
        Ok(connection)
    }

    fn take(&self, volume: VolumeId, host: HostId, fence: Fence) -> Result<(), Failure> {
        let Some(description) = self.load_for(volume, fence)? else { return Ok(()) };
        let (first, second) = (description.connected_to, description.shared_with);
        let mut next = description.seen(fence);
        (next.connected_to, next.shared_with) = match Some(host) {
            host if host == second => (first, None),
            host if host == first => (second, None),
            _ => (first, second),
        };
        if first.is_some() && next.connected_to.is_none() {
            // Before it is free: what cannot be closed is still used.
            self.parts.close(Part::all_of(volume))?;
        }
        Ok(self.change(volume, &description, &next)?)
    }

    fn grow(&self, volume: VolumeId, size: VolumeSize, fence: Fence) -> Result<(), Failure> {
        let description = self.existing(volume, fence)?;
        let is = description.size;
        if is > size {
            return Err(VolumeError::WouldShrink { volume, size: is }.into());
        }
        if is < size {
            self.has_room_for(GiB(size.get().0 - is.get().0))?;
            // The bytes first: a description never promises what is not there.
            self.parts.grow(Part::all_of(volume), size)?;
        }
        let mut next = description.seen(fence);
        next.size = size;
        Ok(self.change(volume, &description, &next)?)
    }

    fn keep(&self, volume: VolumeId, snapshot: SnapshotId, fence: Fence) -> Result<(), Failure> {
        let description = self.existing(volume, fence)?;
        let mut next = description.seen(fence);
        if !description.snapshots.contains_key(&snapshot) {
            let (size, host) = (description.size, description.connected_to);
            self.copy(Part::all_of(volume), Part::of(volume, snapshot), size, host)?;
            next.snapshots.insert(snapshot, size);
        }
        Ok(self.change(volume, &description, &next)?)
    }

    fn drop_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), Failure> {
        let Some(description) = self.load_for(volume, fence)? else { return Ok(()) };
        let mut next = description.seen(fence);
        next.snapshots.remove(&snapshot);
        self.change(volume, &description, &next)?;
        Ok(self.parts.remove(&[Part::of(volume, snapshot)])?)
    }

    fn clone_of(&self, volume: VolumeId, source: CloneSource, fence: Fence) -> Result<(), Failure> {
        if let Some(description) = self.load_for(volume, fence)? {
            if description.origin != Some(source) {
                return Err(VolumeError::Exists { volume }.into());
            }
            return Ok(self.change(volume, &description, &description.seen(fence))?);
        }
        let CloneSource { volume: from, snapshot } = source;
        let of = self.load(from)?.ok_or(VolumeError::NoSuchVolume { volume: from })?;
        let (size, host) = match snapshot {
            None => (of.size, of.connected_to),
            Some(snapshot) => {
                let none = VolumeError::NoSuchSnapshot { volume: from, snapshot };
                (*of.snapshots.get(&snapshot).ok_or(none)?, None)
            }
        };
        self.copy(Part { volume: from, snapshot }, Part::all_of(volume), size, host)?;
        let mut made = Description::new(size, fence);
        made.origin = Some(source);
        Ok(self.save(volume, &made)?)
    }

    /// Copies what `host` may write to, onto what is nobody's yet.
    fn copy(
        &self,
        from: Part,
        to: Part,
        size: VolumeSize,
        host: Option<HostId>,
    ) -> Result<(), Failure> {
        self.has_room_for(size.get())?;
        let writers = if host.is_some() { Writers::Possible } else { Writers::None };
        let copied = self.parts.copy(from, to, size, writers);
        if !matches!(copied, Ok(Copied::Whole)) {
            // The first error is the one to tell; a leftover is removed later.
            let _ = self.parts.remove(&[to]);
        }
        match (copied?, host) {
            (Copied::NotWhileWritten, Some(host)) => {
                Err(VolumeError::Connected { volume: from.volume, host }.into())
            }
            (Copied::NotWhileWritten, None) => Err(io::Error::other("nobody writes to it").into()),
            (Copied::Whole, _) => Ok(()),
        }
    }

    /// One change or look at one volume, alone in the directory.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        volume: VolumeId,
        operation: &'static str,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let ledger = self.clone();
        let work = move || {
            let _lock = ledger.lock()?;
            work(&ledger)
        };
        files::off_thread(work, Failure::Io).await.map_err(|failure| match failure {
            Failure::Volume(error) => error,
            Failure::Io(source) => VolumeError::Io { volume, operation, source },
        })
    }

    async fn listed<T: Send + 'static>(
        &self,
        list: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let ledger = self.clone();
        let work = move || {
            let _lock = ledger.lock().map_err(FileError::into_io)?;
            list(&ledger)
        };
        files::off_thread(work, |error| error).await.map_err(|source| VolumeError::List { source })
    }

    pub(crate) async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.alone(volume, "create it", move |ledger| ledger.make(volume, size, fence)).await
    }

    pub(crate) async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.alone(volume, "remove it", move |ledger| ledger.destroy(volume, fence)).await
    }

    pub(crate) async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.alone(volume, "connect it", move |ledger| ledger.give(volume, host, fence)).await
    }

    pub(crate) async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.alone(volume, "disconnect it", move |ledger| ledger.take(volume, host, fence)).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.listed(Self::facts).await
    }
}

#[async_trait]
impl ShareVolumes for Ledger {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.alone(volume, "share it", move |ledger| ledger.lend(volume, from, to, fence)).await
    }
}

#[async_trait]
impl ExtendVolumes for Ledger {
    async fn extend(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.alone(volume, "extend it", move |ledger| ledger.grow(volume, size, fence)).await
    }
}

#[async_trait]
impl SnapshotVolumes for Ledger {
    async fn make_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let keep = move |ledger: &Self| ledger.keep(volume, snapshot, fence);
        self.alone(volume, "make a snapshot of it", keep).await
    }

    async fn remove_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let remove = move |ledger: &Self| ledger.drop_snapshot(volume, snapshot, fence);
        self.alone(volume, "remove a snapshot of it", remove).await
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotFacts>, VolumeError> {
        self.listed(Self::snapshot_facts).await
    }
}

#[async_trait]
impl CloneVolumes for Ledger {
    async fn clone_volume(
        &self,
        volume: VolumeId,
        source: CloneSource,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let clone = move |ledger: &Self| ledger.clone_of(volume, source, fence);
        self.alone(volume, "make it of another", clone).await
    }
}
