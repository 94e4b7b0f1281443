//! The steps of servers: placing, starting, powering, removing.

use std::collections::BTreeSet;

use crate::class::Class;
use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_image::unfinished_images;
use crate::cloud::claiming::{unclaim, unclaim_one};
use crate::cloud::error::chain;
use crate::cloud::order::{Order, Report};
use crate::cloud::question::image_of;
use crate::cloud::runner::Runner;
use crate::cloud::view::View;
use crate::domain::{
    Action, Attachment, FailedCheck, HostId, Instance, Liveness, OpKind, Operation, TaskState,
    VmState, Volume,
};
use crate::plant::{Bug, planted};
use crate::port::{GuestSpec, NetError, Nic, PortRequest};
use crate::store::record::{Ledger, keys};
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// Chooses a host and claims everything there in one transaction.
    pub(crate) async fn place(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let OpKind::CreateServer { instance: id, root } = op.kind else {
            return Ok(self.hopeless("only a new server is placed"));
        };
        let Some(instance) = self.server(id).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let (mut txn, host) = match self.claim(&instance, op).await? {
            Ok(claimed) => claimed,
            Err(fault) => return Ok(Attempt::NotDone { fault, retry: false }),
        };
        let Some(instance) = self.server(id).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let request = PortRequest {
            instance: id,
            project: instance.value.project.clone(),
            networks: instance.value.networks.clone(),
            security_groups: instance.value.security_groups.clone(),
            host,
        };
        match self.ports.network.reserve(&request).await {
            Ok(ports) => txn.merge(ports.txn),
            Err(error) => return Ok(self.network_failed(&error)),
        };
        let next = Instance {
            host: Some(host),
            task: Some(TaskState::Spawning),
            ..instance.value.clone()
        };
        txn.replace(&instance, &next);
        if let Some(root) = root {
            let Some(volume) = self.fresh().await?.volumes.get(&keys::volume(root)).cloned() else {
                return Ok(self.hopeless("the volume is gone"));
            };
            let attachment = Some(Attachment { instance: id, host });
            txn.replace(&volume, &Volume { attachment, ..volume.value.clone() });
        }
        op.settle = vec![host];
        // Hosts that were tried have begun to answer for the server's floating IPs.
        op.settle.extend(op.tried.iter().copied());
        Ok(Attempt::Done(txn))
    }

    /// Gives back what [`place`](Self::place) took.
    pub(crate) async fn unplace(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(instance) = self.server_of(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let (mut txn, silent) = match self.give_back(op).await? {
            Ok(given) => given,
            Err(not_yet) => return Ok(not_yet),
        };
        let view = self.fresh().await?;
        let host = instance.value.host.filter(|host| !silent.contains(host));
        unclaim(&view, &instance.value, host, &mut txn);
        if planted(Bug::KeepAddresses) {
            txn = Txn::new();
            unclaim(&view, &instance.value, instance.value.host, &mut txn);
        }
        let next = Instance { host: None, power: None, ..instance.value.clone() };
        txn.replace(&instance, &next);
        Ok(Attempt::Done(txn))
    }

    /// Lets the network of the chosen host follow the claim, before the guest needs it.
    pub(crate) async fn wire(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        match op.settle.first().copied() {
            Some(host) if op.tried.contains(&host) => self.leave(op, host).await,
            Some(host) => {
                if let Some(not_yet) = self.settle_tried(op).await? {
                    return Ok(not_yet);
                }
                let report = self.order_if_up(op, host, Order::Converge).await?;
                self.elsewhere(op, host, report).await
            }
            None => Ok(self.hopeless("the server has no host")),
        }
    }

    /// Lets the hosts that were tried before follow the records, if they may answer for a floating
    /// IP of the server. One that is down follows when it comes back.
    async fn settle_tried(&self, op: &Operation) -> Result<Option<Attempt>, StoreError> {
        let id = server_id(op);
        if op.tried.is_empty() || self.fresh().await?.led_to(id).next().is_none() {
            return Ok(None);
        }
        for host in op.settle.iter().skip(1) {
            if let (Liveness::Up, _) = self.liveness(*host).await? {
                let report = self.order(op, *host, Order::Converge).await;
                if !matches!(report, Report::Done { .. }) {
                    return Ok(Some(self.attempt_of(report)));
                }
            }
        }
        Ok(None)
    }

    /// Makes the guest and starts it.
    pub(crate) async fn spawn(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(instance) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let Some(host) = instance.value.host else {
            return Ok(self.hopeless("the server has no host"));
        };
        if op.tried.contains(&host) {
            return self.leave(op, host).await;
        }
        let spec = guest_spec(&*self.fresh().await?, &instance.value, host);
        let Some(spec) = spec else {
            return Ok(self.hopeless("the image or a network of the server is gone"));
        };
        let report = self.order_if_up(op, host, Order::Create(Box::new(spec))).await?;
        self.elsewhere(op, host, report).await
    }

    /// Starts a guest that was made without its root disk, which it has by now.
    pub(crate) async fn boot_up(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(instance) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let Some(host) = instance.value.host else {
            return Ok(self.hopeless("the server has no host"));
        };
        if op.tried.contains(&host) {
            return self.leave(op, host).await;
        }
        let report = self.order_if_up(op, host, Order::Start(instance.value.id)).await?;
        self.elsewhere(op, host, report).await
    }

    /// Starts, stops, reboots, pauses, unpauses, suspends or resumes.
    pub(crate) async fn power(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let OpKind::Power { instance: id, action } = op.kind else {
            return Ok(self.hopeless("not a power operation"));
        };
        let Some(instance) = self.server(id).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let Some(host) = instance.value.host else {
            return Ok(self.hopeless("the server has no host"));
        };
        let order = match action {
            Action::Start => Order::Start(id),
            Action::Stop => Order::Stop(id),
            Action::Pause => Order::Pause(id),
            Action::Unpause => Order::Unpause(id),
            Action::Suspend => Order::Suspend(id),
            Action::Resume => Order::Resume(id),
            Action::Reboot(how) => Order::Reboot { instance: id, how, boot: op.generation },
            _ => return Ok(self.hopeless("not a power operation")),
        };
        // A host that was declared down could not be asked to plug in what it was given back.
        let takes_up = matches!(action, Action::Start | Action::Reboot(_));
        // Nothing is plugged into one that is suspended.
        let suspended = instance.value.state == VmState::Suspended;
        if takes_up && !suspended {
            match self.take_up(op, host).await? {
                Attempt::Done(_) => {}
                other => return Ok(other),
            }
        }
        match self.plain(op, host, order).await? {
            Attempt::Done(_) if takes_up && suspended => self.take_up(op, host).await,
            other => Ok(other),
        }
    }

    /// Removes the guest. A host that is down is not waited for: when it comes back, its agent
    /// finds a guest without record and removes it before it takes new ones.
    pub(crate) async fn remove_guest(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let instance = self.server_of(op).await?;
        op.unheard.clear();
        // A server that moves may have a guest at either end.
        for host in instance.map(|instance| instance.value.hosts()).unwrap_or_default() {
            // What silence means, and an operator's word, is decided when everything is given back.
            if self.liveness(host).await?.0 == Liveness::Down {
                op.unheard.insert(host);
                continue;
            }
            let report = self.order(op, host, Order::Remove(server_id(op))).await;
            if !matches!(report, Report::Done { .. }) {
                return Ok(self.attempt_of(report));
            }
        }
        Ok(Attempt::Done(Txn::new()))
    }

    /// Takes every volume of the server from its host. A volume is free only when its host has
    /// let go, or an operator has said that the host is down for good.
    pub(crate) async fn free_volumes(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let id = server_id(op);
        let (mut held, moves, offloaded): (Vec<_>, bool, bool) = {
            let view = self.fresh().await?;
            let server = view.instances.get(&keys::instance(id)).map(|server| &server.value);
            let held = view.volumes_of(id);
            let held = held.filter_map(|v| v.value.attachment.map(|a| (v.value.id, a.host)));
            let moves = server.is_some_and(|server| server.migration.is_some());
            (held.collect(), moves, server.is_some_and(|server| server.host.is_none()))
        };
        if moves && !held.is_empty() {
            // In the middle of a live migration a second host has them too.
            let known = match self.ports.volumes.list().await {
                Ok(known) => known,
                Err(error) => return Ok(self.volume_failed(&error)),
            };
            let mine = known.iter().filter(|facts| held.iter().any(|(v, _)| *v == facts.volume));
            let more: Vec<_> =
                mine.flat_map(|facts| facts.hosts().map(|host| (facts.volume, host))).collect();
            held.extend(more);
            held.sort_unstable();
            held.dedup();
        }
        for (volume, host) in held {
            match self.liveness(host).await? {
                // A server that was shelved has no host, and the last one let go of its volumes.
                _ if offloaded => {}
                _ if planted(Bug::UnpluggedUnasked) => {}
                (Liveness::Down, true) => {}
                (Liveness::Down, false) => {
                    let message =
                        format!("host {host} is silent and may still use volume {volume}");
                    return Ok(Attempt::NotDone { fault: self.fault(message), retry: true });
                }
                // A host that was down when the guest was to be removed may be back by now, and
                // the guest with it.
                (Liveness::Up, _) => {
                    let report = self.order(op, host, Order::Remove(id)).await;
                    if !matches!(report, Report::Done { .. }) {
                        return Ok(self.attempt_of(report));
                    }
                }
            }
            if planted(Bug::StayConnected) {
                continue;
            }
            if let Err(error) = self.ports.volumes.disconnect(volume, host, self.fence).await {
                let fault = self.fault(chain(&error));
                return Ok(Attempt::NotDone { fault, retry: true });
            }
        }
        Ok(Attempt::Done(Txn::new()))
    }

    /// Forgets the server and everything it held, in one transaction.
    pub(crate) async fn release(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let id = server_id(op);
        let unfinished: Vec<_> = unfinished_images(&*self.fresh().await?, id).cloned().collect();
        let host = self.server_of(op).await?.and_then(|server| server.value.host);
        let images = match self.drop_images(&unfinished, host).await? {
            Attempt::Done(txn) => txn,
            not_yet => return Ok(not_yet),
        };
        let (mut txn, silent) = match self.give_back(op).await? {
            Ok(given) => given,
            Err(not_yet) => return Ok(not_yet),
        };
        let view = self.fresh().await?;
        let Some(instance) = view.instances.get(&keys::instance(id)) else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let hosts = instance.value.hosts();
        let heard = hosts.iter().filter(|host| !silent.contains(host));
        for host in heard.filter(|_| !planted(Bug::KeepClaim)) {
            unclaim_one(&view, &instance.value, *host, &mut txn);
        }
        let project = &instance.value.project;
        let ledger = Ledger::for_project(project.clone());
        txn.touch(view.ledger(&keys::project_ledger(project)), &ledger);
        if let Some(group) = instance.value.group {
            txn.touch(view.ledger(&keys::group_ledger(group)), &Ledger::for_group(group));
        }
        for volume in view.volumes_of(id) {
            txn.replace(volume, &volume.value.freed());
        }
        txn.merge(images);
        txn.remove(instance);
        op.settle = hosts;
        Ok(Attempt::Done(txn))
    }

    /// Lets the hosts' networks follow the records, in order. A host that is down follows when
    /// it comes back.
    pub(crate) async fn settle_hosts(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        for host in op.settle.clone() {
            if self.liveness(host).await?.0 == Liveness::Down {
                continue;
            }
            let report = self.order(op, host, Order::Converge).await;
            if !matches!(report, Report::Done { .. }) {
                return Ok(self.attempt_of(report));
            }
        }
        let mut txn = Txn::new();
        Self::let_floating_go(&*self.fresh().await?, op, &mut txn);
        Ok(Attempt::Done(txn))
    }

    /// Finds the hosts that a change of security groups concerns: all that have servers of the
    /// project, since rules name groups of the same project only.
    pub(crate) async fn find_hosts(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let of_project =
            view.instances.values().filter(|i| Some(&i.value.project) == op.project.as_ref());
        let hosts: BTreeSet<HostId> = of_project.flat_map(|i| i.value.hosts()).collect();
        op.settle = hosts.into_iter().collect();
        Ok(Attempt::Done(Txn::new()))
    }

    /// The server that an operation is about, if it is still there.
    pub(crate) async fn server_of(
        &self,
        op: &Operation,
    ) -> Result<Option<Versioned<Instance>>, StoreError> {
        self.server(server_id(op)).await
    }

    /// What a refusal or failure of the network manager means for the step.
    pub(crate) fn network_failed(&self, error: &NetError) -> Attempt {
        let retry = matches!(error.class(), Class::Retry | Class::Conflict);
        let mut fault = self.fault(format!("network: {}", chain(error)));
        if let NetError::NoMoreAddresses { of } = error {
            fault.check = Some(Box::new(FailedCheck::Addresses { of: of.clone() }));
        }
        Attempt::NotDone { fault, retry }
    }
}

