//! Local disk that the request takes whole.

use nova_core::domain::{HostState, RequestSpec};

use super::room;
use crate::{Filter, Reason, Verdict};

/// Passes hosts whose free local disk is exactly what the flavor asks for, as whole machines
/// are given away. Nova had it until 2018.
#[derive(Debug, Default, Clone, Copy)]
pub struct ExactDisk;

const OTHER: Reason = Reason("another amount of disk");

impl Filter for ExactDisk {
    fn name(&self) -> &str {
        "exact-disk"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().disk, request.flavor.resources().disk);
        room::is_exactly(&host.inventory.disk, used, wanted, OTHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn neither_more_nor_less_will_do() {
        check(ExactDisk, |_| {}, wants(1, 1, 100), Ok(()));
        check(ExactDisk, |_| {}, wants(1, 1, 101), Err(OTHER.0));
        check(ExactDisk, |_| {}, wants(1, 1, 50), Err(OTHER.0));
    }

    #[test]
    fn what_is_claimed_is_not_free() {
        check(ExactDisk, crate::weighers::claim, wants(1, 1, 100), Err(OTHER.0));
    }
}
