//! The steps of servers: placing, starting, powering, removing.

use crate::class::Class;
use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_image::unfinished_images;
use crate::cloud::error::chain;
use crate::cloud::order::{Order, Report};
use crate::cloud::question::question;
use crate::cloud::runner::Runner;
use crate::cloud::view::{SEEN_WITHIN, View, group_admits, look_at, reach};
use crate::domain::{
    Action, FailedCheck, Fault, HostId, HostState, HostTable, Instance, Liveness, OpKind,
    Operation, RequestSpec, TaskState, VolumeState,
};
use crate::plant::{Bug, planted};
use crate::port::{GuestSpec, NetError, Nic, PortRequest};
use crate::store::record::{Claim, Ledger, keys};
use crate::store::{Guard, StoreError, Txn, Versioned, Write};

/// How many hosts are looked at again before one is taken that would do, though by now another
/// may be better.
const LOOKS_MAX: usize = 16;

impl Runner {
    /// Chooses a host and claims everything there in one transaction.
    pub(crate) async fn place(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let OpKind::CreateServer { instance: id } = op.kind else {
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
        op.settle = vec![host];
        Ok(Attempt::Done(txn))
    }

    /// Decides where a server goes and what claims it.
    ///
    /// The view may be behind, so the host that was chosen is looked at again in the store, and
    /// the question asked anew if it was not as the view had it. A refusal is given only on a
    /// view that has seen everything there was when the question came.
    pub(crate) async fn claim(
        &self,
        instance: &Versioned<Instance>,
        op: &Operation,
    ) -> Result<Result<(Txn, HostId), Fault>, StoreError> {
        let mut view = self.fresh().await?;
        let mut chosen = self.choose(&mut view, &instance.value, op);
        if chosen.is_err() {
            drop(view);
            let newest = self.newest().await?;
            view = match reach(&self.view, newest, &*self.ports.clock, SEEN_WITHIN).await? {
                Some(view) => view,
                None => self.fresh().await?,
            };
            chosen = self.choose(&mut view, &instance.value, op);
        }
        let mut host = match chosen {
            Ok(host) => host,
            Err(fault) => return Ok(Err(fault)),
        };
        for look in 1..=LOOKS_MAX {
            // Guards the moment of the choice. The store is asked without holding the view, which
            // moves on meanwhile.
            let txn = claims(&view, &instance.value, host);
            let known = view.ledger(&keys::host_ledger(host)).map(|ledger| ledger.revision);
            drop(view);
            let Some(news) = look_at(&*self.ports.store, host, known).await? else {
                return Ok(Ok((txn, host)));
            };
            view = self.fresh().await?;
            view.merge(news);
            if look == LOOKS_MAX && self.suits(&mut view, &instance.value, op, host) {
                break;
            }
            host = match self.choose(&mut view, &instance.value, op) {
                Ok(host) => host,
                Err(fault) => return Ok(Err(fault)),
            };
        }
        Ok(Ok((claims(&view, &instance.value, host), host)))
    }

    /// Asks the scheduler. What it says is checked again here: a policy may be wrong, a claim
    /// may not.
    fn choose(
        &self,
        view: &mut View,
        instance: &Instance,
        op: &Operation,
    ) -> Result<HostId, Fault> {
        let request = question(view, instance, &op.tried, &self.options.pci_aliases);
        let mut request = request.map_err(|invalid| self.fault(invalid.to_string()))?;
        request.among = self.rivals.among();
        let seed = self.ports.seed.child_of("place", op.id.as_u128());
        let seed = seed.child_of("attempt", op.tried.len() as u128);
        let seed = seed.child_of("lost", self.rivals.lost(op.id).into());
        let hosts = view.hosts(self.ports.clock.now(), self.options.down_after);
        let placement = self.ports.scheduler.select(hosts, &request, seed);
        let chosen = match placement {
            Ok(placement) => placement.hosts.first().copied(),
            Err(refused) => {
                let refusal = self.ports.scheduler.explain(hosts, &request);
                let mut fault = self.fault(refused.to_string());
                fault.refusal = Some(refusal);
                return Err(fault);
            }
        };
        let Some(row) = chosen.and_then(|host| hosts.get(host)) else {
            return Err(self.fault(format!("{} chose no known host", self.ports.scheduler)));
        };
        self.check(row, instance, &request).map(|()| row.id)
    }

    /// Whether the claim may be made, whatever the scheduler says.
    fn check(
        &self,
        row: &HostState,
        instance: &Instance,
        request: &RequestSpec,
    ) -> Result<(), Fault> {
        let (scheduler, host) = (&self.ports.scheduler, &row.name);
        if request.tried.contains(&row.id) {
            let message = format!("{scheduler} chose {host}, which has or had a guest of it");
            return Err(self.fault(message));
        }
        let wanted = instance.flavor.resources();
        if let Some(resource) = row.lacks(&wanted).filter(|_| !planted(Bug::Overcommit)) {
            let mut fault = self.fault(format!("{scheduler} chose {host}, which lacks {resource}"));
            let wanted = resource.of(&wanted);
            fault.check =
                Some(Box::new(FailedCheck::Capacity { host: host.clone(), resource, wanted }));
            return Err(fault);
        }
        let classes = instance.flavor.classes().map_err(|why| self.fault(why.to_string()))?;
        if let Some(class) = row.lacks_class(classes).filter(|_| !planted(Bug::Overcommit)) {
            let mut fault = self.fault(format!("{scheduler} chose {host}, which lacks {class}"));
            let (host, wanted, class) = (host.clone(), classes.of(class), class.clone());
            fault.check = Some(Box::new(FailedCheck::ClassCapacity { host, class, wanted }));
            return Err(fault);
        }
        if let Some(group) = request.group.as_ref().filter(|group| !group_admits(group, row.id)) {
            let mut fault = self.fault(format!("{scheduler} broke the server group's rule"));
            let (group, policy, host) = (group.id, group.policy, host.clone());
            fault.check = Some(Box::new(FailedCheck::GroupRule { group, policy, host }));
            return Err(fault);
        }
        Ok(())
    }

    /// Whether a host would do, if there were no other.
    fn suits(&self, view: &mut View, instance: &Instance, op: &Operation, host: HostId) -> bool {
        let aliases = &self.options.pci_aliases;
        let Ok(request) = question(view, instance, &op.tried, aliases) else { return false };
        let hosts = view.hosts(self.ports.clock.now(), self.options.down_after);
        let Some(row) = hosts.get(host) else { return false };
        let only = HostTable::new([row.clone()]);
        self.ports.scheduler.find(&only, &request, self.ports.seed).is_some()
            && self.check(row, instance, &request).is_ok()
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
                let report = self.order_if_up(op, host, Order::Converge).await?;
                self.elsewhere(op, host, report).await
            }
            None => Ok(self.hopeless("the server has no host")),
        }
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
        let spec = guest_spec(&*self.fresh().await?, &instance.value);
        let Some(spec) = spec else {
            return Ok(self.hopeless("the image or a network of the server is gone"));
        };
        let report = self.order_if_up(op, host, Order::Create(Box::new(spec))).await?;
        self.elsewhere(op, host, report).await
    }

    /// Starts, stops, reboots, pauses or unpauses.
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
            Action::Reboot(how) => Order::Reboot { instance: id, how, boot: op.generation },
            _ => return Ok(self.hopeless("not a power operation")),
        };
        if matches!(action, Action::Start | Action::Reboot(_)) {
            // A host that was declared down could not be asked to plug in what it was given back.
            match self.take_up(op, host).await? {
                Attempt::Done(_) => {}
                other => return Ok(other),
            }
        }
        self.plain(op, host, order).await
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
            let mut next = volume.value.clone();
            (next.attachment, next.operation) = (None, None);
            next.state = VolumeState::Available;
            txn.replace(volume, &next);
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

