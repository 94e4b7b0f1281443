//! Guests on hosts that could not be asked: what they may still use stays theirs.
//!
//! A server is deleted although its host is silent. Its guest may run on, with its addresses and
//! its share of the host, until the host's agent is back and removes it, or an operator says that
//! the host is down. Until then nobody else gets either.

use std::collections::BTreeSet;

use crate::class::Class;
use crate::cloud::attempt::Attempt;
use crate::cloud::order::{Order, Report};
use crate::cloud::ports::Ports;
use crate::cloud::runner::Runner;
use crate::domain::{AddressState, Host, HostId, Instance, InstanceId, Liveness, Operation};
use crate::port::NetError;
use crate::store::record::{Claim, Ledger, Lingering, keys};
use crate::store::{Guard, StoreError, StoreExt as _, Txn, Versioned};

/// What is given back now, and the hosts that could not be asked for the rest.
type Given = (Txn, BTreeSet<HostId>);

impl Runner {
    /// Gives back the addresses of a server, unless its guest may still use them somewhere: then
    /// that is written down, and only its floating IPs lead nowhere at once.
    pub(crate) async fn give_back(
        &self,
        op: &Operation,
    ) -> Result<Result<Given, Attempt>, StoreError> {
        let Some(id) = op.kind.instance() else { return Ok(Ok(Given::default())) };
        let (mut silent, mut word) = (BTreeSet::new(), Txn::new());
        for host in &op.unheard {
            let record = self.fresh().await?.hosts.get(&keys::host(*host)).cloned();
            let lost = record.as_ref().is_none_or(|record| record.value.forced_down.is_some());
            match (self.liveness(*host).await?.0, lost) {
                (Liveness::Down, false) => drop(silent.insert(*host)),
                // An operator's word counts only if it is not taken back before this is recorded.
                (Liveness::Down, true) => rely_on(record.as_ref(), *host, &mut word),
                // It is back, and so may the guest be.
                (Liveness::Up, _) => {
                    let report = self.order(op, *host, Order::Remove(id)).await;
                    if !matches!(report, Report::Done { .. }) {
                        return Ok(Err(self.attempt_of(report)));
                    }
                }
            }
        }
        let (known, floating) = {
            let view = self.fresh().await?;
            let leads_here = view.floating_ips.values().filter(|floating| {
                matches!(&floating.value.state, AddressState::Owned(owner)
                    if owner.binding.as_ref().is_some_and(|to| to.instance == id))
            });
            let floating: Vec<_> = leads_here.cloned().collect();
            (view.lingering.get(&keys::lingering(id)).cloned(), floating)
        };
        if silent.is_empty() && known.is_none() {
            return Ok(match self.ports.network.release(id).await {
                Ok(draft) => {
                    word.merge(draft.txn);
                    Ok((word, silent))
                }
                Err(error) => Err(self.network_failed(&error)),
            });
        }
        let mut txn = word;
        let before = known.as_ref().map(|known| known.value.hosts.clone()).unwrap_or_default();
        let hosts = before.union(&silent).copied().collect();
        txn.touch(known.as_ref(), &Lingering { instance: id, hosts });
        if let Some(port) = self.ports.network.floating_ips() {
            for known in floating {
                match port.disassociate(known.value.address).await {
                    // Its owner may have led it to another server since.
                    Ok(draft) => drop(txn.merge(draft.txn).unchanged(&known)),
                    Err(NetError::NoSuchFloatingIp { .. }) => {}
                    Err(error) => return Ok(Err(self.network_failed(&error))),
                }
            }
        }
        Ok(Ok((txn, silent)))
    }

    /// Crosses off hosts that an operator has declared down, or that are not registered any more.
    /// What fails now is tried again at the next sweep.
    pub(crate) async fn cross_off(&self) -> Result<(), StoreError> {
        let lingering: Vec<Lingering> =
            self.fresh().await?.lingering.values().map(|row| row.value.clone()).collect();
        for guest in lingering {
            for host in guest.hosts {
                let record = self.ports.store.read::<Host>(&keys::host(host)).await?;
                if record.as_ref().is_none_or(|record| record.value.forced_down.is_some()) {
                    let mut word = Txn::new();
                    rely_on(record.as_ref(), host, &mut word);
                    drop(gone(&self.ports, guest.instance, host, word).await);
                }
            }
        }
        Ok(())
    }
}

/// Puts into `txn` that the record of a host, or that there is none, is what it relies on.
fn rely_on(record: Option<&Versioned<Host>>, host: HostId, txn: &mut Txn) {
    match record {
        Some(record) => txn.unchanged(record),
        None => txn.guard(Guard::Absent(keys::host(host))),
    };
}

/// The guests that may linger on a host.
pub(crate) async fn lingering_on(
    ports: &Ports,
    host: HostId,
) -> Result<BTreeSet<InstanceId>, StoreError> {
    let all =
        ports.store.read_all::<Lingering>(&<Lingering as crate::store::Record>::all()).await?;
    let here = all.into_iter().filter(|row| row.value.hosts.contains(&host));
    Ok(here.map(|row| row.value.instance).collect())
}

/// Records that a guest is not on a host any more: what it took there is free, and its addresses
/// begin to rest when it is nowhere. `word` holds what that is relied on.
///
/// # Errors
/// Those of the store and the network manager; nothing has changed then, and it may be said again.
pub(crate) async fn gone(
    ports: &Ports,
    id: InstanceId,
    host: HostId,
    word: Txn,
) -> Result<(), NetError> {
    let failed = |source| NetError::Store { operation: "cross off a host", source };
    let row = ports.store.read::<Lingering>(&keys::lingering(id)).await.map_err(failed)?;
    let Some(row) = row.filter(|row| row.value.hosts.contains(&host)) else { return Ok(()) };
    let mut hosts = row.value.hosts.clone();
    hosts.remove(&host);
    let mut txn = word;
    if hosts.is_empty() {
        let server = ports.store.read::<Instance>(&keys::instance(id)).await.map_err(failed)?;
        match &server {
            Some(server) => txn.unchanged(server),
            None => txn.guard(Guard::Absent(keys::instance(id))),
        };
        // One that lives on elsewhere keeps its addresses.
        if server.is_none_or(|server: Versioned<Instance>| server.value.host.is_none()) {
            txn.merge(ports.network.release(id).await?.txn);
        }
        txn.remove(&row);
    } else {
        txn.replace(&row, &Lingering { instance: id, hosts });
    }
    let claim = ports.store.read::<Claim>(&keys::claim(host, id)).await.map_err(failed)?;
    if let Some(claim) = claim {
        let ledger = ports.store.read::<Ledger>(&keys::host_ledger(host)).await.map_err(failed)?;
        txn.remove(&claim).touch(ledger.as_ref(), &Ledger::for_host(host));
    }
    match ports.store.commit(txn).await {
        Ok(_) => Ok(()),
        // Somebody else changed it; the next sweep looks again.
        Err(error) if error.class() == Class::Conflict => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
