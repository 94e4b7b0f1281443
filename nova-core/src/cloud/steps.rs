//! Step lists: what each operation consists of, as data.

use crate::domain::OpKind;

/// The version of the lists below. It is stored with every operation; a list that changes gets a
/// new number, and the old list stays for operations that were accepted under it.
///
/// - 1: servers, power, volumes, floating IPs.
/// - 2: moves and rebuilding were added; every list of version 1 is as it was.
/// - 3: live migration, snapshots, shelving, rescue and drains were added; lists of versions 1 and
///   2 are as they were.
/// - 4: security groups were added; every list of versions 1 to 3 is as it was.
/// - 5: servers whose root disk is a volume were added; lists of versions 1 to 4 are as they were.
pub(crate) const STEPS_VERSION: u16 = 5;

/// One step. Every step may be repeated, and so may its undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Choose a host; claim capacity and addresses there. Undone by giving them back.
    Place,
    /// Bring up the host's network for the new guest.
    Wire,
    /// Make the guest and start it. Undone by removing it.
    Spawn,
    /// Start a new guest whose root disk was plugged in. Undone by removing it.
    Boot,
    /// Start, stop, reboot, pause, unpause, suspend or resume the guest.
    Power,
    /// Remove the guest with its disks.
    RemoveGuest,
    /// Take the server's volumes from its host.
    FreeVolumes,
    /// Forget the server: its claim, addresses, attachments and the record itself.
    Release,
    /// Find the hosts that a change of security groups concerns.
    FindHosts,
    /// Let the network of the hosts concerned follow the records.
    Settle,
    /// Connect the volume to the host. Undone by disconnecting it.
    Connect,
    /// Plug the volume into the guest. Undone by pulling it out.
    Plug,
    /// Pull the volume out of the guest; the host confirms.
    Unplug,
    /// Take the volume from the host.
    Disconnect,
    /// Make the volume. Undone by destroying it.
    MakeVolume,
    /// Destroy the volume.
    DestroyVolume,
    /// Lead the floating IP to the server. Undone by leading it nowhere.
    Bind,
    /// Lead the floating IP nowhere.
    Unbind,
    /// Record the result.
    Finish,
    /// Choose another host for a server and claim capacity there too. Undone by giving it back.
    ClaimThere,
    /// Bring up the network of the host that the server goes to.
    WireThere,
    /// Shut the guest down where it is. Undone by starting it, if it ran.
    Halt,
    /// Bring the guest, shut down, to the other host. Undone by removing it there.
    Carry,
    /// Take the volumes from the host that the server leaves. Undone by giving them back.
    LetGo,
    /// The server belongs to the other host now. Undone by belonging to the first again.
    HandOver,
    /// Give the volumes to the host that the server is on. Undone by taking them away.
    TakeUp,
    /// Lead the floating IPs to the host that the server is on. Undone by leading them back.
    LeadFloating,
    /// Start the guest where it is now, if it ran. Undone by removing it for certain.
    PowerThere,
    /// Make the guest anew on the other host. Undone by removing it for certain.
    SpawnThere,
    /// Remove the guest, to make it anew from another image.
    Strip,
    /// Make the guest anew where it was. Undone by removing it.
    Recreate,
    /// Record that a rebuild is over.
    FinishRebuild,
    /// Record a move that waits for its owner's word.
    FinishMove,
    /// Connect the volumes to the other host as well. Undone by taking them from it.
    ShareVolumes,
    /// Send the guest to the other host while it runs. Undone by letting it go on where it was.
    CarryLive,
    /// The other host has the server and its volumes from now on. Undone, when that host has lost
    /// the guest, by giving them back.
    CutOver,
    /// Let the guest go on where it is now, if it ran. Undone by removing it for certain.
    GoOn,
    /// Take the volumes from the host that the server was on.
    Disown,
    /// Let every server leave the host, each by an operation of its own.
    MoveOff,
    /// Remove the guest from where it was moved to, for certain.
    DropMoved,
    /// The server belongs to the host that it came from again.
    HandBack,
    /// Remove the guest from where it came from.
    DropOld,
    /// Record that a move is over: one end keeps the server, the other end's claim is given back.
    EndMove,
    /// Store the guest's root disk as an image. Undone by removing the image.
    Capture,
    /// Record that the image is whole.
    FinishSnapshot,
    /// Remove the guest, whose disk is in an image. Undone by making it from the image.
    Offload,
    /// Record that a server is shelved, and give its claim back.
    FinishShelve,
    /// Record that a server is back, and that nobody needs its image.
    FinishUnshelve,
    /// Boot the guest from a rescue disk. Undone by booting it from its own.
    EnterRescue,
    /// Boot the guest from its own disk again. Undone by booting it from a rescue disk.
    LeaveRescue,
    /// Record that a server is rescued, or is so no more.
    FinishRescue,
}

