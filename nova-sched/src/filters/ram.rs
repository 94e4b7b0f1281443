//! Memory for the request.

use nova_core::domain::{HostState, RequestSpec};

use super::room;
use crate::{Filter, Reason, Verdict};

/// Passes hosts with memory for the flavor. [`Capacity`](super::Capacity), which every policy has,
/// asks the same of every resource; this is for chains that are made for one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ram;

pub(super) const SHORT: Reason = Reason("too little memory");

impl Filter for Ram {
    fn name(&self) -> &str {
        "ram"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let (used, wanted) = (host.used().memory, request.flavor.resources().memory);
        room::fits(host, &host.inventory.memory, None, used, wanted, SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn an_empty_host_takes_all_of_itself_and_not_one_more() {
        check(Ram, |_| {}, wants(1, 8192, 0), Ok(()));
        check(Ram, |_| {}, wants(1, 8193, 0), Err(SHORT.0));
    }
}
