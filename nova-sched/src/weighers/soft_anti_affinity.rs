//! Server groups whose members keep apart where possible.

use nova_core::domain::{GroupPolicy, HostState, RequestSpec};

use crate::Weigher;

/// How many members of the request's soft-anti-affinity group are there, below zero: fewer are
/// better under a positive multiplier.
#[derive(Debug, Default, Clone, Copy)]
pub struct SoftAntiAffinity;

impl Weigher for SoftAntiAffinity {
    fn name(&self) -> &str {
        "soft-anti-affinity"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        match &request.group {
            Some(group) if group.policy == GroupPolicy::SoftAntiAffinity => {
                -f64::from(group.members_on(host.id))
            }
            _ => 0.0,
        }
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.group.as_ref().is_some_and(|group| group.policy == GroupPolicy::SoftAntiAffinity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::join_group;
    use crate::weighers::check;

    #[test]
    fn every_member_counts_against_a_host_under_the_soft_rule_only() {
        let group = |policy| move |r: &mut RequestSpec| join_group(r, policy, &[(1, 3), (2, 5)]);
        check(SoftAntiAffinity, |_| {}, |_| {}, 0.0);
        check(SoftAntiAffinity, |_| {}, group(GroupPolicy::SoftAntiAffinity), -3.0);
        check(SoftAntiAffinity, |_| {}, group(GroupPolicy::AntiAffinity), 0.0);
    }
}
