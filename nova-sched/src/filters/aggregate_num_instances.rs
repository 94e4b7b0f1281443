//! Hosts that have no more servers than their aggregates allow.

use nova_core::domain::{HostState, RequestSpec};

use super::{aggregates, num_instances::CROWDED};
use crate::{Filter, Verdict};

/// [`NumInstances`](super::NumInstances) with the limit that the host's aggregates name as
/// `max_instances_per_host`, the least of several; `max` where they name none, or one that is no
/// whole number.
#[derive(Debug, Clone, Copy)]
pub struct AggregateNumInstances {
    /// The limit of hosts whose aggregates name none.
    pub max: u32,
}

impl Filter for AggregateNumInstances {
    fn name(&self) -> &str {
        "aggregate-num-instances"
    }

    fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
        let named = aggregates::least_integer(host, "max_instances_per_host");
        let limit = named.unwrap_or(self.max.into());
        Verdict::pass_if(i128::from(host.instances()) < limit, CROWDED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;
    use crate::testkit::join_aggregate;
    use crate::weighers::claim;

    #[test]
    fn the_least_limit_of_the_aggregates_counts() {
        let with = |limits: &'static [&str]| {
            move |h: &mut HostState| {
                claim(h);
                limits.iter().for_each(|l| join_aggregate(h, &[("max_instances_per_host", l)]));
            }
        };
        let filter = AggregateNumInstances { max: 1 };
        check(filter, with(&[]), |_| {}, Err(CROWDED.0));
        check(filter, with(&["2"]), |_| {}, Ok(()));
        check(filter, with(&["2", "-1"]), |_| {}, Err(CROWDED.0));
        check(filter, with(&["2", "two"]), |_| {}, Err(CROWDED.0));
    }
}
