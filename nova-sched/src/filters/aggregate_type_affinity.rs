//! Hosts that are kept for some flavors.

use nova_core::domain::{HostState, RequestSpec};

use super::aggregates;
use crate::{Filter, Reads, Reason, Runs, Verdict};

/// Passes hosts whose aggregates name no flavor as `instance_type`, or the flavor that is asked
/// for, among others: a value may be several, joined by commas.
#[derive(Debug, Default, Clone, Copy)]
pub struct AggregateTypeAffinity;

impl Filter for AggregateTypeAffinity {
    fn name(&self) -> &str {
        "aggregate-type-affinity"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let values = aggregates::values(host, "instance_type");
        let mut flavors = values.flat_map(aggregates::pieces).peekable();
        let wanted = request.flavor.name().as_str();
        let passes = flavors.peek().is_none() || flavors.any(|flavor| flavor == wanted);
        Verdict::pass_if(passes, Reason("kept for other flavors"))
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
    use crate::testkit::join_aggregate;

    #[test]
    fn a_host_is_kept_for_the_flavors_that_its_aggregates_name() {
        let kept = |values: &'static [&str]| {
            move |h: &mut HostState| {
                values.iter().for_each(|value| join_aggregate(h, &[("instance_type", value)]));
            }
        };
        let filter = AggregateTypeAffinity;
        check(filter, kept(&[]), |_| {}, Ok(()));
        check(filter, kept(&["g, f"]), |_| {}, Ok(()));
        check(filter, kept(&["g", "f"]), |_| {}, Ok(()));
        check(filter, kept(&["g", "F"]), |_| {}, Err("kept for other flavors"));
        check(filter, kept(&[""]), |_| {}, Err("kept for other flavors"));
    }
}
