//! Every moment at which somebody can die while an operation runs: a list that is made from the
//! step lists, and never written down.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::cloud::steps::{Doing, Moment, Step, goes_back, steps};
use crate::domain::{Action, HostId, ImageId, InstanceId, OpKind, Reboot, VolumeId};

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Victim {
    /// The conductor that runs the operation.
    Conductor,
    /// The agent of the host that the server was on when the operation began.
    AgentHere,
    /// The agent of the host at the other end of a move.
    AgentThere,
    /// The first host itself: its guests are shut down when it comes back.
    PowerHere,
    /// The host at the other end itself.
    PowerThere,
}

impl Victim {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conductor => "conductor",
            Self::AgentHere => "agent-here",
            Self::AgentThere => "agent-there",
            Self::PowerHere => "power-here",
            Self::PowerThere => "power-there",
        }
    }
}

/// One place for one death: an operation, a moment of one of its steps or of an undo, and who
/// dies there.
#[derive(Clone, PartialEq)]
pub struct Site {
    pub(crate) kind: OpKind,
    pub(crate) doing: Doing,
    /// What cannot be done, so that the operation goes back.
    pub(crate) failing: Option<Step>,
    /// Where in the step.
    pub moment: Moment,
    /// Who dies.
    pub victim: Victim,
}

impl Site {
    /// The operation, as its journal calls it.
    pub fn operation(&self) -> &'static str {
        self.kind.word()
    }

    /// The step or its undo, as the journal calls it.
    pub fn step(&self) -> String {
        self.doing.name()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Begins => "begins",
            Moment::Done => "done",
            Moment::Recorded => "recorded",
        };
        write!(f, "{}/", self.operation())?;
        if let Some(failing) = self.failing {
            write!(f, "{} fails/", failing.name())?;
        }
        write!(f, "{}/{moment}/{}", self.step(), self.victim.name())
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Every kind of operation, with ids that name nothing.
pub(crate) fn kinds() -> Vec<OpKind> {
    std::iter::successors(next_kind(None), |kind| next_kind(Some(kind))).collect()
}

/// The kind after this one. A new kind that is not in here does not build; put it into the chain,
/// and it has its sites.
fn next_kind(kind: Option<&OpKind>) -> Option<OpKind> {
    let (instance, volume) = (InstanceId::from_u128(0), VolumeId::from_u128(0));
    let (image, address) = (ImageId::from_u128(0), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let power = |action| Some(OpKind::Power { instance, action });
    match kind {
        None => Some(OpKind::CreateServer { instance, root: None }),
        Some(OpKind::CreateServer { root: None, .. }) => {
            Some(OpKind::CreateServer { instance, root: Some(volume) })
        }
        Some(OpKind::CreateServer { .. }) => power(Action::Start),
        Some(OpKind::Power { action, .. }) => match action {
            Action::Start => power(Action::Stop),
            Action::Stop => power(Action::Reboot(Reboot::Soft)),
            Action::Reboot(Reboot::Soft) => power(Action::Reboot(Reboot::Hard)),
            Action::Reboot(Reboot::Hard) => power(Action::Pause),
            Action::Pause => power(Action::Unpause),
            Action::Unpause => power(Action::Suspend),
            Action::Suspend => power(Action::Resume),
            _ => Some(OpKind::DeleteServer { instance }),
        },
        Some(OpKind::DeleteServer { .. }) => Some(OpKind::Resize { instance }),
        Some(OpKind::Resize { .. }) => Some(OpKind::Migrate { instance }),
        Some(OpKind::Migrate { .. }) => Some(OpKind::LiveMigrate { instance }),
        Some(OpKind::LiveMigrate { .. }) => Some(OpKind::DrainHost { host: HostId::from_u128(0) }),
        Some(OpKind::DrainHost { .. }) => Some(OpKind::ConfirmResize { instance }),
        Some(OpKind::ConfirmResize { .. }) => Some(OpKind::RevertResize { instance }),
        Some(OpKind::RevertResize { .. }) => Some(OpKind::Evacuate { instance, root: None }),
        Some(OpKind::Evacuate { root: None, .. }) => {
            Some(OpKind::Evacuate { instance, root: Some(volume) })
        }
        Some(OpKind::Evacuate { .. }) => Some(OpKind::Rebuild { instance, image }),
        Some(OpKind::Rebuild { .. }) => Some(OpKind::Snapshot { instance, image }),
        Some(OpKind::Snapshot { .. }) => Some(OpKind::Shelve { instance, image }),
        Some(OpKind::Shelve { .. }) => Some(OpKind::Unshelve { instance, image }),
        Some(OpKind::Unshelve { .. }) => Some(OpKind::Rescue { instance, image }),
        Some(OpKind::Rescue { .. }) => Some(OpKind::Unrescue { instance }),
        Some(OpKind::Unrescue { .. }) => Some(OpKind::CreateVolume { volume }),
        Some(OpKind::CreateVolume { .. }) => Some(OpKind::DeleteVolume { volume }),
        Some(OpKind::DeleteVolume { .. }) => Some(OpKind::AttachVolume { instance, volume }),
        Some(OpKind::AttachVolume { .. }) => Some(OpKind::DetachVolume { instance, volume }),
        Some(OpKind::DetachVolume { .. }) => Some(OpKind::AssociateFloating { address, instance }),
        Some(OpKind::AssociateFloating { .. }) => Some(OpKind::DisassociateFloating { address }),
        Some(OpKind::DisassociateFloating { .. }) => Some(OpKind::ApplySecurityGroups),
        Some(OpKind::ApplySecurityGroups) => None,
    }
}

/// Which hosts a step asks for something, or its undo does.
fn asks(step: Step) -> &'static [Victim] {
    use Victim::{AgentHere, AgentThere, PowerHere, PowerThere};
    match step {
        Step::Wire
        | Step::Spawn
        | Step::Boot
        | Step::Power
        | Step::RemoveGuest
        | Step::FreeVolumes
        | Step::Plug
        | Step::Unplug
        | Step::Halt
        | Step::Strip
        | Step::Recreate
        | Step::Capture
        | Step::Offload
        | Step::EnterRescue
        | Step::LeaveRescue
        | Step::Disown
        | Step::MoveOff
        | Step::DropMoved => &[AgentHere, PowerHere],
        Step::WireThere
        | Step::SpawnThere
        | Step::PowerThere
        | Step::ShareVolumes
        | Step::GoOn
        | Step::DropOld => &[AgentThere, PowerThere],
        Step::Settle | Step::Carry | Step::CarryLive | Step::LetGo | Step::TakeUp => {
            &[AgentHere, PowerHere, AgentThere, PowerThere]
        }
        Step::Place
        | Step::FindHosts
        | Step::Release
        | Step::Connect
        | Step::Disconnect
        | Step::MakeVolume
        | Step::DestroyVolume
        | Step::Bind
        | Step::Unbind
        | Step::Finish
        | Step::ClaimThere
        | Step::HandOver
        | Step::CutOver
        | Step::LeadFloating
        | Step::FinishRebuild
        | Step::FinishMove
        | Step::HandBack
        | Step::FinishSnapshot
        | Step::FinishShelve
        | Step::FinishRescue
        | Step::FinishUnshelve
        | Step::EndMove => &[],
    }
}

