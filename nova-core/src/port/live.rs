//! Guests that go to another host while they run.

use async_trait::async_trait;

use crate::domain::InstanceId;
use crate::port::{GuestSpec, Parcel, VirtError, VolumeLink};

/// Where a guest is expected: what its source has to know to send it there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Invitation {
    /// The guest.
    pub instance: InstanceId,
    /// Where the destination listens, as drivers of one kind tell each other; nobody else reads
    /// it.
    pub address: String,
}

/// How far the sending of a guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    /// The guest goes on, and what it has is being copied.
    UnderWay,
    /// Everything was copied and the guest is frozen, until it is removed or recalled. The parcel
    /// is what the destination has to be told.
    Complete(Parcel),
}

/// Sends guests to other hosts while they run, and takes them in.
///
/// A guest is [expected](Self::expect) at its destination, [sent](Self::send) from its source and
/// [received](Self::receive) at its destination. From the end of the sending on it is frozen at
/// both: whoever manages the hosts writes down which of them has it now, and only then unfreezes
/// it there ([`unpause`](crate::port::PauseGuests::unpause)) or [recalls](Self::recall) it. No
/// driver decides that by itself, and none lets a guest run at its destination unasked. A host
/// with this ability can pause guests too.
///
/// This is the managed form of what libvirt does: prepare, perform, finish with
/// `VIR_MIGRATE_PAUSED`, without post-copy. The parcel is the cookie of it.
///
/// Laws, for two hosts of one kind:
/// - `an_expected_guest_does_not_run`, whatever it is asked, until it was received;
/// - `a_guest_runs_until_it_was_sent`, and is frozen then;
/// - `a_guest_arrives_as_it_was_sent`, paused, with its boot number and its volumes;
/// - `a_guest_arrives_with_the_volume_that_it_runs_from`;
/// - `expecting_sending_and_receiving_are_repeatable`: what is there is left as it is;
/// - `a_recalled_guest_goes_on` as it was before it was sent; one that was not sent is left;
/// - `a_guest_in_no_memory_is_not_sent`: one that is shut down or missing is refused;
/// - `a_guest_whose_destination_loses_power_does_not_arrive`: before it was received, it can only be
///   removed, and be expected and sent anew;
/// - `a_guest_that_arrived_outlives_a_loss_of_power`, shut down and whole;
/// - `a_guest_whose_source_loses_power_is_sent_no_more`, and is not frozen when it is started.
#[async_trait]
pub trait LiveMigrate: Send + Sync {
    /// Makes room for a guest that is sent from elsewhere, with its volumes plugged in: it is
    /// here, paused, and cannot run. A guest that is here is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoRoom`].
    async fn expect(&self, spec: &GuestSpec, links: &[VolumeLink])
    -> Result<Invitation, VirtError>;

    /// Begins to send a running or paused guest, or goes on with it. It may wait a while for the
    /// end of it. When sending fails the guest goes on here.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] for one that is
    /// shut down or still expected itself.
    async fn send(&self, instance: InstanceId, to: &Invitation) -> Result<Transfer, VirtError>;

    /// Completes an expected guest; it is paused. One that is complete is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] for one that was
    /// shut down since it was expected: what its memory was copied into is gone.
    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError>;

    /// Whether a guest is here and complete: nothing of it is still to come from elsewhere.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError>;

    /// Ends the sending of a guest, under way or complete: it goes on here as before. A guest
    /// that is not being sent, or not here, is left.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError>;
}
