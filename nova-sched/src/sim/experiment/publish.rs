//! What a bench writes for people and for other programs.

use std::collections::BTreeMap;
use std::fs;

use super::ExperimentError;
use super::bench::{Bench, Outcome};
use super::compare::{Comparison, Key, key_of};
use super::files::{failed, write, write_json};
use super::page::{DRAWN_MAX, Page};
use super::runs::Run;
use super::table::Metric;

/// What was published.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// How many runs are in it.
    pub runs: usize,
    /// The names of those that are not there yet.
    pub missing: Vec<String>,
    /// Every policy against the baseline.
    pub comparison: Comparison,
}

/// A run in `results.json`.
#[derive(serde::Serialize)]
struct Row<'o> {
    id: &'o str,
    trace: &'o str,
    cluster: &'o str,
    swept: &'o BTreeMap<String, String>,
    policy: &'o str,
    seed: u64,
    metrics: BTreeMap<&'static str, f64>,
}

impl<'o> From<&'o Outcome> for Row<'o> {
    fn from(Outcome { id, run, report }: &'o Outcome) -> Self {
        let metric = |metric: &Metric| Some((metric.name, metric.of(report)?));
        Self {
            id,
            trace: &run.trace.name,
            cluster: &run.cluster.name,
            swept: &run.swept,
            policy: &run.policy.name,
            seed: run.seed,
            metrics: Metric::ALL.iter().filter_map(metric).collect(),
        }
    }
}

impl Bench {
    /// Compares all runs that are in the folder, and writes what is listed at
    /// [`experiment`](super). The reports of all runs are in memory meanwhile, but only of those
    /// that are drawn what was sampled.
    ///
    /// # Errors
    /// As of [`results`](Self::results).
    pub fn publish(&self) -> Result<Published, ExperimentError> {
        let mut settings: Vec<Key> = Vec::new();
        let drawn = |run: &Run| {
            let key = key_of(run);
            let is_new = !settings.contains(&key) && settings.len() < DRAWN_MAX;
            settings.extend(is_new.then(|| key.clone()));
            settings.contains(&key)
        };
        let (outcomes, missing) = self.results_with(drawn)?;
        let comparison = Comparison::new(&outcomes, self.experiment().compared_with());
        let rows: Vec<Row<'_>> = outcomes.iter().map(Row::from).collect();
        let file = |name| self.folder().join(name);
        write_json(&file("results.json"), &rows)?;
        write_json(&file("comparison.json"), &comparison)?;
        write(&file("comparison.csv"), comparison.csv().as_bytes())?;
        #[cfg(feature = "parquet")]
        self.write_comparison(&comparison)?;
        write(&file("comparison.md"), comparison.markdown().as_bytes())?;
        let manifest = file("manifest.json");
        let manifest = fs::read_to_string(&manifest).map_err(|source| failed(&manifest, source))?;
        let page = Page {
            experiment: self.experiment(),
            outcomes: &outcomes,
            comparison: &comparison,
            missing: &missing,
            manifest: &manifest,
        };
        write(&file("report.html"), page.html().as_bytes())?;
        Ok(Published { runs: outcomes.len(), missing, comparison })
    }
}