/// Whether a server has two ends while this runs.
pub(crate) fn moves(kind: &OpKind) -> bool {
    steps(kind).iter().any(|step| matches!(step, Step::HandOver | Step::HandBack | Step::DropOld))
}

/// Everybody who may die at one point of an operation.
pub(crate) fn victims(kind: &OpKind, doing: Doing) -> Vec<Victim> {
    let asked = match doing {
        Doing::Step(step) | Doing::Undo(step) => asks(step),
        Doing::GiveUp => &[],
    };
    let two_ends = moves(kind);
    let there = |victim: &&Victim| matches!(victim, Victim::AgentThere | Victim::PowerThere);
    let asked = asked.iter().filter(|victim| two_ends || !there(victim));
    std::iter::once(Victim::Conductor).chain(asked.copied()).collect()
}

/// Every site of every operation, in the order of the step lists.
pub(crate) fn sites() -> Vec<Site> {
    let mut sites = Vec::new();
    for kind in kinds() {
        let mut here = |doing, failing| {
            let moments = [Moment::Begins, Moment::Done, Moment::Recorded];
            sites.extend(moments.into_iter().flat_map(|moment| at(&kind, doing, failing, moment)));
        };
        steps(&kind).iter().for_each(|step| here(Doing::Step(*step), None));
        let ways: Vec<Step> = ways_back(&kind).collect();
        for (nth, failing) in ways.iter().enumerate() {
            let back = ways[..=nth].iter().rev().map(|step| Doing::Undo(*step));
            back.chain([Doing::GiveUp]).for_each(|doing| here(doing, Some(*failing)));
        }
    }
    sites
}

/// The steps from which an operation goes back when one cannot be done.
pub(crate) fn ways_back(kind: &OpKind) -> impl DoubleEndedIterator<Item = Step> {
    let list = steps(kind).iter().enumerate();
    list.filter(|(at, _)| goes_back(kind, *at)).map(|(_, step)| *step)
}

/// The sites of one moment of what a runner does.
pub(crate) fn at(kind: &OpKind, doing: Doing, failing: Option<Step>, moment: Moment) -> Vec<Site> {
    let site = |victim| Site { kind: kind.clone(), doing, failing, moment, victim };
    victims(kind, doing).into_iter().map(site).collect()
}
