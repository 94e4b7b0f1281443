//! The hint to keep away from other servers.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Runs, Verdict};

/// Passes hosts that have none of the servers of the `different_host` hint.
#[derive(Debug, Default, Clone, Copy)]
pub struct DifferentHost;

impl Filter for DifferentHost {
    fn name(&self) -> &str {
        "different-host"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let unwanted = &request.hints.different_host;
        let passes = !unwanted.iter().any(|id| host.has_instance(*id));
        Verdict::pass_if(passes, Reason("has a server to keep away from"))
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        !request.hints.different_host.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{InstanceId, Resources};

    use super::*;
    use crate::filters::check;

    #[test]
    fn one_of_the_unwanted_servers_is_too_many() {
        let has = |h: &mut HostState| h.claim(InstanceId::from_u128(7), Resources::ZERO);
        let avoids = |ids: &'static [u128]| {
            move |r: &mut RequestSpec| {
                r.hints.different_host = ids.iter().copied().map(InstanceId::from_u128).collect();
            }
        };
        check(DifferentHost, has, |_| {}, Ok(()));
        check(DifferentHost, has, avoids(&[6, 8]), Ok(()));
        check(DifferentHost, has, avoids(&[6, 7]), Err("has a server to keep away from"));
    }
}
