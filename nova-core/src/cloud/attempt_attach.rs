//! The steps of volumes and floating IPs.

use std::net::IpAddr;

use crate::class::Class;
use crate::cloud::attempt::Attempt;
use crate::cloud::error::chain;
use crate::cloud::order::{Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::steps::FORWARD_ATTEMPTS_MAX;
use crate::cloud::view::View;
use crate::domain::{
    AddressState, FloatingBinding, FloatingIp, FloatingOwner, HostId, InstanceId, Liveness, OpKind,
    Operation, VolumeId,
};
use crate::port::{FloatingIps, NetError, VolumeError, VolumeLink};
use crate::store::record::keys;
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// Connects the volume to the server's host.
    pub(crate) async fn connect(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some((volume, _, host)) = self.attachment(op).await? else {
            return Ok(self.hopeless("the volume is not on its way to a server"));
        };
        Ok(match self.ports.volumes.connect(volume, host, self.fence).await {
            Ok(_) => Attempt::Done(Txn::new()),
            Err(error) => self.volume_failed(&error),
        })
    }

    /// Plugs the volume into the guest.
    pub(crate) async fn plug(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some((volume, instance, host)) = self.attachment(op).await? else {
            return Ok(self.hopeless("the volume is not on its way to a server"));
        };
        // Connecting again gives the same connection: the way to ask for it.
        let connection = match self.ports.volumes.connect(volume, host, self.fence).await {
            Ok(connection) => connection,
            Err(error) => return Ok(self.volume_failed(&error)),
        };
        if op.tried.contains(&host) {
            return self.leave(op, host).await;
        }
        let link = VolumeLink { volume, connection };
        let report = self.order_if_up(op, host, Order::Plug { instance, link }).await?;
        if matches!(op.kind, OpKind::CreateServer { .. }) {
            return self.elsewhere(op, host, report).await;
        }
        Ok(report.map_or(Attempt::Absent, |report| self.attempt_of(report)))
    }

    /// Pulls the volume out of the guest. Only the host's own word counts, or an operator's that
    /// the host is down.
    pub(crate) async fn unplug(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some((volume, instance, host)) = self.attachment(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let report = match self.liveness(host).await? {
            (Liveness::Down, true) => return Ok(Attempt::Done(Txn::new())),
            (Liveness::Down, false) => Report::NotDone {
                reason: format!("host {host} is silent and may still use volume {volume}"),
                retry: true,
            },
            (Liveness::Up, _) => self.order(op, host, Order::Unplug { instance, volume }).await,
        };
        Ok(self.attempt_of(report))
    }

    /// Removes a new guest from the host that was to plug its root disk in. Only the host's own
    /// word counts, or an operator's that the host is down.
    pub(crate) async fn remove_first(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        match self.attachment(op).await? {
            Some((_, _, host)) => self.remove_surely(op, host).await,
            None => Ok(Attempt::Done(Txn::new())),
        }
    }

    /// Takes the volume from the host.
    pub(crate) async fn disconnect(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some((volume, _, host)) = self.attachment(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        Ok(match self.ports.volumes.disconnect(volume, host, self.fence).await {
            Ok(()) => Attempt::Done(Txn::new()),
            Err(error) => self.volume_failed(&error),
        })
    }

    /// Makes the volume.
    pub(crate) async fn make_volume(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(id) = volume_of(op) else { return Ok(self.hopeless("no volume")) };
        let record = self.fresh().await?.volumes.get(&keys::volume(id)).cloned();
        let Some(record) = record else { return Ok(self.hopeless("the volume is gone")) };
        let (volumes, images) = (&self.ports.volumes, &*self.ports.images);
        let size = record.value.size;
        let made = match (&record.value.image, volumes.filling()) {
            (None, _) => volumes.create(id, size, self.fence).await,
            (Some(image), Some(filling)) => {
                // It takes as long as its bytes do, which holds up nobody else.
                let work = filling.fill(id, size, image, images, self.fence);
                self.place.without(work).await
            }
            (Some(_), None) => {
                return Ok(self.hopeless(format!("{volumes} cannot be made of images")));
            }
        };
        Ok(match made {
            Ok(()) => Attempt::Done(Txn::new()),
            Err(error) => self.volume_failed(&error),
        })
    }

    /// Destroys the volume.
    pub(crate) async fn destroy_volume(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(id) = volume_of(op) else { return Ok(self.hopeless("no volume")) };
        Ok(match self.ports.volumes.remove(id, self.fence).await {
            Ok(()) => Attempt::Done(Txn::new()),
            Err(error) => self.volume_failed(&error),
        })
    }

    /// Leads the floating IP to the server. Its old host stops answering before the new begins.
    pub(crate) async fn bind(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let OpKind::AssociateFloating { address, instance } = op.kind else {
            return Ok(self.hopeless("no floating IP"));
        };
        let (binding, server, known, old) = {
            let view = self.fresh().await?;
            let server = view.instances.get(&keys::instance(instance)).cloned();
            let Some((server, host)) = server.and_then(|server| {
                let host = server.value.host?;
                Some((server, host))
            }) else {
                return Ok(self.hopeless("the server has no host"));
            };
            let Some(port) = view.ports_of(instance).next() else {
                return Ok(self.hopeless("the server has no address"));
            };
            let Some((known, owner)) = own_floating(&view, op, address) else {
                return Ok(self.hopeless("the floating IP is not the project's any more"));
            };
            let old = owner.binding.as_ref().map(|binding| binding.host);
            op.led = owner.binding.clone();
            let binding = FloatingBinding { instance, fixed: port.address, host };
            (binding, server, known.clone(), old)
        };
        let host = binding.host;
        let Some(floating) = self.floating() else {
            return Ok(self.hopeless("these networks have no floating IPs"));
        };
        Ok(match floating.associate(address, binding).await {
            Ok(mut draft) => {
                // A server that moves away meanwhile would leave the address behind.
                draft.txn.unchanged(&server).unchanged(&known);
                op.settle = old.into_iter().filter(|old| *old != host).chain([host]).collect();
                Attempt::Done(draft.txn)
            }
            Err(error) => self.network_failed(&error),
        })
    }

    /// Leads the floating IP back to where it led before, if that is still there.
    pub(crate) async fn rebind(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let (OpKind::AssociateFloating { address, instance }, Some(before)) =
            (&op.kind, op.led.clone())
        else {
            return self.unbind(op).await;
        };
        let (address, instance) = (*address, *instance);
        let found = {
            let view = self.fresh().await?;
            let Some((known, owner)) = own_floating(&view, op, address) else {
                return Ok(Attempt::Done(Txn::new()));
            };
            let now = owner.binding.as_ref();
            let Some(now) = now.filter(|now| now.instance == instance) else {
                // It leads to somebody else by now, or never led there: nothing to take back.
                return Ok(Attempt::Done(Txn::new()));
            };
            if before.instance == instance {
                return Ok(Attempt::Done(Txn::new()));
            }
            let there = view.ports_of(before.instance).any(|port| port.address == before.fixed);
            let server = view.instances.get(&keys::instance(before.instance));
            let server = server.filter(|_| there).and_then(|server| {
                let host = server.value.host?;
                Some((server.clone(), FloatingBinding { host, ..before }))
            });
            server.map(|(server, binding)| (server, binding, known.clone(), now.host))
        };
        let Some((server, binding, known, now)) = found else { return self.unbind(op).await };
        let Some(floating) = self.floating() else {
            return Ok(self.hopeless("these networks have no floating IPs"));
        };
        let host = binding.host;
        Ok(match floating.associate(address, binding).await {
            Ok(mut draft) => {
                draft.txn.unchanged(&server).unchanged(&known);
                op.settle = vec![now, host];
                Attempt::Done(draft.txn)
            }
            Err(error) => self.network_failed(&error),
        })
    }

    /// Lets the hosts follow a floating IP that was led back. One that does not, however often it
    /// was asked, follows with its agent's next sweep. None when there is nothing to wait for.
    pub(crate) async fn settle_back(&self, op: &Operation) -> Result<Option<Attempt>, StoreError> {
        if !matches!(op.kind, OpKind::AssociateFloating { .. }) {
            return Ok(None);
        }
        let last = op.attempts + 1 >= FORWARD_ATTEMPTS_MAX;
        for host in &op.settle {
            if self.liveness(*host).await?.0 == Liveness::Down {
                continue;
            }
            let report = self.order(op, *host, Order::Converge).await;
            if !last && !matches!(report, Report::Done { .. }) {
                return Ok(Some(self.attempt_of(report)));
            }
        }
        Ok(None)
    }

    /// Puts into `txn` that the floating IP is not this operation's any more.
    pub(crate) fn let_floating_go(view: &View, op: &Operation, txn: &mut Txn) {
        let (OpKind::AssociateFloating { address, .. } | OpKind::DisassociateFloating { address }) =
            op.kind
        else {
            return;
        };
        let Some((known, owner)) = own_floating(view, op, address) else { return };
        // A later one that waits for this one keeps it.
        if owner.operation == Some(op.id) {
            let state = AddressState::Owned(FloatingOwner { operation: None, ..owner.clone() });
            txn.replace(known, &FloatingIp { state, ..known.value.clone() });
        }
    }

    /// Leads the floating IP nowhere.
    pub(crate) async fn unbind(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let (OpKind::AssociateFloating { address, .. } | OpKind::DisassociateFloating { address }) =
            op.kind
        else {
            return Ok(self.hopeless("no floating IP"));
        };
        let (known, old) = {
            let view = self.fresh().await?;
            // An address that somebody else has by now is left alone.
            let Some((known, owner)) = own_floating(&view, op, address) else {
                return Ok(Attempt::Done(Txn::new()));
            };
            let Some(binding) = &owner.binding else { return Ok(Attempt::Done(Txn::new())) };
            if op.kind.instance().is_some_and(|instance| instance != binding.instance) {
                // This operation never led it there, so it has nothing to take back.
                return Ok(Attempt::Done(Txn::new()));
            }
            (known.clone(), binding.host)
        };
        let Some(floating) = self.floating() else {
            return Ok(self.hopeless("these networks have no floating IPs"));
        };
        Ok(match floating.disassociate(address).await {
            Ok(mut draft) => {
                draft.txn.unchanged(&known);
                op.settle = vec![old];
                Attempt::Done(draft.txn)
            }
            // Nobody holds it, so it leads nowhere.
            Err(NetError::NoSuchFloatingIp { .. }) => Attempt::Done(Txn::new()),
            Err(error) => self.network_failed(&error),
        })
    }

    fn floating(&self) -> Option<&dyn FloatingIps> {
        self.ports.network.floating_ips()
    }

    /// The volume of an operation with the server and the host it is bound to.
    async fn attachment(
        &self,
        op: &Operation,
    ) -> Result<Option<(VolumeId, InstanceId, HostId)>, StoreError> {
        let Some(id) = volume_of(op) else { return Ok(None) };
        let view = self.fresh().await?;
        let attachment = view.volumes.get(&keys::volume(id)).and_then(|v| v.value.attachment);
        Ok(attachment.map(|attachment| (id, attachment.instance, attachment.host)))
    }

    /// What a failure of the volume driver means for the step. One that was overtaken is tried
    /// again: where somebody else went on with the operation, its record conflicts.
    pub(crate) fn volume_failed(&self, error: &VolumeError) -> Attempt {
        let retry = matches!(error.class(), Class::Retry | Class::Conflict);
        Attempt::NotDone { fault: self.fault(format!("volume: {}", chain(error))), retry }
    }
}

/// A floating IP that the operation's project holds, with who holds it.
fn own_floating<'v>(
    view: &'v View,
    op: &Operation,
    address: IpAddr,
) -> Option<(&'v Versioned<FloatingIp>, &'v FloatingOwner)> {
    let known = view.floating_ips.get(&keys::floating_ip(address))?;
    match &known.value.state {
        AddressState::Owned(owner) if Some(&owner.project) == op.project.as_ref() => {
            Some((known, owner))
        }
        _ => None,
    }
}

/// The volume of an operation that gives one, takes one, makes one or boots from one.
pub(crate) fn volume_of(op: &Operation) -> Option<VolumeId> {
    match op.kind {
        OpKind::CreateServer { root, .. } => root,
        OpKind::CreateVolume { volume }
        | OpKind::DeleteVolume { volume }
        | OpKind::AttachVolume { volume, .. }
        | OpKind::DetachVolume { volume, .. } => Some(volume),
        _ => None,
    }
}
