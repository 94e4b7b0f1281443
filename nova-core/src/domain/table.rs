//! The hosts that a scheduler chooses from, and what changed in them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::domain::{HostId, HostState};

/// The hosts that a scheduler chooses from, in the order of their ids, changed only through
/// methods.
///
/// A host keeps its [`Slot`] for as long as it is in the table, and every change is noted in a
/// log: whoever keeps something about every host reads the log instead of the table. So a host
/// that joins, leaves or changes costs the same whatever the number of hosts, but for a search by
/// id.
#[derive(Debug, Default)]
pub struct HostTable {
    slots: Vec<Option<HostState>>,
    free: Vec<Slot>,
    by_id: FxHashMap<HostId, Slot>,
    order: BTreeMap<HostId, Slot>,
    log: Log,
    identity: TableIdentity,
}

/// The place of a host in its table, from 0 on. When its host has left, a slot is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which table it is: a copy of a table is another one, with a history of its own.
#[derive(Debug, Default, Clone)]
pub struct TableIdentity(Arc<()>);

impl PartialEq for TableIdentity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TableIdentity {}

/// How many changes a table has seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableRevision(u64);

/// The slots that changed, the oldest change first.
#[derive(Debug, Default)]
struct Log {
    /// How many changes were forgotten.
    forgotten: u64,
    slots: VecDeque<Slot>,
}

impl HostTable {
    /// Changes that are remembered at least; as many as there are hosts when that is more.
    pub const CHANGES_MIN: usize = 4096;

    /// A table of these hosts. Of two with the same id the later one stays.
    pub fn new(hosts: impl IntoIterator<Item = HostState>) -> Self {
        let mut table = Self::default();
        let by_id: BTreeMap<HostId, HostState> = hosts.into_iter().map(|h| (h.id, h)).collect();
        table.slots.reserve_exact(by_id.len());
        table.by_id.reserve(by_id.len());
        by_id.into_values().for_each(|host| table.put(host));
        table
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All hosts, in the order of their ids.
    pub fn rows(&self) -> impl Iterator<Item = &HostState> + Clone {
        self.slots().filter_map(|slot| self.at(slot))
    }

    /// Their slots, in the order of their ids.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + Clone + '_ {
        self.order.values().copied()
    }

    /// The hosts before `id` in the order of ids, the nearest first, with their slots.
    pub fn before(&self, id: HostId) -> impl Iterator<Item = (HostId, Slot)> {
        self.order.range(..id).rev().map(|(id, slot)| (*id, *slot))
    }

    /// The hosts behind `id` in the order of ids, the nearest first, with their slots.
    pub fn after(&self, id: HostId) -> impl Iterator<Item = (HostId, Slot)> {
        let behind = (Bound::Excluded(id), Bound::Unbounded);
        self.order.range(behind).map(|(id, slot)| (*id, *slot))
    }

    /// The host with this id.
    pub fn get(&self, id: HostId) -> Option<&HostState> {
        self.at(self.slot(id)?)
    }

    /// The slot of the host with this id.
    pub fn slot(&self, id: HostId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// The host at `slot`, if one is there.
    pub fn at(&self, slot: Slot) -> Option<&HostState> {
        self.slots.get(slot.index())?.as_ref()
    }

    /// Every slot that is in use is below this.
    pub fn slots_end(&self) -> usize {
        self.slots.len()
    }

    /// Adds a host, or replaces the one with the same id.
    pub fn put(&mut self, host: HostState) {
        let id = host.id;
        let slot = match self.slot(id) {
            Some(slot) => slot,
            None => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    Slot((self.slots.len() - 1) as u32)
                });
                self.by_id.insert(id, slot);
                self.order.insert(id, slot);
                slot
            }
        };
        self.slots[slot.index()] = Some(host);
        self.note(slot);
    }

    /// Takes a host out.
    pub fn remove(&mut self, id: HostId) -> Option<HostState> {
        let slot = self.by_id.remove(&id)?;
        self.order.remove(&id);
        self.free.push(slot);
        self.note(slot);
        self.slots[slot.index()].take()
    }

    /// Changes one host in place; false when there is none with this id. Its id stays.
    pub fn update(&mut self, id: HostId, change: impl FnOnce(&mut HostState)) -> bool {
        self.slot(id).is_some_and(|slot| self.update_at(slot, change))
    }

    /// Changes the host at `slot` in place; false when none is there. Its id stays.
    pub fn update_at(&mut self, slot: Slot, change: impl FnOnce(&mut HostState)) -> bool {
        let Some(Some(row)) = self.slots.get_mut(slot.index()) else { return false };
        let id = row.id;
        change(row);
        // The table is sorted by id; a change that renamed the row would break every look-up.
        row.id = id;
        self.note(slot);
        true
    }

    /// Which table it is.
    pub fn identity(&self) -> &TableIdentity {
        &self.identity
    }

    /// How many changes it has seen.
    pub fn revision(&self) -> TableRevision {
        TableRevision(self.log.forgotten + self.log.slots.len() as u64)
    }

    /// The slots that changed since `revision`, the oldest change first, a slot once for every
    /// change; none when that is so long ago that it is forgotten. A slot without a host is that
    /// of one that left.
    pub fn changed_since(&self, revision: TableRevision) -> Option<impl Iterator<Item = Slot>> {
        let seen = revision.0.checked_sub(self.log.forgotten)?;
        let seen = usize::try_from(seen).ok().filter(|seen| *seen <= self.log.slots.len())?;
        Some(self.log.slots.range(seen..).copied())
    }

    fn note(&mut self, slot: Slot) {
        if self.log.slots.len() >= self.slots.len().max(Self::CHANGES_MIN) {
            self.log.slots.pop_front();
            self.log.forgotten += 1;
        }
        self.log.slots.push_back(slot);
    }
}

