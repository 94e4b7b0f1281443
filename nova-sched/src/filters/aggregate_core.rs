//! Virtual CPUs for the request, with the ratio that aggregates name.

use nova_core::domain::{HostState, RequestSpec};

use super::{core::SHORT, room};
use crate::{Filter, Verdict};

/// [`Core`](super::Core) with the allocation ratio that the host's aggregates name as
/// `cpu_allocation_ratio`, the least of several; the host's own where they name none, or one that is no
/// number. A ratio above the host's own promises nothing: every policy asks for
/// [capacity](super::Capacity) too.
#[derive(Debug, Default, Clone, Copy)]
pub struct AggregateCore;

impl Filter for AggregateCore {
    fn name(&self) -> &str {
        "aggregate-core"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().vcpus, request.flavor.resources().vcpus);
        let key = Some("cpu_allocation_ratio");
        room::fits(host, &host.inventory.vcpus, key, used, wanted, SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};
    use crate::testkit::join_aggregate;

    #[test]
    fn the_least_ratio_of_the_aggregates_counts() {
        let ratio = |ratios: &'static [&str]| {
            move |h: &mut HostState| {
                ratios.iter().for_each(|r| join_aggregate(h, &[("cpu_allocation_ratio", r)]));
            }
        };
        check(AggregateCore, ratio(&[]), wants(8, 1, 0), Ok(()));
        check(AggregateCore, ratio(&["2", "0.5"]), wants(8, 1, 0), Err(SHORT.0));
        check(AggregateCore, ratio(&["2", "0.5"]), wants(4, 1, 0), Ok(()));
        check(AggregateCore, ratio(&["0.5", "half"]), wants(8, 1, 0), Ok(()));
        // However high the ratio: no guest over-commits against itself.
        check(AggregateCore, ratio(&["2"]), wants(9, 1, 0), Err(SHORT.0));
    }
}
