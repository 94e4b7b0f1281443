//! The hosts as one request sees them while it is being placed.

use nova_core::domain::HostState;

/// Rows of a table with copies of the few that the request's own earlier instances changed.
#[derive(Debug)]
pub(crate) struct View<'a> {
    rows: &'a [HostState],
    changed: Vec<HostState>,
    /// For each row 0, or one more than its place in `changed`. Empty until something changes, so
    /// that a request for one instance pays nothing for it.
    slots: Vec<usize>,
}

impl<'a> View<'a> {
    pub(crate) fn new(rows: &'a [HostState]) -> Self {
        Self { rows, changed: Vec::new(), slots: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row at `at`, which is below [`len`](Self::len).
    pub(crate) fn row(&self, at: usize) -> &HostState {
        match self.slots.get(at) {
            None | Some(0) => &self.rows[at],
            Some(slot) => &self.changed[slot - 1],
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &HostState> {
        (0..self.len()).map(|at| self.row(at))
    }

    /// Changes the row at `at` for this view only.
    pub(crate) fn change(&mut self, at: usize, change: impl FnOnce(&mut HostState)) {
        if self.slots.is_empty() {
            self.slots = vec![0; self.rows.len()];
        }
        if self.slots[at] == 0 {
            self.changed.push(self.rows[at].clone());
            self.slots[at] = self.changed.len();
        }
        change(&mut self.changed[self.slots[at] - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::table;

    #[test]
    fn a_change_is_seen_in_its_row_and_nowhere_else() {
        let table = table(3);
        let mut view = View::new(table.rows());
        view.change(1, |row| row.io_ops = 5);
        view.change(1, |row| row.io_ops += 1);
        let seen: Vec<u32> = view.rows().map(|row| row.io_ops).collect();
        assert_eq!(seen, [0, 6, 0]);
        assert_eq!(table.rows()[1].io_ops, 0);
    }
}
