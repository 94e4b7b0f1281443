//! The steps that make a server's guest anew: elsewhere after its host was lost, or on its host
//! from an image.

use std::collections::BTreeSet;

use crate::cloud::attempt::{Attempt, idle};
use crate::cloud::attempt_move::{power_of, renew};
use crate::cloud::attempt_server::guest_spec;
use crate::cloud::order::{Order, Report};
use crate::cloud::question::question;
use crate::cloud::runner::Runner;
use crate::cloud::steps::Step;
use crate::cloud::view::View;
use crate::domain::{
    Destination, Fault, HostId, HostTable, Instance, OpKind, Operation, Purpose, StepOutcome,
    VmState,
};
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// Makes the guest of a server on a host, and shuts it down again if the server was stopped.
    pub(crate) async fn spawn_at(
        &self,
        op: &Operation,
        server: &Instance,
        at: HostId,
        was: VmState,
    ) -> Result<Attempt, StoreError> {
        let Some(spec) = guest_spec(&*self.fresh().await?, server, at) else {
            return Ok(self.hopeless("the image or a network of the server is gone"));
        };
        match self.order_if_up(op, at, Order::Create(Box::new(spec))).await? {
            Some(Report::Done { .. }) => {}
            Some(report) => return Ok(self.attempt_of(report)),
            None => return Ok(Attempt::Absent),
        }
        if was != VmState::Stopped {
            return Ok(Attempt::Done(Txn::new()));
        }
        self.plain(op, at, Order::Stop(server.id)).await
    }

    /// Connects the volumes of a server to a host again that cannot be asked to plug them in.
    pub(crate) async fn reconnect(
        &self,
        op: &Operation,
        at: HostId,
    ) -> Result<Attempt, StoreError> {
        let Some(id) = op.kind.instance() else { return Ok(Attempt::Done(Txn::new())) };
        let held: Vec<_> = {
            let view = self.fresh().await?;
            view.volumes_of(id).map(|volume| volume.value.id).collect()
        };
        for volume in held {
            if let Err(error) = self.ports.volumes.connect(volume, at, self.fence).await {
                return Ok(self.volume_failed(&error));
            }
        }
        Ok(Attempt::Done(Txn::new()))
    }

    /// Tries one step of a rebuild.
    pub(crate) async fn attempt_rebuild(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let OpKind::Rebuild { image, .. } = op.kind else {
            return Ok(self.hopeless("not a rebuild"));
        };
        let Some(server) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let Some(host) = server.value.host else {
            return Ok(self.hopeless("the server has no host"));
        };
        match step {
            Step::Strip => {
                let anew = Instance { image, rescue: None, ..server.value.clone() };
                {
                    let mut view = self.fresh().await?;
                    if guest_spec(&view, &anew, host).is_none() {
                        return Ok(self.hopeless("the image or a network of the server is gone"));
                    }
                    if image != server.value.image
                        && let Err(fault) = self.admits_image(&mut view, &anew, host)
                    {
                        return Ok(Attempt::NotDone { fault, retry: false });
                    }
                }
                match self.plain(op, host, Order::Remove(server.value.id)).await? {
                    Attempt::Done(_) => {
                        // An order to remove it that comes late must not hit the new guest.
                        let anew = Versioned { value: anew, revision: server.revision };
                        Ok(Attempt::Done(renew(op, &anew)))
                    }
                    other => Ok(other),
                }
            }
            Step::Recreate => self.spawn_at(op, &server.value, host, server.value.state).await,
            Step::TakeUp => self.take_up(op, host).await,
            _ => {
                let mut next = Instance { fault: None, ..idle(&server.value) };
                if next.state != VmState::Stopped {
                    next.state = VmState::Active;
                }
                next.power = Some(power_of(next.state));
                let mut txn = Txn::new();
                txn.replace(&server, &next);
                Ok(Attempt::Done(txn))
            }
        }
    }

    /// Whether a server may have the image that `anew` names on the host where it is. Its claim is
    /// there already, so that the scheduler is asked only what depends on the image.
    fn admits_image(&self, view: &mut View, anew: &Instance, host: HostId) -> Result<(), Fault> {
        let asked = question(view, anew, &BTreeSet::new(), &self.options.pci_aliases);
        let mut request = asked.map_err(|invalid| self.fault(invalid.to_string()))?;
        let hosts = view.hosts(self.ports.clock.now(), self.options.down_after);
        let Some(row) = hosts.get(host) else {
            return Err(self.fault(format!("host {host} is not known")));
        };
        request.purpose = Purpose::Rebuild;
        let name = Some(row.name.clone());
        request.destination = Some(Destination { host: name, ..Destination::default() });
        let only = HostTable::new([row.clone()]);
        let scheduler = &self.ports.scheduler;
        scheduler.select(&only, &request, self.ports.seed).map(drop).map_err(|refused| {
            let mut fault = self.fault(refused.to_string());
            fault.refusal = Some(scheduler.explain(&only, &request));
            fault
        })
    }

    /// Undoes one step of a rebuild. The old disk does not come back: once it was removed, the
    /// server is left in error with nothing half made, and can be rebuilt again.
    pub(crate) async fn undo_rebuild(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let Some(server) = self.server_of(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let stripped = op
            .journal
            .iter()
            .any(|record| record.step == Step::Strip.name() && record.outcome == StepOutcome::Done);
        match (step, server.value.host) {
            (Step::Recreate, Some(host)) => self.remove_if_up(op, host).await,
            (Step::Strip, _) if stripped => {
                let mut txn = Txn::new();
                let next = Instance { state: VmState::Error, power: None, ..server.value.clone() };
                txn.replace(&server, &next);
                Ok(Attempt::Done(txn))
            }
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }
}
