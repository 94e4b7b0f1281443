//! What an agent does with guests whose memory is on disk.

use super::{Hand, unable};
use crate::domain::{InstanceId, PowerState};
use crate::port::VirtError;

impl Hand {
    /// Lets a guest go on from the memory that was put on disk.
    ///
    /// A volume that was given away meanwhile cannot be taken out of it before it runs, and must
    /// not be in it when it does: then it is refused, and a reboot by force is what is left.
    pub(super) async fn resume(&self, id: InstanceId) -> Result<(), VirtError> {
        let Some(suspending) = self.driver.suspending() else {
            return Err(unable("resume a guest"));
        };
        // After the host was down its network has to be there before the guest is.
        drop(self.converge().await);
        self.take_out(id).await?;
        suspending.resume(id).await
    }

    /// Gives up what is on disk of the memory of a guest that is to be rebooted: nothing can be
    /// taken out of it before. One that was rebooted for this number already is left as it is.
    pub(super) async fn forget_memory(&self, id: InstanceId, boot: u64) -> Result<(), VirtError> {
        match self.driver.guest(id).await? {
            Some(guest) if guest.power == PowerState::Suspended && guest.boot < boot => {
                self.driver.stop(id).await
            }
            _ => Ok(()),
        }
    }
}
