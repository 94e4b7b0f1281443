//! Hosts that are not busier with their disks than their aggregates allow.

use nova_core::domain::{HostState, RequestSpec};

use super::{aggregates, io_ops::BUSY};
use crate::{Filter, Verdict};

/// [`IoOps`](super::IoOps) with the limit that the host's aggregates name as
/// `max_io_ops_per_host`, the least of several; `max` where they name none, or one that is no
/// whole number.
#[derive(Debug, Clone, Copy)]
pub struct AggregateIoOps {
    /// The limit of hosts whose aggregates name none.
    pub max: u32,
}

impl Filter for AggregateIoOps {
    fn name(&self) -> &str {
        "aggregate-io-ops"
    }

    fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
        let named = aggregates::least_integer(host, "max_io_ops_per_host");
        Verdict::pass_if(i128::from(host.io_ops) < named.unwrap_or(self.max.into()), BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;
    use crate::testkit::join_aggregate;

    #[test]
    fn the_least_limit_of_the_aggregates_counts() {
        let busy = |limits: &'static [&str]| {
            move |h: &mut HostState| {
                h.io_ops = 2;
                limits.iter().for_each(|l| join_aggregate(h, &[("max_io_ops_per_host", l)]));
            }
        };
        let filter = AggregateIoOps { max: 2 };
        check(filter, busy(&[]), |_| {}, Err(BUSY.0));
        check(filter, busy(&["3"]), |_| {}, Ok(()));
        check(filter, busy(&["3", "2"]), |_| {}, Err(BUSY.0));
        check(filter, busy(&["3", "3.5"]), |_| {}, Err(BUSY.0));
    }
}
