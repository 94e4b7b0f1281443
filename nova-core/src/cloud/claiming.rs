//! Where a server goes, and what it claims there, in one transaction.

use crate::cloud::board::free_devices;
use crate::cloud::question::question;
use crate::cloud::runner::Runner;
use crate::cloud::view::{SEEN_WITHIN, View, group_admits, look_at, reach};
use crate::domain::{
    Assigned, FailedCheck, Fault, HostId, HostState, HostTable, Instance, Operation, RequestSpec,
};
use crate::plant::{Bug, planted};
use crate::store::record::{Claim, Ledger, keys};
use crate::store::{Guard, StoreError, Txn, Versioned, Write};

/// How many hosts are looked at again before one is taken that would do, though by now another
/// may be better.
const LOOKS_MAX: usize = 16;

/// A host for a server, and what the server has of it beyond amounts.
struct Chosen {
    host: HostId,
    assigned: Assigned,
}

impl Runner {
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
        let mut chosen = match chosen {
            Ok(chosen) => chosen,
            Err(fault) => return Ok(Err(fault)),
        };
        for look in 1..=LOOKS_MAX {
            // Guards the moment of the choice. The store is asked without holding the view, which
            // moves on meanwhile.
            let txn = claims(&view, &instance.value, &chosen);
            let host = chosen.host;
            let known = view.ledger(&keys::host_ledger(host)).map(|ledger| ledger.revision);
            drop(view);
            let Some(news) = look_at(&*self.ports.store, host, known).await? else {
                return Ok(Ok((txn, host)));
            };
            view = self.fresh().await?;
            view.merge(news);
            if look == LOOKS_MAX
                && let Some(again) = self.suits(&mut view, &instance.value, op, host)
            {
                chosen = again;
                break;
            }
            chosen = match self.choose(&mut view, &instance.value, op) {
                Ok(chosen) => chosen,
                Err(fault) => return Ok(Err(fault)),
            };
        }
        Ok(Ok((claims(&view, &instance.value, &chosen), chosen.host)))
    }

    /// Asks the scheduler. What it says is checked again here: a policy may be wrong, a claim
    /// may not.
    fn choose(
        &self,
        view: &mut View,
        instance: &Instance,
        op: &Operation,
    ) -> Result<Chosen, Fault> {
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
        self.check(row, instance, &request)?;
        if request.numa.is_none() && request.pci.is_empty() {
            return Ok(Chosen { host: row.id, assigned: Assigned::default() });
        }
        let row = HostState::clone(row);
        self.assign(view, &row, &request)
    }

    /// What a server gets of a host beyond amounts, as far as that is free.
    fn assign(&self, view: &View, row: &HostState, request: &RequestSpec) -> Result<Chosen, Fault> {
        let host = view.hosts.get(&keys::host(row.id)).map(|host| &host.value);
        let free = host.map(|host| free_devices(view, host)).unwrap_or_default();
        let assigned = Assigned::choose(row, free, request).map_err(|why| {
            let (scheduler, host, reason) = (&self.ports.scheduler, &row.name, why.to_string());
            let mut fault = self.fault(format!("{scheduler} chose {host}: {reason}"));
            fault.check = Some(Box::new(FailedCheck::Devices { host: host.clone(), reason }));
            fault
        })?;
        Ok(Chosen { host: row.id, assigned })
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

    /// The host, if it would do if there were no other.
    fn suits(
        &self,
        view: &mut View,
        instance: &Instance,
        op: &Operation,
        host: HostId,
    ) -> Option<Chosen> {
        let aliases = &self.options.pci_aliases;
        let request = question(view, instance, &op.tried, aliases).ok()?;
        let hosts = view.hosts(self.ports.clock.now(), self.options.down_after);
        let row = hosts.get(host)?.clone();
        let only = HostTable::new([row.clone()]);
        self.ports.scheduler.find(&only, &request, self.ports.seed)?;
        self.check(&row, instance, &request).ok()?;
        self.assign(view, &row, &request).ok()
    }
}

/// Claims everything that a server needs on a host, as of the moment that the view shows.
fn claims(view: &View, instance: &Instance, chosen: &Chosen) -> Txn {
    let (id, amount) = (instance.id, instance.flavor.resources());
    let (host, assigned) = (chosen.host, chosen.assigned.clone());
    let mut txn = Txn::new();
    if let Some(host) = view.hosts.get(&keys::host(host)) {
        txn.unchanged(host);
    }
    if !planted(Bug::SkipHostLedger) {
        txn.touch(view.ledger(&keys::host_ledger(host)), &Ledger::for_host(host));
    }
    // What is malformed was refused by the check.
    let classes = instance.flavor.classes().cloned().unwrap_or_default();
    txn.create(&Claim { host, instance: id, amount, classes, assigned, kept: false });
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
pub(crate) fn unclaim_one(view: &View, instance: &Instance, host: HostId, txn: &mut Txn) {
    let key = keys::claim(host, instance.id);
    let Some(claim) = view.claims.get(&key) else { return };
    txn.guard(Guard::Unchanged(key.clone(), claim.revision)).write(Write::Remove(key));
    txn.touch(view.ledger(&keys::host_ledger(host)), &Ledger::for_host(host));
}
