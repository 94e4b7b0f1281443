//! The agents that run inside guests.

use async_trait::async_trait;

use super::VirtError;
use crate::domain::{GuestUser, InstanceId, Password};

/// Whether a guest that is made of an image is given a channel to an agent inside it, as in Nova.
pub const AGENT_PROPERTY: &str = "hw_qemu_guest_agent";

/// Whether no image is taken of a running guest unless its file systems are at rest, as in Nova.
pub const QUIESCE_PROPERTY: &str = "os_require_quiesce";

/// Asks the agents inside guests.
///
/// A guest has a channel to an agent where its image says so
/// ([`AGENT_PROPERTY`]); whether there is one at the other end, and whether it tells the truth, is
/// the guest's own affair. No call waits longer than a minute for one that is silent.
///
/// [`SnapshotGuests`](super::SnapshotGuests) asks them as well, to put the guest's file systems at
/// rest for the moment that an image of its disk shows.
#[async_trait]
pub trait AskAgents: Send + Sync {
    /// Whether the agent answers.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] unless it runs.
    async fn answers(&self, instance: InstanceId) -> Result<bool, VirtError>;

    /// Whether the agent says that file systems of its guest are frozen.
    ///
    /// # Errors
    /// As for [`answers`](Self::answers), and [`VirtError::NoAgent`].
    async fn is_frozen(&self, instance: InstanceId) -> Result<bool, VirtError>;

    /// Sets the password of a user that the guest has.
    ///
    /// # Errors
    /// As for [`answers`](Self::answers), and [`VirtError::NoAgent`], also when the agent refuses.
    async fn set_password(
        &self,
        instance: InstanceId,
        user: &GuestUser,
        password: &Password,
    ) -> Result<(), VirtError>;
}