impl Step {
    /// The name under which the journal knows it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Wire => "wire",
            Self::Spawn => "spawn",
            Self::Boot => "boot",
            Self::Power => "power",
            Self::RemoveGuest => "remove guest",
            Self::FreeVolumes => "free volumes",
            Self::Release => "release",
            Self::FindHosts => "find hosts",
            Self::Settle => "settle",
            Self::Connect => "connect",
            Self::Plug => "plug",
            Self::Unplug => "unplug",
            Self::Disconnect => "disconnect",
            Self::MakeVolume => "make volume",
            Self::DestroyVolume => "destroy volume",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
            Self::Finish => "finish",
            Self::ClaimThere => "claim there",
            Self::WireThere => "wire there",
            Self::Halt => "halt",
            Self::Carry => "carry",
            Self::LetGo => "let go",
            Self::HandOver => "hand over",
            Self::TakeUp => "take up",
            Self::LeadFloating => "lead floating IPs",
            Self::PowerThere => "power there",
            Self::SpawnThere => "spawn there",
            Self::Strip => "strip",
            Self::Recreate => "recreate",
            Self::FinishRebuild => "finish rebuild",
            Self::FinishMove => "finish move",
            Self::ShareVolumes => "share volumes",
            Self::CarryLive => "carry live",
            Self::CutOver => "cut over",
            Self::GoOn => "go on",
            Self::Disown => "disown",
            Self::MoveOff => "move off",
            Self::DropMoved => "drop moved",
            Self::HandBack => "hand back",
            Self::DropOld => "drop old",
            Self::EndMove => "end move",
            Self::Capture => "capture",
            Self::FinishSnapshot => "finish snapshot",
            Self::Offload => "offload",
            Self::FinishShelve => "finish shelve",
            Self::FinishUnshelve => "finish unshelve",
            Self::EnterRescue => "enter rescue",
            Self::LeaveRescue => "leave rescue",
            Self::FinishRescue => "finish rescue",
        }
    }
}

/// What a runner does with an operation in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// This step.
    Step(Step),
    /// The undo of this step.
    Undo(Step),
    /// What is left when every step was undone: to say that it failed.
    GiveUp,
}

impl Doing {
    /// The name under which the journal knows it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Step(step) => step.name().to_owned(),
            Self::Undo(step) => format!("undo {}", step.name()),
            Self::GiveUp => "give up".to_owned(),
        }
    }
}

/// Where in it a runner is: between these moments, whatever dies leaves something different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "testing", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub))]
pub enum Moment {
    /// Nothing was done yet.
    Begins,
    /// It was done, and no record says so.
    Done,
    /// The record says so.
    Recorded,
}

