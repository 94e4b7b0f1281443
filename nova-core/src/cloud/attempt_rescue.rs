//! The steps of rescuing: a server boots from a rescue disk, and from its own again.

use crate::cloud::attempt::{Attempt, idle};
use crate::cloud::order::{Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::steps::Step;
use crate::cloud::sweep::GUEST_GONE;
use crate::domain::{HostId, ImageId, Instance, Liveness, OpKind, Operation, PowerState, VmState};
use crate::store::record::keys;
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// Tries one step of rescuing or unrescuing.
    pub(crate) async fn attempt_rescue(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let (server, host) = match self.rescued_on(op).await? {
            Ok(found) => found,
            Err(reason) => return Ok(self.hopeless(reason)),
        };
        match (step, &op.kind) {
            (Step::EnterRescue, OpKind::Rescue { image, .. }) => {
                if server.value.rescue.is_some() {
                    // It may still run from another rescue disk, which would be left as it is.
                    match self.plain(op, host, Order::Unrescue(server.value.id)).await? {
                        Attempt::Done(_) => {}
                        other => return Ok(other),
                    }
                }
                let booted = self.enter_rescue(op, &server.value, host, *image).await?;
                Ok(booted.unwrap_or_else(|| self.hopeless(GUEST_GONE)))
            }
            (Step::LeaveRescue, _) => {
                let booted = self.boot(op, host, Order::Unrescue(server.value.id)).await?;
                Ok(booted.unwrap_or_else(|| self.hopeless(GUEST_GONE)))
            }
            (Step::FinishRescue, kind) => {
                let mut next = Instance { fault: None, ..idle(&server.value) };
                next.power = Some(PowerState::Running);
                (next.state, next.rescue) = match kind {
                    OpKind::Rescue { image, .. } => (VmState::Rescued, Some(*image)),
                    _ => (VmState::Active, None),
                };
                let mut txn = Txn::new();
                txn.replace(&server, &next);
                Ok(Attempt::Done(txn))
            }
            _ => Ok(self.hopeless("nothing is rescued")),
        }
    }

    /// Undoes one step of rescuing or unrescuing. A guest that is gone cannot be booted from any
    /// disk: its server is left in error, which says so. A host that was declared down is not
    /// asked: the server stays as its record says and can be evacuated. The record of one that was
    /// being rescued keeps the image, so that the host's agent, when it is back, boots the guest
    /// from its own disk; one that was being unrescued stays rescued.
    pub(crate) async fn undo_rescue(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let Ok((server, host)) = self.rescued_on(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let (record, server) = (&server, &server.value);
        let rescue = match op.kind {
            OpKind::Rescue { image, .. } => Some(image),
            _ => server.rescue,
        };
        let mut txn = Txn::new();
        if self.liveness(host).await? == (Liveness::Down, true) {
            txn.replace(record, &Instance { rescue, ..server.clone() });
            return Ok(Attempt::Done(txn));
        }
        let booted = match (step, server.rescue) {
            (Step::LeaveRescue, Some(image)) => self.enter_rescue(op, server, host, image).await?,
            (Step::EnterRescue, _) => {
                match self.boot(op, host, Order::Unrescue(server.id)).await? {
                    Some(Attempt::Done(_)) if server.state == VmState::Stopped => {
                        Some(self.plain(op, host, Order::Stop(server.id)).await?)
                    }
                    other => other,
                }
            }
            _ => return Ok(Attempt::Done(txn)),
        };
        Ok(booted.unwrap_or_else(|| {
            let (state, fault) = (VmState::Error, Some(self.fault(GUEST_GONE.to_owned())));
            txn.replace(record, &Instance { state, power: None, fault, rescue, ..server.clone() });
            Attempt::Done(txn)
        }))
    }

    async fn enter_rescue(
        &self,
        op: &Operation,
        server: &Instance,
        host: HostId,
        image: ImageId,
    ) -> Result<Option<Attempt>, StoreError> {
        let known = self.fresh().await?.images.get(&keys::image(image)).cloned();
        let Some(known) = known else {
            return Ok(Some(self.hopeless("the rescue image is gone")));
        };
        let order = Order::Rescue { instance: server.id, image: Box::new(known.value) };
        self.boot(op, host, order).await
    }

    /// An order to boot the guest from another disk; none when there is no guest.
    async fn boot(
        &self,
        op: &Operation,
        at: HostId,
        order: Order,
    ) -> Result<Option<Attempt>, StoreError> {
        Ok(match self.order_if_up(op, at, order).await? {
            Some(Report::Done { guest: None }) => None,
            Some(report) => Some(self.attempt_of(report)),
            None => Some(Attempt::Absent),
        })
    }

    async fn rescued_on(
        &self,
        op: &Operation,
    ) -> Result<Result<(Versioned<Instance>, HostId), &'static str>, StoreError> {
        let Some(server) = self.server_of(op).await? else { return Ok(Err("the server is gone")) };
        let host = server.value.host;
        Ok(host.map(|host| (server, host)).ok_or("the server has no host"))
    }
}
