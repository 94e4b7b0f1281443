//! Operations: the journal of what users asked for and how far it got.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::domain::{
    Action, Fault, FloatingBinding, HostId, ImageId, InstanceId, OpId, ProjectId, VolumeId,
};

/// What an operation does, and to what.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum OpKind {
    /// Place and start a new server.
    CreateServer {
        /// The server.
        instance: InstanceId,
        /// The volume that is its root disk; none when that is made of its image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<VolumeId>,
    },
    /// Start, stop, reboot, pause, unpause.
    Power {
        /// The server.
        instance: InstanceId,
        /// Which of them.
        action: Action,
    },
    /// Remove a server and everything that only it had.
    DeleteServer {
        /// The server.
        instance: InstanceId,
    },
    /// Move a server to another host, with another flavor.
    Resize {
        /// The server.
        instance: InstanceId,
    },
    /// Move a server to another host as it is.
    Migrate {
        /// The server.
        instance: InstanceId,
    },
    /// Move a server to another host while it runs.
    LiveMigrate {
        /// The server.
        instance: InstanceId,
    },
    /// Let every server leave a host.
    DrainHost {
        /// The host.
        host: HostId,
    },
    /// Give up where a moved server came from.
    ConfirmResize {
        /// The server.
        instance: InstanceId,
    },
    /// Take a moved server back to where it came from.
    RevertResize {
        /// The server.
        instance: InstanceId,
    },
    /// Make a server anew elsewhere, because its host is lost.
    Evacuate {
        /// The server.
        instance: InstanceId,
        /// The volume that is its root disk; none when that is made of its image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<VolumeId>,
    },
    /// Make a server anew on its host.
    Rebuild {
        /// The server.
        instance: InstanceId,
        /// From which image.
        image: ImageId,
    },
    /// Take an image of a server's root disk.
    Snapshot {
        /// The server.
        instance: InstanceId,
        /// The image that comes of it.
        image: ImageId,
    },
    /// Put a server aside: off its host, with its disk in an image.
    Shelve {
        /// The server.
        instance: InstanceId,
        /// The image.
        image: ImageId,
    },
    /// Bring a server back that was put aside.
    Unshelve {
        /// The server.
        instance: InstanceId,
        /// The image that its disk is in.
        image: ImageId,
    },
    /// Boot a server from a rescue disk, with its own disk beside it.
    Rescue {
        /// The server.
        instance: InstanceId,
        /// The image that the rescue disk is made of.
        image: ImageId,
    },
    /// Boot a rescued server from its own disk again.
    Unrescue {
        /// The server.
        instance: InstanceId,
    },
    /// Make a volume.
    CreateVolume {
        /// The volume.
        volume: VolumeId,
    },
    /// Destroy a volume.
    DeleteVolume {
        /// The volume.
        volume: VolumeId,
    },
    /// Give a volume to a server.
    AttachVolume {
        /// The server.
        instance: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// Take a volume from a server.
    DetachVolume {
        /// The server.
        instance: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// Lead a floating IP to a server, from wherever it led before.
    AssociateFloating {
        /// The floating IP.
        address: IpAddr,
        /// The server.
        instance: InstanceId,
    },
    /// Let a floating IP lead nowhere.
    DisassociateFloating {
        /// The floating IP.
        address: IpAddr,
    },
    /// Let the hosts of a project's servers follow its security groups.
    ApplySecurityGroups,
}

impl OpKind {
    /// The server it concerns.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::CreateServer { instance, .. }
            | Self::Power { instance, .. }
            | Self::DeleteServer { instance }
            | Self::Resize { instance }
            | Self::Migrate { instance }
            | Self::LiveMigrate { instance }
            | Self::ConfirmResize { instance }
            | Self::RevertResize { instance }
            | Self::Evacuate { instance, .. }
            | Self::Rebuild { instance, .. }
            | Self::Snapshot { instance, .. }
            | Self::Shelve { instance, .. }
            | Self::Unshelve { instance, .. }
            | Self::Rescue { instance, .. }
            | Self::Unrescue { instance }
            | Self::AttachVolume { instance, .. }
            | Self::DetachVolume { instance, .. }
            | Self::AssociateFloating { instance, .. } => Some(*instance),
            Self::DrainHost { .. }
            | Self::CreateVolume { .. }
            | Self::DeleteVolume { .. }
            | Self::DisassociateFloating { .. }
            | Self::ApplySecurityGroups => None,
        }
    }

    /// Every word that [`word`](Self::word) may say.
    pub const WORDS: &[&str] = &[
        "create server",
        "create server on volume",
        "start server",
        "stop server",
        "reboot server",
        "pause server",
        "unpause server",
        "suspend server",
        "resume server",
        "delete server",
        "resize server",
        "migrate server",
        "live migrate server",
        "confirm resize",
        "revert resize",
        "evacuate server",
        "evacuate server on volume",
        "rebuild server",
        "snapshot server",
        "shelve server",
        "unshelve server",
        "rescue server",
        "unrescue server",
        "drain host",
        "create volume",
        "delete volume",
        "attach volume",
        "detach volume",
        "associate floating IP",
        "disassociate floating IP",
        "apply security groups",
    ];

    /// A word for tables and messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::CreateServer { root: None, .. } => "create server",
            Self::CreateServer { .. } => "create server on volume",
            Self::Power { action, .. } => match action {
                Action::Start => "start server",
                Action::Stop => "stop server",
                Action::Pause => "pause server",
                Action::Unpause => "unpause server",
                Action::Suspend => "suspend server",
                Action::Resume => "resume server",
                _ => "reboot server",
            },
            Self::DeleteServer { .. } => "delete server",
            Self::Resize { .. } => "resize server",
            Self::Migrate { .. } => "migrate server",
            Self::LiveMigrate { .. } => "live migrate server",
            Self::DrainHost { .. } => "drain host",
            Self::ConfirmResize { .. } => "confirm resize",
            Self::RevertResize { .. } => "revert resize",
            Self::Evacuate { root: None, .. } => "evacuate server",
            Self::Evacuate { .. } => "evacuate server on volume",
            Self::Rebuild { .. } => "rebuild server",
            Self::Snapshot { .. } => "snapshot server",
            Self::Shelve { .. } => "shelve server",
            Self::Unshelve { .. } => "unshelve server",
            Self::Rescue { .. } => "rescue server",
            Self::Unrescue { .. } => "unrescue server",
            Self::CreateVolume { .. } => "create volume",
            Self::DeleteVolume { .. } => "delete volume",
            Self::AttachVolume { .. } => "attach volume",
            Self::DetachVolume { .. } => "detach volume",
            Self::AssociateFloating { .. } => "associate floating IP",
            Self::DisassociateFloating { .. } => "disassociate floating IP",
            Self::ApplySecurityGroups => "apply security groups",
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OpState {
    /// Going forward.
    Running,
    /// Going back, because of this fault.
    Undoing(Fault),
    /// Everything is done.
    Done,
    /// Everything that was begun has been undone, because of this fault.
    Failed(Fault),
    /// Neither forward nor back works; a person has to look.
    NeedsOperator(Fault),
}

