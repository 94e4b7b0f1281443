//! What runs on a host.

mod agents;
mod caching;
mod console;
mod error;
mod interfaces;
mod measuring;
mod suspending;
mod telling;

pub use agents::{AGENT_PROPERTY, AskAgents, QUIESCE_PROPERTY};
pub use caching::{CACHED_IMAGES_MAX, CacheImages};
pub use console::{CONSOLE_BYTES_MAX, Console, ConsoleStream, OpenConsoles, ReadConsoles};
pub use error::VirtError;
pub use interfaces::PlugInterfaces;
pub use measuring::{DiskUse, GuestUse, MeasureGuests, NicUse};
pub use suspending::SuspendGuests;
pub use telling::{GuestChange, HearChanges, Herald, TellChanges};

use std::fmt::{Debug, Display};
use std::net::IpAddr;

use async_trait::async_trait;

use crate::domain::{
    Assigned, GiB, HostFacts, Image, ImageContent, ImageFormat, ImageId, InstanceId, InterfaceName,
    Mac, MiB, PowerState, ProjectId, PublicKey, Reboot, ServerName, Vcpus, VolumeId,
};
use crate::port::{Connection, ImageStore, LiveMigrate};

/// A guest as it should be made. It says everything; a driver asks nobody.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestSpec {
    /// The id, from which everything on the host that belongs to the guest is named.
    pub instance: InstanceId,
    /// Whose it is.
    pub project: ProjectId,
    /// Its host name.
    pub name: ServerName,
    /// Virtual CPUs.
    pub vcpus: Vcpus,
    /// Memory.
    pub memory: MiB,
    /// Root disk; zero means the size of the image.
    pub root_disk: GiB,
    /// A second, empty disk; zero means none.
    pub ephemeral_disk: GiB,
    /// A swap disk; zero means none.
    pub swap: MiB,
    /// The image it starts from, or that the volume was made of which is its root disk.
    pub image: Image,
    /// The volume that is its root disk; none when that is made of the image. How the host reaches
    /// it is said when it is [plugged in](AttachVolumes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<VolumeId>,
    /// Its interfaces, in order.
    pub nics: Vec<Nic>,
    /// A key that may log in.
    pub public_key: Option<PublicKey>,
    /// Which of the host's NUMA cells, CPUs and PCI devices it has, where it was placed by them.
    #[serde(default)]
    pub assigned: Assigned,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Nic {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The bridge it is plugged into.
    pub bridge: InterfaceName,
    /// Its fixed IP.
    pub address: IpAddr,
}

/// A volume that is plugged into a guest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VolumeLink {
    /// The volume.
    pub volume: VolumeId,
    /// How the host reaches it.
    pub connection: Connection,
}

/// A guest as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Guest {
    /// The id.
    pub instance: InstanceId,
    /// Whether it executes.
    pub power: PowerState,
    /// The number of the last boot that was asked for; see [`VirtDriver::reboot`].
    pub boot: u64,
    /// The volumes that are plugged in, sorted.
    pub volumes: Vec<VolumeId>,
}

/// A guest packed for another host: what its own driver needs to make the same guest there.
///
/// It is good as long as the guest that it was made of stays as it is and where it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Parcel {
    /// The guest.
    pub instance: InstanceId,
    /// The number of its last boot.
    pub boot: u64,
    /// Its disks, or where they are, as drivers of one kind tell each other; nobody else reads it.
    pub disks: String,
}

