//! Which of the two hosts of a live migration has the guest, once the cut-over is recorded.
//!
//! What the old host has is all there is, until the guest was seen on the new one. When the new
//! one has lost it, the server goes back: its guest is started anew from its disks, for what it
//! held in memory is older than what it may have written elsewhere since.

use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_server::server_id;
use crate::cloud::order::{LiveOrder, Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::steps::Step;
use crate::domain::{
    HostId, Instance, Liveness, Migration, Operation, PowerState, Reboot, StepOutcome, VmState,
};
use crate::store::record::keys;
use crate::store::{StoreError, Versioned};

/// What is known of a guest on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It is there and whole.
    Whole(PowerState),
    /// It is not there, or not all of it.
    Missing,
    /// An operator has said that the host is down.
    Lost,
}

/// What becomes of a server that was cut over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It stays on the new host.
    Stays,
    /// It goes back to the old one.
    GoesBack,
    /// Nobody can say yet.
    Waits,
    /// Nobody has it any more.
    Gone,
}

/// What becomes of a server, when this was seen on its new host and on its old one.
fn verdict(new: Seen, old: Seen) -> Verdict {
    match (new, old) {
        // What was removed on the old host had been seen on the new one before.
        (Seen::Whole(_), _) | (Seen::Lost, Seen::Missing) => Verdict::Stays,
        (_, Seen::Whole(_)) | (Seen::Missing, Seen::Lost) => Verdict::GoesBack,
        (Seen::Lost, Seen::Lost) => Verdict::Waits,
        (Seen::Missing, Seen::Missing) => Verdict::Gone,
    }
}

impl Runner {
    /// Lets the guest go on where it is now.
    pub(crate) async fn go_on(
        &self,
        op: &Operation,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let lost = self.liveness(to).await? == (Liveness::Down, true);
        let mut refusal = None;
        if moving.was == VmState::Active && !lost {
            match self.plain(op, to, Order::Unpause(server_id(op))).await? {
                Attempt::NotDone { fault, retry: false } => refusal = Some(fault),
                other => return Ok(other),
            }
        }
        Ok(match (self.stays(op, moving, to).await?, refusal) {
            // One that was shut down meanwhile has nothing to go on with. Its agent says so.
            (Ok(Seen::Whole(PowerState::Paused)), Some(fault)) => {
                Attempt::NotDone { fault, retry: true }
            }
            (Ok(_), _) => Attempt::Done(crate::store::Txn::new()),
            (Err(otherwise), _) => otherwise,
        })
    }

    /// Removes the guest from the host that it was sent from, when the other one has it.
    pub(crate) async fn drop_sent(
        &self,
        op: &Operation,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        match self.stays(op, moving, to).await? {
            Ok(_) => self.remove_if_up(op, moving.from).await,
            Err(otherwise) => Ok(otherwise),
        }
    }

    /// What was seen on the host that a server went to, if it stays there; what else it comes to.
    async fn stays(
        &self,
        op: &Operation,
        moving: &Migration,
        to: HostId,
    ) -> Result<Result<Seen, Attempt>, StoreError> {
        let from = moving.from;
        let new = match self.seen(op, to).await? {
            Ok(Seen::Whole(power)) => return Ok(Ok(Seen::Whole(power))),
            Ok(new) => new,
            Err(unsure) => return Ok(Err(unsure)),
        };
        let old = match self.seen(op, from).await? {
            Ok(old) => old,
            Err(unsure) => return Ok(Err(unsure)),
        };
        let why = match new {
            Seen::Lost => format!("host {to} was declared down"),
            _ => format!("host {to} does not have the guest any more"),
        };
        Ok(match verdict(new, old) {
            Verdict::Stays => Ok(new),
            Verdict::GoesBack => {
                Err(Attempt::Back(self.fault(format!("{why}: the server is on host {from} again"))))
            }
            Verdict::Waits => {
                let fault = self.fault(format!("{why}, and so was host {from}"));
                Err(Attempt::NotDone { fault, retry: true })
            }
            // So that nothing of the old end is left when a person gives the move up.
            Verdict::Gone => Err(match self.disown(op, from).await? {
                Attempt::Done(_) => self.hopeless(format!("{why}, and neither does host {from}")),
                other => other,
            }),
        })
    }

