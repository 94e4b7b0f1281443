//! How many others seem to be placing servers at the same time.
//!
//! A placement that loses its commit lost it to somebody who chose the same host. The more of
//! that a conductor sees, the more hosts it lets chance decide among, so that those who decide at
//! the same time seldom decide the same. One that never loses leaves every choice to the
//! scheduler.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::OpId;

/// The fewest hosts that chance decides among after a conflict.
const AMONG_MIN: usize = 16;
/// The most.
const AMONG_MAX: usize = 128;

/// What one conductor has seen of the others.
#[derive(Debug, Default)]
pub(crate) struct Rivals(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    among: usize,
    /// How often the placements under way have lost.
    lost: BTreeMap<OpId, u32>,
}

impl Rivals {
    /// Among how many of the best hosts chance has to decide; 0 when it need not.
    pub(crate) fn among(&self) -> usize {
        self.seen().among
    }

    /// How often this placement has lost its commit.
    pub(crate) fn lost(&self, op: OpId) -> u32 {
        self.seen().lost.get(&op).copied().unwrap_or(0)
    }

    /// A placement lost its commit.
    pub(crate) fn lose(&self, op: OpId) {
        let mut seen = self.seen();
        seen.among = (seen.among * 2).clamp(AMONG_MIN, AMONG_MAX);
        *seen.lost.entry(op).or_default() += 1;
    }

    /// A placement is over.
    pub(crate) fn settle(&self, op: OpId) {
        let mut seen = self.seen();
        seen.lost.remove(&op);
        seen.among = seen.among.saturating_sub(1);
    }

    /// An operation is not run any more, however it ended.
    pub(crate) fn forget(&self, op: OpId) {
        self.seen().lost.remove(&op);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_conflicts_leave_a_choice_to_chance_and_only_for_a_while() {
        let (rivals, op) = (Rivals::default(), OpId::from_u128(1));
        rivals.settle(op);
        assert_eq!((rivals.among(), rivals.lost(op)), (0, 0));
        rivals.lose(op);
        assert_eq!((rivals.among(), rivals.lost(op)), (AMONG_MIN, 1));
        (0..9).for_each(|_| rivals.lose(op));
        assert_eq!((rivals.among(), rivals.lost(op)), (AMONG_MAX, 10));
        rivals.forget(op);
        assert_eq!((rivals.among(), rivals.lost(op)), (AMONG_MAX, 0));
        (0..AMONG_MAX).for_each(|_| rivals.settle(op));
        assert_eq!((rivals.among(), rivals.lost(op)), (0, 0));
    }
}
