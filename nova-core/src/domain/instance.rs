//! Servers: their record, their states, and which operation is allowed in which.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::domain::{
    Fault, Flavor, HostId, ImageId, InstanceId, KeyPair, Migration, NetworkId, OpId, PowerState,
    ProjectId, SchedulerHints, SecurityGroupId, ServerGroupId, ServerName, UserData, VolumeId,
    ZoneName,
};

mod action;

pub use action::Action;

/// The stable state of a server: what its owner asked for and got.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VmState {
    /// Accepted, not yet running for the first time.
    Building,
    /// Running.
    Active,
    /// In memory, not executing.
    Paused,
    /// Not running; its memory is on its host's disk, and it goes on from there.
    Suspended,
    /// Not running; its disks are kept.
    Stopped,
    /// Moved to another host, perhaps with another flavor; its owner has to confirm or revert it.
    Resized,
    /// On no host; its root disk is in an image, from which it can be brought back.
    ShelvedOffloaded,
    /// Running from a rescue disk, with its own root disk beside it.
    Rescued,
    /// Something failed that did not clean itself up; see the fault.
    Error,
}

impl VmState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Building,
        Self::Active,
        Self::Paused,
        Self::Suspended,
        Self::Stopped,
        Self::Resized,
        Self::ShelvedOffloaded,
        Self::Rescued,
        Self::Error,
    ];
}

impl std::fmt::Display for VmState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Building => "building",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Stopped => "stopped",
            Self::Resized => "resized",
            Self::ShelvedOffloaded => "shelved-offloaded",
            Self::Rescued => "rescued",
            Self::Error => "error",
        })
    }
}

/// What is being done to a server right now; none when it is idle.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskState {
    /// Looking for a host.
    Scheduling,
    /// Starting for the first time.
    Spawning,
    /// Stopping.
    PoweringOff,
    /// Starting.
    PoweringOn,
    /// Restarting, the guest asked to.
    Rebooting,
    /// Restarting, by force.
    RebootingHard,
    /// Being paused.
    Pausing,
    /// Being resumed from pause.
    Unpausing,
    /// Having its memory put on disk.
    Suspending,
    /// Being resumed from disk.
    Resuming,
    /// Getting a volume.
    AttachingVolume,
    /// Losing a volume.
    DetachingVolume,
    /// Moving to another host.
    Resizing,
    /// Moving to another host while it runs.
    Migrating,
    /// Giving up where it came from.
    Confirming,
    /// Going back to where it came from.
    Reverting,
    /// Being made anew from an image.
    Rebuilding,
    /// Having an image taken of its disk.
    Snapshotting,
    /// Being put aside.
    Shelving,
    /// Being brought back.
    Unshelving,
    /// Being booted from a rescue disk.
    Rescuing,
    /// Being booted from its own disk again.
    Unrescuing,
    /// Being deleted.
    Deleting,
}

impl TaskState {
    /// Every task.
    pub const ALL: [Self; 23] = [
        Self::Scheduling,
        Self::Spawning,
        Self::PoweringOff,
        Self::PoweringOn,
        Self::Rebooting,
        Self::RebootingHard,
        Self::Pausing,
        Self::Unpausing,
        Self::Suspending,
        Self::Resuming,
        Self::AttachingVolume,
        Self::DetachingVolume,
        Self::Resizing,
        Self::Migrating,
        Self::Confirming,
        Self::Reverting,
        Self::Rebuilding,
        Self::Snapshotting,
        Self::Shelving,
        Self::Unshelving,
        Self::Rescuing,
        Self::Unrescuing,
        Self::Deleting,
    ];
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Scheduling => "scheduling",
            Self::Spawning => "spawning",
            Self::PoweringOff => "powering-off",
            Self::PoweringOn => "powering-on",
            Self::Rebooting => "rebooting",
            Self::RebootingHard => "rebooting-hard",
            Self::Pausing => "pausing",
            Self::Unpausing => "unpausing",
            Self::Suspending => "suspending",
            Self::Resuming => "resuming",
            Self::AttachingVolume => "attaching-volume",
            Self::DetachingVolume => "detaching-volume",
            Self::Resizing => "resizing",
            Self::Migrating => "migrating",
            Self::Confirming => "confirming",
            Self::Reverting => "reverting",
            Self::Rebuilding => "rebuilding",
            Self::Snapshotting => "snapshotting",
            Self::Shelving => "shelving",
            Self::Unshelving => "unshelving",
            Self::Rescuing => "rescuing",
            Self::Unrescuing => "unrescuing",
            Self::Deleting => "deleting",
        })
    }
}

/// A server as it is stored. Addresses, claims and volumes have records of their own.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Instance {
    /// The id.
    pub id: InstanceId,
    /// Who owns it.
    pub project: ProjectId,
    /// Its name; several servers may bear the same.
    pub name: ServerName,
    /// The flavor it was created with; without its root disk, where a volume is that.
    pub flavor: Flavor,
    /// The image it was created from, or that the volume was made of which is its root disk.
    pub image: ImageId,
    /// The volume that is its root disk; none when that is a disk of its host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<VolumeId>,
    /// The key that was put into it.
    pub key_pair: Option<KeyPair>,
    /// The zone that was asked for.
    pub zone: Option<ZoneName>,
    /// The server group it belongs to.
    pub group: Option<ServerGroupId>,
    /// The wishes it came with.
    pub hints: SchedulerHints,
    /// The networks that were asked for; empty means what the network manager gives by itself.
    pub networks: Vec<NetworkId>,
    /// The security groups that it is in.
    #[serde(default)]
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// What it is told when it first boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserData>,
    /// The stable state.
    pub state: VmState,
    /// What is being done to it.
    pub task: Option<TaskState>,
    /// The operation that is doing it.
    pub operation: Option<OpId>,
    /// How many operations it has been through: hosts refuse orders that come from an earlier one
    /// than they know of.
    pub generation: u64,
    /// What its driver last saw.
    pub power: Option<PowerState>,
    /// Where it is.
    pub host: Option<HostId>,
    /// The move that it is in the middle of, or that waits to be confirmed.
    #[serde(default)]
    pub migration: Option<Migration>,
    /// The image that its root disk is in while it is shelved.
    #[serde(default)]
    pub shelf: Option<ImageId>,
    /// The image that its rescue disk was made of, while it is rescued: it cannot be deleted
    /// meanwhile. One in any other state may still run from that disk: the agent of its host boots
    /// it from its own when it sees it.
    #[serde(default)]
    pub rescue: Option<ImageId>,
    /// The image that the operation on it needs: it cannot be deleted meanwhile.
    #[serde(default)]
    pub lent: Option<ImageId>,
    /// How often it was started by an operation: a reboot that is repeated knows from it.
    pub boots: u64,
    /// What went wrong last.
    pub fault: Option<Fault>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it first ran.
    pub launched_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