    /// Looks for the guest on a host; an attempt when nobody can say.
    async fn seen(&self, op: &Operation, at: HostId) -> Result<Result<Seen, Attempt>, StoreError> {
        if self.liveness(at).await? == (Liveness::Down, true) {
            return Ok(Ok(Seen::Lost));
        }
        let order = Order::Live(LiveOrder::Look { instance: server_id(op) });
        Ok(match self.order_if_up(op, at, order).await? {
            Some(Report::Done { guest: Some(guest) }) => Ok(Seen::Whole(guest.power)),
            Some(Report::Done { guest: None }) => Ok(Seen::Missing),
            // Only the answer itself counts: a host that refuses to look has not said no.
            Some(report) => Err(match self.attempt_of(report) {
                Attempt::NotDone { fault, .. } => Attempt::NotDone { fault, retry: true },
                other => other,
            }),
            None => Err(Attempt::Absent),
        })
    }

    /// The server is on its old host again.
    pub(crate) async fn undo_cut_over(
        &self,
        op: &Operation,
        server: &Versioned<Instance>,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        match self.remove_surely(op, to).await? {
            Attempt::Done(_) => {}
            other => return Ok(other),
        }
        let lost = self.liveness(to).await? == (Liveness::Down, true);
        let record = self.fresh().await?.hosts.get(&keys::host(to)).cloned();
        Ok(match (self.cut_over(op, server, moving.from).await?, record) {
            (Attempt::Done(mut txn), Some(record)) if lost => {
                // Written as it is, so that nobody takes an operator's word back at the same time.
                txn.replace(&record, &record.value);
                Attempt::Done(txn)
            }
            (attempt, _) => attempt,
        })
    }

    /// Lets the guest of a server run where it was before, if it ran; what it was elsewhere is gone.
    pub(crate) async fn restart_where_it_was(
        &self,
        op: &Operation,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        match self.remove_surely(op, to).await? {
            Attempt::Done(_) => {}
            other => return Ok(other),
        }
        let instance = server_id(op);
        let order = match moving.was {
            VmState::Active => Order::Reboot { instance, how: Reboot::Hard, boot: op.generation },
            // It was frozen all the time, and wrote nothing anywhere.
            _ => Order::Live(LiveOrder::Recall { instance, runs: false }),
        };
        if self.liveness(moving.from).await? == (Liveness::Down, true) {
            return Ok(Attempt::Done(crate::store::Txn::new()));
        }
        self.plain(op, moving.from, order).await
    }
}

/// Whether a live migration had come so far that the other host had the server.
pub(crate) fn was_cut_over(op: &Operation) -> bool {
    let name = Step::CutOver.name();
    op.journal.iter().any(|record| record.step == name && record.outcome == StepOutcome::Done)
}

#[cfg(test)]
mod tests {
    use super::{Seen, Verdict, verdict};
    use crate::domain::PowerState;

    const SEEN: [Seen; 4] = [
        Seen::Whole(PowerState::Running),
        Seen::Whole(PowerState::Shutdown),
        Seen::Missing,
        Seen::Lost,
    ];

    #[test]
    fn a_server_stays_where_its_guest_was_seen() {
        for old in SEEN {
            for new in &SEEN[..2] {
                assert_eq!(verdict(*new, old), Verdict::Stays);
            }
        }
    }

    #[test]
    fn a_guest_that_is_on_the_old_host_only_leads_back() {
        for new in &SEEN[2..] {
            for old in &SEEN[..2] {
                assert_eq!(verdict(*new, *old), Verdict::GoesBack);
            }
        }
    }

    #[test]
    fn a_guest_that_both_hosts_say_they_do_not_have_is_gone() {
        assert_eq!(verdict(Seen::Missing, Seen::Missing), Verdict::Gone);
        assert_eq!(verdict(Seen::Lost, Seen::Lost), Verdict::Waits);
        assert_eq!(verdict(Seen::Lost, Seen::Missing), Verdict::Stays);
        assert_eq!(verdict(Seen::Missing, Seen::Lost), Verdict::GoesBack);
    }
}
