//! Hosts on which servers could not be built.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Sense, Weigher};

/// Servers that could not be built there since one was. A positive multiplier avoids such hosts.
#[derive(Debug, Default, Clone, Copy)]
pub struct BuildFailure;

impl Weigher for BuildFailure {
    fn name(&self) -> &str {
        "build-failure"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        f64::from(host.failed_builds)
    }

    fn by_host(&self) -> bool {
        true
    }

    fn sense(&self) -> Sense {
        Sense::Avoid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighers::check;

    #[test]
    fn every_failure_counts() {
        check(BuildFailure, |_| {}, |_| {}, 0.0);
        check(BuildFailure, |h| h.failed_builds = 3, |_| {}, 3.0);
        assert_eq!(BuildFailure.sense(), Sense::Avoid);
    }
}
