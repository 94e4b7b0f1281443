//! The host table, kept up to date row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::cloud::view::View;
use crate::domain::{
    Host, HostId, HostReport, HostState, HostTable, Liveness, PciAddress, PciDevice, PciPools,
    TaskState,
};
use crate::plant::{Bug, planted};
use crate::store::record::keys;

/// The table that schedulers see, which hosts of it have to be looked at again, and when each
/// host was heard last by this process's own clock.
#[derive(Debug, Default)]
pub(crate) struct Board {
    table: HostTable,
    dirty: BTreeSet<HostId>,
    heard: BTreeMap<HostId, Heard>,
    /// The hosts of the table that have not fallen silent, with when each was heard last: only
    /// the first of them can be the next to fall silent.
    speaking: BTreeSet<(Timestamp, HostId)>,
    /// Hosts whose beats have changed since the last refresh.
    roused: BTreeSet<HostId>,
}

#[derive(Debug)]
struct Heard {
    beat: (u64, u64),
    at: Timestamp,
}

impl Board {
    /// A host has to be looked at again.
    pub(crate) fn soil(&mut self, host: HostId) {
        self.dirty.insert(host);
    }

    /// Hosts that are not among these are gone.
    pub(crate) fn forget_others(&mut self, hosts: BTreeSet<HostId>) {
        let gone: Vec<HostId> =
            self.table.rows().map(|row| row.id).filter(|id| !hosts.contains(id)).collect();
        self.dirty.extend(gone);
    }

    /// A beat arrived. Only a beat that differs from the last one is a sign of life.
    pub(crate) fn heard(&mut self, host: HostId, beat: (u64, u64), now: Timestamp) {
        match self.heard.get_mut(&host) {
            Some(heard) if heard.beat == beat => return,
            Some(heard) => {
                self.speaking.remove(&(heard.at, host));
                *heard = Heard { beat, at: now };
            }
            None => drop(self.heard.insert(host, Heard { beat, at: now })),
        }
        self.roused.insert(host);
    }

    /// The table, as of the last refresh.
    pub(crate) fn table(&self) -> &HostTable {
        &self.table
    }

    /// Brings the table up to what `view` shows. Only hosts that changed, beat or fell silent
    /// are looked at.
    pub(crate) fn refresh(&mut self, view: &View, now: Timestamp, down_after: Duration) {
        let mut ids = std::mem::take(&mut self.roused);
        for id in std::mem::take(&mut self.dirty) {
            match row(view, id) {
                Some(row) => {
                    self.table.put(row);
                    ids.insert(id);
                }
                None => {
                    self.table.remove(id);
                    if let Some(heard) = self.heard.remove(&id) {
                        self.speaking.remove(&(heard.at, id));
                    }
                }
            }
        }
        let silent = |at: Timestamp| now.since(at) > down_after && !planted(Bug::NeverDown);
        while let Some(&(at, id)) = self.speaking.first().filter(|(at, _)| silent(*at)) {
            self.speaking.remove(&(at, id));
            ids.insert(id);
        }
        for id in ids {
            let Some(known) = self.table.get(id).map(|row| row.liveness) else { continue };
            // A host that nobody has heard of yet has as long to report as one that fell silent.
            let at = self.heard.entry(id).or_insert(Heard { beat: (0, 0), at: now }).at;
            if !silent(at) {
                self.speaking.insert((at, id));
            }
            let host = view.hosts.get(&keys::host(id));
            let forced = host.is_some_and(|host| host.value.forced_down.is_some());
            let down = forced || silent(at) || view.unready(id).is_some();
            let liveness = if down { Liveness::Down } else { Liveness::Up };
            if liveness != known {
                self.table.update(id, |row| row.liveness = liveness);
            }
        }
    }
}

fn row(view: &View, id: HostId) -> Option<HostState> {
    let host = &view.hosts.get(&keys::host(id))?.value;
    let mut row = HostState::new(id, host.name.clone(), host.zone.clone(), host.inventory);
    row.admission = host.admission.clone();
    row.guest_kinds = Arc::from(host.guest_kinds.as_slice());
    row.hypervisor_version = Some(host.hypervisor_version).filter(|version| *version > 0);
    let images = view.host_images.get(&keys::host_images(id));
    let images = images.map(|found| Arc::clone(&found.value.images)).unwrap_or_default();
    if !host.traits.is_empty() || !images.is_empty() {
        let traits = host.traits.clone();
        row.report = Arc::new(HostReport { traits, images, ..HostReport::default() });
    }
    row.aggregates = view.aggregates_of(id);
    row.set_classes(host.classes.clone());
    let mut numa = host.numa.clone();
    for claim in view.claims_on(id) {
        if let Some((numa, cells)) = numa.as_mut().zip(claim.assigned.cells.as_ref()) {
            numa.claim(&cells.guest, &cells.fit);
        }
        row.claim(claim.instance, claim.amount);
        row.claim_classes(claim.instance, &claim.classes);
        let instance = view.instances.get(&keys::instance(claim.instance));
        let task = instance.and_then(|instance| instance.value.task);
        if matches!(
            task,
            Some(
                TaskState::Scheduling
                    | TaskState::Spawning
                    | TaskState::Resizing
                    | TaskState::Migrating
                    | TaskState::Rebuilding
                    | TaskState::Snapshotting
                    | TaskState::Shelving
                    | TaskState::Unshelving
            )
        ) {
            row.io_ops += 1;
        }
    }
    row.numa = numa.map(Arc::new);
    row.pci = PciPools::of(free_devices(view, host));
    Some(row)
}

