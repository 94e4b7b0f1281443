//! Hosts that have not many servers.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts with fewer than so many servers.
#[derive(Debug, Clone, Copy)]
pub struct NumInstances {
    /// From how many on a host takes no more.
    pub max: u32,
}

pub(super) const CROWDED: Reason = Reason("has as many servers as it may");

impl Filter for NumInstances {
    fn name(&self) -> &str {
        "num-instances"
    }

    fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
        Verdict::pass_if(host.instances() < i64::from(self.max), CROWDED)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::Measured;

    use super::*;
    use crate::filters::check;
    use crate::weighers::claim;

    #[test]
    fn the_last_one_below_the_limit_passes() {
        check(NumInstances { max: 2 }, claim, |_| {}, Ok(()));
        check(NumInstances { max: 1 }, claim, |_| {}, Err(CROWDED.0));
    }

    #[test]
    fn servers_that_are_not_ours_count_where_they_were_measured() {
        let strangers = |h: &mut HostState| {
            h.measured = Some(Measured { instances: 5, ..Measured::default() });
        };
        check(NumInstances { max: 5 }, strangers, |_| {}, Err(CROWDED.0));
    }
}
