//! What happens when a host cannot take a server: what it has of it is taken away, and another
//! host is tried.
//!
//! Both take two attempts at the same step. The first marks the host as tried and gives the
//! operation a new generation, so that nothing ordered there before can still be carried out; the
//! second removes what is there and gives the claim back.

use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_move::renew;
use crate::cloud::attempt_server::server_id;
use crate::cloud::claiming::unclaim;
use crate::cloud::order::{Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::steps::FORWARD_ATTEMPTS_MAX;
use crate::domain::{
    HostId, Instance, Migration, OpKind, Operation, StepOutcome, TaskState, Volume,
};
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// What an order to the first host of a server comes to. Where the host certainly cannot take
    /// the guest, and there are others to try, it is left. The addresses stay with the server.
    pub(crate) async fn elsewhere(
        &self,
        op: &mut Operation,
        host: HostId,
        report: Option<Report>,
    ) -> Result<Attempt, StoreError> {
        let Some(report) = report else { return Ok(Attempt::Absent) };
        let Report::NotDone { reason, .. } = &report else { return Ok(self.attempt_of(report)) };
        let reason = format!("host {host}: {reason}");
        if op.tried.len() + 1 >= self.options.hosts_tried_max {
            return Ok(self.hopeless(reason));
        }
        self.give_up_on(op, host, reason).await
    }

    /// Takes from a host what it has of a new server, and goes back to placing.
    pub(crate) async fn leave(
        &self,
        op: &mut Operation,
        host: HostId,
    ) -> Result<Attempt, StoreError> {
        let reason = why_elsewhere(op).unwrap_or_else(|| format!("host {host} was tried"));
        // Nothing of the guest may be left before another host is asked to make it.
        match self.order_if_up(op, host, Order::Remove(server_id(op))).await? {
            Some(Report::Done { .. }) => {}
            Some(_) => return Ok(self.hopeless(reason)),
            None => return Ok(Attempt::Absent),
        }
        // Nor may the host keep what another is to be given.
        match self.disconnect(op).await? {
            Attempt::Done(_) => {}
            not_yet => return Ok(not_yet),
        }
        let Some(instance) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let view = self.fresh().await?;
        let mut txn = Txn::new();
        if let Some(root) = view.volumes_of(instance.value.id).next() {
            txn.replace(root, &Volume { attachment: None, ..root.value.clone() });
        }
        unclaim(&view, &instance.value, instance.value.host, &mut txn);
        let next =
            Instance { host: None, task: Some(TaskState::Scheduling), ..instance.value.clone() };
        txn.replace(&instance, &next);
        op.settle.clear();
        op.step = 0;
        Ok(Attempt::Again { txn, reason })
    }

    /// Brings up the network of the host that a server goes to, and sees to it that the host has
    /// no guest of an earlier attempt, which making the guest there would leave as it is. From
    /// here on an order to remove it that comes late is out of date.
    pub(crate) async fn wire_there(
        &self,
        op: &mut Operation,
        server: &Versioned<Instance>,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        for order in [Order::Converge, Order::Remove(server.value.id)] {
            match self.plain(op, to, order).await? {
                Attempt::Done(_) => {}
                other => return Ok(other),
            }
        }
        Ok(Attempt::Done(renew(op, server)))
    }

    /// What an attempt at the host that a server goes to comes to. A host that cannot take it,
    /// however often it was asked, is left, if there are others to try.
    pub(crate) async fn elsewhere_there(
        &self,
        op: &mut Operation,
        to: HostId,
        attempt: Attempt,
    ) -> Result<Attempt, StoreError> {
        let Attempt::NotDone { fault, retry } = attempt else { return Ok(attempt) };
        // Among them is the host that the server leaves, if it is on one.
        let leaves = !matches!(op.kind, OpKind::Unshelve { .. });
        let last = op.tried.len() + usize::from(!leaves) >= self.options.hosts_tried_max;
        if last || retry && op.attempts + 1 < FORWARD_ATTEMPTS_MAX {
            return Ok(Attempt::NotDone { fault, retry });
        }
        self.give_up_on(op, to, format!("host {to}: {}", fault.message)).await
    }

    /// Takes from a host what it has of a server on the move, and goes back to choosing one.
    pub(crate) async fn leave_there(
        &self,
        op: &mut Operation,
        server: &Versioned<Instance>,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        // A guest that was made anew may run; one that was carried is shut down.
        let removed = match op.kind {
            OpKind::Evacuate { .. } => self.remove_surely(op, to).await?,
            OpKind::LiveMigrate { .. } => self.retreat(op, moving, to).await?,
            _ => self.remove_if_up(op, to).await?,
        };
        if !matches!(removed, Attempt::Done(_)) {
            return Ok(removed);
        }
        let txn = match self.unclaim_there(op, server, moving, to).await? {
            Attempt::Done(txn) => txn,
            not_yet => return Ok(not_yet),
        };
        let reason = why_elsewhere(op).unwrap_or_else(|| format!("host {to} was tried"));
        op.settle.clear();
        op.step = 0;
        Ok(Attempt::Again { txn, reason })
    }

    /// Marks a host as tried, and makes what was ordered there out of date.
    async fn give_up_on(
        &self,
        op: &mut Operation,
        host: HostId,
        reason: String,
    ) -> Result<Attempt, StoreError> {
        let Some(server) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        op.tried.insert(host);
        Ok(Attempt::Again { txn: renew(op, &server), reason })
    }
}

/// Why the operation left the last host that it tried, as its journal says.
pub(crate) fn why_elsewhere(op: &Operation) -> Option<String> {
    op.journal.iter().rev().find_map(|record| match &record.outcome {
        StepOutcome::NotDone { reason } => Some(reason.clone()),
        _ => None,
    })
}
