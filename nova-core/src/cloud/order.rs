//! What a conductor tells an agent, and what the agent answers.

use crate::domain::{
    GuestUser, Image, ImageContent, ImageFormat, ImageId, InstanceId, OpId, Password, PowerState,
    Reboot, VolumeId,
};
use crate::port::{Guest, GuestSpec, Invitation, Parcel, VolumeLink};

/// A message to the conductors: there is an operation to work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Wake {
    pub(crate) operation: OpId,
}

/// An order with what tells an old one from a new one.
///
/// A message may come late or twice, from a conductor that was asleep for an hour. The agent
/// compares the generation with the server's record, and refuses what is out of date.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Errand {
    /// The server's generation when the operation was accepted.
    pub(crate) generation: u64,
    /// What to do.
    pub(crate) order: Order,
}

/// An order to the agent of a host. Every order names a target and may be repeated.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The guest exists; it runs, unless it existed before.
    Create(Box<GuestSpec>),
    /// The guest is gone.
    Remove(InstanceId),
    /// The guest runs.
    Start(InstanceId),
    /// The guest is shut down.
    Stop(InstanceId),
    /// The guest was restarted for this boot number.
    Reboot { instance: InstanceId, how: Reboot, boot: u64 },
    /// The guest is frozen.
    Pause(InstanceId),
    /// The guest goes on.
    Unpause(InstanceId),
    /// The guest's memory is on disk.
    Suspend(InstanceId),
    /// The guest goes on from there.
    Resume(InstanceId),
    /// The volume is plugged in.
    Plug { instance: InstanceId, link: VolumeLink },
    /// The volume is out.
    Unplug { instance: InstanceId, volume: VolumeId },
    /// The guest, which is shut down, is described so that another host can take it.
    Pack(InstanceId),
    /// The guest of another host is here, shut down.
    Unpack { spec: Box<GuestSpec>, parcel: Box<Parcel> },
    /// Something for a guest that goes elsewhere while it runs.
    Live(LiveOrder),
    /// What is on the guest's root disk is in the image store.
    Snapshot { instance: InstanceId, image: ImageId, format: ImageFormat },
    /// The guest runs from a rescue disk.
    Rescue { instance: InstanceId, image: Box<Image> },
    /// The guest runs from its own disk, if it ran from a rescue disk.
    Unrescue(InstanceId),
    /// The host's network is what the records say.
    Converge,
}

/// An order for a guest that goes to another host while it runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LiveOrder {
    /// The guest is here, not running, and can be sent here.
    Expect { spec: Box<GuestSpec>, links: Vec<VolumeLink> },
    /// The guest was sent, and is frozen.
    Send { instance: InstanceId, to: Box<Invitation> },
    /// The guest that was expected is complete.
    Receive { instance: InstanceId, parcel: Box<Parcel> },
    /// The guest goes on as if it had never been sent; `runs` says whether it then runs.
    Recall { instance: InstanceId, runs: bool },
    /// Nothing; the answer says whether the guest is here and whole, and how it is.
    Look { instance: InstanceId },
}

impl LiveOrder {
    /// The guest that it concerns.
    pub(crate) fn instance(&self) -> InstanceId {
        match self {
            Self::Expect { spec, .. } => spec.instance,
            Self::Send { instance, .. }
            | Self::Receive { instance, .. }
            | Self::Recall { instance, .. }
            | Self::Look { instance } => *instance,
        }
    }
}