/// Claims everything that a server needs on a host, as of the moment that the view shows.
fn claims(view: &View, instance: &Instance, host: HostId) -> Txn {
    let (id, amount) = (instance.id, instance.flavor.resources());
    let mut txn = Txn::new();
    if let Some(host) = view.hosts.get(&keys::host(host)) {
        txn.unchanged(host);
    }
    if !planted(Bug::SkipHostLedger) {
        txn.touch(view.ledger(&keys::host_ledger(host)), &Ledger::for_host(host));
    }
    // What is malformed was refused by the check.
    let classes = instance.flavor.classes().cloned().unwrap_or_default();
    txn.create(&Claim { host, instance: id, amount, classes, kept: false });
    if let Some(group) = instance.group.filter(|_| !planted(Bug::SkipGroupLedger)) {
        txn.touch(view.ledger(&keys::group_ledger(group)), &Ledger::for_group(group));
    }
    txn
}

/// Gives back a server's claim on a host, if it has one.
pub(crate) fn unclaim(view: &View, instance: &Instance, host: Option<HostId>, txn: &mut Txn) {
    let Some(host) = host else { return };
    unclaim_one(view, instance, host, txn);
    if let Some(group) = instance.group {
        txn.touch(view.ledger(&keys::group_ledger(group)), &Ledger::for_group(group));
    }
}

/// Gives back one claim of a server that may have two; its group's ledger is the caller's.
fn unclaim_one(view: &View, instance: &Instance, host: HostId, txn: &mut Txn) {
    let key = keys::claim(host, instance.id);
    let Some(claim) = view.claims.get(&key) else { return };
    txn.guard(Guard::Unchanged(key.clone(), claim.revision)).write(Write::Remove(key));
    txn.touch(view.ledger(&keys::host_ledger(host)), &Ledger::for_host(host));
}

/// The guest that a server's records describe.
pub(crate) fn guest_spec(view: &View, instance: &Instance) -> Option<GuestSpec> {
    let image = view.images.get(&keys::image(instance.source()))?.value.clone();
    let mut nics = Vec::new();
    for port in view.ports_of(instance.id) {
        let network = &view.networks.get(&keys::network(port.network))?.value;
        nics.push(Nic { mac: port.mac, bridge: network.bridge.clone(), address: port.address });
    }
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
        nics,
        public_key: instance.key_pair.as_ref().map(|pair| pair.public_key.clone()),
    })
}
