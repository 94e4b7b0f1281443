//! Every host.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reads, Runs, Verdict};

/// Passes every host. Nova calls it `AllHostsFilter`; it makes a chain that has nothing else say so.
#[derive(Debug, Default, Clone, Copy)]
pub struct AllHosts;

impl Filter for AllHosts {
    fn name(&self) -> &str {
        "all-hosts"
    }

    fn check(&self, _: &HostState, _: &RequestSpec) -> Verdict {
        Verdict::Pass
    }

    fn reads(&self) -> Reads {
        Reads::Class
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;

    #[test]
    fn every_host_passes() {
        check(AllHosts, |_| {}, |_| {}, Ok(()));
    }
}