/// Runs guests on one host.
///
/// Verbs name a target and may be repeated. After an error the caller cannot know what was done;
/// it asks with [`guest`](Self::guest) and may call again.
///
/// Laws:
/// - `create_leaves_the_guest_running`; `create_is_repeatable`: a guest that exists is left as
///   it is, whatever its power state;
/// - `a_wrong_image_leaves_no_guest`: bytes that are missing or not those that were registered
///   are [`VirtError::Image`] ([`NoSuchImage`](crate::port::ImageError::NoSuchImage),
///   [`Mismatch`](crate::port::ImageError::Mismatch));
/// - `remove_is_repeatable`: a guest that is not there is success; nothing of it is left;
/// - `start_and_stop_are_repeatable` and end in the state they name;
/// - `a_reboot_happens_once_for_its_number`;
/// - `a_missing_guest_is_named`: a verb on a guest that is not there is
///   [`VirtError::NoSuchGuest`], except `remove`;
/// - `guests_lists_everything`, sorted by id, also what this driver did not make itself;
/// - `paused_is_paused`: a paused guest is neither running nor shut down until it is unpaused,
///   stopped or rebooted (of [`PauseGuests`]);
/// - `suspended_is_suspended`: a suspended guest is neither running nor shut down until it is
///   resumed, stopped or rebooted; `a_suspended_guest_keeps_what_it_has`: nothing is plugged in,
///   pulled out or taken elsewhere meanwhile; `a_suspended_guest_goes_with_its_memory` (of
///   [`SuspendGuests`]);
/// - `attach_and_detach_are_repeatable`, `a_guest_boots_from_a_volume`,
///   `a_guest_is_not_started_without_its_root_volume`,
///   `a_root_volume_stays_in_a_guest_that_executes` (of [`AttachVolumes`]), and
///   `a_root_volume_is_refused_by_its_name` of a host without it;
/// - `packing_changes_nothing`, `a_running_guest_is_not_packed`,
///   `a_guest_is_unpacked_as_it_was_packed`, `a_guest_on_a_volume_is_unpacked_without_it`,
///   `unpack_is_repeatable` (of [`MoveGuests`]);
/// - `a_snapshot_changes_nothing`, `a_snapshot_is_repeatable`, `a_snapshot_makes_a_guest`,
///   `a_snapshot_of_nothing_leaves_nothing`, `no_image_is_taken_of_a_volume` (of
///   [`SnapshotGuests`]);
/// - `a_rescued_guest_runs`, `a_guest_on_a_volume_is_rescued`, `unrescue_is_repeatable`,
///   `a_rescue_that_cannot_be_changes_nothing` (of [`RescueGuests`]);
/// - `a_change_is_told` (of [`TellChanges`]);
/// - `a_console_log_goes_with_its_guest`, `a_console_log_is_as_long_as_was_asked` (of
///   [`ReadConsoles`]), `an_open_console_answers` (of [`OpenConsoles`]);
/// - `what_a_guest_used_only_grows` (of [`MeasureGuests`]);
/// - `plug_and_unplug_are_repeatable` (of [`PlugInterfaces`]);
/// - `the_image_of_a_guest_is_cached` (of [`CacheImages`]);
/// - `an_agent_answers_while_its_guest_runs`, `a_snapshot_leaves_nothing_frozen` (of
///   [`AskAgents`]);
/// - those of [`LiveMigrate`], which take two hosts.
#[async_trait]
pub trait VirtDriver: Display + Debug + Send + Sync + 'static {
    /// What this host is and has.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn facts(&self) -> Result<HostFacts, VirtError>;

    /// Every guest on this host, sorted by id.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn guests(&self) -> Result<Vec<Guest>, VirtError>;

    /// One guest; none when it is not here.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError>;

    /// Makes the guest and starts it, fetching its image from `images` unless the host has it.
    ///
    /// A guest whose root disk is a volume is made shut down, without it, and nothing is fetched:
    /// it can be started once the volume is [plugged in](AttachVolumes).
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::Image`], [`VirtError::NoRoom`];
    /// [`VirtError::NoBootVolumes`] where guests do not boot from volumes.
    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError>;

    /// Removes the guest with its disks, running or not.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError>;

    /// Lets a guest run that is shut down; others are left as they are.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`]; [`VirtError::NoRootVolume`] for one whose
    /// root disk is a volume that is not plugged in.
    async fn start(&self, instance: InstanceId) -> Result<(), VirtError>;

    /// Shuts a guest down: asks it first, then makes it.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`].
    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError>;

    /// Restarts a guest, unless its boot number is `boot` or higher already.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError>;

    /// Freezing guests in memory, where this host can.
    fn pausing(&self) -> Option<&dyn PauseGuests>;

    /// Putting the memory of guests on disk, where this host can.
    fn suspending(&self) -> Option<&dyn SuspendGuests>;

    /// Plugging volumes, where this host can.
    fn volumes(&self) -> Option<&dyn AttachVolumes>;

    /// Taking guests to other hosts, where this host can.
    fn moving(&self) -> Option<&dyn MoveGuests>;

    /// Taking guests to other hosts while they run, where this host can.
    fn live(&self) -> Option<&dyn LiveMigrate>;

    /// Taking images of guests, where this host can.
    fn snapshots(&self) -> Option<&dyn SnapshotGuests>;

    /// Rescuing guests, where this host can.
    fn rescuing(&self) -> Option<&dyn RescueGuests>;

    /// Telling of changes, where this host can.
    fn telling(&self) -> Option<&dyn TellChanges>;

    /// Keeping what guests write to their consoles, where this host can.
    fn reading(&self) -> Option<&dyn ReadConsoles>;

    /// Talking to guests at their consoles, where this host can.
    fn talking(&self) -> Option<&dyn OpenConsoles>;

    /// Telling what guests use, where this host can.
    fn measuring(&self) -> Option<&dyn MeasureGuests>;

    /// Plugging interfaces, where this host can.
    fn interfaces(&self) -> Option<&dyn PlugInterfaces>;

    /// Telling which images are here, where this host keeps any.
    fn caching(&self) -> Option<&dyn CacheImages>;

    /// Asking the agents inside guests, where this host can.
    fn agents(&self) -> Option<&dyn AskAgents>;
}

