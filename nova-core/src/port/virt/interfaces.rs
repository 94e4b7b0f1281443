//! Interfaces that guests get and lose after they were made.

use async_trait::async_trait;

use super::{Nic, VirtError};
use crate::domain::{InstanceId, Mac};

/// Plugs interfaces into guests, running or not.
///
/// No operation of the orchestration asks for it yet: whoever does gives the interface an address
/// and sees to its bridge first, as for a new guest. A guest that is made of a
/// [`GuestSpec`](super::GuestSpec) elsewhere has the interfaces that are in it.
#[async_trait]
pub trait PlugInterfaces: Send + Sync {
    /// Plugs an interface in, behind those that are; one with the same address that is in is left
    /// as it is. It stays over restarts of the guest.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] when the guest
    /// is suspended.
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError>;

    /// Pulls an interface out, also one that the guest was made with. When this returns, nothing
    /// passes through it any more. Neither the interface nor the guest has to be there.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::WrongPower`] when the guest is suspended with it.
    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError>;

    /// The interfaces of a guest, in its order.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`].
    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError>;
}
