//! What is done to servers, and when it may begin.

use super::{TaskState, VmState};
use crate::domain::Reboot;

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
    /// Put its memory on disk.
    Suspend,
    /// Let a suspended server go on.
    Resume,
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
    pub const ALL: [Self; 23] = [
        Self::Start,
        Self::Stop,
        Self::Reboot(Reboot::Soft),
        Self::Reboot(Reboot::Hard),
        Self::Pause,
        Self::Unpause,
        Self::Suspend,
        Self::Resume,
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
            Active, Building, Error, Paused, Rescued, Resized, ShelvedOffloaded, Stopped, Suspended,
        };
        match self {
            Self::Start => &[Stopped],
            Self::Stop => &[Active, Error],
            Self::Reboot(Reboot::Soft) => &[Active],
            Self::Reboot(Reboot::Hard) => &[Active, Stopped, Paused, Suspended, Error],
            Self::Pause | Self::Suspend => &[Active],
            Self::Unpause => &[Paused],
            Self::Resume => &[Suspended],
            Self::AttachVolume | Self::DetachVolume => &[Active, Paused, Stopped, Resized],
            Self::Resize | Self::Migrate => &[Active, Stopped],
            Self::LiveMigrate => &[Active, Paused],
            Self::ConfirmResize | Self::RevertResize => &[Resized],
            // Nova evacuates no rescued server; ours would be lost with its host.
            Self::Evacuate => &[Active, Stopped, Rescued, Error],
            Self::Rebuild | Self::Rescue => &[Active, Stopped, Error],
            Self::Snapshot => &[Active, Paused, Suspended, Stopped],
            // Nova shelves a suspended server as well, and loses what was in its memory.
            Self::Shelve => &[Active, Paused, Stopped],
            Self::Unshelve => &[ShelvedOffloaded],
            Self::Unrescue => &[Rescued],
            Self::Delete => &[
                Building,
                Active,
                Paused,
                Suspended,
                Stopped,
                Resized,
                ShelvedOffloaded,
                Rescued,
                Error,
            ],
        }
    }

    /// The tasks that the action may interrupt, beside none at all.
    pub const fn allowed_tasks(self) -> &'static [TaskState] {
        use TaskState::{Pausing, Rebooting, RebootingHard, Resuming, Suspending, Unpausing};
        match self {
            Self::Reboot(Reboot::Hard) => {
                &[Rebooting, RebootingHard, Pausing, Unpausing, Suspending, Resuming]
            }
            // What waits for a host that is lost. Moves and volumes have records of their own and
            // end by themselves.
            Self::Evacuate => &[
                TaskState::PoweringOff,
                TaskState::PoweringOn,
                Rebooting,
                RebootingHard,
                Pausing,
                Suspending,
            ],
            Self::Delete => &[
                TaskState::Scheduling,
                TaskState::Spawning,
                TaskState::PoweringOff,
                TaskState::PoweringOn,
                Rebooting,
                RebootingHard,
                Pausing,
                Unpausing,
                Suspending,
                Resuming,
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
            Self::Suspend => TaskState::Suspending,
            Self::Resume => TaskState::Resuming,
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
            Self::Start
            | Self::Reboot(_)
            | Self::Unpause
            | Self::Resume
            | Self::Unshelve
            | Self::Unrescue => Some(VmState::Active),
            Self::Shelve => Some(VmState::ShelvedOffloaded),
            Self::Rescue => Some(VmState::Rescued),
            Self::Stop => Some(VmState::Stopped),
            Self::Pause => Some(VmState::Paused),
            Self::Suspend => Some(VmState::Suspended),
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
            Self::Suspend => "suspend",
            Self::Resume => "resume",
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
