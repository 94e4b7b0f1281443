//! How an agent compares its host with the records.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{ClockExt as _, Timestamp};
use crate::cloud::agent::Hand;
use crate::cloud::error::chain;
use crate::cloud::linger::{gone, lingering_on};
use crate::cloud::order::{Order, Report};
use crate::domain::{Fault, Instance, InstanceId, PowerState, VmState};
use crate::plant::{Bug, planted};
use crate::port::{GuestChange, HearChanges};
use crate::store::record::{Claim, keys};
use crate::store::{StoreExt as _, Txn, Versioned};

/// What the record of a server says whose guest is not where it should be.
pub(crate) const GUEST_GONE: &str = "the guest is not on its host any more";

/// What the host tells unasked, if it does.
pub(crate) type Heard = Option<Box<dyn HearChanges>>;

/// How long the first change that a host tells of waits for others, so that what changes together
/// is looked at together.
const TOGETHER: Duration = Duration::from_millis(100);

/// When so many guests changed together, everything is looked at.
const TOGETHER_MAX: usize = 256;

impl Hand {
    /// Sweeps again and again, and looks in between at the guests that the host tells of.
    pub(crate) async fn keep_sweeping(self: Arc<Self>, mut heard: Heard) {
        loop {
            // What could not be told now is told after the next sweep.
            drop(self.tell_images().await);
            let next = self.ports.clock.now().after(self.options.sweep_interval);
            while let Some(guests) = self.told(&mut heard, next).await {
                for id in guests {
                    // While an order is carried out, what changes is its doing; and what cannot be
                    // compared now is compared by the next sweep.
                    self.unless_busy(id, async { drop(self.tidy(id).await) }).await;
                }
            }
            drop(self.sweep().await);
        }
    }

    /// The guests that are to be looked at before the next sweep; none when it is time for it, or
    /// when anything may have changed.
    async fn told(&self, heard: &mut Heard, next: Timestamp) -> Option<BTreeSet<InstanceId>> {
        let clock = &self.ports.clock;
        let (mut guests, mut everything, mut until) = (BTreeSet::new(), false, next);
        loop {
            let left = until.since(clock.now());
            let change = match heard {
                Some(heard) if !left.is_zero() => clock.within(left, heard.next()).await,
                _ => {
                    clock.sleep(left).await;
                    None
                }
            };
            match change {
                None => break,
                Some(None) => *heard = None,
                Some(Some(change)) => {
                    until = until.min(clock.now().after(TOGETHER));
                    match change {
                        GuestChange::Guest(id) => drop(guests.insert(id)),
                        GuestChange::Anything => everything = true,
                    }
                    everything |= guests.len() > TOGETHER_MAX;
                }
            }
        }
        (!everything && clock.now() < next).then_some(guests)
    }

    /// Compares the host with the records: removes guests that nobody owns, and writes down what
    /// happened to those that somebody does. It goes on after an error; the next sweep tries
    /// again.
    ///
    /// # Errors
    /// Why not everything could be compared, or something that nobody owns is still there: the
    /// first reason. That the network did not converge is none, since every order that needs the
    /// network asks for it itself.
    pub(crate) async fn sweep(&self) -> Result<(), String> {
        // Before anything is looked at: what is gone afterwards was given up before.
        let lingering = lingering_on(&self.ports, self.host).await;
        let lingering = lingering.map_err(|error| chain(&error))?;
        let guests = match self.in_time(self.driver.guests()).await {
            Ok(guests) => guests.map_err(|error| chain(&error))?,
            Err(late) => return Err(late.reason().to_owned()),
        };
        let mut known: BTreeSet<InstanceId> = guests.iter().map(|guest| guest.instance).collect();
        let mut result = Ok(());
        match self.ports.store.read_all::<Claim>(&keys::claims_on(self.host)).await {
            Ok(claims) => known.extend(claims.iter().map(|claim| claim.value.instance)),
            Err(error) => result = Err(chain(&error)),
        }
        known.extend(&lingering);
        for id in known {
            let work = async {
                let tidied = self.tidy(id).await;
                if tidied.is_ok() && lingering.contains(&id) {
                    // What cannot be recorded now is recorded by the next sweep.
                    drop(gone(&self.ports, id, self.host, Txn::new()).await);
                }
                tidied
            };
            result = result.and(self.alone(id, work).await);
        }
        // No guest is held up by a store of images that does not answer.
        drop(self.drop_late_images().await);
        drop(self.converge().await);
        result
    }

