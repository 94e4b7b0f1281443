//! Local disk for the request.

use nova_core::domain::{HostState, RequestSpec};

use super::room;
use crate::{Filter, Reason, Verdict};

/// Passes hosts with local disk for the flavor. [`Capacity`](super::Capacity), which every policy has,
/// asks the same of every resource; this is for chains that are made for one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Disk;

pub(super) const SHORT: Reason = Reason("too little disk");

impl Filter for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().disk, request.flavor.resources().disk);
        room::fits(host, &host.inventory.disk, None, used, wanted, SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn an_empty_host_takes_all_of_itself_and_not_one_more() {
        check(Disk, |_| {}, wants(1, 1, 100), Ok(()));
        check(Disk, |_| {}, wants(1, 1, 101), Err(SHORT.0));
    }
}
