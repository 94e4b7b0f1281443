//! Servers.

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;

/// How many servers are there, ours or not, as far as that was measured. Negative multipliers
/// spread, positive ones pack.
#[derive(Debug, Default, Clone, Copy)]
pub struct NumInstances;

impl Weigher for NumInstances {
    fn name(&self) -> &str {
        "num-instances"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        host.instances() as f64
    }

    fn by_host(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weighers::{check, claim};

    #[test]
    fn every_server_counts() {
        check(NumInstances, |_| {}, |_| {}, 0.0);
        check(NumInstances, claim, |_| {}, 1.0);
    }
}
