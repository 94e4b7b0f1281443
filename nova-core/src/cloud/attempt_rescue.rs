//! The steps of rescuing: a server boots from a rescue disk, and from its own again.

use crate::cloud::attempt::{Attempt, idle};
use crate::cloud::order::Order;
use crate::cloud::runner::Runner;
use crate::cloud::steps::Step;
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
                self.enter_rescue(op, &server.value, host, *image).await
            }
            (Step::LeaveRescue, _) => self.plain(op, host, Order::Unrescue(server.value.id)).await,
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

    /// Undoes one step of rescuing or unrescuing. A host that was declared down is not asked: the
    /// server stays as its record says, and can be evacuated or unrescued when the host is back.
    pub(crate) async fn undo_rescue(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let Ok((server, host)) = self.rescued_on(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let server = server.value;
        if self.liveness(host).await? == (Liveness::Down, true) {
            return Ok(Attempt::Done(Txn::new()));
        }
        match (step, server.rescue) {
            (Step::LeaveRescue, Some(image)) => self.enter_rescue(op, &server, host, image).await,
            (Step::EnterRescue, _) => {
                match self.plain(op, host, Order::Unrescue(server.id)).await? {
                    Attempt::Done(_) if server.state == VmState::Stopped => {
                        self.plain(op, host, Order::Stop(server.id)).await
                    }
                    other => Ok(other),
                }
            }
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }

    async fn enter_rescue(
        &self,
        op: &Operation,
        server: &Instance,
        host: HostId,
        image: ImageId,
    ) -> Result<Attempt, StoreError> {
        let known = self.fresh().await?.images.get(&keys::image(image)).cloned();
        let Some(known) = known else { return Ok(self.hopeless("the rescue image is gone")) };
        let order = Order::Rescue { instance: server.id, image: Box::new(known.value) };
        self.plain(op, host, order).await
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
