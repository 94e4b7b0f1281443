//! Work that is heavy on the disk.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Ends, Weigher};

/// Servers that are being built, moved or copied. Negative multipliers prefer idle hosts.
#[derive(Debug, Default, Clone, Copy)]
pub struct IoOps;

impl Weigher for IoOps {
    fn name(&self) -> &str {
        "io-ops"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        f64::from(host.io_ops)
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
    use super::*;
    use crate::weighers::check;

    #[test]
    fn every_busy_server_counts() {
        check(IoOps, |_| {}, |_| {}, 0.0);
        check(IoOps, |h| h.io_ops = 3, |_| {}, 3.0);
    }
}
