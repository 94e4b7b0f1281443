//! Traits that flavor and image ask for against those that the host reports.

use nova_core::domain::{HostState, Invalid, RequestSpec, TraitName, TraitWish};

use crate::{Filter, Reason, Rules, Verdict};

/// Passes hosts that have every trait that the flavor (`trait:NAME = required`) or the image
/// requires, and none that the flavor forbids (`trait:NAME = forbidden`).
///
/// Any other value is an error. Under [Nova's rules](Rules::Nova) it says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traits {
    /// Whose rules hold.
    pub rules: Rules,
}

const MISSING: Reason = Reason("lacks a trait that is required");
const UNWANTED: Reason = Reason("has a trait that is forbidden");
const MALFORMED: Reason = Reason("a trait is neither required nor forbidden");

impl Filter for Traits {
    fn name(&self) -> &str {
        "traits"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        for (name, value) in wishes(request) {
            let has = host.report.traits.contains(name);
            match TraitWish::of(value) {
                Some(TraitWish::Required) if !has => return Verdict::Reject(MISSING),
                Some(TraitWish::Forbidden) if has => return Verdict::Reject(UNWANTED),
                None if self.rules == Rules::Strict => return Verdict::Error(MALFORMED),
                _ => {}
            }
        }
        Verdict::Pass
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        wishes(request).next().is_some()
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        TraitName::check_extra_spec(key, value)
    }
}

/// The traits that the request names, and what it says of each. Images only require: what else
/// they say has no meaning.
fn wishes(request: &RequestSpec) -> impl Iterator<Item = (&str, &str)> {
    let image = request.image.iter().filter(|(_, value)| *value == "required");
    let all = request.flavor.extra_specs().iter().chain(image);
    all.filter_map(|(key, value)| Some((key.strip_prefix(TraitName::SCOPE)?, value)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{ExtraSpecs, HostReport, ImageProperties};

    use super::*;
    use crate::filters::check as check_filter;

    /// A host that is `CUSTOM_GOLD` and can `HW_NIC_SRIOV`, asked for these.
    fn check(
        rules: Rules,
        specs: &[(&str, &str)],
        image: &[(&str, &str)],
        expected: Result<(), &str>,
    ) {
        check_filter(
            Traits { rules },
            |host| {
                let traits = ["CUSTOM_GOLD", "HW_NIC_SRIOV"].map(|name| name.parse().unwrap());
                let traits = traits.into();
                host.report = Arc::new(HostReport { traits, ..HostReport::default() });
            },
            |request| {
                let flavor = (*request.flavor).clone();
                let specs = ExtraSpecs::new(specs.iter().copied()).unwrap();
                request.flavor = Arc::new(flavor.with_extra_specs(specs));
                request.image = ImageProperties::new(image.iter().copied()).unwrap();
            },
            expected,
        );
    }

    #[test]
    fn what_is_required_is_there_and_what_is_forbidden_is_not() {
        let check =
            |specs: &[_], image: &[_], expected| check(Rules::Strict, specs, image, expected);
        check(&[("trait:CUSTOM_GOLD", "required")], &[], Ok(()));
        check(&[("trait:CUSTOM_RED", "forbidden")], &[], Ok(()));
        check(&[("trait:CUSTOM_RED", "required")], &[], Err(MISSING.0));
        check(&[("trait:CUSTOM_GOLD", "forbidden")], &[], Err(UNWANTED.0));
        check(&[], &[("trait:HW_NIC_SRIOV", "required")], Ok(()));
        check(&[], &[("trait:CUSTOM_RED", "required")], Err(MISSING.0));
        let both = [("trait:CUSTOM_GOLD", "required"), ("trait:HW_NIC_SRIOV", "forbidden")];
        check(&both, &[], Err(UNWANTED.0));
        check(&[("other:CUSTOM_RED", "required")], &[], Ok(()));
    }

    #[test]
    fn another_value_is_an_error_but_says_nothing_in_nova() {
        let specs = [("trait:CUSTOM_RED", "maybe")];
        check(Rules::Strict, &specs, &[], Err(MALFORMED.0));
        check(Rules::Nova, &specs, &[], Ok(()));
    }
}
