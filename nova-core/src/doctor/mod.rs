//! Is everything as it should be? Invariants as plain functions over one moment of a cloud.
//!
//! A [`Snapshot`] is what the records say and, where somebody has looked, what is really on the
//! hosts. [`examine`] holds all [`INVARIANTS`] against it. The fault simulator does so after every
//! commit; [`Admin::doctor`](crate::cloud::Admin::doctor) does it on a live cloud.
//!
//! # What is promised, and who looks
//!
//! | Promise | Looked at by |
//! |---|---|
//! | An address, MAC, VLAN, floating IP or volume has at most one owner, and it exists | the invariants on addresses, MACs, VLANs, floating IPs and volumes |
//! | Pools neither lose nor make anything | the same; no record holds a sum, and what nobody owns or rests is free |
//! | No CPU that a server has for itself and no PCI device has two owners | `a CPU of its own and a device have one owner` |
//! | Claims fit their host, usage its quota, group rules hold over claims | `claims fit their host`, `usage is within the quota`, `group rules hold over claims` |
//! | What was given back rests before it is given out again | not here, it takes two moments: the audit of `testing`, laws of the network port |
//! | A guest runs once, and what it uses is nobody else's | `no guest runs twice`, `a guest in memory has a claim where it is` |
//! | Old orders have no effect; ids are not used again; only listed changes of state happen; a request id means one request; what was acknowledged is not lost | not here, they take two moments: the simulator, `tests/cloud`, `domain` |
//! | A watch tells everything once, in order, or says that it cannot | laws of the store port, `store/races.rs` |
//! | Nothing on a host or behind a driver is without owner | `a guest has a record, and a record its guest`, the Idle invariants on volumes and images; a host's network: nova-net |
//! | Every operation ends, and leaves nothing half done | `nothing is left half done`, `no operation waits for a person`, the simulator's second phase |
//! | What is deleted leaves nothing | all Idle invariants; `tests/cloud/life.rs` compares a census |
//! | A host that hangs delays only what needs it; queues have limits | not here: `tests/cloud/regressions`, `tests/cloud/overload.rs`, laws of the bus port |
//! | The same seed is the same run | not here: `tests/cloud/chaos.rs` |
//!
//! Nothing here changes anything, and nothing is repaired: repairing is the work of operations
//! and agents, and a finding means that one of them is wrong.

mod checkup;
mod devices;
mod images;
mod invariants;
mod quotas;
mod security;
mod snapshot;
#[cfg(test)]
mod tests;
mod volumes;

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
