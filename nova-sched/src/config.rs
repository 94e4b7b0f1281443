//! Policies as configuration.

use std::sync::Arc;

use crate::{Filter, Options, Rules, Weigher, filters, weighers};

/// A policy as people write it down: names of filters and weighers, from which a
/// [`Registry`](crate::Registry) makes a scheduler.
///
/// ```
/// use nova_sched::PolicyConfig;
///
/// let text = r#"
///     filters = ["zone", "anti-affinity"]
///     weighers = [{ name = "ram" }, { name = "io-ops", multiplier = -2.0 }]
///     subset_size = 3
/// "#;
/// let config: PolicyConfig = toml::from_str(text)?;
/// assert_eq!(config.weighers[1].multiplier, -2.0);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PolicyConfig {
    /// Names of filters, in the order in which they run. `requested-hosts`, `host-up` and
    /// `capacity` run first when they are not among them.
    pub filters: Vec<String>,
    /// Weighers, in the order in which their parts are added up.
    pub weighers: Vec<WeigherConfig>,
    /// From how many of the best hosts one is drawn; 1 takes the best.
    pub subset_size: usize,
    /// Whether hosts that are equally good, and better than all others, are shuffled.
    pub shuffle_best: bool,
    /// Whose rules the filters and weighers keep that are built in: `strict` or `nova`.
    pub rules: Rules,
    /// What they have to be told.
    pub options: Options,
}

/// One weigher of a policy.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
// Exhaustive on purpose: a name and a number, so that it can be written down as such.
pub struct WeigherConfig {
    /// Its name.
    pub name: String,
    /// What its normalised weight is multiplied with.
    #[serde(default = "one")]
    pub multiplier: f64,
}

impl Default for PolicyConfig {
    /// No filters but the three that every policy has, no weighers: the lowest host id with room.
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            weighers: Vec::new(),
            subset_size: 1,
            shuffle_best: false,
            rules: Rules::Strict,
            options: Options::default(),
        }
    }
}

impl PolicyConfig {
    /// [`FilterScheduler::nova`](crate::FilterScheduler::nova), written down.
    pub fn nova() -> Self {
        let weighers = weighers::defaults();
        Self::with_default_filters(weighers.iter().map(|(weigher, m)| (weigher.name(), *m)))
    }

    /// [`FilterScheduler::nova_compat`](crate::FilterScheduler::nova_compat), written down.
    pub fn nova_compat() -> Self {
        let chain = filters::nova_defaults();
        let filters = chain.iter().map(|filter| filter.name().to_owned()).collect();
        Self { filters, rules: Rules::Nova, ..Self::nova() }
    }

    /// [`FilterScheduler::first_fit`](crate::FilterScheduler::first_fit), written down.
    pub fn first_fit() -> Self {
        Self::with_default_filters([])
    }

    /// [`FilterScheduler::best_fit`](crate::FilterScheduler::best_fit), written down.
    pub fn best_fit() -> Self {
        Self::with_default_filters([(weighers::Cpu.name(), -1.0)])
    }

    /// [`FilterScheduler::worst_fit`](crate::FilterScheduler::worst_fit), written down.
    pub fn worst_fit() -> Self {
        Self::with_default_filters([(weighers::Cpu.name(), 1.0)])
    }

    /// Adds a filter behind the others.
    #[must_use]
    pub fn with_filter(mut self, name: impl Into<String>) -> Self {
        self.filters.push(name.into());
        self
    }

    /// Adds a weigher behind the others.
    #[must_use]
    pub fn with_weigher(mut self, name: impl Into<String>, multiplier: f64) -> Self {
        self.weighers.push(WeigherConfig { name: name.into(), multiplier });
        self
    }

    fn with_default_filters<'a>(weighers: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let name = |filter: &Arc<dyn Filter>| filter.name().to_owned();
        let filters = filters::defaults().iter().map(name).collect();
        let config = Self { filters, ..Self::default() };
        weighers.into_iter().fold(config, |config, (name, m)| config.with_weigher(name, m))
    }
}

fn one() -> f64 {
    1.0
}