impl Order {
    /// The guest that it concerns: orders for one guest are carried out one at a time.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Create(spec) | Self::Unpack { spec, .. } => Some(spec.instance),
            Self::Remove(instance)
            | Self::Start(instance)
            | Self::Stop(instance)
            | Self::Pause(instance)
            | Self::Unpause(instance)
            | Self::Suspend(instance)
            | Self::Resume(instance)
            | Self::Pack(instance)
            | Self::Reboot { instance, .. }
            | Self::Snapshot { instance, .. }
            | Self::Rescue { instance, .. }
            | Self::Unrescue(instance)
            | Self::Plug { instance, .. }
            | Self::Unplug { instance, .. } => Some(*instance),
            Self::Live(order) => Some(order.instance()),
            Self::Converge => None,
        }
    }

    /// Whether the guest is as the order wants it.
    pub(crate) fn reached(&self, guest: Option<&Guest>) -> bool {
        match (self, guest) {
            (Self::Remove(_), guest) => guest.is_none(),
            (Self::Unplug { volume, .. }, guest) => {
                guest.is_none_or(|guest| !guest.volumes.contains(volume))
            }
            (_, None) => false,
            (Self::Create(_), Some(_))
            | (
                Self::Pack(_)
                | Self::Live(_)
                | Self::Snapshot { .. }
                | Self::Rescue { .. }
                | Self::Unrescue(_)
                | Self::Converge,
                _,
            ) => true,
            (Self::Start(_) | Self::Unpause(_) | Self::Resume(_), Some(guest)) => {
                guest.power == PowerState::Running
            }
            (Self::Stop(_) | Self::Unpack { .. }, Some(guest)) => {
                guest.power == PowerState::Shutdown
            }
            (Self::Pause(_), Some(guest)) => guest.power == PowerState::Paused,
            (Self::Suspend(_), Some(guest)) => guest.power == PowerState::Suspended,
            (Self::Reboot { boot, .. }, Some(guest)) => {
                guest.boot >= *boot && guest.power == PowerState::Running
            }
            (Self::Plug { link, .. }, Some(guest)) => guest.volumes.contains(&link.volume),
        }
    }

    /// Whether it lets a guest run that is there: only the host that the server is on may.
    pub(crate) const fn runs(&self) -> bool {
        matches!(
            self,
            Self::Start(_)
                | Self::Unpause(_)
                | Self::Resume(_)
                | Self::Reboot { .. }
                | Self::Rescue { .. }
                | Self::Unrescue(_)
                | Self::Live(LiveOrder::Recall { .. })
        )
    }
}

/// A question to the agent of a host. It changes nothing that is recorded, so it is never out of
/// date and waits for no order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Which guests are on the host?
    Inventory,
    /// What did the guest write to its console last?
    Console { instance: InstanceId, bytes: usize },
    /// What has the guest used?
    Use { instance: InstanceId },
    /// Does the agent inside the guest answer?
    Agent { instance: InstanceId },
    /// Does it set this password?
    Password { instance: InstanceId, user: GuestUser, password: Password },
}

/// The answer to [`Question::Inventory`]: every guest, or why the host cannot say.
pub(crate) type Listing = Result<Vec<Guest>, String>;

/// The answer to a [`Question`] about one guest.
pub(crate) type Told<T> = Result<T, Untold>;

/// The answer to [`Question::Console`]: the bytes, as base64.
pub(crate) type ConsoleText = String;

/// Why there is no answer about a guest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Untold {
    /// No guest of this host can be asked that.
    Unable,
    /// The guest is not there.
    NoSuchGuest,
    /// The host cannot say just now.
    Failed(String),
}

/// The answer to an [`Order`]: three-valued, as every effect on the outside is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The target is reached; the agent has looked.
    Done {
        /// The guest as it is now.
        guest: Option<Guest>,
    },
    /// The guest was packed.
    Packed(Box<Parcel>),
    /// The guest is expected.
    Expected(Box<Invitation>),
    /// The guest is being sent; it takes its time.
    UnderWay,
    /// The image was stored.
    Stored(ImageContent),
    /// The target is certainly not reached.
    NotDone {
        /// Why.
        reason: String,
        /// Whether the same order may succeed later.
        retry: bool,
    },
    /// The agent cannot say.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Report {
    /// Why the target was not reached; nothing when it was.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Done { .. } | Self::Packed(_) | Self::Stored(_) | Self::Expected(_) => "",
            Self::UnderWay => "it takes its time",
            Self::NotDone { reason, .. } | Self::Unknown { reason } => reason,
        }
    }
}
