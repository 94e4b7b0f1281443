//! Server groups whose members stay together.

use nova_core::domain::{GroupPolicy, HostState, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts that have a member of the request's affinity group; all, while it has none.
#[derive(Debug, Default, Clone, Copy)]
pub struct Affinity;

impl Filter for Affinity {
    fn name(&self) -> &str {
        "affinity"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let Some(group) = &request.group else { return Verdict::Pass };
        let passes = group.policy != GroupPolicy::Affinity
            || group.hosts.is_empty()
            || group.hosts.contains(&host.id);
        Verdict::pass_if(passes, Reason("the group is on another host"))
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.group.as_ref().is_some_and(|group| group.policy == GroupPolicy::Affinity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;
    use crate::testkit::join_group;

    fn grouped(members: &'static [(u128, u32)]) -> impl FnOnce(&mut RequestSpec) {
        move |request| join_group(request, GroupPolicy::Affinity, members)
    }

    #[test]
    fn the_first_member_goes_anywhere_and_the_rest_follow() {
        check(Affinity, |_| {}, |_| {}, Ok(()));
        check(Affinity, |_| {}, grouped(&[]), Ok(()));
        check(Affinity, |_| {}, grouped(&[(1, 1)]), Ok(()));
        check(Affinity, |_| {}, grouped(&[(2, 1)]), Err("the group is on another host"));
    }

    #[test]
    fn other_rules_are_not_its_business() {
        let soft = |r: &mut RequestSpec| join_group(r, GroupPolicy::SoftAffinity, &[(2, 1)]);
        check(Affinity, |_| {}, soft, Ok(()));
    }
}
