//! Hosts that are kept for some projects.

use nova_core::domain::{HostState, RequestSpec};

use super::aggregates;
use crate::{Filter, Reads, Reason, Runs, Verdict};

/// Passes hosts whose aggregates keep them for nobody, or for the project that asks, among others:
/// under any metadata key that starts with `filter_tenant_id`, which may name several projects
/// joined by commas. It does not keep these projects from other hosts. Nova calls it
/// `AggregateMultiTenancyIsolation`.
#[derive(Debug, Default, Clone, Copy)]
pub struct AggregateMultiTenancy;

impl Filter for AggregateMultiTenancy {
    fn name(&self) -> &str {
        "aggregate-multi-tenancy"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let metadata = host.aggregates.iter().flat_map(|aggregate| aggregate.metadata.iter());
        let projects = metadata.filter(|(key, _)| key.starts_with("filter_tenant_id"));
        let mut kept = projects.flat_map(|(_, value)| aggregates::pieces(value)).peekable();
        let passes = kept.peek().is_none() || kept.any(|name| name == request.project.as_str());
        Verdict::pass_if(passes, Reason("kept for other projects"))
    }

    fn reads(&self) -> Reads {
        Reads::Class
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;
    use crate::testkit::join_aggregate;

    #[test]
    fn a_host_is_kept_for_the_projects_that_its_aggregates_name() {
        let kept = |key: &'static str, value: &'static str| {
            move |h: &mut HostState| join_aggregate(h, &[(key, value)])
        };
        let filter = AggregateMultiTenancy;
        check(filter, |_| {}, |_| {}, Ok(()));
        check(filter, kept("tenant", "q"), |_| {}, Ok(()));
        check(filter, kept("filter_tenant_id", "q, p"), |_| {}, Ok(()));
        check(filter, kept("filter_tenant_id2", "q"), |_| {}, Err("kept for other projects"));
    }
}
