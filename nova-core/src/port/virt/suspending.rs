//! Guests whose memory is put on disk.

use async_trait::async_trait;

use crate::domain::InstanceId;
use crate::port::VirtError;

/// Puts the memory of guests on disk, and lets them go on from there.
///
/// A suspended guest takes no memory of its host, and is suspended still when the host was
/// switched off meanwhile. Its memory counts on the devices that it had: nothing can be plugged in
/// or pulled out, and it cannot be packed or sent. [`start`](super::VirtDriver::start) leaves it as
/// it is; [`stop`](super::VirtDriver::stop), [`reboot`](super::VirtDriver::reboot) and
/// [`rescue`](super::RescueGuests::rescue) give its memory up, and so does
/// [`remove`](super::VirtDriver::remove).
#[async_trait]
pub trait SuspendGuests: Send + Sync {
    /// Puts the memory of a running or paused guest on disk; a suspended one is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] when it is shut
    /// down.
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError>;

    /// Lets a suspended guest go on where it was; a running one is left as it is.
    ///
    /// # Errors
    /// [`VirtError::Host`], also when what is on disk cannot be used: the guest is suspended still
    /// then; [`VirtError::NoSuchGuest`]; [`VirtError::WrongPower`] when it is paused or shut down.
    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError>;
}
