//! The simulations that an experiment is made of.

use std::collections::BTreeMap;

use super::ExperimentError;
use super::config::{Experiment, NamedCluster, NamedPolicy, TraceConfig, wrong};
use crate::sim::Scenario;

/// Values of sweeps, as people read them, by what they set.
pub type Swept = BTreeMap<String, String>;

/// One simulation of an experiment.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Run {
    /// The trace.
    pub trace: TraceConfig,
    /// The cluster.
    pub cluster: NamedCluster,
    /// The policy.
    pub policy: NamedPolicy,
    /// What happens besides.
    pub scenario: Scenario,
    /// The values of the sweeps, by what they set.
    pub swept: Swept,
    /// The seed.
    pub seed: u64,
}

impl Experiment {
    /// Every run, in the order of sweeps, traces, clusters, policies and seeds.
    ///
    /// # Errors
    /// [`ExperimentError`] when a sweep sets something that does not exist, a value makes no sense
    /// there, or there are more than [`RUNS_MAX`](Self::RUNS_MAX).
    pub fn runs(&self) -> Result<Vec<Run>, ExperimentError> {
        let product = |n: usize, more: usize| n.saturating_mul(more);
        let sizes = [self.traces.len(), self.clusters.len(), self.policies.len(), self.seeds.len()];
        let swept = self.sweeps.iter().map(|sweep| sweep.values.len());
        let all = sizes.into_iter().chain(swept).fold(1, product);
        if all > Self::RUNS_MAX {
            return Err(wrong(format!("{all} runs; at most {} are allowed", Self::RUNS_MAX)));
        }
        let mut runs = Vec::with_capacity(all);
        for (experiment, swept) in self.swept()? {
            for trace in &experiment.traces {
                for cluster in &experiment.clusters {
                    for policy in &experiment.policies {
                        for seed in &experiment.seeds {
                            runs.push(Run {
                                trace: trace.clone(),
                                cluster: cluster.clone(),
                                policy: policy.clone(),
                                scenario: experiment.scenario.clone(),
                                swept: swept.clone(),
                                seed: *seed,
                            });
                        }
                    }
                }
            }
        }
        Ok(runs)
    }

    /// The experiment for every combination of the values of its sweeps.
    fn swept(&self) -> Result<Vec<(Self, Swept)>, ExperimentError> {
        let plain = Self { sweeps: Vec::new(), ..self.clone() };
        let value = toml::Value::try_from(&plain).map_err(|error| wrong(error.to_string()))?;
        let mut all = vec![(value, BTreeMap::new())];
        for sweep in &self.sweeps {
            let mut more = Vec::new();
            for (base, named) in &all {
                for value in &sweep.values {
                    let (mut changed, mut named) = (base.clone(), named.clone());
                    put(&mut changed, &sweep.set, value.clone()).ok_or_else(|| {
                        wrong(format!("a sweep sets {:?}, which is not there", sweep.set))
                    })?;
                    named.insert(sweep.set.clone(), shown(value));
                    more.push((changed, named));
                }
            }
            all = more;
        }
        let read = |(value, named): (toml::Value, Swept)| {
            let experiment: Self = value.try_into()?;
            experiment.check()?;
            Ok((experiment, named))
        };
        all.into_iter().map(read).collect()
    }
}

/// Sets a value, and what it stands in where that is absent; none where it can stand in nothing.
fn put(value: &mut toml::Value, path: &str, new: toml::Value) -> Option<()> {
    let (place, rest) = path.split_once('.').unwrap_or((path, ""));
    let inner = match value {
        toml::Value::Table(table) if !place.is_empty() => {
            let empty = || toml::Value::Table(toml::Table::new());
            table.entry(place).or_insert_with(empty)
        }
        toml::Value::Array(list) => list.get_mut(place.parse::<usize>().ok()?)?,
        _ => return None,
    };
    if rest.is_empty() {
        *inner = new;
        return Some(());
    }
    put(inner, rest, new)
}

/// A value as people read it.
pub(super) fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}
