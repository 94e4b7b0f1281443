//! Memory that the request takes whole.

use nova_core::domain::{HostState, RequestSpec};

use super::room;
use crate::{Filter, Reason, Verdict};

/// Passes hosts whose free memory is exactly what the flavor asks for, as whole machines
/// are given away. Nova had it until 2018.
#[derive(Debug, Default, Clone, Copy)]
pub struct ExactRam;

const OTHER: Reason = Reason("another amount of memory");

impl Filter for ExactRam {
    fn name(&self) -> &str {
        "exact-ram"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().memory, request.flavor.resources().memory);
        room::is_exactly(&host.inventory.memory, used, wanted, OTHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn neither_more_nor_less_will_do() {
        check(ExactRam, |_| {}, wants(1, 8192, 0), Ok(()));
        check(ExactRam, |_| {}, wants(1, 8193, 0), Err(OTHER.0));
        check(ExactRam, |_| {}, wants(1, 4096, 0), Err(OTHER.0));
    }

    #[test]
    fn what_is_claimed_is_not_free() {
        check(ExactRam, crate::weighers::claim, wants(1, 8192, 0), Err(OTHER.0));
    }
}
