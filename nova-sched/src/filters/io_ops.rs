//! Hosts that are not busy with their disks.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts on which fewer than so many servers are in a state that is heavy on the disk.
#[derive(Debug, Clone, Copy)]
pub struct IoOps {
    /// From how many on a host takes no more.
    pub max: u32,
}

pub(super) const BUSY: Reason = Reason("busy with as many disks as it may");

impl Filter for IoOps {
    fn name(&self) -> &str {
        "io-ops"
    }

    fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
        Verdict::pass_if(host.io_ops < self.max, BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;

    #[test]
    fn the_last_one_below_the_limit_passes() {
        check(IoOps { max: 2 }, |h| h.io_ops = 1, |_| {}, Ok(()));
        check(IoOps { max: 2 }, |h| h.io_ops = 2, |_| {}, Err(BUSY.0));
    }
}
