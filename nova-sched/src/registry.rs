//! Filters, weighers and policies by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nova_core::domain::Invalid;

use crate::{Filter, FilterScheduler, PolicyConfig, Ties, Weigher, filters, weighers};

/// What can be named in configuration. Anybody may add filters, weighers and policies of their
/// own.
///
/// ```
/// use nova_sched::{PolicyConfig, Registry};
///
/// let calm = PolicyConfig::nova().with_weigher("io-ops", -5.0);
/// let registry = Registry::default().with_policy("calm", calm)?;
/// assert_eq!(registry.policy("calm")?.to_string(), "calm");
///
/// let unknown = registry.policy("clam").unwrap_err();
/// assert!(unknown.to_string().contains("best-fit, calm, first-fit"));
/// # Ok::<(), nova_sched::PolicyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    built_in: bool,
    filters: BTreeMap<String, Arc<dyn Filter>>,
    weighers: BTreeMap<String, Arc<dyn Weigher>>,
    policies: BTreeMap<String, PolicyConfig>,
}

/// A policy cannot be made, or a name is not free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Nothing bears the name.
    #[error("unknown {kind} {name:?}; known: {}", known.join(", "))]
    Unknown {
        /// What was looked for: a policy, a filter, a weigher.
        kind: &'static str,
        /// The name.
        name: String,
        /// What there is, sorted.
        known: Vec<String>,
    },
    /// Something else bears the name already, or the policy names it twice.
    #[error("{kind} {name:?} is there already")]
    Taken {
        /// What was to be added: a policy, a filter, a weigher.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A value of the policy is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Registry {
    /// Knows no filter, no weigher and no policy.
    pub fn empty() -> Self {
        let (filters, weighers, policies) = Default::default();
        Self { built_in: false, filters, weighers, policies }
    }

    /// Adds a filter under its name.
    ///
    /// # Errors
    /// [`PolicyError::Taken`] when there is a filter of that name.
    pub fn with_filter(mut self, filter: impl Filter) -> Result<Self, PolicyError> {
        let name = filter.name().to_owned();
        if self.built_in && filters::NAMES.contains(&filter.name()) {
            return Err(PolicyError::Taken { kind: "filter", name });
        }
        add(&mut self.filters, "filter", name, Arc::new(filter))?;
        Ok(self)
    }

    /// Adds a weigher under its name.
    ///
    /// # Errors
    /// [`PolicyError::Taken`] when there is a weigher of that name.
    pub fn with_weigher(mut self, weigher: impl Weigher) -> Result<Self, PolicyError> {
        let name = weigher.name().to_owned();
        if self.built_in && weighers::NAMES.contains(&weigher.name()) {
            return Err(PolicyError::Taken { kind: "weigher", name });
        }
        add(&mut self.weighers, "weigher", name, Arc::new(weigher))?;
        Ok(self)
    }

    /// Adds a policy, which may name what is here already.
    ///
    /// # Errors
    /// [`PolicyError`] when there is a policy of that name, or it cannot be made.
    pub fn with_policy(
        mut self,
        name: impl Into<String>,
        config: PolicyConfig,
    ) -> Result<Self, PolicyError> {
        let name = name.into();
        self.build(&name, &config)?;
        add(&mut self.policies, "policy", name, config)?;
        Ok(self)
    }

    /// The policy of this name.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`] when there is none.
    pub fn policy(&self, name: &str) -> Result<FilterScheduler, PolicyError> {
        let config = self.policies.get(name);
        self.build(name, config.ok_or_else(|| unknown("policy", name, self.policy_names()))?)
    }

    /// Makes a policy called `name` from `config`.
    ///
    /// # Errors
    /// [`PolicyError`] for a name that nothing bears, a filter or weigher that is named twice, and
    /// a multiplier or subset size out of range.
    pub fn build(&self, name: &str, config: &PolicyConfig) -> Result<FilterScheduler, PolicyError> {
        config.options.check()?;
        let mut chain: BTreeMap<&str, usize> = BTreeMap::new();
        let mut filters = Vec::with_capacity(config.filters.len());
        for filter in &config.filters {
            if chain.insert(filter, filters.len()).is_some() {
                return Err(PolicyError::Taken { kind: "filter", name: filter.clone() });
            }
            filters.push(self.filter(filter, config)?);
        }
        let mut policy = FilterScheduler::with_chain(name.to_owned(), config.rules, filters)
            .with_subset_size(config.subset_size)?
            .with_ties(if config.shuffle_best { Ties::Shuffled } else { Ties::InOrder });
        for weigher in &config.weighers {
            let known = self.weigher(&weigher.name, weigher.multiplier, config)?;
            policy = policy.with_weigher(known, weigher.multiplier)?;
        }
        Ok(policy)
    }

    fn filter(&self, name: &str, config: &PolicyConfig) -> Result<Arc<dyn Filter>, PolicyError> {
        let known = self.built_in.then(|| filters::named(name, &config.options, config.rules));
        let known = known.flatten().or_else(|| self.filters.get(name).cloned());
        known.ok_or_else(|| unknown("filter", name, self.filter_names()))
    }

    fn weigher(
        &self,
        name: &str,
        multiplier: f64,
        config: &PolicyConfig,
    ) -> Result<Arc<dyn Weigher>, PolicyError> {
        let (options, rules) = (&config.options, config.rules);
        let known = self.built_in.then(|| weighers::named(name, options, rules, multiplier));
        let known = known.flatten().or_else(|| self.weighers.get(name).cloned());
        known.ok_or_else(|| unknown("weigher", name, self.weigher_names()))
    }

    /// Names of the filters, sorted.
    pub fn filter_names(&self) -> impl Iterator<Item = &str> {
        let built_in = if self.built_in { &filters::NAMES[..] } else { &[] };
        let own = self.filters.keys().map(String::as_str);
        built_in.iter().copied().chain(own).collect::<BTreeSet<_>>().into_iter()
    }

    /// Names of the weighers, sorted.
    pub fn weigher_names(&self) -> impl Iterator<Item = &str> {
        let built_in = if self.built_in { &weighers::NAMES[..] } else { &[] };
        let own = self.weighers.keys().map(String::as_str);
        built_in.iter().copied().chain(own).collect::<BTreeSet<_>>().into_iter()
    }

    /// Names of the policies, sorted.
    pub fn policy_names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }
}

