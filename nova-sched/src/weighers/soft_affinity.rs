//! Server groups whose members stay together where possible.

use nova_core::domain::{GroupPolicy, HostState, RequestSpec};

use crate::Weigher;

/// How many members of the request's soft-affinity group are there.
#[derive(Debug, Default, Clone, Copy)]
pub struct SoftAffinity;

impl Weigher for SoftAffinity {
    fn name(&self) -> &str {
        "soft-affinity"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        match &request.group {
            Some(group) if group.policy == GroupPolicy::SoftAffinity => {
                f64::from(group.members_on(host.id))
            }
            _ => 0.0,
        }
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.group.as_ref().is_some_and(|group| group.policy == GroupPolicy::SoftAffinity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::join_group;
    use crate::weighers::check;

    #[test]
    fn every_member_counts_under_the_soft_rule_only() {
        let group = |policy| move |r: &mut RequestSpec| join_group(r, policy, &[(1, 3), (2, 5)]);
        check(SoftAffinity, |_| {}, |_| {}, 0.0);
        check(SoftAffinity, |_| {}, group(GroupPolicy::SoftAffinity), 3.0);
        check(SoftAffinity, |_| {}, group(GroupPolicy::Affinity), 0.0);
    }
}