/// The server of an operation that has one; an id that names nothing otherwise.
pub(crate) fn server_id(op: &Operation) -> crate::domain::InstanceId {
    op.kind.instance().unwrap_or(crate::domain::InstanceId::from_u128(0))
}

/// The guest that a server's records describe, as it should be on a host of its.
pub(crate) fn guest_spec(view: &View, instance: &Instance, at: HostId) -> Option<GuestSpec> {
    let image = image_of(view, instance)?.clone();
    let mut nics = Vec::new();
    for port in view.ports_of(instance.id) {
        let network = &view.networks.get(&keys::network(port.network))?.value;
        nics.push(Nic { mac: port.mac, bridge: network.bridge, address: port.address });
    }
    let claim = view.claims.get(&keys::claim(at, instance.id));
    Some(GuestSpec {
        instance: instance.id,
        project: instance.project.clone(),
        name: instance.name.clone(),
        vcpus: instance.flavor.vcpus(),
        memory: instance.flavor.memory(),
        root_disk: instance.flavor.root_disk(),
        ephemeral_disk: instance.flavor.ephemeral_disk(),
        swap: instance.flavor.swap(),
        image,
        root: instance.root,
        nics,
        public_key: instance.key_pair.as_ref().map(|pair| pair.public_key.clone()),
        assigned: claim.map(|claim| claim.value.assigned.clone()).unwrap_or_default(),
    })
}
