//! Policies compared: means over seeds, how sure they are, and differences to the baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::bench::Outcome;
use super::runs::Run;
use super::stats::{CONFIDENCE, Interval, RESAMPLES, bootstrap, holm, mean, sign_flip};
use super::table::Metric;
use crate::sim::columns::Columns;

/// Every policy against the baseline, apart for every trace, cluster and values of sweeps.
///
/// A seed is one observation: runs of two policies with the same seed saw the same trace, so they
/// are compared in pairs. Where all metrics of a policy are the same under every seed, seeds are
/// repetitions and no observations of their own: then there is neither an interval nor a test.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The policy that the others are compared with.
    pub baseline: String,
    /// How sure intervals are, as a share.
    pub confidence: f64,
    /// How many resamples they are made of.
    pub resamples: usize,
    /// One for each trace, cluster and values of sweeps, in the order of runs.
    pub settings: Vec<Setting>,
}

/// What all policies met alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Setting {
    /// The trace.
    pub trace: String,
    /// The cluster.
    pub cluster: String,
    /// The values of sweeps, by what they set.
    pub swept: BTreeMap<String, String>,
    /// Whether there is a policy whose results differ from seed to seed.
    pub seeds_differ: bool,
    /// In the order of [`Metric::ALL`], without those that no run has.
    pub metrics: Vec<Compared>,
}

/// One metric of every policy.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Compared {
    /// The name of the [`Metric`].
    pub metric: String,
    /// In the order of the experiment.
    pub policies: Vec<Estimate>,
}

/// One metric of one policy.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The policy.
    pub policy: String,
    /// So many seeds have the metric.
    pub seeds: usize,
    /// The mean over them.
    pub mean: f64,
    /// The interval of the mean; none with one seed, or where seeds do not differ.
    pub interval: Option<Interval>,
    /// The policy less the baseline; none of the baseline itself, and without a common seed.
    pub difference: Option<Difference>,
}

/// A policy less the baseline, in pairs of runs with the same seed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// So many seeds have both.
    pub pairs: usize,
    /// The mean of the differences.
    pub mean: f64,
    /// The interval of that mean.
    pub interval: Option<Interval>,
    /// How likely a mean as far from 0 is if policies were the same; none where seeds do not differ
    /// or no difference is other than 0.
    pub p: Option<f64>,
    /// The same, corrected for all policies that are compared here, by Holm.
    pub p_corrected: Option<f64>,
}

/// What is the same for all runs that are compared with each other.
pub(super) type Key = (String, String, BTreeMap<String, String>);

pub(super) fn key_of(run: &Run) -> Key {
    (run.trace.name.clone(), run.cluster.name.clone(), run.swept.clone())
}

/// The runs of one policy by seed.
type BySeed<'o> = BTreeMap<u64, &'o Outcome>;

