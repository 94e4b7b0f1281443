//! An experiment as people write it down.

use std::path::{Path, PathBuf};

use nova_core::domain::{GiB, MiB, Resources, Vcpus};

use crate::PolicyConfig;
use crate::sim::trace::MemoryUnit;
use crate::sim::{ClusterConfig, Follow, HostGroup, Scenario};

use super::ExperimentError;
use super::runs::shown;

/// What to simulate: every trace on every cluster under every policy with every value of every
/// sweep, once for each seed.
///
/// ```
/// use nova_sched::sim::experiment::Experiment;
///
/// let text = r#"
///     name = "first"
///     seeds = [1, 2, 3]
///     baseline = "best-fit"
///
///     [[traces]]
///     name = "azure"
///     file = "azure_v1_dev.csv"
///     window_s = 86400
///
///     [[clusters]]
///     name = "small"
///     hosts = [{ name = "h", count = 60, vcpus = 64, memory_mib = 262144 }]
///
///     [[policies]]
///     name = "best-fit"
///
///     [[policies]]
///     name = "two-of-all"
///     of = "worst-fit"
///     power_of = 2
///
///     [scenario.waiting]
///     patience_s = 600
///
///     [[sweeps]]
///     set = "scenario.waiting.patience_s"
///     values = [600, 3600]
/// "#;
/// let experiment = Experiment::from_toml(text)?;
/// assert_eq!(experiment.runs()?.len(), 2 * 2 * 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Experiment {
    /// What it is called in reports.
    pub name: String,
    /// One run each; a run's chance is all its seed's.
    pub seeds: Vec<u64>,
    /// The policy that the others are compared with; the first when it is absent.
    #[serde(default)]
    pub baseline: Option<String>,
    /// What comes.
    pub traces: Vec<TraceConfig>,
    /// Where it goes.
    pub clusters: Vec<NamedCluster>,
    /// Who decides.
    pub policies: Vec<NamedPolicy>,
    /// What happens besides.
    #[serde(default)]
    pub scenario: Scenario,
    /// Values that are tried one after the other.
    #[serde(default)]
    pub sweeps: Vec<Sweep>,
}

/// A trace of an experiment: a file, or made by chance.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TraceConfig {
    /// What it is called.
    pub name: String,
    /// A file, beside the experiment's where it is no absolute path.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The format, by the names of [`Format`](crate::sim::trace::Format); recognised when it is
    /// absent.
    #[serde(default)]
    pub format: Option<String>,
    /// The table `vmType` of the packing trace.
    #[serde(default)]
    pub vm_types: Option<PathBuf>,
    /// The machine of which the trace tells shares.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// What OpenDC's trace tells memory in, `mib` or `kib`; `mib` when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_unit: Option<MemoryUnit>,
    /// What each VM takes, of a trace that tells of use alone.
    #[serde(default)]
    pub shape: Option<Machine>,
    /// Or: rows that are drawn.
    #[serde(default)]
    pub synthetic: Option<crate::sim::trace::synthetic::Recipe>,
    /// What the VMs use of their vCPUs, as series that were measured.
    #[serde(default)]
    pub courses: Option<CoursesConfig>,
    /// So many copies at once, each a random time later than the one before, up to an hour. Of a log
    /// of decisions, the VMs of further copies ask for room only.
    #[serde(default = "once")]
    pub copies: u32,
    /// Each seed sees only a window of so many seconds, drawn from the whole: those that come in it,
    /// with time from its beginning. So seeds differ where a policy draws nothing.
    #[serde(default)]
    pub window_s: Option<u64>,
}

/// Series of use for the VMs of a trace.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CoursesConfig {
    /// Series of PlanetLab, a folder, an archive or a file, or OpenDC's folder; the trace's own file
    /// when it is absent.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Which VM follows which.
    #[serde(default)]
    pub follow: Follow,
}

/// The size of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Local disk.
    #[serde(default)]
    pub disk_gib: u64,
}

