//! The steps of live migration: a server goes to another host while it runs.
//!
//! Until the cut-over is recorded the host that it leaves has it, and its guest goes on there
//! whatever goes wrong; from then on the other host has it, and only the loss of its guest leads
//! back ([`attempt_ends`](super::attempt_ends)). Between the end of the sending and the record the
//! guest is frozen at both.

use std::time::Duration;

use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_ends::was_cut_over;
use crate::cloud::attempt_move::renew;
use crate::cloud::attempt_server::{guest_spec, server_id};
use crate::cloud::order::{LiveOrder, Order, Report};
use crate::cloud::runner::Runner;
use crate::domain::{
    Attachment, HostId, Instance, Liveness, Migration, Operation, VmState, VolumeId,
};
use crate::port::VolumeLink;
use crate::store::{StoreError, Txn, Versioned};

/// A guest that is not sent by then changes faster than it is copied.
const SENDING_MAX: Duration = Duration::from_secs(6 * 60 * 60);

impl Runner {
    /// Connects every volume of the server to the other host as well.
    pub(crate) async fn share_volumes(
        &self,
        op: &Operation,
        from: HostId,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        Ok(match self.shared(op, from, to).await? {
            Ok(_) => Attempt::Done(Txn::new()),
            Err(attempt) => attempt,
        })
    }

    async fn shared(
        &self,
        op: &Operation,
        from: HostId,
        to: HostId,
    ) -> Result<Result<Vec<VolumeLink>, Attempt>, StoreError> {
        let mut links = Vec::new();
        for volume in self.volumes_held(op).await? {
            let Some(sharing) = self.ports.volumes.sharing() else {
                let name = &self.ports.volumes;
                return Ok(Err(self.hopeless(format!("{name} cannot be used by two hosts"))));
            };
            match sharing.share(volume, from, to, self.fence).await {
                Ok(connection) => links.push(VolumeLink { volume, connection }),
                Err(error) => return Ok(Err(self.volume_failed(&error))),
            }
        }
        Ok(Ok(links))
    }

    async fn volumes_held(&self, op: &Operation) -> Result<Vec<VolumeId>, StoreError> {
        let view = self.fresh().await?;
        Ok(view.volumes_of(server_id(op)).map(|volume| volume.value.id).collect())
    }

    /// Sends the guest. In one step, since it is frozen at the end of it, and its users wait.
    pub(crate) async fn carry_live(
        &self,
        op: &mut Operation,
        server: &Instance,
        from: HostId,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let instance = server.id;
        let links = match self.shared(op, from, to).await? {
            Ok(links) => links,
            Err(attempt) => return Ok(attempt),
        };
        let Some(spec) = guest_spec(&*self.fresh().await?, server, to) else {
            return Ok(self.hopeless("the image or a network of the server is gone"));
        };
        let order = LiveOrder::Expect { spec: Box::new(spec), links };
        let invited = match self.order_if_up(op, to, Order::Live(order)).await? {
            None => return Ok(Attempt::Absent),
            Some(Report::Expected(invited)) => invited,
            Some(report) => {
                let failed = self.attempt_of(report);
                return self.elsewhere_there(op, to, failed).await;
            }
        };
        let order = LiveOrder::Send { instance, to: invited };
        let parcel = match self.order_if_up(op, from, Order::Live(order)).await? {
            None => return Ok(Attempt::Absent),
            Some(Report::Packed(parcel)) => parcel,
            Some(Report::UnderWay) => {
                let begun = op.journal.last().map_or(op.accepted_at, |record| record.at);
                if self.ports.clock.now().since(begun) > SENDING_MAX {
                    let hours = SENDING_MAX.as_secs() / 3600;
                    return Ok(self.hopeless(format!("the guest was not sent in {hours} hours")));
                }
                return Ok(Attempt::UnderWay(Duration::ZERO));
            }
            Some(report) => return Ok(self.attempt_of(report)),
        };
        let order = Order::Live(LiveOrder::Receive { instance, parcel });
        let received = self.plain(op, to, order).await?;
        self.elsewhere_there(op, to, received).await
    }

    /// From here on this host has the server, and its volumes.
    pub(crate) async fn cut_over(
        &self,
        op: &Operation,
        server: &Versioned<Instance>,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let mut txn = Txn::new();
        txn.replace(server, &Instance { host: Some(to), ..server.value.clone() });
        let instance = server_id(op);
        for volume in view.volumes_of(instance) {
            let mut next = volume.value.clone();
            next.attachment = Some(Attachment { instance, host: to });
            txn.replace(volume, &next);
        }
        Ok(Attempt::Done(txn))
    }

    /// Takes the volumes from the host that does not have the server. Only the host's own word
    /// that the guest is gone counts, or an operator's that the host is down.
    pub(crate) async fn disown(&self, op: &Operation, at: HostId) -> Result<Attempt, StoreError> {
        let held = self.volumes_held(op).await?;
        if held.is_empty() {
            return Ok(Attempt::Done(Txn::new()));
        }
        match self.remove_surely(op, at).await? {
            Attempt::Done(_) => {}
            other => return Ok(other),
        }
        for volume in held {
            if let Err(error) = self.ports.volumes.disconnect(volume, at, self.fence).await {
                return Ok(self.volume_failed(&error));
            }
        }
        Ok(Attempt::Done(Txn::new()))
    }

    /// Lets the guest go on where it was, and takes away what came of it at the other host.
    pub(crate) async fn recall(
        &self,
        op: &Operation,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let (instance, runs) = (server_id(op), moving.was == VmState::Active);
        // When a host that is down comes back, its agent recalls what was never handed over.
        if self.liveness(moving.from).await?.0 == Liveness::Up {
            let order = Order::Live(LiveOrder::Recall { instance, runs });
            let report = self.order(op, moving.from, order).await;
            if !matches!(report, Report::Done { .. }) {
                return Ok(self.attempt_of(report));
            }
        }
        self.remove_if_up(op, to).await
    }

    /// Undoes the sending. Orders of the way forward are out of date from here.
    pub(crate) async fn undo_carry_live(
        &self,
        op: &mut Operation,
        server: &Versioned<Instance>,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let back = match was_cut_over(op) {
            true => self.restart_where_it_was(op, moving, to).await?,
            false => self.recall(op, moving, to).await?,
        };
        Ok(match back {
            Attempt::Done(_) => Attempt::Done(renew(op, server)),
            other => other,
        })
    }

    /// Takes from a host what it has of a server that was to come there, running or not.
    pub(crate) async fn retreat(
        &self,
        op: &Operation,
        moving: &Migration,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        match self.recall(op, moving, to).await? {
            Attempt::Done(_) => self.disown(op, to).await,
            other => Ok(other),
        }
    }
}
