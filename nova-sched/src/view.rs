//! The hosts as one request sees them while it is being placed.

use std::collections::BTreeMap;

use nova_core::domain::{HostState, HostTable, Slot};

/// A table with copies of the few rows that the request's own earlier instances changed.
#[derive(Debug)]
pub(crate) struct View<'a> {
    table: &'a HostTable,
    changed: BTreeMap<Slot, HostState>,
}

impl<'a> View<'a> {
    pub(crate) fn new(table: &'a HostTable) -> Self {
        Self { table, changed: BTreeMap::new() }
    }

    /// The slots of all hosts, in the order of their ids.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.table.slots()
    }

    /// The row at `slot`, if a host is there.
    pub(crate) fn row(&self, slot: Slot) -> Option<&HostState> {
        // A request for one instance changes nothing, and pays nothing for it.
        let changed = if self.changed.is_empty() { None } else { self.changed.get(&slot) };
        changed.or_else(|| self.table.at(slot))
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &HostState> {
        self.slots().filter_map(|slot| self.row(slot))
    }

    /// Changes the row at `slot` for this view only.
    pub(crate) fn change(&mut self, slot: Slot, change: impl FnOnce(&mut HostState)) {
        if !self.changed.contains_key(&slot)
            && let Some(row) = self.table.at(slot)
        {
            self.changed.insert(slot, row.clone());
        }
        if let Some(row) = self.changed.get_mut(&slot) {
            change(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::table;

    #[test]
    fn a_change_is_seen_in_its_row_and_nowhere_else() {
        let table = table(3);
        let mut view = View::new(&table);
        view.change(Slot(1), |row| row.io_ops = 5);
        view.change(Slot(1), |row| row.io_ops += 1);
        let seen: Vec<u32> = view.rows().map(|row| row.io_ops).collect();
        assert_eq!(seen, [0, 6, 0]);
        assert_eq!(table.at(Slot(1)).unwrap().io_ops, 0);
    }
}
