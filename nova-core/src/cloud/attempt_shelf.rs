//! The steps of shelving and unshelving: a server leaves its host, with its disk in an image, and
//! comes back to whichever host has room.
//!
//! Nothing is lost that the image does not bring back, so that both can be undone up to their last
//! record.

use crate::cloud::attempt::{Attempt, idle};
use crate::cloud::attempt_server::server_id;
use crate::cloud::claiming::unclaim;
use crate::cloud::order::Order;
use crate::cloud::runner::Runner;
use crate::cloud::steps::{FORWARD_ATTEMPTS_MAX, Step};
use crate::domain::{
    AddressState, Attachment, HostId, Image, ImageId, ImageState, Instance, Liveness, OpKind,
    Operation, PowerState, VmState,
};
use crate::store::record::keys;
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// Tries one step of shelving or unshelving.
    pub(crate) async fn attempt_shelf(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let (OpKind::Shelve { image, .. } | OpKind::Unshelve { image, .. }) = op.kind else {
            return Ok(self.hopeless("nothing is shelved or unshelved"));
        };
        let Some(server) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        match (step, server.value.host) {
            (Step::Place, _) => self.place_again(op, &server).await,
            (Step::FinishUnshelve, _) => self.unshelved(&server, image).await,
            (_, None) => Ok(self.hopeless("the server has no host")),
            (Step::Halt, Some(host)) => self.plain(op, host, Order::Stop(server.value.id)).await,
            (Step::LetGo, Some(host)) => self.let_go(op, host, host).await,
            (Step::Offload, Some(host)) => {
                self.plain(op, host, Order::Remove(server.value.id)).await
            }
            (Step::FinishShelve, Some(host)) => self.shelved(&server, host, image).await,
            (Step::Settle, Some(host)) => {
                // One that it was on before, and that does not follow however often it is asked,
                // follows with its agent's next sweep.
                if op.attempts + 1 >= FORWARD_ATTEMPTS_MAX {
                    op.settle = vec![host];
                }
                self.settle_hosts(op).await
            }
            (Step::WireThere, Some(host)) if op.tried.contains(&host) => {
                // Nothing of the guest was ordered there yet.
                self.leave_again(op, &server, host).await
            }
            (Step::WireThere, Some(host)) => {
                let wired = self.wire_there(op, &server, host).await?;
                self.elsewhere_there(op, host, wired).await
            }
            (Step::TakeUp, Some(host)) => self.take_up(op, host).await,
            (Step::LeadFloating, Some(host)) => self.lead_floating(op, host).await,
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }

    /// Undoes one step of shelving or unshelving.
    pub(crate) async fn undo_shelf(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let (OpKind::Shelve { image, .. } | OpKind::Unshelve { image, .. }) = op.kind else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let Some(server) = self.server_of(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let Some(host) = server.value.host else { return Ok(Attempt::Done(Txn::new())) };
        let unshelves = matches!(op.kind, OpKind::Unshelve { .. });
        let gone = self.liveness(host).await?;
        match step {
            Step::Place => self.unplace_again(&server, host).await,
            Step::Spawn => self.remove_surely(op, host).await,
            Step::TakeUp => self.let_go(op, host, host).await,
            Step::LetGo if gone == (Liveness::Down, true) => self.reconnect(op, host).await,
            Step::LetGo => self.take_up(op, host).await,
            // A host that was declared down cannot be asked; its server can be evacuated.
            Step::Offload if gone == (Liveness::Down, true) => Ok(Attempt::Done(Txn::new())),
            Step::Offload if !unshelves => {
                // Whether the guest was removed nobody knows; one that is there is left.
                let shelved = Instance { shelf: Some(image), ..server.value.clone() };
                self.spawn_at(op, &shelved, host, VmState::Stopped).await
            }
            Step::Halt => self.unhalt(op, &server, host, gone.0).await,
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }

    /// Lets the server go on as it did, without the image that was never begun.
    async fn unhalt(
        &self,
        op: &mut Operation,
        server: &Versioned<Instance>,
        host: HostId,
        liveness: Liveness,
    ) -> Result<Attempt, StoreError> {
        match self.uncapture(op).await? {
            Attempt::Done(txn) if txn.writes().is_empty() => {}
            Attempt::Done(txn) => {
                let reason = "the image was removed, the guest waits".to_owned();
                return Ok(Attempt::Again { txn, reason });
            }
            other => return Ok(other),
        }
        match (server.value.state, liveness) {
            (VmState::Active, Liveness::Up) => {
                Ok(self.start_again(op, host, server.value.id).await)
            }
            (VmState::Paused, _) => {
                // What was in its memory is lost.
                let (state, power) = (VmState::Stopped, Some(PowerState::Shutdown));
                let mut txn = Txn::new();
                txn.replace(server, &Instance { state, power, ..server.value.clone() });
                Ok(Attempt::Done(txn))
            }
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }

    /// From here on the server is its image, and its host has everything back. The host's network
    /// follows with its agent's next sweep, or when the server comes back.
    async fn shelved(
        &self,
        server: &Versioned<Instance>,
        host: HostId,
        image: ImageId,
    ) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let Some(saved) = view.images.get(&keys::image(image)) else {
            return Ok(self.hopeless("the image of the disk is gone"));
        };
        let mut txn = Txn::new();
        txn.replace(saved, &Image { state: ImageState::Shelved, ..saved.value.clone() });
        unclaim(&view, &server.value, Some(host), &mut txn);
        let next = Instance {
            state: VmState::ShelvedOffloaded,
            power: None,
            host: None,
            shelf: Some(image),
            fault: None,
            ..idle(&server.value)
        };
        txn.replace(server, &next);
        Ok(Attempt::Done(txn))
    }

    /// Chooses a host for a server that comes back, and claims what it needs there. Its volumes
    /// are that host's from here on.
    async fn place_again(
        &self,
        op: &mut Operation,
        server: &Versioned<Instance>,
    ) -> Result<Attempt, StoreError> {
        let (mut txn, host) = match self.claim(server, op).await? {
            Ok(claimed) => claimed,
            Err(fault) => return Ok(Attempt::NotDone { fault, retry: false }),
        };
        let view = self.fresh().await?;
        let instance = server.value.id;
        for volume in view.volumes_of(instance) {
            let mut next = volume.value.clone();
            next.attachment = Some(Attachment { instance, host });
            txn.replace(volume, &next);
        }
        txn.replace(server, &Instance { host: Some(host), ..server.value.clone() });
        // A host that it was on before may still answer for its floating IPs.
        let mut old: Vec<_> = view
            .floating_ips
            .values()
            .filter_map(|floating| {
                let AddressState::Owned(owner) = &floating.value.state else { return None };
                let to = owner.binding.as_ref()?;
                (to.instance == instance && to.host != host).then_some(to.host)
            })
            .collect();
        old.dedup();
        op.settle = old.into_iter().chain([host]).collect();
        Ok(Attempt::Done(txn))
    }

    async fn unplace_again(
        &self,
        server: &Versioned<Instance>,
        host: HostId,
    ) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let mut txn = Txn::new();
        unclaim(&view, &server.value, Some(host), &mut txn);
        txn.replace(server, &Instance { host: None, power: None, ..server.value.clone() });
        Ok(Attempt::Done(txn))
    }

    /// The server is its guest again, and its image nobody's.
    async fn unshelved(
        &self,
        server: &Versioned<Instance>,
        image: ImageId,
    ) -> Result<Attempt, StoreError> {
        let mut txn = Txn::new();
        if let Some(shelf) = self.fresh().await?.images.get(&keys::image(image)) {
            txn.replace(shelf, &Image { state: ImageState::Discarded, ..shelf.value.clone() });
        }
        let next = Instance {
            state: VmState::Active,
            power: Some(PowerState::Running),
            launched_at: Some(self.ports.clock.now()),
            shelf: None,
            fault: None,
            ..idle(&server.value)
        };
        txn.replace(server, &next);
        Ok(Attempt::Done(txn))
    }

    /// Makes the guest on the host that the server comes back to, or leaves that host.
    pub(crate) async fn respawn(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(server) = self.server(server_id(op)).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let Some(host) = server.value.host else {
            return Ok(self.hopeless("the server has no host"));
        };
        if !op.tried.contains(&host) {
            return self.spawn(op).await;
        }
        match self.remove_surely(op, host).await? {
            Attempt::Done(_) => {}
            other => return Ok(other),
        }
        self.leave_again(op, &server, host).await
    }

    /// Gives back what a server that comes back has of a host, and goes back to placing.
    async fn leave_again(
        &self,
        op: &mut Operation,
        server: &Versioned<Instance>,
        host: HostId,
    ) -> Result<Attempt, StoreError> {
        let txn = match self.unplace_again(server, host).await? {
            Attempt::Done(txn) => txn,
            other => return Ok(other),
        };
        op.settle.clear();
        op.step = 0;
        let reason = crate::cloud::attempt_elsewhere::why_elsewhere(op);
        let reason = reason.unwrap_or_else(|| format!("host {host} was tried"));
        Ok(Attempt::Again { txn, reason })
    }
}
