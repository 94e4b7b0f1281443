//! Server groups whose members keep apart.

use nova_core::domain::{GroupPolicy, HostState, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts that have fewer members of the request's anti-affinity group than the group
/// allows on one host.
///
/// A host that has the instance itself passes: an instance that is placed anew, for a resize, may
/// stay where it is.
#[derive(Debug, Default, Clone, Copy)]
pub struct AntiAffinity;

impl Filter for AntiAffinity {
    fn name(&self) -> &str {
        "anti-affinity"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let Some(group) = &request.group else { return Verdict::Pass };
        let passes = group.policy != GroupPolicy::AntiAffinity
            || group.members_on(host.id) < group.max_per_host
            || request.instances.first().is_some_and(|own| host.has_instance(*own));
        Verdict::pass_if(passes, Reason("has as many members of the group as it may"))
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.group.as_ref().is_some_and(|group| group.policy == GroupPolicy::AntiAffinity)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{InstanceId, Resources};

    use super::*;
    use crate::filters::check;
    use crate::testkit::join_group;

    const FULL: Result<(), &str> = Err("has as many members of the group as it may");

    fn grouped(members: &'static [(u128, u32)], max: u32) -> impl FnOnce(&mut RequestSpec) {
        move |request| {
            join_group(request, GroupPolicy::AntiAffinity, members);
            if let Some(group) = &mut request.group {
                group.max_per_host = max;
            }
        }
    }

    #[test]
    fn a_host_takes_as_many_members_as_the_group_allows() {
        check(AntiAffinity, |_| {}, |_| {}, Ok(()));
        check(AntiAffinity, |_| {}, grouped(&[(2, 5)], 1), Ok(()));
        check(AntiAffinity, |_| {}, grouped(&[(1, 1)], 1), FULL);
        check(AntiAffinity, |_| {}, grouped(&[(1, 1)], 2), Ok(()));
    }

    #[test]
    fn an_instance_may_stay_where_it_is() {
        let own = |h: &mut HostState| h.claim(InstanceId::from_u128(1), Resources::ZERO);
        check(AntiAffinity, own, grouped(&[(1, 1)], 1), Ok(()));
    }

    #[test]
    fn other_rules_are_not_its_business() {
        let soft = |r: &mut RequestSpec| join_group(r, GroupPolicy::SoftAntiAffinity, &[(1, 9)]);
        check(AntiAffinity, |_| {}, soft, Ok(()));
    }
}