impl From<Machine> for Resources {
    fn from(machine: Machine) -> Self {
        let Machine { vcpus, memory_mib, disk_gib } = machine;
        Self { vcpus: Vcpus(vcpus), memory: MiB(memory_mib), disk: GiB(disk_gib) }
    }
}

/// A cluster of an experiment.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NamedCluster {
    /// What it is called.
    pub name: String,
    /// Its hosts.
    #[serde(default)]
    pub hosts: Vec<HostGroup>,
    /// Or: the hosts of the trace, which is a log of decisions and is seen whole, with what was on
    /// them before. See [`decisions`](crate::sim::trace::decisions).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recorded: bool,
}

impl NamedCluster {
    pub(super) fn config(&self) -> ClusterConfig {
        ClusterConfig { hosts: self.hosts.clone() }
    }
}

/// A policy of an experiment.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NamedPolicy {
    /// What it is called.
    pub name: String,
    /// The policy of the registry that it is; the one of its name when this and `config` are
    /// absent.
    #[serde(default)]
    pub of: Option<String>,
    /// Or: one that is put together here.
    #[serde(default)]
    pub config: Option<PolicyConfig>,
    /// It chooses among so many hosts that are drawn, instead of all.
    #[serde(default)]
    pub power_of: Option<usize>,
    /// Who moves VMs.
    #[serde(default)]
    pub planner: Option<PlannerConfig>,
}

/// A planner of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum PlannerConfig {
    /// [`Consolidate`](crate::sim::policies::Consolidate).
    Consolidate {
        /// Hosts that are fuller are left alone, 0 to 1.
        below: f64,
    },
    /// [`Defragment`](crate::sim::policies::Defragment).
    Defragment {
        /// So many hosts should be able to take the largest shape.
        wanted: usize,
    },
    /// [`Relieve`](crate::sim::policies::Relieve).
    Relieve {
        /// The share of its CPUs that is too much for a host, 0 to 1.
        above: f64,
    },
}

/// One thing that takes several values.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sweep {
    /// Where it stands in the experiment, names joined by dots: `scenario.failures.mtbf_h`. A
    /// number is a place in a list: `clusters.0.hosts.0.count`.
    pub set: String,
    /// The values.
    pub values: Vec<toml::Value>,
}

impl TraceConfig {
    /// Every file that it names.
    fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let courses = self.courses.as_mut().and_then(|courses| courses.file.as_mut());
        [self.file.as_mut(), self.vm_types.as_mut(), courses].into_iter().flatten()
    }

    /// The same with the names of files alone: what it is, wherever it lies.
    pub(super) fn without_folders(mut self) -> Self {
        for file in self.files() {
            if let Some(name) = file.file_name() {
                *file = PathBuf::from(name);
            }
        }
        self
    }
}

fn once() -> u32 {
    1
}

impl Experiment {
    /// The most runs of one experiment.
    pub const RUNS_MAX: usize = 1_000_000;

    /// Reads an experiment from TOML.
    ///
    /// # Errors
    /// [`ExperimentError`] when it is none, or makes no sense.
    pub fn from_toml(text: &str) -> Result<Self, ExperimentError> {
        let experiment: Self = toml::from_str(text)?;
        experiment.check()?;
        Ok(experiment)
    }

