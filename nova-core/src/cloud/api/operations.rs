//! Operations that call for a person: what an operator may do about them.

use std::collections::BTreeSet;

use crate::cloud::api::Plan;
use crate::cloud::api::admin::Admin;
use crate::cloud::api::views::Accepted;
use crate::cloud::attempt::idle;
use crate::cloud::attempt_image::late;
use crate::cloud::claiming::unclaim;
use crate::cloud::error::ApiError;
use crate::cloud::linger::{is_lost, linger, rely_on};
use crate::cloud::view::View;
use crate::domain::{
    AddressState, Attachment, Fault, HostId, Image, ImageState, Instance, OpId, OpKind, OpState,
    Operation, RequestId, StepOutcome, StepRecord, TaskState, VmState, Volume, VolumeId,
    VolumeState,
};
use crate::port::VolumeFacts;
use crate::store::record::{OpenOperation, Record as _, keys};
use crate::store::{StoreExt as _, Txn, Versioned};

impl Admin {
    /// The operations that neither go on nor back by themselves, oldest first. They are kept until
    /// somebody [retries](Self::retry_operation) or [abandons](Self::abandon_operation) them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn operations_needing_operator(&self) -> Result<Vec<Operation>, ApiError> {
        let all = self.door.ports.store.read_all::<Operation>(&Operation::all()).await?;
        let waits = |op: &Operation| matches!(op.state, OpState::NeedsOperator(_));
        let mut waiting: Vec<Operation> =
            all.into_iter().map(|op| op.value).filter(waits).collect();
        waiting.sort_by_key(|op| (op.accepted_at, op.id));
        Ok(waiting)
    }

    /// Lets an operation that called for a person go on where it stopped, forward or back, with
    /// all its attempts before it.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::OperationState`] unless it waits for a person, and for
    /// one about a floating IP that a later one has led elsewhere since: that has the last word.
    pub async fn retry_operation(
        &self,
        request: RequestId,
        id: OpId,
    ) -> Result<Accepted<OpId>, ApiError> {
        accept!(self, request, "retry operation", &id, {
            let (op, fault) = self.waiting(id, "retry").await?;
            let mut next = op.value.clone();
            next.state = match next.was_going_back() {
                true => OpState::Undoing(fault),
                false => OpState::Running,
            };
            (next.attempts, next.ended_at) = (0, None);
            self.decide(&mut next, "operator: retry");
            let mut txn = Txn::new();
            self.rely_on_floating(&op.value, &mut txn).await?;
            txn.replace(&op, &next).create(&OpenOperation { operation: id });
            Ok(Plan { answer: Accepted { id, operation: id }, txn, wake: Some(id) })
        })
    }

    /// Gives up an operation that called for a person. It ends
    /// [`Failed`](OpState::Failed), with its fault and that it was abandoned.
    ///
    /// Its server goes to [`VmState::Error`] and can be deleted, rebuilt, rebooted by force or
    /// evacuated; it stays on the host that its record names, with its addresses and its claim
    /// there. One that was or may be rescued boots from its own disk as soon as its host's agent
    /// sees that. What is left at another end of a move is removed by that host's agent, and its
    /// claim there is given back when the agent has seen that it is gone, or when an operator says
    /// that the host is down. A server that is shelved stays so. A volume that was being made or
    /// destroyed goes to [`VolumeState::Error`] and can be deleted; one that was being attached or
    /// detached stays with its server until that is deleted or the volume is detached; one that a
    /// server was to boot from stays with it, or is free where no host was chosen yet. An image of
    /// a server's disk is kept if it is whole.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::OperationState`] unless it waits for a person;
    /// [`ApiError::StillUsed`] names the other end of a move that may still run the server, which
    /// was being made anew there, or is connected to a volume of it: an operation that is retried
    /// lets go of both as soon as that host answers or was declared down.
    pub async fn abandon_operation(&self, request: RequestId, id: OpId) -> Result<(), ApiError> {
        accept!(self, request, "abandon operation", &id, {
            let (op, fault) = self.waiting(id, "abandon").await?;
            let message = format!("abandoned by an operator: {}", fault.message);
            let fault = Fault { message, ..fault };
            let mut next = op.value.clone();
            next.state = OpState::Failed(fault.clone());
            next.ended_at = Some(self.door.now());
            self.decide(&mut next, "operator: abandon");
            let mut txn = Txn::new();
            txn.replace(&op, &next);
            let connected = self.door.ports.volumes.list().await;
            let connected = connected.map_err(|source| ApiError::Volume { source })?;
            let view = self.door.fresh().await?;
            let bound = !matches!(op.value.kind, OpKind::AssociateFloating { .. });
            let server = op.value.kind.instance().filter(|_| bound);
            let server = server.and_then(|server| view.instances.get(&keys::instance(server)));
            if let Some(server) = server.filter(|server| server.value.operation == Some(id)) {
                if let Some((host, what)) = still_used(&view, &server.value, &connected) {
                    let host = view
                        .hosts
                        .get(&keys::host(host))
                        .map_or_else(|| host.to_string(), |record| record.value.name.to_string());
                    return Err(ApiError::StillUsed { operation: id.to_string(), host, what });
                }
                abandon_server(&view, server, fault, &mut txn);
            }
            for volume in view.volumes.values().filter(|v| v.value.operation == Some(id)) {
                txn.replace(volume, &abandoned_volume(&volume.value));
            }
            Ok(Plan::now((), txn))
        })
    }

    /// Puts into `txn` that the floating IP of an operation still waits for it, if it has one.
    async fn rely_on_floating(&self, op: &Operation, txn: &mut Txn) -> Result<(), ApiError> {
        let (OpKind::AssociateFloating { address, .. } | OpKind::DisassociateFloating { address }) =
            op.kind
        else {
            return Ok(());
        };
        let view = self.door.fresh().await?;
        match view.floating_ips.get(&keys::floating_ip(address)) {
            Some(known)
                if matches!(&known.value.state, AddressState::Owned(owner)
                    if owner.operation == Some(op.id)) =>
            {
                txn.unchanged(known);
                Ok(())
            }
            _ => {
                let (id, state) = (op.id.to_string(), "followed by a later one");
                Err(ApiError::OperationState { id, action: "retry", state })
            }
        }
    }

    /// An operation that waits for a person, and why.
    async fn waiting(
        &self,
        id: OpId,
        action: &'static str,
    ) -> Result<(Versioned<Operation>, Fault), ApiError> {
        let op = self.door.ports.store.read::<Operation>(&keys::operation(id)).await?;
        let op = op.ok_or_else(|| ApiError::not_found("operation", id))?;
        match &op.value.state {
            OpState::NeedsOperator(fault) => {
                let fault = fault.clone();
                Ok((op, fault))
            }
            state => {
                Err(ApiError::OperationState { id: id.to_string(), action, state: state.word() })
            }
        }
    }

    fn decide(&self, op: &mut Operation, step: &str) {
        let (step, at) = (step.to_owned(), self.door.now());
        op.journal.push(StepRecord { step, outcome: StepOutcome::Done, at });
    }
}

