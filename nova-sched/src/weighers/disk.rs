//! Free disk.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Ends, Weigher};

/// Disk that is physically free, in mebibytes: what was measured, or what is there less what is
/// reserved and claimed; without the allocation ratio. Positive multipliers spread, negative ones pack.
///
/// Swap counts as disk, as it does when it is claimed; Nova's own bookkeeping in the scheduler
/// forgets it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Disk;

impl Weigher for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        host.free_disk() as f64
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
    use nova_core::domain::{GiB, Stock};

    use super::*;
    use crate::weighers::{check, claim};

    #[test]
    fn what_is_claimed_and_what_is_reserved_are_not_free() {
        check(Disk, |_| {}, |_| {}, 100.0 * 1024.0);
        check(Disk, claim, |_| {}, 90.0 * 1024.0);
        let reserve = |h: &mut HostState| {
            h.inventory.disk = Stock::new(GiB(100)).with_reserved(GiB(30)).unwrap();
        };
        check(Disk, reserve, |_| {}, 70.0 * 1024.0);
    }
}