/// The steps of an operation, in order.
pub(crate) const fn steps(kind: &OpKind) -> &'static [Step] {
    use Step::{
        Bind, Boot, Capture, Carry, CarryLive, ClaimThere, Connect, CutOver, DestroyVolume,
        Disconnect, Disown, DropMoved, DropOld, EndMove, EnterRescue, Finish, FinishMove,
        FinishRebuild, FinishRescue, FinishShelve, FinishSnapshot, FinishUnshelve, FreeVolumes,
        GoOn, Halt, HandBack, HandOver, LeadFloating, LeaveRescue, LetGo, MakeVolume, Offload,
        Place, Plug, Power, PowerThere, Recreate, Release, RemoveGuest, Settle, ShareVolumes,
        Spawn, SpawnThere, Strip, TakeUp, Unbind, Unplug, Wire, WireThere,
    };
    match kind {
        OpKind::CreateServer { root: None, .. } => &[Place, Wire, Spawn, Finish],
        OpKind::CreateServer { .. } => &[Place, Wire, Spawn, Connect, Plug, Boot, Finish],
        OpKind::Power { .. } => &[Power, Finish],
        OpKind::DeleteServer { .. } => &[RemoveGuest, FreeVolumes, Release, Settle],
        OpKind::Resize { .. } | OpKind::Migrate { .. } => &[
            ClaimThere,
            WireThere,
            Halt,
            Carry,
            LetGo,
            HandOver,
            TakeUp,
            LeadFloating,
            PowerThere,
            Settle,
            FinishMove,
        ],
        OpKind::LiveMigrate { .. } => &[
            ClaimThere,
            WireThere,
            ShareVolumes,
            CarryLive,
            CutOver,
            GoOn,
            LeadFloating,
            Settle,
            DropOld,
            Disown,
            EndMove,
        ],
        OpKind::ConfirmResize { .. } => &[DropOld, Settle, EndMove],
        OpKind::RevertResize { .. } => {
            &[DropMoved, LetGo, HandBack, TakeUp, LeadFloating, PowerThere, Settle, EndMove]
        }
        OpKind::Evacuate { root: None, .. } => &[
            ClaimThere,
            WireThere,
            SpawnThere,
            LetGo,
            HandOver,
            TakeUp,
            LeadFloating,
            Settle,
            EndMove,
        ],
        OpKind::Evacuate { .. } => &[
            ClaimThere,
            WireThere,
            SpawnThere,
            LetGo,
            HandOver,
            TakeUp,
            LeadFloating,
            PowerThere,
            Settle,
            EndMove,
        ],
        OpKind::Rebuild { .. } => &[Strip, Recreate, TakeUp, FinishRebuild],
        OpKind::Snapshot { .. } => &[Capture, FinishSnapshot],
        OpKind::Shelve { .. } => &[Halt, Capture, LetGo, Offload, FinishShelve],
        OpKind::Unshelve { .. } => {
            &[Place, WireThere, Spawn, TakeUp, LeadFloating, Settle, FinishUnshelve]
        }
        OpKind::Rescue { .. } => &[EnterRescue, FinishRescue],
        OpKind::Unrescue { .. } => &[LeaveRescue, FinishRescue],
        OpKind::DrainHost { .. } => &[Step::MoveOff],
        OpKind::CreateVolume { .. } => &[MakeVolume, Finish],
        OpKind::DeleteVolume { .. } => &[DestroyVolume, Finish],
        OpKind::AttachVolume { .. } => &[Connect, Plug, Finish],
        OpKind::DetachVolume { .. } => &[Unplug, Disconnect, Finish],
        OpKind::AssociateFloating { .. } => &[Bind, Settle],
        OpKind::DisassociateFloating { .. } => &[Unbind, Settle],
        OpKind::ApplySecurityGroups => &[Step::FindHosts, Settle],
    }
}

/// Whether an operation that cannot go on with this step goes back. Those that take away cannot:
/// half a removal is not undone but finished, however long it takes. Nor does what may run on
/// another host since its cut-over, unless that host has lost it.
pub(crate) fn goes_back(kind: &OpKind, step: usize) -> bool {
    if matches!(kind, OpKind::LiveMigrate { .. }) {
        let cut = steps(kind).iter().position(|step| *step == Step::CutOver);
        return cut.is_none_or(|cut| step <= cut);
    }
    matches!(
        kind,
        OpKind::CreateServer { .. }
            | OpKind::Power { .. }
            | OpKind::Resize { .. }
            | OpKind::Migrate { .. }
            | OpKind::DrainHost { .. }
            | OpKind::Evacuate { .. }
            | OpKind::Rebuild { .. }
            | OpKind::Snapshot { .. }
            | OpKind::Shelve { .. }
            | OpKind::Unshelve { .. }
            | OpKind::Rescue { .. }
            | OpKind::Unrescue { .. }
            | OpKind::CreateVolume { .. }
            | OpKind::AttachVolume { .. }
            | OpKind::AssociateFloating { .. }
    )
}

/// Attempts at one step of an operation that can go back, before it does.
pub(crate) const FORWARD_ATTEMPTS_MAX: u32 = 5;

/// Attempts at one step that has no way back, before a person has to look. With the longest
/// pause between them this is more than a day.
pub(crate) const STUBBORN_ATTEMPTS_MAX: u32 = 10_000;

/// Conflicts at one commit before it counts as a failed attempt. More than this mean that the
/// store is overloaded, not that somebody was lucky.
pub(crate) const CONFLICTS_MAX: u32 = 32;
