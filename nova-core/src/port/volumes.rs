//! Storage that outlives servers.

mod abilities;

pub use abilities::{
    CloneSource, CloneVolumes, ExtendVolumes, FillVolumes, ShareVolumes, SnapshotFacts,
    SnapshotVolumes,
};

use std::fmt::{Debug, Display};

use async_trait::async_trait;

use crate::class::Class;
use crate::domain::{Fence, HostId, SnapshotId, VolumeId, VolumeSize};
use crate::port::ImageError;

/// How a host reaches a volume it was connected to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Connection {
    /// A file on the host.
    File {
        /// Its path.
        path: String,
    },
    /// A block device of the host.
    Block {
        /// The path of its node, such as `/dev/group/volume`.
        path: String,
    },
    /// Nothing real: a simulated host.
    Simulated,
}

/// A volume as its driver knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFacts {
    /// The volume.
    pub volume: VolumeId,
    /// Its size.
    pub size: VolumeSize,
    /// The host that it is connected to.
    pub connected_to: Option<HostId>,
    /// The second host that it is connected to; see [`ShareVolumes`].
    pub shared_with: Option<HostId>,
}

impl VolumeFacts {
    /// The hosts that it is connected to.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> {
        self.connected_to.into_iter().chain(self.shared_with)
    }
}

/// Makes volumes and connects them to hosts.
///
/// # Fences
/// A call may take effect long after whoever made it was replaced, when the volume is somebody
/// else's. So every call that changes something carries a [`Fence`], higher than those of all
/// calls for this volume that it may have overtaken. A driver keeps the highest fence of the calls
/// that it carried out for each volume, together with what they did and for as long, also when they
/// found nothing to do, and also when the volume was removed ([`RemovedFences`] is a way to);
/// a `disconnect` of a volume that is not there may be forgotten, because who undoes a creation
/// removes it.
/// It answers a call with a lower one with [`VolumeError::Overtaken`] and changes nothing. The same
/// fence comes again when a call is repeated. A call that is refused need not be remembered.
///
/// What each would do if it were late: `connect` and `share` give a volume that was freed to a host
/// that must not write to it any more; `disconnect` takes it from a guest that got it meanwhile;
/// `create` makes one that nobody knows of; and `remove` is what all of them must not outlive.
///
/// [`RemovedFences`]: crate::domain::RemovedFences
///
/// What the abilities add: `extend`, `make_snapshot`, `clone_volume` and `fill` would give somebody who is
/// new to a volume what somebody else asked for, and `remove_snapshot` would take what was made
/// meanwhile.
///
/// Laws: `create_is_repeatable`; `a_new_volume_is_empty`; `a_volume_is_connected_to_one_host`; `connect_is_repeatable`;
/// `disconnect_is_repeatable`; `a_connected_volume_is_not_removed`; `remove_is_repeatable`;
/// `list_is_sorted`; `a_call_that_was_overtaken_changes_nothing`,
/// `finding_nothing_to_do_overtakes_too`, `a_removed_volume_is_not_made_again_by_a_late_call`;
/// and those of [`ShareVolumes`], [`ExtendVolumes`], [`SnapshotVolumes`], [`CloneVolumes`] and
/// [`FillVolumes`].
#[async_trait]
pub trait VolumeDriver: Display + Debug + Send + Sync + 'static {
    /// Makes a volume; one that is there with the same size is success. Whatever lay in its place
    /// before, it reads as zeros.
    ///
    /// # Errors
    /// [`VolumeError::Exists`] when it is there with another size; [`VolumeError::Overtaken`];
    /// [`VolumeError::Io`].
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError>;

    /// Destroys a volume; one that is not there is success.
    ///
    /// # Errors
    /// [`VolumeError::Connected`] while a host has it; [`VolumeError::HasSnapshots`] while it has
    /// some; [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError>;

    /// Connects a volume to a host; again to the same host gives the same connection.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`]; [`VolumeError::Connected`] while another host has it;
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError>;

    /// Takes a volume from a host; one that this host does not have is success.
    ///
    /// # Errors
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError>;

    /// Every volume there is, sorted.
    ///
    /// # Errors
    /// [`VolumeError::List`].
    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError>;

    /// Connecting a volume to two hosts for the time of a move, where this driver can.
    fn sharing(&self) -> Option<&dyn ShareVolumes>;

    /// Making volumes larger, where this driver can.
    fn extending(&self) -> Option<&dyn ExtendVolumes>;

    /// Keeping what a volume held at a moment, where this driver can.
    fn snapshots(&self) -> Option<&dyn SnapshotVolumes>;

    /// Making volumes of others, where this driver can.
    fn cloning(&self) -> Option<&dyn CloneVolumes>;

    /// Making volumes of images, where this driver can.
    fn filling(&self) -> Option<&dyn FillVolumes>;
}