impl Comparison {
    /// Compares runs with those of `baseline`. They are in the order of the experiment.
    pub fn new(outcomes: &[Outcome], baseline: &str) -> Self {
        let mut keys: Vec<Key> = Vec::new();
        let mut known: BTreeMap<Key, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            let key = key_of(&outcome.run);
            let same = known.entry(key.clone()).or_insert_with(|| {
                keys.push(key);
                Vec::new()
            });
            same.push(outcome);
        }
        let setting = |key: Key| {
            let runs = known.remove(&key).unwrap_or_default();
            Setting::new(key, &runs, baseline)
        };
        Self {
            baseline: baseline.to_owned(),
            confidence: CONFIDENCE,
            resamples: RESAMPLES,
            settings: keys.into_iter().map(setting).collect(),
        }
    }

    /// A row for each setting, metric and policy, with all digits.
    pub fn csv(&self) -> String {
        self.columns().csv()
    }

    pub(super) fn columns(&self) -> Columns {
        let rows: Vec<(&Setting, &Compared, &Estimate)> = self
            .settings
            .iter()
            .flat_map(|setting| setting.metrics.iter().map(move |metric| (setting, metric)))
            .flat_map(|(s, metric)| metric.policies.iter().map(move |policy| (s, metric, policy)))
            .collect();
        let all = || rows.iter().copied();
        let differences = || all().map(|(_, _, estimate)| estimate.difference.as_ref());
        let interval = || all().map(|(_, _, estimate)| estimate.interval);
        let of_mean = || differences().map(|d| d.and_then(|d| d.interval));
        let mut columns = Columns::default()
            .with("trace", all().map(|(setting, ..)| setting.trace.clone()))
            .with("cluster", all().map(|(setting, ..)| setting.cluster.clone()));
        let swept: BTreeSet<&String> = self.settings.iter().flat_map(|s| s.swept.keys()).collect();
        for set in swept {
            columns = columns.with(set, all().map(|(setting, ..)| setting.swept.get(set).cloned()));
        }
        columns
            .with("metric", all().map(|(_, compared, _)| compared.metric.clone()))
            .with("policy", all().map(|(_, _, estimate)| estimate.policy.clone()))
            .with("seeds", all().map(|(_, _, estimate)| estimate.seeds as u64))
            .with("mean", all().map(|(_, _, estimate)| estimate.mean))
            .with("low", interval().map(|ends| ends.map(|ends| ends.low)))
            .with("high", interval().map(|ends| ends.map(|ends| ends.high)))
            .with("baseline", differences().map(|d| d.map(|_| self.baseline.clone())))
            .with("pairs", differences().map(|d| d.map(|d| d.pairs as u64)))
            .with("difference", differences().map(|d| d.map(|d| d.mean)))
            .with("difference_low", of_mean().map(|ends| ends.map(|ends| ends.low)))
            .with("difference_high", of_mean().map(|ends| ends.map(|ends| ends.high)))
            .with("p", differences().map(|d| d.and_then(|d| d.p)))
            .with("p_corrected", differences().map(|d| d.and_then(|d| d.p_corrected)))
    }

    /// For a terminal: metrics in which policies differ.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for setting in &self.settings {
            let _ = writeln!(text, "{}\n", setting.title());
            let rows = setting.rows(&self.baseline);
            let mut widths = vec![0; rows[0].len()];
            for row in &rows {
                for (width, cell) in widths.iter_mut().zip(row) {
                    *width = cell.chars().count().max(*width);
                }
            }
            for row in &rows {
                let mut line = String::new();
                for (width, cell) in widths.iter().zip(row) {
                    let _ = write!(line, "{cell:<width$}  ");
                }
                let _ = writeln!(text, "{}", line.trim_end());
            }
            for note in setting.notes() {
                let _ = writeln!(text, "\n{note}");
            }
            text.push('\n');
        }
        text
    }

    /// The same as a document in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for setting in &self.settings {
            let _ = writeln!(text, "## {}\n", plain(&setting.title()));
            for (nth, row) in setting.rows(&self.baseline).iter().enumerate() {
                let cells: Vec<String> = row.iter().map(|cell| plain(cell)).collect();
                let _ = writeln!(text, "| {} |", cells.join(" | "));
                if nth == 0 {
                    let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
                }
            }
            for note in setting.notes() {
                let _ = writeln!(text, "\n{}", plain(&note));
            }
            text.push('\n');
        }
        text
    }
}

