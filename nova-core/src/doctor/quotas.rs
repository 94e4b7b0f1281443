//! What must be true of what projects have.

use std::collections::BTreeMap;

use crate::doctor::Snapshot;
use crate::domain::{Quantum, Resources};

pub(super) fn usage_within_quota(s: &Snapshot) -> Vec<String> {
    let mut usage: BTreeMap<_, (u64, Resources)> = BTreeMap::new();
    for server in &s.instances {
        let (count, sum) = usage.entry(&server.project).or_default();
        (*count, *sum) = (*count + 1, sum.saturating_add(server.usage()));
    }
    let mut wrong = Vec::new();
    for (project, used) in usage {
        let row = s.quotas.iter().find(|quota| quota.project == *project);
        let limits = row.map(|row| row.quota).unwrap_or_default();
        let had = row.and_then(|row| row.had).unwrap_or_default();
        // Limits may be lowered below what there is; only what came after that is wrong.
        let quanta = |(count, sum): (u64, Resources)| {
            [
                (Quantum::Instances, count),
                (Quantum::Vcpus, sum.vcpus.0.into()),
                (Quantum::Memory, sum.memory.0),
            ]
        };
        for ((quantum, used), (_, had)) in quanta(used).into_iter().zip(quanta(had)) {
            if let (Err(over), true) = (limits.admits(quantum, used, 0), used > had) {
                wrong.push(format!("project {project} is over quota: {over}"));
            }
        }
    }
    wrong
}