impl Default for Registry {
    /// Knows every filter and weigher that is built in, and the policies `nova`, `nova-compat`, `first-fit`,
    /// `best-fit` and `worst-fit`.
    fn default() -> Self {
        let policies = [
            ("nova", PolicyConfig::nova()),
            ("nova-compat", PolicyConfig::nova_compat()),
            ("first-fit", PolicyConfig::first_fit()),
            ("best-fit", PolicyConfig::best_fit()),
            ("worst-fit", PolicyConfig::worst_fit()),
        ];
        Self {
            built_in: true,
            policies: policies.map(|(name, config)| (name.to_owned(), config)).into(),
            ..Self::empty()
        }
    }
}

fn add<T>(
    things: &mut BTreeMap<String, T>,
    kind: &'static str,
    name: String,
    thing: T,
) -> Result<(), PolicyError> {
    if things.contains_key(&name) {
        return Err(PolicyError::Taken { kind, name });
    }
    things.insert(name, thing);
    Ok(())
}

fn unknown<'a>(
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> PolicyError {
    PolicyError::Unknown { kind, name: name.to_owned(), known: known.map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let config = toml::from_str(text).map_err(|error| error.message().to_owned());
        let built = config.and_then(|config| {
            Registry::default().build("mine", &config).map_err(|error| error.to_string())
        });
        let said = match built {
            Ok(policy) => {
                let weighers: Vec<_> = policy.weigher_names().collect();
                format!("{:?} {weighers:?}", policy.filter_names().collect::<Vec<_>>())
            }
            Err(error) => error,
        };
        assert!(said.contains(expected), "{said:?} lacks {expected:?}");
    }

    #[test]
    fn a_policy_is_what_its_configuration_names() {
        check(
            r#"filters = ["zone"]
               weighers = [{ name = "ram" }, { name = "cpu", multiplier = -2 }]"#,
            r#"["requested-hosts", "host-up", "capacity", "zone"] [("ram", 1.0), ("cpu", -2.0)]"#,
        );
    }

    #[test]
    fn a_policy_may_say_where_the_necessary_filters_run() {
        let expected = r#"["requested-hosts", "host-up", "zone", "capacity"]"#;
        check(r#"filters = ["zone", "capacity"]"#, expected);
    }

    #[test]
    fn an_unknown_name_lists_what_is_known() {
        check(r#"filters = ["zoen"]"#, r#"unknown filter "zoen"; known: affinity, aggregate"#);
        check(
            r#"weighers = [{ name = "RAM" }]"#,
            r#"unknown weigher "RAM"; known: build-failure, cpu, cross"#,
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        check("subset_size = 0", "subset_size: \"0\" is not allowed; allowed: at least 1");
        check(r#"weighers = [{ name = "ram", multiplier = nan }]"#, "weigher.multiplier: \"NaN\"");
        check(r#"weighers = [{ name = "ram", multiplier = 1e16 }]"#, "weigher.multiplier");
        check(r#"filters = ["zone", "zone"]"#, r#"filter "zone" is there already"#);
        check("sub_size = 1", "unknown field `sub_size`");
    }

    #[test]
    fn the_named_policies_are_the_same_in_code_and_in_configuration() {
        for policy in FilterScheduler::named() {
            let built = Registry::default().policy(&policy.to_string());
            assert_eq!(format!("{built:?}"), format!("Ok({policy:?})"));
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let again = Registry::default().with_filter(filters::Zone).map(|_| ());
        assert!(matches!(again, Err(PolicyError::Taken { kind: "filter", .. })));
    }
}