impl Setting {
    fn new((trace, cluster, swept): Key, runs: &[&Outcome], baseline: &str) -> Self {
        let mut order: Vec<&str> = Vec::new();
        let mut policies: BTreeMap<&str, BySeed<'_>> = BTreeMap::new();
        for outcome in runs {
            let name = outcome.run.policy.name.as_str();
            if !policies.contains_key(name) {
                order.push(name);
            }
            policies.entry(name).or_default().insert(outcome.run.seed, outcome);
        }
        let differing: BTreeSet<&str> =
            policies.iter().filter(|(_, runs)| seeds_differ(runs)).map(|(name, _)| *name).collect();
        let compared = |metric: &Metric| {
            let values: BTreeMap<&str, BTreeMap<u64, f64>> = policies
                .iter()
                .map(|(name, runs)| {
                    let value = |(seed, o): (&u64, &&Outcome)| Some((*seed, metric.of(&o.report)?));
                    (*name, runs.iter().filter_map(value).collect())
                })
                .collect();
            let base = values.get(baseline);
            let estimate = |name: &&str| {
                let by_seed = values.get(name)?;
                let all: Vec<f64> = by_seed.values().copied().collect();
                let base = base.filter(|_| *name != baseline);
                let differ = [*name, baseline].iter().any(|name| differing.contains(name));
                Some(Estimate {
                    policy: (*name).to_owned(),
                    seeds: all.len(),
                    mean: mean(&all)?,
                    interval: bootstrap(&all).filter(|_| differing.contains(name)),
                    difference: base.and_then(|base| Difference::new(by_seed, base, differ)),
                })
            };
            let mut policies: Vec<Estimate> = order.iter().filter_map(estimate).collect();
            let p = |estimate: &Estimate| estimate.difference.as_ref().and_then(|diff| diff.p);
            let corrected = holm(&policies.iter().map(p).collect::<Vec<_>>());
            for (estimate, p) in policies.iter_mut().zip(corrected) {
                if let Some(difference) = &mut estimate.difference {
                    difference.p_corrected = p;
                }
            }
            (!policies.is_empty()).then(|| Compared { metric: metric.name.to_owned(), policies })
        };
        let metrics = Metric::ALL.iter().filter_map(compared).collect();
        Self { trace, cluster, swept, seeds_differ: !differing.is_empty(), metrics }
    }

    /// What it is called.
    pub fn title(&self) -> String {
        let mut title = format!("{} on {}", self.trace, self.cluster);
        for (set, value) in &self.swept {
            let _ = write!(title, ", {set} = {value}");
        }
        title
    }

    /// Metrics in which policies differ, or the only policy's.
    pub fn differing(&self) -> impl Iterator<Item = &Compared> {
        self.metrics.iter().filter(|compared| compared.differs())
    }

    /// A head, then a row for each metric and policy, with as many digits as people read.
    pub(super) fn rows(&self, baseline: &str) -> Vec<Vec<String>> {
        let less = format!("less {baseline}");
        let head =
            ["metric", "policy", "mean", "95 % interval", &less, "95 % interval", "p (Holm)"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for compared in self.differing() {
            for (nth, estimate) in compared.policies.iter().enumerate() {
                let title = if nth == 0 { compared.title().to_owned() } else { String::new() };
                let (mut less, mut interval, mut p) = (String::new(), String::new(), String::new());
                if let Some(difference) = &estimate.difference {
                    less = shown(difference.mean);
                    interval = between(difference.interval);
                    p = difference.p_corrected.map_or_else(|| "-".to_owned(), shown);
                }
                let (mean, own) = (shown(estimate.mean), between(estimate.interval));
                rows.push(vec![title, estimate.policy.clone(), mean, own, less, interval, p]);
            }
        }
        rows
    }

    /// What has to be said beside the rows.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let seeds = self.metrics.iter().flat_map(|compared| &compared.policies);
        let seeds: BTreeSet<usize> = seeds.map(|estimate| estimate.seeds).collect();
        if seeds.last().is_some_and(|seeds| *seeds < 2) {
            notes.push("One seed: nothing can be said about chance.".to_owned());
        } else if !self.seeds_differ {
            notes.push(
                "Every seed gave the same: seeds are repetitions here, and nothing can be said about \
                 chance. A window of the trace for each seed (window_s) makes them differ."
                    .to_owned(),
            );
        }
        let compared = self.metrics.iter().flat_map(|compared| &compared.policies);
        let pairs = compared.filter_map(|estimate| Some(estimate.difference.as_ref()?.pairs)).max();
        let others = self.metrics.iter().map(|compared| compared.policies.len()).max().unwrap_or(1);
        let (pairs, others) = (pairs.unwrap_or(0), others.saturating_sub(1));
        // Two of all flips are as far as can be: all on one side.
        let least = 2.0 / 2_f64.powi(pairs.min(64) as i32) * others as f64;
        if self.seeds_differ && pairs > 1 && least > 1.0 - CONFIDENCE {
            notes.push(format!(
                "With {pairs} seeds and {others} comparisons no p value is below {}, however large \
                 the difference.",
                shown(least.min(1.0))
            ));
        }
        let same = self.metrics.iter().filter(|compared| !compared.differs());
        let same: Vec<String> = same
            .filter_map(|compared| {
                let first = compared.policies.first()?;
                Some(format!("{} {}", compared.title(), shown(first.mean)))
            })
            .collect();
        if !same.is_empty() {
            notes.push(format!("The same for all: {}.", same.join("; ")));
        }
        notes
    }
}