/// What went wrong with a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// There is no such volume.
    #[error("no volume {volume}")]
    NoSuchVolume {
        /// The volume.
        volume: VolumeId,
    },
    /// It is there already, and different.
    #[error("volume {volume} exists and is another")]
    Exists {
        /// The volume.
        volume: VolumeId,
    },
    /// It is larger than it was to become.
    #[error("volume {volume} is larger already: {}", size.get())]
    WouldShrink {
        /// The volume.
        volume: VolumeId,
        /// Its size.
        size: VolumeSize,
    },
    /// It has snapshots.
    #[error("volume {volume} has snapshots")]
    HasSnapshots {
        /// The volume.
        volume: VolumeId,
    },
    /// It has no such snapshot.
    #[error("volume {volume} has no snapshot {snapshot}")]
    NoSuchSnapshot {
        /// The volume.
        volume: VolumeId,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A host has it.
    #[error("volume {volume} is connected to host {host}")]
    Connected {
        /// The volume.
        volume: VolumeId,
        /// The host.
        host: HostId,
    },
    /// A host does not have it.
    #[error("volume {volume} is not connected to host {host}")]
    NotConnected {
        /// The volume.
        volume: VolumeId,
        /// The host.
        host: HostId,
    },
    /// The image is larger than the volume was to be.
    #[error("volume {volume} of {} cannot hold an image of {bytes} bytes", size.get())]
    TooSmall {
        /// The volume.
        volume: VolumeId,
        /// Its size.
        size: VolumeSize,
        /// How large the disk in the image is.
        bytes: u64,
    },
    /// The image could not be fetched, is not what it should be, or is none that a volume is made
    /// of.
    #[error("volume {volume}: cannot use the image")]
    Image {
        /// The volume.
        volume: VolumeId,
        /// Why.
        source: ImageError,
    },
    /// A later call was carried out already.
    #[error("volume {volume}: a call with fence {fence} comes after one with {seen}")]
    Overtaken {
        /// The volume.
        volume: VolumeId,
        /// The fence of the call.
        fence: Fence,
        /// The highest fence that was seen for the volume.
        seen: Fence,
    },
    /// Reading or writing failed.
    #[error("volume {volume}: cannot {operation}")]
    Io {
        /// The volume.
        volume: VolumeId,
        /// What was to be done.
        operation: &'static str,
        /// Why it was not.
        source: std::io::Error,
    },
    /// The volumes cannot be listed.
    #[error("cannot list volumes")]
    List {
        /// Why not.
        source: std::io::Error,
    },
}

impl VolumeError {
    /// Refuses a call for `volume` with `fence` where a higher one was `seen`.
    ///
    /// # Errors
    /// [`VolumeError::Overtaken`].
    pub fn if_overtaken(volume: VolumeId, fence: Fence, seen: Fence) -> Result<(), Self> {
        if fence < seen { Err(Self::Overtaken { volume, fence, seen }) } else { Ok(()) }
    }

    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Overtaken { .. } => Class::Conflict,
            Self::Io { .. } | Self::List { .. } => Class::Retry,
            Self::Image { source, .. } => source.class(),
            Self::NoSuchVolume { .. }
            | Self::Exists { .. }
            | Self::WouldShrink { .. }
            | Self::HasSnapshots { .. }
            | Self::NoSuchSnapshot { .. }
            | Self::TooSmall { .. }
            | Self::Connected { .. }
            | Self::NotConnected { .. } => Class::Permanent,
        }
    }
}

#[async_trait]
impl<V: VolumeDriver + ?Sized> VolumeDriver for std::sync::Arc<V> {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        (**self).create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        (**self).remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        (**self).connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        (**self).disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        (**self).list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        (**self).sharing()
    }

    fn extending(&self) -> Option<&dyn ExtendVolumes> {
        (**self).extending()
    }

    fn snapshots(&self) -> Option<&dyn SnapshotVolumes> {
        (**self).snapshots()
    }

    fn cloning(&self) -> Option<&dyn CloneVolumes> {
        (**self).cloning()
    }

    fn filling(&self) -> Option<&dyn FillVolumes> {
        (**self).filling()
    }
}

const _: fn(Box<dyn VolumeDriver>) = |port| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(port);
};