    /// Compares one guest with its record. No order is carried out for it meanwhile, and both are
    /// looked at only now: the list that a sweep began with may be minutes old.
    async fn tidy(&self, id: InstanceId) -> Result<(), String> {
        let record = self.ports.store.read::<Instance>(&keys::instance(id)).await;
        let record = record.map_err(|error| chain(&error))?;
        let guest = match self.in_time(self.driver.guest(id)).await {
            Ok(guest) => guest.map_err(|error| chain(&error))?,
            Err(late) => return Err(late.reason().to_owned()),
        };
        let report = match (record, guest) {
            (Some(record), guest) if record.value.host == Some(self.host) => {
                self.note(&record, guest.map(|guest| guest.power)).await;
                return Ok(());
            }
            (_, None) => return Ok(()),
            _ if planted(Bug::ReapNothing) || planted(Bug::SkipUndo) => return Ok(()),
            (Some(record), Some(guest)) if self.is_end(&record.value) => {
                // The other end has the server. While it moves, its operation sees to both.
                if record.value.task.is_some() || guest.power == PowerState::Shutdown {
                    return Ok(());
                }
                self.on_guest(id, &Order::Stop(id)).await
            }
            _ => self.on_guest(id, &Order::Remove(id)).await,
        };
        match report {
            Report::NotDone { reason, .. } | Report::Unknown { reason } => {
                Err(format!("guest {id}: {reason}"))
            }
            _ => Ok(()),
        }
    }

    /// Writes down that a server is not in the state that it was left in (Nova's power sync).
    /// While an operation works on it, that operation will.
    async fn note(&self, record: &Versioned<Instance>, power: Option<PowerState>) {
        let old = &record.value;
        let busy = old.task.is_some() && !planted(Bug::SweepBusyServers);
        if busy || old.host != Some(self.host) {
            return;
        }
        let mut next = Instance { power, ..old.clone() };
        let lost = is_lost(old);
        let gone = |message: &str| {
            let (message, at) = (message.to_owned(), self.ports.clock.now());
            Some(Fault { message, at, refusal: None, check: None })
        };
        match (old.state, power) {
            // What tried to rescue it was given up without asking this host.
            (state, Some(_)) if old.rescue.is_some() && state != VmState::Rescued && !lost => {
                let report = self.rescue(old.id, None).await;
                let Report::Done { guest: Some(guest) } = report else { return };
                (next.rescue, next.power) = (None, Some(guest.power));
            }
            (
                VmState::Active | VmState::Paused | VmState::Suspended,
                Some(PowerState::Shutdown),
            ) => {
                next.state = VmState::Stopped;
            }
            // An operation that failed may have had its effect all the same.
            (VmState::Paused | VmState::Suspended, Some(PowerState::Running)) => {
                next.state = VmState::Active;
            }
            // Or what runs the guests saved them before it went down. Nova stops such a server; what
            // was in its memory is not thrown away here because nobody expected it to be there.
            (VmState::Active | VmState::Paused | VmState::Stopped, Some(PowerState::Suspended)) => {
                next.state = VmState::Suspended;
            }
            (VmState::Active, Some(PowerState::Paused)) if self.recalls(old.id).await => {
                next.power = Some(PowerState::Running);
            }
            (VmState::Active | VmState::Suspended, Some(PowerState::Paused)) => {
                next.state = VmState::Paused;
            }
            (VmState::Stopped, Some(PowerState::Running | PowerState::Paused)) => {
                // Its owner wants it stopped; that a guest came up by itself does not change it.
                drop(self.on_guest(old.id, &Order::Stop(old.id)).await);
                return;
            }
            (VmState::Error, Some(power)) if lost => {
                // It was there all the time, and its host did not know: as after a restart of
                // what runs the guests.
                let rescued = match old.rescue {
                    Some(_) => self.is_rescued(old.id).await,
                    None => Ok(false),
                };
                let Ok(rescued) = rescued else { return };
                next.rescue = old.rescue.filter(|_| rescued);
                next.state = match power {
                    _ if rescued => VmState::Rescued,
                    PowerState::Running => VmState::Active,
                    PowerState::Paused => VmState::Paused,
                    PowerState::Shutdown => VmState::Stopped,
                    PowerState::Suspended => VmState::Suspended,
                };
                next.fault = None;
            }
            (VmState::Resized, Some(_)) if lost => next.fault = None,
            (VmState::Resized, None) => {
                // It can still be reverted.
                next.fault = old.fault.clone().or(gone(GUEST_GONE));
            }
            (
                VmState::Active
                | VmState::Paused
                | VmState::Suspended
                | VmState::Stopped
                | VmState::Rescued,
                None,
            ) => {
                (next.state, next.fault) = (VmState::Error, gone(GUEST_GONE));
            }
            _ => {}
        }
        if next != *old {
            let mut txn = Txn::new();
            txn.replace(record, &next);
            // Whoever was faster knew better; the next sweep looks again.
            drop(self.ports.store.commit(txn).await);
        }
    }
}

/// Whether all that is known of a server is that its guest is not where it should be.
pub(crate) fn is_lost(server: &Instance) -> bool {
    server.fault.as_ref().is_some_and(|fault| fault.message == GUEST_GONE)
}
