//! What tells a late call from one that may still take effect.

use std::collections::BTreeMap;

use crate::domain::VolumeId;

/// How far the cloud was when somebody began to do what a call is part of. Later attempts at
/// anything that concerns the same thing carry a higher one, and what has seen that refuses calls
/// with a lower one: they were overtaken on their way.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "f{}", self.0)
    }
}

/// The fences of volumes that were removed, so that no call from before makes one of them again.
///
/// The [`KEPT_MAX`](Self::KEPT_MAX) highest are known one by one. All earlier ones count as the
/// highest among them, and so does every volume that was never heard of: a call that is older than
/// so many removals is refused without need, and comes again with a higher fence.
///
/// ```
/// use nova_core::domain::{Fence, RemovedFences, VolumeId};
///
/// let mut removed = RemovedFences::default();
/// removed.note(VolumeId::from_u128(1), Fence(7));
/// assert_eq!(removed.seen(VolumeId::from_u128(1)), Fence(7));
/// assert_eq!(removed.seen(VolumeId::from_u128(2)), Fence(0));
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemovedFences {
    /// The highest fence of those that are not known one by one.
    others: Fence,
    kept: BTreeMap<VolumeId, Fence>,
}

impl RemovedFences {
    /// As many volumes are known one by one. More than are removed while one call is under way,
    /// and few enough to be written with every removal.
    pub const KEPT_MAX: usize = 1024;

    /// The highest fence that may have been seen for `volume`.
    pub fn seen(&self, volume: VolumeId) -> Fence {
        self.kept.get(&volume).copied().unwrap_or(self.others)
    }

    /// Notes that `volume` was removed by a call with `fence`.
    pub fn note(&mut self, volume: VolumeId, fence: Fence) {
        let fence = fence.max(self.seen(volume));
        self.kept.insert(volume, fence);
        if self.kept.len() > Self::KEPT_MAX {
            let lowest = self.kept.iter().min_by_key(|(_, fence)| **fence);
            if let Some((volume, fence)) = lowest.map(|(volume, fence)| (*volume, *fence)) {
                self.kept.remove(&volume);
                self.others = self.others.max(fence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = RemovedFences::KEPT_MAX as u64;

    #[test]
    fn what_is_not_known_one_by_one_counts_as_the_highest_of_it() {
        let mut removed = RemovedFences::default();
        // Out of order: it is the oldest that goes, not the one that was noted first.
        for number in (1..=MAX + 10).rev() {
            removed.note(VolumeId::from_u128(number.into()), Fence(number));
        }
        assert_eq!(removed.kept.len(), RemovedFences::KEPT_MAX);
        for (number, seen) in [(1, 10), (10, 10), (11, 11), (MAX + 10, MAX + 10), (MAX + 11, 10)] {
            assert_eq!(removed.seen(VolumeId::from_u128(number.into())), Fence(seen), "{number}");
        }
    }

    #[test]
    fn a_removal_that_is_noted_late_lowers_nothing() {
        let (mut removed, volume) = (RemovedFences::default(), VolumeId::from_u128(1));
        removed.note(volume, Fence(9));
        removed.note(volume, Fence(3));
        assert_eq!(removed.seen(volume), Fence(9));
        let text = serde_json::to_string(&removed).unwrap();
        assert_eq!(serde_json::from_str::<RemovedFences>(&text).unwrap(), removed);
    }
}
