//! Hosts that are enabled and answer.

use nova_core::domain::{Admission, HostState, Liveness, RequestSpec};

use crate::{Filter, Reads, Reason, Runs, Verdict};

/// Passes hosts that an operator enabled and that are up. Nova calls it `ComputeFilter`.
///
/// Every policy has it: no scheduler may choose a host that is down or disabled.
#[derive(Debug, Default, Clone, Copy)]
pub struct HostUp;

impl Filter for HostUp {
    fn name(&self) -> &str {
        "host-up"
    }

    fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
        if host.admission != Admission::Enabled {
            Verdict::Reject(Reason("disabled"))
        } else {
            Verdict::pass_if(host.liveness == Liveness::Up, Reason("down"))
        }
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
    fn an_enabled_host_that_answers_passes() {
        check(HostUp, |_| {}, |_| {}, Ok(()));
    }

    #[test]
    fn a_disabled_host_is_refused_whether_it_answers_or_not() {
        check(HostUp, |h| h.admission = Admission::Disabled, |_| {}, Err("disabled"));
    }

    #[test]
    fn a_host_that_is_down_is_refused() {
        check(HostUp, |h| h.liveness = Liveness::Down, |_| {}, Err("down"));
    }
}
