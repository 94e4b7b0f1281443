//! Hosts with PCI devices.

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;

/// 100 less the free PCI devices that guests may have, of which at most 99 count. A positive
/// multiplier keeps hosts with many devices free for servers that want them, and packs those.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pci;

impl Weigher for Pci {
    fn name(&self) -> &str {
        "pci"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        let free: u64 = host.pci.pools.iter().map(|pool| u64::from(pool.count)).sum();
        100.0 - free.min(99) as f64
    }

    fn by_host(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{PciPool, PciPools};

    use super::*;
    use crate::weighers::check;

    #[test]
    fn free_devices_count_up_to_99() {
        let has = |counts: &'static [u32]| {
            move |h: &mut HostState| {
                let pool = |count: &u32| PciPool { count: *count, ..PciPool::default() };
                h.pci = PciPools { pools: counts.iter().map(pool).collect() };
            }
        };
        check(Pci, has(&[]), |_| {}, 100.0);
        check(Pci, has(&[2, 3]), |_| {}, 95.0);
        check(Pci, has(&[60, 60]), |_| {}, 1.0);
    }
}