/// The PCI devices of a host that nobody has.
pub(crate) fn free_devices<'a>(view: &View, host: &'a Host) -> Vec<&'a PciDevice> {
    if host.pci.is_empty() {
        return Vec::new();
    }
    let taken: BTreeSet<&PciAddress> =
        view.claims_on(host.id).flat_map(|claim| &claim.assigned.devices).collect();
    host.pci.iter().filter(|device| !taken.contains(&device.address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ForcedDown, Host, HostName, Inventory, Resources};
    use crate::seed::Seed;
    use crate::store::record::Beat;
    use crate::store::{MemoryStore, StoreExt as _, Txn};

    const DOWN_AFTER: Duration = Duration::from_secs(5);

    /// What a host's liveness means: all hosts, one after the other, by what was heard of each.
    fn by_definition(
        view: &View,
        heard: &mut BTreeMap<HostId, ((u64, u64), Timestamp)>,
        before: &BTreeMap<HostId, Liveness>,
        now: Timestamp,
    ) -> BTreeMap<HostId, Liveness> {
        // What was heard of a host is forgotten with the host.
        heard.retain(|id, _| !before.contains_key(id) || view.hosts.contains_key(&keys::host(*id)));
        for beat in view.beats.values().map(|beat| &beat.value) {
            let sign = (beat.epoch, beat.count);
            let known = heard.entry(beat.host).or_insert((sign, now));
            if known.0 != sign {
                *known = (sign, now);
            }
        }
        let hosts = view.hosts.values().map(|host| &host.value);
        let liveness = |host: &Host| {
            let at = heard.entry(host.id).or_insert(((0, 0), now)).1;
            let silent = now.since(at) > DOWN_AFTER;
            match silent || host.forced_down.is_some() || view.unready(host.id).is_some() {
                true => Liveness::Down,
                false => Liveness::Up,
            }
        };
        hosts.map(liveness).zip(view.hosts.values()).map(|(l, h)| (h.value.id, l)).collect()
    }

    fn host(id: HostId, forced: bool) -> Host {
        Host {
            id,
            name: HostName::new(format!("h{}", id.as_u128())).unwrap(),
            zone: Default::default(),
            admission: Default::default(),
            disabled_reason: None,
            forced_down: forced.then(|| ForcedDown { reason: "off".to_owned() }),
            inventory: Inventory::new(Resources::ZERO),
            guest_kinds: Vec::new(),
            hypervisor_version: 0,
            traits: Default::default(),
            classes: Default::default(),
            numa: None,
            pci: Vec::new(),
        }
    }

    #[test]
    fn looking_at_what_changed_gives_the_same_as_looking_at_all_hosts() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for seed in 0..50 {
            let mut chance = Seed::new(seed).chance();
            let store = Arc::new(MemoryStore::new());
            let (mut heard, mut now, mut downs) = (BTreeMap::new(), Timestamp::default(), 0);
            let mut slow = BTreeMap::new();
            runtime.block_on(async {
                let mut view = View::open(store.clone(), Timestamp(0)).await.unwrap();
                for count in 0..200 {
                    let id = HostId::from_u128(u128::from(chance.below(5)) + 1);
                    let mut txn = Txn::new();
                    match chance.below(8) {
                        0 => drop(txn.put(&host(id, false))),
                        1 => drop(txn.put(&host(id, true))),
                        2 if chance.below(4) == 0 => {
                            let known = store.read::<Host>(&keys::host(id)).await.unwrap();
                            if let Some(known) = known {
                                txn.remove(&known);
                                let beat = keys::beat(id);
                                txn.write(crate::store::Write::Remove(beat));
                            }
                        }
                        3 => {
                            let unready = Some("no".to_owned());
                            txn.put(&Beat { host: id, epoch: 2, count, unready });
                        }
                        4 => now = now.after(Duration::from_secs(chance.below(4))),
                        // The same sign again is none.
                        5 => drop(txn.put(&Beat { host: id, epoch: 1, count: 7, unready: None })),
                        _ => drop(txn.put(&Beat { host: id, epoch: 1, count, unready: None })),
                    }
                    if !txn.writes().is_empty() {
                        crate::store::Store::commit(&*store, txn).await.unwrap();
                    }
                    view.catch_up(now).await.unwrap();
                    let rows = view.hosts(now, DOWN_AFTER).rows();
                    let fast: BTreeMap<_, _> = rows.map(|r| (r.id, r.liveness)).collect();
                    slow = by_definition(&view, &mut heard, &slow, now);
                    assert_eq!(fast, slow, "seed {seed}, step {count}");
                    downs += slow.values().filter(|l| **l == Liveness::Down).count();
                }
            });
            assert!(downs > 10, "seed {seed}");
        }
    }
}
