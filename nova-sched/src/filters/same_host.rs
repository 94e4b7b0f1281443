//! The hint to share a host with another server.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Runs, Verdict};

/// Passes hosts that have at least one of the servers of the `same_host` hint.
#[derive(Debug, Default, Clone, Copy)]
pub struct SameHost;

impl Filter for SameHost {
    fn name(&self) -> &str {
        "same-host"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let wanted = &request.hints.same_host;
        let passes = wanted.is_empty() || wanted.iter().any(|id| host.has_instance(*id));
        Verdict::pass_if(passes, Reason("has none of the wanted servers"))
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        !request.hints.same_host.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{InstanceId, Resources};

    use super::*;
    use crate::filters::check;

    #[test]
    fn one_of_the_wanted_servers_is_enough() {
        let has = |h: &mut HostState| h.claim(InstanceId::from_u128(7), Resources::ZERO);
        let wants = |ids: &'static [u128]| {
            move |r: &mut RequestSpec| {
                r.hints.same_host = ids.iter().copied().map(InstanceId::from_u128).collect();
            }
        };
        check(SameHost, has, |_| {}, Ok(()));
        check(SameHost, has, wants(&[6, 7]), Ok(()));
        check(SameHost, has, wants(&[6, 8]), Err("has none of the wanted servers"));
    }
}
