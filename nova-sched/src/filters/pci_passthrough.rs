//! PCI devices that a request wants against those that the host has free.

use nova_core::domain::{HostState, Invalid, PciRequest, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts that have the request's PCI devices: all of them, taken one request after the
/// other.
///
/// How near they are to NUMA cells is not asked here but by [`NumaTopology`](super::NumaTopology),
/// for guests that have some.
#[derive(Debug, Default, Clone, Copy)]
pub struct PciPassthrough;

impl Filter for PciPassthrough {
    fn name(&self) -> &str {
        "pci-passthrough"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let has = request.pci.is_empty() || host.pci.check(&request.pci, None).is_ok();
        Verdict::pass_if(has, Reason("too few PCI devices of a kind"))
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        !request.pci.is_empty()
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        PciRequest::check_extra_spec(key, value)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{PciNumaPolicy, PciPool};

    use super::*;
    use crate::filters::check as check_filter;
    use crate::testkit::pci;

    /// A host with `free` devices, asked once for each of `wanted`.
    fn check(free: u32, wanted: &[u32], expected: Result<(), &str>) {
        check_filter(
            PciPassthrough,
            |host| {
                let vendor_id = "8086".to_owned();
                host.pci.pools = vec![PciPool { vendor_id, count: free, ..PciPool::default() }];
            },
            |request| {
                let one = |count: &u32| pci(*count, PciNumaPolicy::Required);
                request.pci = wanted.iter().map(one).collect();
            },
            expected,
        );
    }

    #[test]
    fn all_devices_must_be_there_at_the_same_time() {
        const SHORT: Result<(), &str> = Err("too few PCI devices of a kind");
        check(0, &[], Ok(()));
        check(3, &[3], Ok(()));
        check(3, &[2, 1], Ok(()));
        check(3, &[4], SHORT);
        check(3, &[2, 2], SHORT);
    }
}
