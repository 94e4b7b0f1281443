//! Free virtual CPUs.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Ends, Weigher};

/// Virtual CPUs that may still be promised: `total * ratio` less what is reserved and claimed, as
/// in Nova. Positive multipliers spread, negative ones pack.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cpu;

impl Weigher for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        let vcpus = &host.inventory.vcpus;
        // Nova counts the reserve as used, so that here the ratio does not apply to it.
        f64::from(vcpus.total().get()) * vcpus.ratio().get() - host.vcpus_used() as f64
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
    use nova_core::domain::{AllocationRatio, Stock, Vcpus};

    use super::*;
    use crate::weighers::{check, claim};

    #[test]
    fn what_is_claimed_is_not_free() {
        check(Cpu, |_| {}, |_| {}, 8.0);
        check(Cpu, claim, |_| {}, 6.0);
    }

    #[test]
    fn the_ratio_applies_to_the_total_and_not_to_the_reserve() {
        let over = |h: &mut HostState| {
            let stock = Stock::new(Vcpus(8)).with_ratio(AllocationRatio::new(4.0).unwrap());
            h.inventory.vcpus = stock.with_reserved(Vcpus(1)).unwrap();
        };
        check(Cpu, over, |_| {}, 31.0);
    }
}
