//! Ending guests, and starting them anew.

use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock as _, ClockExt as _};
use nova_core::domain::InstanceId;
use nova_core::port::VirtError;

use super::daemon::{DomainState, LibvirtError, Which};
use super::host::{Inner, domain_of, host};
use super::record::{Rebooting, Record};
use super::xml::Element;

/// How often a guest is looked at while nobody tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Inner {
    /// Ends a guest at once, if it executes.
    pub(super) async fn end(&self, guest: InstanceId) -> Result<(), VirtError> {
        self.destroy(guest).await.map_err(host("end a guest"))
    }

    /// The same in the daemon's words.
    pub(super) async fn destroy(&self, guest: InstanceId) -> Result<(), LibvirtError> {
        match self.daemon().destroy(domain_of(guest)).await {
            Err(error) if error.is_no_domain() || error.is_wrong_state() => Ok(()),
            other => other,
        }
    }

    /// Asks a running guest to shut down, and makes it when it takes too long.
    pub(super) async fn shut_down(&self, guest: InstanceId) -> Result<(), VirtError> {
        let domain = domain_of(guest);
        let is_off = || async {
            if self.daemon().state(domain).await?.is_none_or(DomainState::is_down) {
                return Ok(true);
            }
            // Again and again: one that was still starting has not heard. That it cannot hear at
            // all is found out by waiting.
            match self.daemon().ask_to_shut_down(domain).await {
                Ok(()) | Err(LibvirtError::Refused { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if self.wait_until(guest, is_off).await? { Ok(()) } else { self.end(guest).await }
    }

    /// Waits until something is true of a guest, for as long as one is patient with it: whether it
    /// became true.
    pub(super) async fn wait_until<F>(
        &self,
        guest: InstanceId,
        mut is_true: impl FnMut() -> F + Send,
    ) -> Result<bool, VirtError>
    where
        F: Future<Output = Result<bool, LibvirtError>> + Send,
    {
        let end = self.clock.now().after(self.patience);
        let mut changes = self.daemon().changes();
        loop {
            if is_true().await.map_err(host("ask how a guest is"))? {
                return Ok(true);
            }
            let left = end.since(self.clock.now());
            if left.is_zero() {
                return Ok(false);
            }
            // Not every driver tells of every change.
            let told = super::daemon::told(&mut changes, domain_of(guest));
            let _ = self.clock.within(left.min(LOOK_AGAIN), told).await;
        }
    }

    /// Restarts a guest for the number of a reboot, once.
    pub(super) async fn reboot(
        self: &Arc<Self>,
        mut record: Record,
        state: DomainState,
        boot: u64,
        softly: bool,
    ) -> Result<(), VirtError> {
        let guest = record.spec.instance;
        let life = self.life(guest).await?;
        let begun = match record.rebooting {
            Some(begun) if begun.boot == boot => begun,
            _ => {
                let begun = Rebooting { boot, life };
                record.rebooting = Some(begun);
                self.save(&record).await?;
                begun
            }
        };
        // One that lives another life already was restarted, and only not noted.
        if life.is_none() || life == begun.life {
            match state {
                DomainState::Running if softly => self.shut_down(guest).await?,
                _ => self.end(guest).await?,
            }
            self.begin(&mut record).await?;
        }
        (record.boot, record.rebooting) = (boot, None);
        self.save(&record).await
    }

    /// The hypervisor's number for the life that a guest lives; none when it is shut down.
    pub(super) async fn life(&self, guest: InstanceId) -> Result<Option<u32>, VirtError> {
        match self.daemon().description(domain_of(guest), Which::Current).await {
            Ok(xml) => Ok(Element::read(&xml).and_then(|tree| tree.get("id")?.parse().ok())),
            Err(error) if error.is_no_domain() => Ok(None),
            Err(error) => Err(host("ask how a guest is")(error)),
        }
    }
}
