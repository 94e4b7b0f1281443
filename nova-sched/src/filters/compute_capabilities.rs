//! Extra specs of the flavor against what the host says of itself.

use nova_core::domain::{HostState, Invalid, RequestSpec};
use serde_json::Value;

use super::attributes;
use super::extra_specs_ops::{Mismatch, checked, matches, matches_as_nova};
use crate::{Filter, Reason, Rules, Runs, Verdict};

/// Passes hosts that meet the flavor's extra specs of the scope `capabilities:`.
///
/// What follows the scope leads to a value: first the name of an attribute of the host, such as
/// `free_ram_mb` or `cpu_info`, or of one of its `stats`; then, joined by colons, the members of
/// objects in it, where text that is JSON counts as what it says. `hw:maxphysaddr_bits` asks for
/// so many bits of `cpu_info:maxphysaddr:bits` or more.
///
/// The requirements are written as those of [`AggregateExtraSpecs`](super::AggregateExtraSpecs).
/// Under [Nova's rules](Rules::Nova) a key without a scope is asked too, if it is the name of an
/// attribute or one of the host's stats.
#[derive(Debug, Default, Clone, Copy)]
pub struct ComputeCapabilities {
    /// Whose rules hold.
    pub rules: Rules,
}

const SCOPE: &str = "capabilities:";
const ADDRESS_BITS: &str = "hw:maxphysaddr_bits";
const MISSING: Reason = Reason("does not have what an extra spec asks for");
const NO_MATCH: Reason = Reason("does not meet an extra spec");
const NO_NUMBER: Reason = Reason("has no number where an extra spec asks for one");
const MALFORMED: Reason = Reason("an extra spec is malformed");

impl Filter for ComputeCapabilities {
    fn name(&self) -> &str {
        "compute-capabilities"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let specs = request.flavor.extra_specs();
        let asked = specs.iter().filter(|(key, _)| *key != ADDRESS_BITS);
        for (key, requirement) in asked {
            let Some(path) = self.path(host, key) else { continue };
            let verdict = self.meets(host, path, requirement);
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        match specs.get(ADDRESS_BITS) {
            Some(bits) => self.meets(host, "cpu_info:maxphysaddr:bits", &format!(">= {bits}")),
            None => Verdict::Pass,
        }
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.flavor.extra_specs().iter().any(|(key, _)| self.may_read(key))
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        if key == ADDRESS_BITS {
            let good = value.parse::<u32>().is_ok_and(|bits| (32..=64).contains(&bits));
            let bad = || Invalid::new("extra spec hw:maxphysaddr_bits", value, "32 to 64");
            return Some(if good { Ok(()) } else { Err(bad()) });
        }
        key.starts_with(SCOPE).then(|| checked(key, value))
    }
}

impl ComputeCapabilities {
    fn may_read(&self, key: &str) -> bool {
        let unscoped = self.rules == Rules::Nova && !key.contains(':');
        unscoped || key == ADDRESS_BITS || key.starts_with(SCOPE)
    }

    /// The way to the value that `key` asks for; none when it asks for nothing here.
    fn path<'a>(&self, host: &HostState, key: &'a str) -> Option<&'a str> {
        if key.contains(':') {
            return key.strip_prefix(SCOPE);
        }
        let known = attributes::NAMES.contains(&key) || host.report.stats.contains_key(key);
        (self.rules == Rules::Nova && known).then_some(key)
    }

    fn meets(&self, host: &HostState, path: &str, requirement: &str) -> Verdict {
        let Some(value) = look_up(host, path) else { return Verdict::Reject(MISSING) };
        let text = attributes::text(&value);
        let met = match self.rules {
            Rules::Strict => matches(&text, requirement),
            Rules::Nova => matches_as_nova(&text, requirement),
        };
        match met {
            Ok(()) => Verdict::Pass,
            Err(Mismatch::Other) => Verdict::Reject(NO_MATCH),
            Err(Mismatch::ValueIsNoNumber) => Verdict::Error(NO_NUMBER),
            Err(Mismatch::Malformed) => Verdict::Error(MALFORMED),
        }
    }
}

/// The value that `path` leads to; none when something on the way is not there.
fn look_up(host: &HostState, path: &str) -> Option<Value> {
    let mut parts = path.split(':');
    let first = parts.next()?;
    let stat = || host.report.stats.get(first).map(|value| Value::from(value.as_str()));
    let mut value = attributes::of(host, first).or_else(stat)?;
    for part in parts {
        if let Value::String(text) = &value {
            value = serde_json::from_str(text).ok()?;
        }
        value = value.as_object_mut()?.remove(part).filter(|value| !value.is_null())?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;

    use super::*;
    use crate::filters::check as check_filter;
    use crate::testkit::set_spec;

    fn check(rules: Rules, key: &str, value: &str, expected: Result<(), Reason>) {
        check_filter(
            ComputeCapabilities { rules },
            |host| {
                let cpu = r#"{"model": "Icelake", "features": ["avx", "avx2"],
                              "maxphysaddr": {"bits": 46}}"#;
                host.report = Arc::new(HostReport {
                    cpu_info: Some(cpu.to_owned()),
                    stats: [("grade".to_owned(), "gold".to_owned())].into(),
                    ..HostReport::default()
                });
            },
            |request| set_spec(request, key, value),
            expected.map_err(|reason| reason.0),
        );
    }

    #[test]
    fn a_path_leads_into_attributes_stats_and_what_is_json_in_them() {
        let strict = |key, value, expected| check(Rules::Strict, key, value, expected);
        strict("capabilities:vcpus_total", ">= 8", Ok(()));
        strict("capabilities:vcpus_total", ">= 9", Err(NO_MATCH));
        strict("capabilities:grade", "gold", Ok(()));
        strict("capabilities:stats:grade", "gold", Ok(()));
        strict("capabilities:cpu_info:model", "Icelake", Ok(()));
        strict("capabilities:cpu_info:features", "<in> 'avx'", Ok(()));
        strict("capabilities:cpu_info:sockets", "1", Err(MISSING));
        strict("capabilities:grade:deeper", "gold", Err(MISSING));
        strict("capabilities:colour", "red", Err(MISSING));
        strict("capabilities:grade", ">= 1", Err(NO_NUMBER));
        strict("capabilities:vcpus_total", ">= many", Err(MALFORMED));
    }

    #[test]
    fn address_bits_are_the_least_that_will_do() {
        check(Rules::Strict, "hw:maxphysaddr_bits", "46", Ok(()));
        check(Rules::Strict, "hw:maxphysaddr_bits", "47", Err(NO_MATCH));
    }

    #[test]
    fn keys_without_a_scope_are_asked_under_novas_rules_only() {
        check(Rules::Strict, "vcpus_total", "9", Ok(()));
        check(Rules::Nova, "vcpus_total", "9", Err(NO_MATCH));
        check(Rules::Nova, "grade", "gold", Ok(()));
        check(Rules::Nova, "colour", "red", Ok(()));
    }

    #[test]
    fn a_flavor_may_have_its_keys_when_they_are_well_formed() {
        let says = |key, value| ComputeCapabilities::default().extra_spec(key, value);
        assert_eq!(says("capabilities:grade", "gold"), Some(Ok(())));
        assert!(matches!(says("capabilities:vcpus_total", ">= many"), Some(Err(_))));
        assert!(matches!(says("hw:maxphysaddr_bits", "many"), Some(Err(_))));
        assert_eq!((says("grade", "gold"), says("hw:x", "y")), (None, None));
    }
}
