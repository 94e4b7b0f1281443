//! Extra specs of the flavor against metadata of the host's aggregates.

use nova_core::domain::{HostState, Invalid, RequestSpec};

use super::aggregates;
use super::extra_specs_ops::{Mismatch, checked, matches, matches_as_nova};
use crate::{Filter, Reads, Reason, Rules, Runs, Verdict};

/// Passes hosts whose aggregates meet every extra spec of the flavor.
///
/// It reads keys of the scope `aggregate_instance_extra_specs:` and keys without a scope; other
/// scopes are not its business. Some aggregate of the host must have the key, and one of its
/// values must meet the requirement. A value in metadata may be several, joined by commas.
///
/// The language of requirements is that of Nova's `AggregateInstanceExtraSpecsFilter`. A
/// requirement that is malformed, or a value that is no number where a number is compared, rejects
/// the host for a reason of its own. Under [Nova's rules](Rules::Nova) it fails the whole request,
/// where it is not read halfway and ignored.
#[derive(Debug, Default, Clone, Copy)]
pub struct AggregateExtraSpecs {
    /// Whose rules hold.
    pub rules: Rules,
}

const SCOPE: &str = "aggregate_instance_extra_specs:";

const NO_KEY: Reason = Reason("no aggregate has the key of an extra spec");
const NO_MATCH: Reason = Reason("no aggregate's value meets an extra spec");
const NO_NUMBER: Reason = Reason("an aggregate's value is not a number");
const MALFORMED: Reason = Reason("an extra spec is malformed");

impl Filter for AggregateExtraSpecs {
    fn name(&self) -> &str {
        "aggregate-extra-specs"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let specs = request.flavor.extra_specs().iter();
        let ours = specs.filter_map(|(key, value)| Some((unscoped(key)?, value)));
        for (key, requirement) in ours {
            let verdict = self.meets(host, key, requirement);
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        Verdict::Pass
    }

    fn reads(&self) -> Reads {
        Reads::Class
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.flavor.extra_specs().iter().any(|(key, _)| unscoped(key).is_some())
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        unscoped(key).map(|_| checked(key, value))
    }
}

/// The metadata key that an extra spec's key stands for; none when it is of another scope.
fn unscoped(key: &str) -> Option<&str> {
    key.strip_prefix(SCOPE).or_else(|| (!key.contains(':')).then_some(key))
}

impl AggregateExtraSpecs {
    fn meets(&self, host: &HostState, key: &str, requirement: &str) -> Verdict {
        let mut nearest = Verdict::Reject(NO_KEY);
        for value in aggregates::values(host, key).flat_map(aggregates::pieces) {
            let met = match self.rules {
                Rules::Strict => matches(value, requirement),
                Rules::Nova => matches_as_nova(value, requirement),
            };
            match met {
                Ok(()) => return Verdict::Pass,
                // Worth telling even when other values could be compared.
                Err(Mismatch::Malformed) => nearest = Verdict::Error(MALFORMED),
                Err(Mismatch::ValueIsNoNumber) => nearest = Verdict::Error(NO_NUMBER),
                Err(Mismatch::Other) if matches!(nearest, Verdict::Error(_)) => {}
                Err(Mismatch::Other) => nearest = Verdict::Reject(NO_MATCH),
            }
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check as check_filter;
    use crate::testkit::{join_aggregate, set_spec};

    /// One extra spec, and the metadata of each aggregate of the host.
    fn check(spec: (&str, &str), aggregates: &[&[(&str, &str)]], expected: Result<(), Reason>) {
        check_filter(
            AggregateExtraSpecs::default(),
            |host| aggregates.iter().for_each(|metadata| join_aggregate(host, metadata)),
            |request| set_spec(request, spec.0, spec.1),
            expected.map_err(|reason| reason.0),
        );
    }

    #[test]
    fn a_key_is_read_with_its_scope_or_without_any() {
        check(("aggregate_instance_extra_specs:ssd", "true"), &[&[("ssd", "true")]], Ok(()));
        check(("ssd", "true"), &[&[("ssd", "true")]], Ok(()));
        check(("hw:ssd", "true"), &[], Ok(()));
    }

    #[test]
    fn a_key_that_no_aggregate_has_is_refused() {
        check(("ssd", "true"), &[], Err(NO_KEY));
        check(("ssd", "true"), &[&[("hdd", "true")]], Err(NO_KEY));
    }

    #[test]
    fn any_value_of_any_aggregate_may_meet_it() {
        check(("cpu", "v2"), &[&[("cpu", "v1, v2")]], Ok(()));
        check(("cpu", "v2"), &[&[("cpu", "v1")], &[("cpu", "v2")]], Ok(()));
        check(("cpu", "v2"), &[&[("cpu", "v1,v3")]], Err(NO_MATCH));
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        check(("cpus", ">= four"), &[&[("cpus", "4")]], Err(MALFORMED));
        check(("cpus", ">= 4"), &[&[("cpus", "many")]], Err(NO_NUMBER));
        check(("cpus", ">= 4"), &[&[("cpus", "many, 2")]], Err(NO_NUMBER));
        check(("cpus", ">= 4"), &[&[("cpus", "many, 8")]], Ok(()));
    }

    #[test]
    fn a_flavor_may_have_its_keys_and_no_others() {
        let says = |key, value| AggregateExtraSpecs::default().extra_spec(key, value);
        assert_eq!(says("ssd", "true"), Some(Ok(())));
        assert_eq!(says("aggregate_instance_extra_specs:ssd", "true"), Some(Ok(())));
        assert!(matches!(says("ssd", ">= many"), Some(Err(_))));
        assert_eq!((says("hw:ssd", "true"), says("capabilities:ssd", "true")), (None, None));
    }
}
