//! Is everything as it should be? Invariants as plain functions over one moment of a cloud.
//!
//! A [`Snapshot`] is what the records say and, where somebody has looked, what is really on the
//! hosts. [`examine`] holds all [`INVARIANTS`] against it. The fault simulator does so after every
//! commit; [`Admin::doctor`](crate::cloud::Admin::doctor) does it on a live cloud.
//!
//! Nothing here changes anything, and nothing is repaired: repairing is the work of operations
//! and agents, and a finding means that one of them is wrong.

mod checkup;
mod images;
mod invariants;
mod snapshot;
#[cfg(test)]
mod tests;

pub use checkup::Checkup;
pub use invariants::{INVARIANTS, Invariant, Strictness};
pub use snapshot::Snapshot;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// The invariant that does not hold.
    pub invariant: &'static str,
    /// What is wrong, with the names of everything concerned.
    pub detail: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// Holds every invariant against `snapshot`. `strictness` says whether work may be under way.
pub fn examine(snapshot: &Snapshot, strictness: Strictness) -> Vec<Finding> {
    let mut findings = Vec::new();
    for invariant in INVARIANTS {
        if invariant.strictness == Strictness::Idle && strictness == Strictness::Busy {
            continue;
        }
        let details = (invariant.check)(snapshot);
        findings.extend(
            details.into_iter().map(|detail| Finding { invariant: invariant.name, detail }),
        );
    }
    findings
}
