//! Local disk for the request, with the ratio that aggregates name.

use nova_core::domain::{HostState, RequestSpec};

use super::{disk::SHORT, room};
use crate::{Filter, Verdict};

/// [`Disk`](super::Disk) with the allocation ratio that the host's aggregates name as
/// `disk_allocation_ratio`, the least of several; the host's own where they name none, or one that is no
/// number. A ratio above the host's own promises nothing: every policy asks for
/// [capacity](super::Capacity) too.
#[derive(Debug, Default, Clone, Copy)]
pub struct AggregateDisk;

impl Filter for AggregateDisk {
    fn name(&self) -> &str {
        "aggregate-disk"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().disk, request.flavor.resources().disk);
        let key = Some("disk_allocation_ratio");
        room::fits(host, &host.inventory.disk, key, used, wanted, SHORT)
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
                ratios.iter().for_each(|r| join_aggregate(h, &[("disk_allocation_ratio", r)]));
            }
        };
        check(AggregateDisk, ratio(&[]), wants(1, 1, 100), Ok(()));
        check(AggregateDisk, ratio(&["2", "0.5"]), wants(1, 1, 100), Err(SHORT.0));
        check(AggregateDisk, ratio(&["2", "0.5"]), wants(1, 1, 50), Ok(()));
        check(AggregateDisk, ratio(&["0.5", "half"]), wants(1, 1, 100), Ok(()));
        // However high the ratio: no guest over-commits against itself.
        check(AggregateDisk, ratio(&["2"]), wants(1, 1, 101), Err(SHORT.0));
    }
}