impl Compared {
    /// What the metric is, for people.
    pub fn title(&self) -> &str {
        Metric::named(&self.metric).map_or(&self.metric, |metric| metric.title)
    }

    /// Whether a policy's mean or any pair is other than that of the first.
    fn differs(&self) -> bool {
        let [first, others @ ..] = &self.policies[..] else { return false };
        others.is_empty()
            || others.iter().any(|other| {
                let paired = other.difference.as_ref();
                other.mean != first.mean || paired.is_some_and(|diff| diff.p.is_some())
            })
    }
}

impl Difference {
    fn new(
        policy: &BTreeMap<u64, f64>,
        baseline: &BTreeMap<u64, f64>,
        seeds_differ: bool,
    ) -> Option<Self> {
        let less = |(seed, value): (&u64, &f64)| Some(value - baseline.get(seed)?);
        let differences: Vec<f64> = policy.iter().filter_map(less).collect();
        // One pair cannot tell chance from difference: its p value would always be 1.
        let tested = seeds_differ && differences.len() > 1;
        Some(Self {
            pairs: differences.len(),
            mean: mean(&differences)?,
            interval: bootstrap(&differences).filter(|_| tested),
            p: sign_flip(&differences).filter(|_| tested),
            p_corrected: None,
        })
    }
}

/// Whether any metric of a policy is not the same under every seed.
fn seeds_differ(runs: &BySeed<'_>) -> bool {
    let metrics = |outcome: &Outcome| -> Vec<Option<f64>> {
        Metric::ALL.iter().map(|metric| metric.of(&outcome.report)).collect()
    };
    let mut all = runs.values().map(|outcome| metrics(outcome));
    let first = all.next();
    all.any(|other| Some(&other) != first.as_ref())
}

/// A number as people read it: four digits, or all of a whole number.
pub(super) fn shown(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if size >= 1000.0 || (size >= 1.0 && size.fract() == 0.0) {
        return format!("{value:.0}");
    }
    if size < 1e-4 {
        return format!("{value:.1e}");
    }
    // Compared instead of computed: logarithms are not the same on every platform.
    let limits = [100.0, 10.0, 1.0, 0.1, 0.01, 0.001];
    let decimals = limits.iter().position(|limit| size >= *limit).map_or(7, |at| at + 1);
    format!("{value:.decimals$}")
}

fn between(interval: Option<Interval>) -> String {
    interval.map_or_else(
        || "-".to_owned(),
        |Interval { low, high }| format!("{} to {}", shown(low), shown(high)),
    )
}

/// Text that Markdown takes for nothing but text.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        if r"\`*_{}[]<>#|&".contains(character) {
            plain.push('\\');
        }
        plain.push(if character.is_control() { ' ' } else { character });
    }
    plain
}
