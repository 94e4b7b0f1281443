//! Free memory.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Ends, Weigher};

/// Memory that is physically free, in mebibytes: what was measured, or what is there less what is
/// reserved and claimed; without the allocation ratio, as in Nova. Positive multipliers spread, negative ones pack.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ram;

impl Weigher for Ram {
    fn name(&self) -> &str {
        "ram"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        host.free_memory() as f64
    }

    fn by_host(&self) -> bool {
        true
    }

    fn ends(&self) -> Ends {
        Ends::at_least(0.0)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{AllocationRatio, MiB, Stock};

    use super::*;
    use crate::weighers::{check, claim};

    #[test]
    fn what_is_claimed_and_what_is_reserved_are_not_free() {
        check(Ram, |_| {}, |_| {}, 8192.0);
        check(Ram, claim, |_| {}, 7168.0);
        let reserve = |h: &mut HostState| {
            h.inventory.memory = Stock::new(MiB(8192)).with_reserved(MiB(192)).unwrap();
        };
        check(Ram, reserve, |_| {}, 8000.0);
    }

    #[test]
    fn the_ratio_does_not_count() {
        let ratio = AllocationRatio::new(4.0).unwrap();
        let over = |h: &mut HostState| h.inventory.memory = h.inventory.memory.with_ratio(ratio);
        check(Ram, over, |_| {}, 8192.0);
    }
}
