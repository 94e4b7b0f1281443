//! Servers: their record, their states, and which operation is allowed in which.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::domain::{
    Fault, Flavor, HostId, ImageId, InstanceId, KeyPair, Migration, NetworkId, OpId, PowerState,
    ProjectId, Reboot, SchedulerHints, SecurityGroupId, ServerGroupId, ServerName, UserData,
    VolumeId, ZoneName,
};

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
    pub const ALL: [Self; 8] = [
        Self::Building,
        Self::Active,
        Self::Paused,
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
    pub const ALL: [Self; 21] = [
        Self::Scheduling,
        Self::Spawning,
        Self::PoweringOff,
        Self::PoweringOn,
        Self::Rebooting,
        Self::RebootingHard,
        Self::Pausing,
        Self::Unpausing,
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

/// An operation on a server that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Start a stopped server.
    Start,
    /// Stop a running server.
    Stop,
    /// Restart it.
    Reboot(Reboot),
    /// Freeze it in memory.
    Pause,
    /// Let a paused server go on.
    Unpause,
    /// Give it a volume.
    AttachVolume,
    /// Take a volume away.
    DetachVolume,
    /// Move it to another host with another flavor.
    Resize,
    /// Move it to another host as it is.
    Migrate,
    /// Move it to another host while it runs.
    LiveMigrate,
    /// Keep what a move made of it.
    ConfirmResize,
    /// Take a move back.
    RevertResize,
    /// Make it anew elsewhere, because its host is lost.
    Evacuate,
    /// Make it anew from an image.
    Rebuild,
    /// Take an image of its disk.
    Snapshot,
    /// Put it aside.
    Shelve,
    /// Bring it back.
    Unshelve,
    /// Boot it from a rescue disk.
    Rescue,
    /// Boot it from its own disk again.
    Unrescue,
    /// Delete it.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 21] = [
        Self::Start,
        Self::Stop,
        Self::Reboot(Reboot::Soft),
        Self::Reboot(Reboot::Hard),
        Self::Pause,
        Self::Unpause,
        Self::AttachVolume,
        Self::DetachVolume,
        Self::Resize,
        Self::Migrate,
        Self::LiveMigrate,
        Self::ConfirmResize,
        Self::RevertResize,
        Self::Evacuate,
        Self::Rebuild,
        Self::Snapshot,
        Self::Shelve,
        Self::Unshelve,
        Self::Rescue,
        Self::Unrescue,
        Self::Delete,
    ];

    /// The states in which the action may begin (Nova's compute API, its table of guards).
    pub const fn allowed_states(self) -> &'static [VmState] {
        use VmState::{
            Active, Building, Error, Paused, Rescued, Resized, ShelvedOffloaded, Stopped,
        };
        match self {
            Self::Start => &[Stopped],
            Self::Stop => &[Active, Error],
            Self::Reboot(Reboot::Soft) => &[Active],
            Self::Reboot(Reboot::Hard) => &[Active, Stopped, Paused, Error],
            Self::Pause => &[Active],
            Self::Unpause => &[Paused],
            Self::AttachVolume | Self::DetachVolume => &[Active, Paused, Stopped, Resized],
            Self::Resize | Self::Migrate => &[Active, Stopped],
            Self::LiveMigrate => &[Active, Paused],
            Self::ConfirmResize | Self::RevertResize => &[Resized],
            // Nova evacuates no rescued server; ours would be lost with its host.
            Self::Evacuate => &[Active, Stopped, Rescued, Error],
            Self::Rebuild | Self::Rescue => &[Active, Stopped, Error],
            Self::Snapshot | Self::Shelve => &[Active, Paused, Stopped],
            Self::Unshelve => &[ShelvedOffloaded],
            Self::Unrescue => &[Rescued],
            Self::Delete => {
                &[Building, Active, Paused, Stopped, Resized, ShelvedOffloaded, Rescued, Error]
            }
        }
    }

    /// The tasks that the action may interrupt, beside none at all.
    pub const fn allowed_tasks(self) -> &'static [TaskState] {
        use TaskState::{Pausing, Rebooting, RebootingHard, Unpausing};
        match self {
            Self::Reboot(Reboot::Hard) => &[Rebooting, RebootingHard, Pausing, Unpausing],
            // What waits for a host that is lost. Moves and volumes have records of their own and
            // end by themselves.
            Self::Evacuate => {
                &[TaskState::PoweringOff, TaskState::PoweringOn, Rebooting, RebootingHard, Pausing]
            }
            Self::Delete => &[
                TaskState::Scheduling,
                TaskState::Spawning,
                TaskState::PoweringOff,
                TaskState::PoweringOn,
                Rebooting,
                RebootingHard,
                Pausing,
                Unpausing,
                TaskState::AttachingVolume,
                TaskState::DetachingVolume,
                TaskState::Resizing,
                TaskState::Migrating,
                TaskState::Confirming,
                TaskState::Reverting,
                TaskState::Rebuilding,
                TaskState::Snapshotting,
                TaskState::Shelving,
                TaskState::Unshelving,
                TaskState::Rescuing,
                TaskState::Unrescuing,
                TaskState::Deleting,
            ],
            _ => &[],
        }
    }

    /// Whether the action may begin now.
    pub fn is_allowed(self, state: VmState, task: Option<TaskState>) -> bool {
        self.allowed_states().contains(&state)
            && task.is_none_or(|task| self.allowed_tasks().contains(&task))
    }

    /// What the server is doing while the action lasts.
    pub const fn task(self) -> TaskState {
        match self {
            Self::Start => TaskState::PoweringOn,
            Self::Stop => TaskState::PoweringOff,
            Self::Reboot(Reboot::Soft) => TaskState::Rebooting,
            Self::Reboot(Reboot::Hard) => TaskState::RebootingHard,
            Self::Pause => TaskState::Pausing,
            Self::Unpause => TaskState::Unpausing,
            Self::AttachVolume => TaskState::AttachingVolume,
            Self::DetachVolume => TaskState::DetachingVolume,
            Self::Resize | Self::Migrate => TaskState::Resizing,
            Self::LiveMigrate => TaskState::Migrating,
            Self::ConfirmResize => TaskState::Confirming,
            Self::RevertResize => TaskState::Reverting,
            Self::Evacuate | Self::Rebuild => TaskState::Rebuilding,
            Self::Snapshot => TaskState::Snapshotting,
            Self::Shelve => TaskState::Shelving,
            Self::Unshelve => TaskState::Unshelving,
            Self::Rescue => TaskState::Rescuing,
            Self::Unrescue => TaskState::Unrescuing,
            Self::Delete => TaskState::Deleting,
        }
    }

    /// The state after the action succeeded in `state`; none when the server is gone. A move that
    /// is confirmed or reverted ends as its guest runs or not, of which this names the first.
    pub const fn result(self, state: VmState) -> Option<VmState> {
        match self {
            Self::Start | Self::Reboot(_) | Self::Unpause | Self::Unshelve | Self::Unrescue => {
                Some(VmState::Active)
            }
            Self::Shelve => Some(VmState::ShelvedOffloaded),
            Self::Rescue => Some(VmState::Rescued),
            Self::Stop => Some(VmState::Stopped),
            Self::Pause => Some(VmState::Paused),
            Self::AttachVolume | Self::DetachVolume | Self::LiveMigrate | Self::Snapshot => {
                Some(state)
            }
            Self::Resize | Self::Migrate => Some(VmState::Resized),
            Self::ConfirmResize | Self::RevertResize => Some(VmState::Active),
            Self::Evacuate | Self::Rebuild => Some(match state {
                VmState::Stopped => VmState::Stopped,
                _ => VmState::Active,
            }),
            Self::Delete => None,
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot(Reboot::Soft) => "reboot",
            Self::Reboot(Reboot::Hard) => "hard-reboot",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::AttachVolume => "attach-volume",
            Self::DetachVolume => "detach-volume",
            Self::Resize => "resize",
            Self::Migrate => "migrate",
            Self::LiveMigrate => "live-migrate",
            Self::ConfirmResize => "confirm-resize",
            Self::RevertResize => "revert-resize",
            Self::Evacuate => "evacuate",
            Self::Rebuild => "rebuild",
            Self::Snapshot => "snapshot",
            Self::Shelve => "shelve",
            Self::Unshelve => "unshelve",
            Self::Rescue => "rescue",
            Self::Unrescue => "unrescue",
            Self::Delete => "delete",
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
