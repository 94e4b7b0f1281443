//! Virtual CPUs that the request takes whole.

use nova_core::domain::{HostState, RequestSpec};

use super::room;
use crate::{Filter, Reason, Verdict};

/// Passes hosts whose free virtual CPUs is exactly what the flavor asks for, as whole machines
/// are given away. Nova had it until 2018.
#[derive(Debug, Default, Clone, Copy)]
pub struct ExactCore;

const OTHER: Reason = Reason("another number of vcpus");

impl Filter for ExactCore {
    fn name(&self) -> &str {
        "exact-core"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().vcpus, request.flavor.resources().vcpus);
        room::is_exactly(&host.inventory.vcpus, used, wanted, OTHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn neither_more_nor_less_will_do() {
        check(ExactCore, |_| {}, wants(8, 1, 0), Ok(()));
        check(ExactCore, |_| {}, wants(9, 1, 0), Err(OTHER.0));
        check(ExactCore, |_| {}, wants(4, 1, 0), Err(OTHER.0));
    }

    #[test]
    fn what_is_claimed_is_not_free() {
        check(ExactCore, crate::weighers::claim, wants(8, 1, 0), Err(OTHER.0));
    }
}
