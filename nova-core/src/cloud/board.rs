//! The host table, kept up to date row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::cloud::view::View;
use crate::domain::{HostId, HostState, HostTable, Liveness, TaskState};
use crate::plant::{Bug, planted};
use crate::store::record::keys;

/// The table that schedulers see, which hosts of it have to be looked at again, and when each
/// host was heard last by this process's own clock.
#[derive(Debug, Default)]
pub(crate) struct Board {
    table: HostTable,
    dirty: BTreeSet<HostId>,
    heard: BTreeMap<HostId, Heard>,
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
            self.table.rows().iter().map(|row| row.id).filter(|id| !hosts.contains(id)).collect();
        self.dirty.extend(gone);
    }

    /// A beat arrived. Only a beat that differs from the last one is a sign of life.
    pub(crate) fn heard(&mut self, host: HostId, beat: (u64, u64), now: Timestamp) {
        match self.heard.get_mut(&host) {
            Some(heard) if heard.beat == beat => {}
            _ => drop(self.heard.insert(host, Heard { beat, at: now })),
        }
    }

    /// The table, as of the last refresh.
    pub(crate) fn table(&self) -> &HostTable {
        &self.table
    }

    /// Brings the table up to what `view` shows.
    pub(crate) fn refresh(&mut self, view: &View, now: Timestamp, down_after: Duration) {
        for id in std::mem::take(&mut self.dirty) {
            match row(view, id) {
                Some(row) => self.table.put(row),
                None => {
                    self.table.remove(id);
                    self.heard.remove(&id);
                }
            }
        }
        let ids: Vec<(HostId, Liveness)> =
            self.table.rows().iter().map(|row| (row.id, row.liveness)).collect();
        for (id, known) in ids {
            // A host that nobody has heard of yet has as long to report as one that fell silent.
            let heard = self.heard.entry(id).or_insert(Heard { beat: (0, 0), at: now });
            let host = view.hosts.get(&keys::host(id));
            let forced = host.is_some_and(|host| host.value.forced_down.is_some());
            let silent = now.since(heard.at) > down_after && !planted(Bug::NeverDown);
            let liveness = if forced || silent { Liveness::Down } else { Liveness::Up };
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
    row.hypervisor_version = host.hypervisor_version;
    row.aggregates = view.aggregates_of(id);
    for claim in view.claims_on(id) {
        row.claim(claim.instance, claim.amount);
        let instance = view.instances.get(&keys::instance(claim.instance));
        let task = instance.and_then(|instance| instance.value.task);
        if matches!(
            task,
            Some(
                TaskState::Scheduling
                    | TaskState::Spawning
                    | TaskState::Resizing
                    | TaskState::Rebuilding
                    | TaskState::Snapshotting
                    | TaskState::Shelving
                    | TaskState::Unshelving
            )
        ) {
            row.io_ops += 1;
        }
    }
    Some(row)
}