impl Clone for HostTable {
    /// The same hosts in the same slots; what changed before is forgotten.
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
            free: self.free.clone(),
            by_id: self.by_id.clone(),
            order: self.order.clone(),
            log: Log::default(),
            identity: TableIdentity::default(),
        }
    }
}

impl PartialEq for HostTable {
    /// Whether the same hosts are in the same state.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.rows().eq(other.rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{GiB, HostName, Inventory, MiB, Resources, Vcpus, ZoneName};

    fn host(id: u128) -> HostState {
        let total = Resources { vcpus: Vcpus(8), memory: MiB(1024), disk: GiB(10) };
        HostState::new(
            HostId::from_u128(id),
            HostName::new(format!("h{id}")).unwrap(),
            ZoneName::new("z").unwrap(),
            Inventory::new(total),
        )
    }

    fn ids(table: &HostTable) -> Vec<u128> {
        table.rows().map(|h| h.id.as_u128()).collect()
    }

    #[test]
    fn a_table_is_sorted_by_id_whatever_the_order_of_arrival() {
        let mut table = HostTable::new([host(3), host(1)]);
        table.put(host(2));
        assert_eq!(ids(&table), [1, 2, 3]);
        assert!(table.update(HostId::from_u128(2), |h| h.id = HostId::from_u128(9)));
        assert!(table.get(HostId::from_u128(2)).is_some());
        assert!(table.remove(HostId::from_u128(9)).is_none());
    }

    #[test]
    fn neighbours_are_found_in_the_order_of_ids() {
        let table = HostTable::new([host(1), host(3), host(5)]);
        let id = HostId::from_u128;
        let before: Vec<_> = table.before(id(5)).map(|(id, _)| id.as_u128()).collect();
        let after: Vec<_> = table.after(id(2)).map(|(id, _)| id.as_u128()).collect();
        assert_eq!((before, after), (vec![3, 1], vec![3, 5]));
    }

    #[test]
    fn a_host_keeps_its_slot_and_leaves_it_to_another() {
        let mut table = HostTable::new([host(1), host(2), host(3)]);
        let of = |table: &HostTable, id| table.slot(HostId::from_u128(id));
        let (first, third) = (of(&table, 1), of(&table, 3));
        table.remove(HostId::from_u128(1));
        assert_eq!(of(&table, 3), third);
        table.put(host(9));
        assert_eq!(of(&table, 9), first);
        assert_eq!((ids(&table), table.slots_end()), (vec![2, 3, 9], 3));
    }

    #[test]
    fn the_log_tells_every_change_since_a_revision() {
        let mut table = HostTable::new([host(1), host(2)]);
        let since = table.revision();
        table.update(HostId::from_u128(2), |row| row.io_ops = 1);
        table.remove(HostId::from_u128(1));
        table.put(host(7));
        let changed: Vec<Slot> = table.changed_since(since).unwrap().collect();
        assert_eq!(changed, [Slot(1), Slot(0), Slot(0)]);
        assert_eq!(table.changed_since(table.revision()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_too_long_ago_is_forgotten() {
        let mut table = HostTable::new([host(1)]);
        let since = table.revision();
        for _ in 0..=HostTable::CHANGES_MIN {
            table.update(HostId::from_u128(1), |_| {});
        }
        assert!(table.changed_since(since).is_none());
    }

    #[test]
    fn a_copy_is_the_same_and_another() {
        let table = HostTable::new([host(1), host(2)]);
        let copy = table.clone();
        assert_eq!(copy, table);
        assert_ne!(copy.identity(), table.identity());
        assert!(copy.changed_since(table.revision()).is_none());
    }
}
