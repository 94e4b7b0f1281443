//! What an agent does for guests that go to another host while they run.

use super::{Hand, unable};
use crate::class::Class;
use crate::cloud::error::chain;
use crate::cloud::order::{LiveOrder, Report};
use crate::domain::{InstanceId, PowerState};
use crate::port::{LiveMigrate, Transfer, VirtError};

impl Hand {
    /// Carries out one order, and looks whether it was done: what a later step relies on must be
    /// there, whatever the driver said.
    pub(super) async fn on_live(&self, order: &LiveOrder) -> Report {
        let Some(live) = self.driver.live() else {
            // What was never sent needs no recall.
            return match order {
                LiveOrder::Recall { .. } => Report::Done { guest: None },
                LiveOrder::Look { instance } => self.look(*instance).await,
                _ => refused(&unable("take part in a live migration")),
            };
        };
        let report = match order {
            LiveOrder::Expect { spec, links } => {
                match self.in_time(live.expect(spec, links)).await {
                    Ok(expected) => expected.map(|to| Report::Expected(Box::new(to))),
                    Err(late) => return late,
                }
            }
            LiveOrder::Send { instance, to } => {
                match self.in_time(live.send(*instance, to)).await {
                    Ok(sent) => sent.map(|transfer| match transfer {
                        Transfer::UnderWay => Report::UnderWay,
                        Transfer::Complete(parcel) => Report::Packed(Box::new(parcel)),
                    }),
                    Err(late) => return late,
                }
            }
            LiveOrder::Receive { instance, parcel } => {
                match self.in_time(live.receive(*instance, parcel)).await {
                    Ok(received) => received.map(|()| Report::Done { guest: None }),
                    Err(late) => return late,
                }
            }
            LiveOrder::Recall { instance, .. } => {
                match self.in_time(live.recall(*instance)).await {
                    Ok(recalled) => recalled.map(|()| Report::Done { guest: None }),
                    Err(late) => return late,
                }
            }
            LiveOrder::Look { instance } => return self.look(*instance).await,
        };
        let there = match self.in_time(self.is_so(order, live)).await {
            Ok(Ok(there)) => there,
            Ok(Err(error)) => return Report::Unknown { reason: chain(&error) },
            Err(late) => return late,
        };
        match (report, there) {
            (Ok(Report::UnderWay), _) => Report::UnderWay,
            (Ok(report), true) => report,
            // Only with what the driver answers can anybody go on: it is asked again.
            (Err(error), true)
                if !matches!(order, LiveOrder::Expect { .. } | LiveOrder::Send { .. }) =>
            {
                drop(error);
                Report::Done { guest: None }
            }
            (Err(error), _) => refused(&error),
            (Ok(_), false) => Report::NotDone {
                reason: format!("{} said yes and did not", self.driver),
                // Asking again wakes no guest that is shut down: another host may take it.
                retry: !matches!(order, LiveOrder::Expect { .. } | LiveOrder::Receive { .. }),
            },
        }
    }

    /// Tells of the guest as it is; of one that is still to come it is not told.
    async fn look(&self, instance: InstanceId) -> Report {
        let look = async {
            let Some(guest) = self.driver.guest(instance).await? else { return Ok(None) };
            let whole = match self.driver.live() {
                Some(live) => live.is_complete(instance).await?,
                None => true,
            };
            Ok(whole.then_some(guest))
        };
        match self.in_time(look).await {
            Ok(Ok(guest)) => Report::Done { guest },
            Ok::<Result<_, VirtError>, _>(Err(error)) => Report::Unknown { reason: chain(&error) },
            Err(late) => late,
        }
    }

    /// Whether the target of an order is reached.
    async fn is_so(&self, order: &LiveOrder, live: &dyn LiveMigrate) -> Result<bool, VirtError> {
        let guest = self.driver.guest(order.instance()).await?;
        Ok(match order {
            // A guest that its host shut down meanwhile has lost what it held in memory.
            LiveOrder::Expect { .. } | LiveOrder::Send { .. } => {
                guest.is_some_and(|guest| guest.power == PowerState::Paused)
            }
            LiveOrder::Receive { instance, .. } => {
                guest.is_some_and(|guest| guest.power == PowerState::Paused)
                    && live.is_complete(*instance).await?
            }
            LiveOrder::Look { .. } => true,
            // A guest that ended by itself meanwhile has nothing to go on with.
            LiveOrder::Recall { runs, .. } => {
                guest.is_none_or(|guest| !*runs || guest.power != PowerState::Paused)
            }
        })
    }

    /// Lets a guest go on that was sent elsewhere and never went there; false when it stays
    /// paused, for that was not why it was.
    pub(crate) async fn recalls(&self, instance: InstanceId) -> bool {
        let order = LiveOrder::Recall { instance, runs: true };
        matches!(self.on_live(&order).await, Report::Done { .. }) && self.driver.live().is_some()
    }
}

fn refused(error: &VirtError) -> Report {
    Report::NotDone { reason: chain(error), retry: error.class() == Class::Retry }
}