/// Freezes guests in memory.
#[async_trait]
pub trait PauseGuests: Send + Sync {
    /// Freezes a running guest; a paused one is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] when it is shut
    /// down.
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError>;

    /// Lets a paused guest go on; a running one is left as it is.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError>;
}

/// Plugs volumes into guests, running or not, and boots guests from them. A volume that is the root disk of a guest
/// ([`GuestSpec::root`]) becomes its first disk, from which it boots, and stays in it while it
/// executes.
#[async_trait]
pub trait AttachVolumes: Send + Sync {
    /// Plugs a volume in; one that is in is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] when the guest
    /// is suspended.
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError>;

    /// Pulls a volume out. When this returns the guest cannot reach it any more. Neither the
    /// volume nor the guest has to be there.
    ///
    /// # Errors
    /// [`VirtError::Host`]; [`VirtError::WrongPower`] when the guest is suspended with it, and for
    /// the root disk of a guest that is not shut down.
    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError>;
}

/// Takes guests that are shut down to other hosts.
#[async_trait]
pub trait MoveGuests: Send + Sync {
    /// Packs a guest; it stays where it is and as it is. Volumes are not packed.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] unless it is
    /// shut down.
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError>;

    /// Makes the guest of `parcel`, shut down, with its disks grown to `spec`, without volumes,
    /// also without one that is its root disk. A guest that is here is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::Image`], [`VirtError::NoRoom`].
    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError>;
}

/// Takes images of guests' root disks.
#[async_trait]
pub trait SnapshotGuests: Send + Sync {
    /// Stores what is on the root disk of a guest, which is no volume, in `format`, as `image`, and
    /// says what was stored. The guest is afterwards as it was, whatever its power state. What a running guest
    /// had not written yet may be missing, unless its agent puts its file systems at rest; they
    /// are not at rest afterwards, whatever came of it. An image that is stored already is left
    /// as it is. Volumes and other disks are not stored.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::Image`], and
    /// [`VirtError::NoAgent`] where the guest's image asks for file systems at rest
    /// ([`QUIESCE_PROPERTY`]); nothing was stored then, or everything. [`VirtError::OnVolume`] for a
    /// guest whose root disk is a volume.
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError>;
}

/// Boots guests from rescue disks.
#[async_trait]
pub trait RescueGuests: Send + Sync {
    /// Boots the guest, whatever its power state, from a fresh disk made of `image`, with its root
    /// disk as the second one; volumes stay plugged in. A guest that is rescued is started if it
    /// is shut down, and otherwise left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::Image`].
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError>;

    /// Boots a rescued guest from its root disk again and removes the rescue disk. A guest that is
    /// not rescued is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`].
    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError>;

    /// Whether the guest is rescued.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`].
    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError>;
}

#[async_trait]
impl<D: VirtDriver + ?Sized> VirtDriver for std::sync::Arc<D> {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        (**self).facts().await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        (**self).guests().await
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        (**self).guest(instance).await
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        (**self).create(spec, images).await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        (**self).remove(instance).await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        (**self).start(instance).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        (**self).stop(instance).await
    }

    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        (**self).reboot(instance, how, boot).await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        (**self).pausing()
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        (**self).suspending()
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        (**self).volumes()
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        (**self).moving()
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        (**self).live()
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        (**self).snapshots()
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        (**self).rescuing()
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        (**self).telling()
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        (**self).reading()
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        (**self).talking()
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        (**self).measuring()
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        (**self).interfaces()
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        (**self).caching()
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        (**self).agents()
    }
}

const _: fn(Box<dyn VirtDriver>) = |port| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(port);
};