    /// Reads an experiment from a file; its files are beside it.
    ///
    /// # Errors
    /// [`ExperimentError`] when it cannot be read, is none, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, ExperimentError> {
        let file = |source| ExperimentError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let mut experiment = Self::from_toml(&text)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for trace in &mut experiment.traces {
            for file in trace.files() {
                *file = folder.join(&*file);
            }
        }
        Ok(experiment)
    }

    /// The same with the names of files alone.
    pub(super) fn without_folders(mut self) -> Self {
        self.traces = self.traces.into_iter().map(TraceConfig::without_folders).collect();
        self
    }

    /// Whether it makes sense, as far as that can be told without reading a trace.
    ///
    /// # Errors
    /// [`ExperimentError`] says what does not.
    pub fn check(&self) -> Result<(), ExperimentError> {
        let lists = [
            ("seeds", self.seeds.len()),
            ("traces", self.traces.len()),
            ("clusters", self.clusters.len()),
            ("policies", self.policies.len()),
        ];
        if let Some((name, _)) = lists.into_iter().find(|(_, len)| *len == 0) {
            return Err(wrong(format!("{name} is empty; at least one is needed")));
        }
        if self.seeds.iter().any(|seed| i64::try_from(*seed).is_err()) {
            return Err(wrong("seeds are 0 to 2^63 - 1"));
        }
        unique("seeds", self.seeds.iter().map(u64::to_string))?;
        unique("traces", self.traces.iter().map(|trace| trace.name.clone()))?;
        unique("clusters", self.clusters.iter().map(|cluster| cluster.name.clone()))?;
        unique("policies", self.policies.iter().map(|policy| policy.name.clone()))?;
        if let Some(baseline) = &self.baseline
            && !self.policies.iter().any(|policy| policy.name == *baseline)
        {
            return Err(wrong(format!("baseline {baseline:?} is none of the policies")));
        }
        for trace in &self.traces {
            if trace.file.is_some() == trace.synthetic.is_some() {
                let what = "needs either a file or a recipe in `synthetic`";
                return Err(wrong(format!("trace {:?} {what}", trace.name)));
            }
            if !(1..=10_000).contains(&trace.copies) {
                return Err(wrong(format!("trace {:?}: copies are 1 to 10000", trace.name)));
            }
            if trace.courses.as_ref().is_some_and(|courses| courses.file.is_none())
                && trace.file.is_none()
            {
                let what = "has courses, but neither they nor it have a file";
                return Err(wrong(format!("trace {:?} {what}", trace.name)));
            }
            if trace.window_s.is_some() && self.clusters.iter().any(|cluster| cluster.recorded) {
                let what =
                    "is seen in windows; the hosts of a recorded cluster are of its beginning";
                return Err(wrong(format!("trace {:?} {what}", trace.name)));
            }
            if trace.window_s == Some(0) {
                return Err(wrong(format!("trace {:?}: window_s is at least 1", trace.name)));
            }
        }
        for cluster in &self.clusters {
            if cluster.recorded != cluster.hosts.is_empty() {
                let what = "has either hosts or those that are recorded";
                return Err(wrong(format!("cluster {:?} {what}", cluster.name)));
            }
        }
        for policy in &self.policies {
            let share = match policy.planner {
                Some(PlannerConfig::Consolidate { below }) => below,
                Some(PlannerConfig::Relieve { above }) => above,
                _ => 0.0,
            };
            if !(0.0..=1.0).contains(&share) {
                return Err(wrong(format!("policy {:?}: shares are 0 to 1", policy.name)));
            }
            if policy.of.is_some() && policy.config.is_some() {
                let what = "is either `of` another or has a `config`";
                return Err(wrong(format!("policy {:?} {what}", policy.name)));
            }
        }
        unique("sweeps", self.sweeps.iter().map(|sweep| sweep.set.clone()))?;
        for Sweep { set, values } in &self.sweeps {
            let first = set.split('.').next().unwrap_or_default();
            if !["traces", "clusters", "policies", "scenario"].contains(&first) {
                let allowed = "of traces, clusters, policies or the scenario";
                return Err(wrong(format!("a sweep sets {set:?}; it can set something {allowed}")));
            }
            if values.is_empty() {
                return Err(wrong(format!("the sweep of {set:?} has no values")));
            }
            // Two that are the same would be the same runs.
            unique(&format!("the sweep of {set:?}"), values.iter().map(shown))?;
        }
        self.scenario.check()?;
        Ok(())
    }
}

pub(super) fn wrong(what: impl Into<String>) -> ExperimentError {
    ExperimentError::Wrong { what: what.into() }
}

fn unique(list: &str, names: impl Iterator<Item = String>) -> Result<(), ExperimentError> {
    let mut known = std::collections::BTreeSet::new();
    for name in names {
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err(wrong(format!("a name in {list} is empty, or longer than 100 bytes")));
        }
        if !known.insert(name.clone()) {
            return Err(wrong(format!("{list} has {name:?} twice")));
        }
    }
    Ok(())
}
