//! Guests on hosts that could not be asked: what they may still use stays theirs.
//!
//! A server is deleted although its host is silent. Its guest may run on, with its addresses and
//! its share of the host, until the host's agent is back and removes it, or an operator says that
//! the host is down. Until then nobody else gets either. A move that is over, or is given up, leaves
//! a guest at its silent end that does not run; its share of the host stays taken as well.

use std::collections::BTreeSet;

use crate::class::Class;
use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_server::server_id;
use crate::cloud::claiming::unclaim;
use crate::cloud::order::{Order, Report};
use crate::cloud::ports::Ports;
use crate::cloud::runner::Runner;
use crate::cloud::view::View;
use crate::domain::{Host, HostId, Instance, InstanceId, Liveness, Operation};
use crate::plant::{Bug, planted};
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
            match self.rid(op, *host, &mut word).await? {
                Rid::Surely => {}
                Rid::Silent => drop(silent.insert(*host)),
                Rid::NotYet(attempt) => return Ok(Err(attempt)),
            }
        }
        let (lingers, floating, ports) = {
            let view = self.fresh().await?;
            let floating: Vec<_> = view.led_to(id).cloned().collect();
            let ports: Vec<_> = view.port_records_of(id).cloned().collect();
            (view.lingering.contains_key(&keys::lingering(id)), floating, ports)
        };
        if silent.is_empty() && !lingers {
            return Ok(match self.ports.network.release(id).await {
                Ok(draft) => {
                    word.merge(draft.txn);
                    Ok((word, silent))
                }
                Err(error) => Err(self.network_failed(&error)),
            });
        }
        let mut txn = word;
        linger(&*self.fresh().await?, id, &silent, &mut txn);
        // A floating IP that is being led here right now writes the port.
        for port in &ports {
            txn.unchanged(port);
        }
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

    /// Gives back what a server has claimed on an end of its move that keeps nothing, unless its
    /// guest may still be there: then that is written down.
    pub(crate) async fn leave_end(
        &self,
        op: &Operation,
        server: &Instance,
        end: HostId,
    ) -> Result<Result<Txn, Attempt>, StoreError> {
        let mut txn = Txn::new();
        let silent = match self.rid(op, end, &mut txn).await? {
            Rid::Surely => false,
            Rid::Silent => true,
            Rid::NotYet(attempt) => return Ok(Err(attempt)),
        };
        let view = self.fresh().await?;
        match silent {
            true => linger(&view, server.id, &BTreeSet::from([end]), &mut txn),
            false => unclaim(&view, server, Some(end), &mut txn),
        }
        Ok(Ok(txn))
    }

    /// Gets rid of the guest of an operation on a host that is not its server's any more, and puts
    /// into `word` what was relied on.
    async fn rid(&self, op: &Operation, host: HostId, word: &mut Txn) -> Result<Rid, StoreError> {
        let record = self.fresh().await?.hosts.get(&keys::host(host)).cloned();
        let lost = is_lost(record.as_ref());
        Ok(match (self.liveness(host).await?.0, lost) {
            (Liveness::Down, false) if planted(Bug::HeedSilence) => Rid::Surely,
            (Liveness::Down, false) => Rid::Silent,
            // An operator's word counts only if it is not taken back before this is recorded.
            (Liveness::Down, true) => {
                rely_on(record.as_ref(), host, word);
                Rid::Surely
            }
            // It may be back, and the guest with it.
            (Liveness::Up, _) => match self.order(op, host, Order::Remove(server_id(op))).await {
                Report::Done { .. } => Rid::Surely,
                report => Rid::NotYet(self.attempt_of(report)),
            },
        })
    }

    /// Crosses off hosts that an operator has declared down, or that are not registered any more:
    /// no guest lingers there, and no image is being stored.
    /// What fails now is tried again at the next sweep.
    pub(crate) async fn cross_off(&self) -> Result<(), StoreError> {
        let (lingering, late) = {
            let view = self.fresh().await?;
            let lingering: Vec<_> = view.lingering.values().map(|row| row.value.clone()).collect();
            (lingering, Vec::from_iter(view.late_images.values().cloned()))
        };
        for late in late {
            let record = self.ports.store.read::<Host>(&keys::host(late.value.host)).await?;
            let lost = is_lost(record.as_ref());
            if lost && self.ports.images.remove(late.value.image).await.is_ok() {
                let mut txn = Txn::new();
                rely_on(record.as_ref(), late.value.host, &mut txn);
                txn.remove(&late);
                // What fails now is tried again at the next sweep.
                drop(self.ports.store.commit(txn).await);
            }
        }
        for guest in lingering {
            for host in guest.hosts {
                let record = self.ports.store.read::<Host>(&keys::host(host)).await?;
                if is_lost(record.as_ref()) {
                    let mut word = Txn::new();
                    rely_on(record.as_ref(), host, &mut word);
                    drop(gone(&self.ports, guest.instance, host, word).await);
                }
            }
        }
        Ok(())
    }
}

/// What came of getting rid of a guest.
enum Rid {
    /// The host has said that it is gone, or an operator that the host is down.
    Surely,
    /// The host could not be asked.
    Silent,
    /// The host was asked, and it is not gone.
    NotYet(Attempt),
}

/// Whether an operator has said that a host is down, or has removed it.
pub(crate) fn is_lost(host: Option<&Versioned<Host>>) -> bool {
    host.is_none_or(|host| host.value.forced_down.is_some())
}

/// Writes into `txn` that a guest may linger on these hosts too. What it has claimed there stays.
pub(crate) fn linger(view: &View, id: InstanceId, hosts: &BTreeSet<HostId>, txn: &mut Txn) {
    let known = view.lingering.get(&keys::lingering(id));
    let before = known.map(|known| known.value.hosts.clone()).unwrap_or_default();
    let hosts = before.union(hosts).copied().collect();
    txn.touch(known, &Lingering { instance: id, hosts });
}

/// Puts into `txn` that the record of a host, or that there is none, is what it relies on.
pub(crate) fn rely_on(record: Option<&Versioned<Host>>, host: HostId, txn: &mut Txn) {
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
        // One that lives on, on another host or shelved, keeps its addresses.
        if server.is_none_or(|server: Versioned<Instance>| server.value.never_began()) {
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
