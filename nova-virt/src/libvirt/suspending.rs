//! Guests whose memory the daemon puts on its own disk, and that go on from there.
//!
//! The memory counts on the devices that the guest had: it is started with the definition that lies
//! beside its memory, not with the one that follows from its record, and nothing is plugged in or
//! pulled out before. Every other start of a guest, as of a reboot, throws the memory away.

use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::InstanceId;
use nova_core::port::{SuspendGuests, VirtError};

use super::daemon::DomainState;
use super::host::{Inner, LibvirtHost, domain_of, host, power};

#[async_trait]
impl SuspendGuests for LibvirtHost {
    async fn suspend(&self, instance: InstanceId) -> Result<(), VirtError> {
        let operation = "suspend a guest";
        // Whoever says how it is to be from now on has no other plans for it.
        self.take_back(instance).await?;
        self.alone(instance, operation, move |inner| async move {
            let (state, _) = inner.arrived(instance, operation).await?;
            match state {
                DomainState::Saved => return Ok(()),
                DomainState::Running | DomainState::Paused => {}
                DomainState::Off => {
                    let power = power(state);
                    return Err(VirtError::WrongPower { instance, power, operation });
                }
            }
            let domain = domain_of(instance);
            match inner.daemon().save(domain).await {
                Ok(()) => Ok(()),
                // What was begun before may have come to its end meanwhile.
                Err(_) if inner.state(instance).await? == Some(DomainState::Saved) => Ok(()),
                Err(error) => Err(host(operation)(error)),
            }
        })
        .await
    }

    async fn resume(&self, instance: InstanceId) -> Result<(), VirtError> {
        let operation = "resume a guest";
        self.alone(instance, operation, move |inner| async move {
            let (state, record) = inner.arrived(instance, operation).await?;
            match state {
                DomainState::Running => Ok(()),
                DomainState::Saved => {
                    if let Some(mut record) = record
                        && record.leaving.take().is_some()
                    {
                        // That was another life.
                        inner.save(&record).await?;
                    }
                    inner.restore(instance, operation).await
                }
                DomainState::Paused | DomainState::Off => {
                    let power = power(state);
                    Err(VirtError::WrongPower { instance, power, operation })
                }
            }
        })
        .await
    }
}

impl Inner {
    async fn restore(&self, guest: InstanceId, operation: &'static str) -> Result<(), VirtError> {
        let domain = domain_of(guest);
        let restored = self.daemon().restore(domain).await;
        match (restored, self.daemon().state(domain).await) {
            // Perhaps somebody else was faster.
            (Ok(()), Ok(Some(DomainState::Running))) => Ok(()),
            (Err(error), Ok(Some(DomainState::Running))) if error.is_wrong_state() => Ok(()),
            (Ok(()), Ok(Some(DomainState::Paused))) => {
                self.daemon().resume(domain).await.map_err(host(operation))
            }
            // One that ended at once went on, too.
            (Ok(()), Ok(_)) => Ok(()),
            (Err(error), _) | (Ok(()), Err(error)) => Err(host(operation)(error)),
        }
    }

    /// Throws away what was saved of a guest's memory: it is shut down then.
    pub(super) async fn forget_memory(
        self: &Arc<Self>,
        guest: InstanceId,
    ) -> Result<(), VirtError> {
        let operation = "give up a guest's memory";
        match self.daemon().forget_memory(domain_of(guest)).await {
            Ok(()) => Ok(()),
            // It was done before, or the guest is gone.
            Err(_) if self.state(guest).await? != Some(DomainState::Saved) => Ok(()),
            Err(error) => Err(host(operation)(error)),
        }
    }
}
