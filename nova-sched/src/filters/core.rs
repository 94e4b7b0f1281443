//! Virtual CPUs for the request.

use nova_core::domain::{HostState, RequestSpec};

use super::room;
use crate::{Filter, Reason, Verdict};

/// Passes hosts with virtual CPUs for the flavor. [`Capacity`](super::Capacity), which every policy has,
/// asks the same of every resource; this is for chains that are made for one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Core;

pub(super) const SHORT: Reason = Reason("too few vcpus");

impl Filter for Core {
    fn name(&self) -> &str {
        "core"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().vcpus, request.flavor.resources().vcpus);
        room::fits(host, &host.inventory.vcpus, None, used, wanted, SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn an_empty_host_takes_all_of_itself_and_not_one_more() {
        check(Core, |_| {}, wants(8, 1, 0), Ok(()));
        check(Core, |_| {}, wants(9, 1, 0), Err(SHORT.0));
    }
}