/// Another end of a server's move that nobody may forget before it has let go, and what it uses.
fn still_used(view: &View, server: &Instance, volumes: &[VolumeFacts]) -> Option<(HostId, String)> {
    let lost = |host: HostId| is_lost(view.hosts.get(&keys::host(host)));
    let ends = server.hosts().into_iter().filter(|end| Some(*end) != server.host);
    ends.filter_map(|end| {
        let mine: Vec<VolumeId> = view.volumes_of(server.id).map(|v| v.value.id).collect();
        let held = volumes
            .iter()
            .find(|facts| mine.contains(&facts.volume) && facts.hosts().any(|host| host == end));
        if let Some(held) = held {
            return Some((end, format!("volume {}", held.volume)));
        }
        // Where nothing can be made anew, the guest at the other end does not run.
        let anew = server.host.is_some_and(lost) && !lost(end);
        anew.then(|| (end, format!("server {}", server.id)))
    })
    .next()
}

/// Nothing is being done to the server any more, whatever state it is really in.
fn abandon_server(view: &View, server: &Versioned<Instance>, fault: Fault, txn: &mut Txn) {
    let old = &server.value;
    // Orders that are still under way must not arrive any more.
    let mut next = Instance { generation: old.generation + 1, ..idle(old) };
    next.fault = Some(fault);
    let shelved = old.state == VmState::ShelvedOffloaded && old.host.is_none();
    if !shelved {
        (next.state, next.shelf, next.migration) = (VmState::Error, None, None);
        // Its agent boots it from its own disk when it sees this.
        let rescuing = old.lent.filter(|_| old.task == Some(TaskState::Rescuing));
        next.rescue = rescuing.or(old.rescue);
        for end in old.hosts().into_iter().filter(|end| Some(*end) != old.host) {
            let host = view.hosts.get(&keys::host(end));
            if is_lost(host) {
                rely_on(host, end, txn);
                unclaim(view, old, Some(end), txn);
            } else {
                linger(view, old.id, &BTreeSet::from([end]), txn);
            }
        }
    }
    for volume in view.volumes_of(old.id).filter(|volume| volume.value.operation.is_none()) {
        // One that was on its way is nowhere yet, and stays with its server.
        if let (Some(at), Some(host)) = (volume.value.attachment, old.host)
            && at.host != host
        {
            let attachment = Some(Attachment { host, ..at });
            txn.replace(volume, &Volume { attachment, ..volume.value.clone() });
        }
    }
    let images = view.images.values().filter(|image| image.value.server == Some(old.id));
    for image in images {
        let state = match image.value.state {
            ImageState::Saving if !image.value.is_whole() => {
                late(view, &image.value, old.host, txn);
                ImageState::Discarded
            }
            // The disk may be nowhere else.
            ImageState::Saving => ImageState::Active,
            ImageState::Shelved if !shelved => ImageState::Active,
            _ => continue,
        };
        txn.replace(image, &Image { state, ..image.value.clone() });
    }
    txn.replace(server, &next);
}

fn abandoned_volume(volume: &Volume) -> Volume {
    if volume.root_of.is_some() && volume.attachment.is_none() {
        // No host was chosen for the server that was to boot from it.
        return volume.freed();
    }
    let mut next = Volume { operation: None, ..volume.clone() };
    next.state = match (volume.state, volume.attachment) {
        // The host may still have it: free it is only when the host has let go.
        (VolumeState::Attaching | VolumeState::Detaching, Some(_)) => VolumeState::InUse,
        _ => {
            next.attachment = None;
            VolumeState::Error
        }
    };
    next
}
