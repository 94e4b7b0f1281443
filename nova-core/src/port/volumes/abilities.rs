//! What not every volume driver can do.

use async_trait::async_trait;

use crate::domain::{Fence, HostId, Image, SnapshotId, VolumeId, VolumeSize};
use crate::port::{Connection, ImageStore, VolumeError};

/// Lets two hosts have a volume while a guest goes from one to the other. Only whoever moves the
/// guest may ask for it: of the two guests one is frozen all the time, and no other than the two
/// hosts can be connected. It ends when either is
/// [disconnected](crate::port::VolumeDriver::disconnect).
///
/// Laws: `a_shared_volume_is_connected_to_two_hosts`, `sharing_is_repeatable`,
/// `sharing_ends_with_either_host`, `sharing_that_was_overtaken_changes_nothing`.
#[async_trait]
pub trait ShareVolumes: Send + Sync {
    /// Connects a volume that `from` has to `to` as well; again gives the same connection.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`]; [`VolumeError::NotConnected`] when `from` does not have it,
    /// [`VolumeError::Connected`] while it is shared with a third host;
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError>;
}

/// Makes volumes larger, also while a host has them. What was there stays, and what is new reads
/// as zeros. When a guest sees its new size is its host's matter, and at the latest when the volume
/// is connected anew.
///
/// Laws: `extending_is_repeatable`, `a_volume_does_not_shrink`,
/// `a_connected_volume_is_extended`, `extending_that_was_overtaken_changes_nothing`.
#[async_trait]
pub trait ExtendVolumes: Send + Sync {
    /// Makes a volume as large as `size`; one that is is success.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`]; [`VolumeError::WouldShrink`] when it is larger;
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn extend(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError>;
}

/// A snapshot as its driver knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotFacts {
    /// The volume that it is of.
    pub volume: VolumeId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The size that the volume had.
    pub size: VolumeSize,
}

/// Keeps what a volume held at one moment. A snapshot belongs to its volume, which is not removed
/// while it has one, and calls for it carry the volume's fences. It is never connected: who wants
/// to read it makes a [clone](CloneVolumes) of it.
///
/// It is of one moment, as a disk is whose power fails then: of two writes that a guest waited for
/// one after the other, it does not hold the second alone. A driver that cannot do so while a host
/// may write refuses until no host has the volume.
///
/// Laws: `making_a_snapshot_is_repeatable`, `a_snapshot_is_of_one_moment`,
/// `a_snapshot_of_a_connected_volume_is_made_or_refused`, `removing_a_snapshot_is_repeatable`,
/// `a_volume_with_snapshots_is_not_removed`, `snapshots_are_listed_in_order`,
/// `a_snapshot_call_that_was_overtaken_changes_nothing`.
#[async_trait]
pub trait SnapshotVolumes: Send + Sync {
    /// Makes a snapshot; one that is there is success, and stays of its moment.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`]; [`VolumeError::Connected`] when that is in the way;
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn make_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError>;

    /// Destroys a snapshot; one that is not there, or of a volume that is not, is success. The
    /// fence of a call for a volume that is not there may be forgotten.
    ///
    /// # Errors
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn remove_snapshot(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        fence: Fence,
    ) -> Result<(), VolumeError>;

    /// Every snapshot of every volume, sorted by volume.
    ///
    /// # Errors
    /// [`VolumeError::List`].
    async fn list_snapshots(&self) -> Result<Vec<SnapshotFacts>, VolumeError>;
}

/// What a clone is made of: a volume as it is, or as it was when a snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CloneSource {
    /// The volume.
    pub volume: VolumeId,
    /// Its snapshot; none for the volume as it is.
    pub snapshot: Option<SnapshotId>,
}

/// Makes volumes that begin with what another one holds.
///
/// A clone is whole or it is not there. It is as large as what it was made of, and a volume like
/// any other: whatever happens to either afterwards, removal included, the other one does not
/// notice. A clone of a volume is of one moment, as [snapshots](SnapshotVolumes) are.
///
/// Laws: `cloning_is_repeatable`, `a_clone_is_of_something`, `a_clone_is_independent`,
/// `a_clone_of_a_connected_volume_is_made_or_refused`, `a_clone_of_a_snapshot_is_of_its_moment`,
/// `a_clone_that_was_overtaken_is_not_made`.
#[async_trait]
pub trait CloneVolumes: Send + Sync {
    /// Makes `volume` of `source`; one that was made of the same source is success, whatever has
    /// become of the source. The fence is one of the new volume: nothing happens to the source.
    ///
    /// # Errors
    /// [`VolumeError::Exists`] when the volume is there and was not made of this;
    /// [`VolumeError::NoSuchVolume`] and [`VolumeError::NoSuchSnapshot`] of the source;
    /// [`VolumeError::Connected`] when a host that has the source is in the way;
    /// [`VolumeError::Overtaken`]; [`VolumeError::Io`].
    async fn clone_volume(
        &self,
        volume: VolumeId,
        source: CloneSource,
        fence: Fence,
    ) -> Result<(), VolumeError>;
}

/// Makes volumes that begin with the disk that is in an image, whatever the image's format: a guest
/// that has such a volume as its root disk boots what is in the image.
///
/// Such a volume is whole or it is not there, and reads as zeros behind the disk. The bytes are
/// compared with what was registered of the image, and looked at, before anything of them is used.
///
/// Laws: `filling_is_repeatable`, `a_filled_volume_holds_the_disk_of_its_image`,
/// `of_a_wrong_image_no_volume_is_made`, `an_image_has_to_fit_into_its_volume`,
/// `a_filling_that_was_overtaken_makes_nothing`.
#[async_trait]
pub trait FillVolumes: Send + Sync {
    /// Makes a volume of `size` of `image`, whose bytes `images` has; one that was made of the same
    /// bytes with this size is success, whatever has become of the image.
    ///
    /// # Errors
    /// [`VolumeError::Exists`] when it is there, and was made of something else or with another
    /// size; [`VolumeError::Image`] for an image that is missing, is not what was registered, or is
    /// none that a volume is made of; [`VolumeError::TooSmall`]; [`VolumeError::Overtaken`];
    /// [`VolumeError::Io`]. Nothing was made then.
    async fn fill(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        image: &Image,
        images: &dyn ImageStore,
        fence: Fence,
    ) -> Result<(), VolumeError>;
}
