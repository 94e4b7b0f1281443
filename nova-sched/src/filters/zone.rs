//! Availability zones.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reads, Reason, Runs, Verdict};

/// Passes hosts of the zone that the request names; without one, all.
///
/// A host is in exactly one zone, which is a field of the host. Nova derives it from aggregate
/// metadata, where a host could be in several.
#[derive(Debug, Default, Clone, Copy)]
pub struct Zone;

impl Filter for Zone {
    fn name(&self) -> &str {
        "zone"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let passes = request.zone.as_ref().is_none_or(|zone| *zone == host.zone);
        Verdict::pass_if(passes, Reason("in another zone"))
    }

    fn reads(&self) -> Reads {
        Reads::Class
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.zone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::ZoneName;

    use super::*;
    use crate::filters::check;

    #[test]
    fn a_request_without_a_zone_goes_anywhere() {
        check(Zone, |_| {}, |_| {}, Ok(()));
    }

    #[test]
    fn a_request_with_a_zone_stays_in_it() {
        let zone = |name: &str| ZoneName::new(name).ok();
        check(Zone, |_| {}, |r| r.zone = zone("a"), Ok(()));
        check(Zone, |_| {}, |r| r.zone = zone("b"), Err("in another zone"));
    }
}