impl OpState {
    /// A word for tables and messages.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undoing(_) => "undoing",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::NeedsOperator(_) => "waiting for an operator",
        }
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_) | Self::NeedsOperator(_))
    }
}

/// What came of one attempt at a step, or at its undo.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The effect is there.
    Done,
    /// The effect is certainly not there.
    NotDone {
        /// Why.
        reason: String,
    },
    /// Nobody can say; only asking the outside again can.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// One line of an operation's journal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StepRecord {
    /// The step's name; undoing it is the name with `undo ` before it.
    pub step: String,
    /// What came of it.
    pub outcome: StepOutcome,
    /// When.
    pub at: Timestamp,
}

/// An operation as it is stored.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Operation {
    /// The id.
    pub id: OpId,
    /// For whom; none when it is the cloud's own.
    pub project: Option<ProjectId>,
    /// What it does.
    pub kind: OpKind,
    /// The version of the step list it runs by.
    pub steps_version: u16,
    /// How far it is.
    pub state: OpState,
    /// The step that comes next; when undoing, the steps below it are still to be undone.
    pub step: usize,
    /// How often the next step was tried already.
    pub attempts: u32,
    /// The generation of the server that it works on: hosts refuse orders of an older one. Zero
    /// for an operation without server.
    pub generation: u64,
    /// An operation that this one interrupted; it has to end before this one begins.
    pub after: Option<OpId>,
    /// Hosts where this operation failed already; they are not tried again.
    pub tried: BTreeSet<HostId>,
    /// Hosts whose network has to follow the records before this operation is done, in the order
    /// in which they follow.
    pub settle: Vec<HostId>,
    /// Hosts that could not be asked whether the guest is gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unheard: BTreeSet<HostId>,
    /// Where the floating IP led before this operation led it elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led: Option<FloatingBinding>,
    /// What happened so far, oldest first.
    pub journal: Vec<StepRecord>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

impl Operation {
    /// Whether it was going back when it stopped, as its journal says.
    pub fn was_going_back(&self) -> bool {
        let asked = |record: &&StepRecord| !record.step.starts_with("operator: ");
        let last = self.journal.iter().rev().find(asked).map(|record| record.step.as_str());
        last.is_some_and(|step| step.starts_with("undo ") || step == "give up")
    }
}
