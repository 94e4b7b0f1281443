//! Experiments that are put together in code.

use std::path::PathBuf;

use super::config::{CoursesConfig, Experiment, NamedCluster, NamedPolicy, TraceConfig};
use crate::sim::trace::synthetic::Recipe;
use crate::sim::{Follow, HostGroup, Scenario};

impl Experiment {
    /// An experiment without a trace, a cluster or a policy, each of which it needs.
    ///
    /// ```
    /// use nova_core::domain::{MiB, Vcpus};
    /// use nova_sched::sim::HostGroup;
    /// use nova_sched::sim::experiment::{Experiment, NamedCluster, NamedPolicy, TraceConfig};
    /// use nova_sched::sim::trace::synthetic::Recipe;
    ///
    /// let hosts = vec![HostGroup::new("h", 40, Vcpus(64), MiB(262_144))];
    /// let experiment = Experiment::new("small", [1, 2, 3])
    ///     .with_trace(TraceConfig::drawn("poisson", Recipe::default()))
    ///     .with_cluster(NamedCluster::new("forty", hosts))
    ///     .with_policy(NamedPolicy::new("best-fit"))
    ///     .with_policy(NamedPolicy::new("worst-fit"));
    /// assert_eq!(experiment.runs()?.len(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(name: impl Into<String>, seeds: impl IntoIterator<Item = u64>) -> Self {
        Self {
            name: name.into(),
            seeds: seeds.into_iter().collect(),
            baseline: None,
            traces: Vec::new(),
            clusters: Vec::new(),
            policies: Vec::new(),
            scenario: Scenario::default(),
            sweeps: Vec::new(),
        }
    }

    /// With a further trace.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceConfig) -> Self {
        self.traces.push(trace);
        self
    }

    /// With a further cluster.
    #[must_use]
    pub fn with_cluster(mut self, cluster: NamedCluster) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// With a further policy; the first is the baseline.
    #[must_use]
    pub fn with_policy(mut self, policy: NamedPolicy) -> Self {
        self.policies.push(policy);
        self
    }

    /// The policy that others are compared with.
    pub fn compared_with(&self) -> &str {
        let first = self.policies.first().map(|policy| policy.name.as_str());
        self.baseline.as_deref().or(first).unwrap_or_default()
    }
}

impl TraceConfig {
    /// A trace from a file.
    pub fn of_file(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { file: Some(file.into()), ..Self::named(name.into()) }
    }

    /// A trace that is drawn anew for each seed.
    pub fn drawn(name: impl Into<String>, recipe: Recipe) -> Self {
        Self { synthetic: Some(recipe), ..Self::named(name.into()) }
    }

    /// Each seed sees only a window of so many seconds.
    #[must_use]
    pub fn with_window_s(mut self, window_s: u64) -> Self {
        self.window_s = Some(window_s);
        self
    }

    /// Its VMs use their vCPUs as the series of a file say.
    #[must_use]
    pub fn with_courses(mut self, file: impl Into<PathBuf>, follow: Follow) -> Self {
        self.courses = Some(CoursesConfig { file: Some(file.into()), follow });
        self
    }

    fn named(name: String) -> Self {
        Self {
            name,
            file: None,
            format: None,
            vm_types: None,
            machine: None,
            memory_unit: None,
            shape: None,
            synthetic: None,
            courses: None,
            copies: 1,
            window_s: None,
        }
    }
}

impl NamedCluster {
    /// The hosts of the trace, which is a log of decisions.
    pub fn recorded(name: impl Into<String>) -> Self {
        Self { name: name.into(), hosts: Vec::new(), recorded: true }
    }

    /// A cluster of these hosts.
    pub fn new(name: impl Into<String>, hosts: Vec<HostGroup>) -> Self {
        Self { name: name.into(), hosts, recorded: false }
    }
}

impl NamedPolicy {
    /// The policy of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), of: None, config: None, power_of: None, planner: None }
    }
}
