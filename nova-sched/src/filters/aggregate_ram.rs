//! Memory for the request, with the ratio that aggregates name.

use nova_core::domain::{HostState, RequestSpec};

use super::{ram::SHORT, room};
use crate::{Filter, Verdict};

/// [`Ram`](super::Ram) with the allocation ratio that the host's aggregates name as
/// `ram_allocation_ratio`, the least of several; the host's own where they name none, or one that is no
/// number. A ratio above the host's own promises nothing: every policy asks for
/// [capacity](super::Capacity) too.
#[derive(Debug, Default, Clone, Copy)]
pub struct AggregateRam;

impl Filter for AggregateRam {
    fn name(&self) -> &str {
        "aggregate-ram"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().memory, request.flavor.resources().memory);
        let key = Some("ram_allocation_ratio");
        room::fits(host, &host.inventory.memory, key, used, wanted, SHORT)
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
                ratios.iter().for_each(|r| join_aggregate(h, &[("ram_allocation_ratio", r)]));
            }
        };
        check(AggregateRam, ratio(&[]), wants(1, 8192, 0), Ok(()));
        check(AggregateRam, ratio(&["2", "0.5"]), wants(1, 8192, 0), Err(SHORT.0));
        check(AggregateRam, ratio(&["2", "0.5"]), wants(1, 4096, 0), Ok(()));
        check(AggregateRam, ratio(&["0.5", "half"]), wants(1, 8192, 0), Ok(()));
        // However high the ratio: no guest over-commits against itself.
        check(AggregateRam, ratio(&["2"]), wants(1, 8193, 0), Err(SHORT.0));
    }
}
