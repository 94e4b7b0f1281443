//! Newer hypervisors.

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;

/// The hypervisor's version, 0 where the host does not tell it: 6.2.0 is 6002000. Positive
/// multipliers prefer newer ones.
#[derive(Debug, Default, Clone, Copy)]
pub struct HypervisorVersion;

impl Weigher for HypervisorVersion {
    fn name(&self) -> &str {
        "hypervisor-version"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        host.hypervisor_version.unwrap_or(0) as f64
    }

    fn by_host(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighers::check;

    #[test]
    fn a_host_that_does_not_tell_has_the_oldest() {
        check(HypervisorVersion, |_| {}, |_| {}, 0.0);
        check(HypervisorVersion, |h| h.hypervisor_version = Some(6_002_000), |_| {}, 6_002_000.0);
    }
}
