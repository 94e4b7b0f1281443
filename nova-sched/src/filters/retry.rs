//! Hosts where this request failed before.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Runs, Verdict};

/// Passes hosts that the request has not been tried on yet.
#[derive(Debug, Default, Clone, Copy)]
pub struct Retry;

impl Filter for Retry {
    fn name(&self) -> &str {
        "retry"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        Verdict::pass_if(!request.tried.contains(&host.id), Reason("failed there before"))
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        !request.tried.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::HostId;

    use super::*;
    use crate::filters::check;

    #[test]
    fn a_host_that_was_tried_is_not_tried_again() {
        let tried = |id| move |r: &mut RequestSpec| r.tried = [HostId::from_u128(id)].into();
        check(Retry, |_| {}, |_| {}, Ok(()));
        check(Retry, |_| {}, tried(2), Ok(()));
        check(Retry, |_| {}, tried(1), Err("failed there before"));
    }
}
