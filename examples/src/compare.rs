//! What `compare_policies` does: an experiment from a few words, and how far its runs are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nova_core::domain::{GiB, Invalid, MiB, Resources, Vcpus};
use nova_sched::sim::HostGroup;
use nova_sched::sim::experiment::{
    Experiment, NamedCluster, NamedPolicy, Progress, Run, TraceConfig,
};
use nova_sched::sim::trace::synthetic::Recipe;
use nova_sched::sim::trace::{ReadOptions, TraceError, TraceRow, open};

/// What to compare, where there is no file that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// The trace; one that is drawn when it is absent.
    pub trace: Option<PathBuf>,
    /// Numbers of hosts, each a cluster of its own; as many as the trace needs when it is empty.
    pub hosts: Vec<u32>,
    /// The size of each host.
    pub host: Resources,
    /// Policies by name; the first is the baseline.
    pub policies: Vec<String>,
    /// How many seeds.
    pub seeds: u64,
    /// Each seed sees a window of so many hours, where the trace is a file that is longer.
    pub window_h: u64,
}

impl Default for Question {
    /// Five policies on a trace that is drawn, on hosts with 64 vCPUs and 256 GiB, with ten seeds.
    fn default() -> Self {
        let policies = ["best-fit", "first-fit", "worst-fit", "dot-product", "random-fit"];
        Self {
            trace: None,
            hosts: Vec::new(),
            host: Resources { vcpus: Vcpus(64), memory: MiB(256 << 10), disk: GiB(0) },
            policies: policies.map(str::to_owned).to_vec(),
            seeds: 10,
            window_h: 24,
        }
    }
}

/// VMs of the trace that is drawn.
const ROWS: u64 = 20_000;

/// Hosts for the trace that is drawn: hardly any VM is refused, and policies differ.
const HOSTS: u32 = 130;

impl Question {
    /// The experiment that answers it.
    ///
    /// # Errors
    /// [`TraceError`] when the trace cannot be read.
    pub fn experiment(&self) -> Result<Experiment, TraceError> {
        let (trace, needed) = match &self.trace {
            None => (TraceConfig::drawn("drawn", Recipe::default().with_rows(ROWS)), HOSTS),
            Some(file) => {
                let peak = Peak::of(open(file, None, &ReadOptions::default())?)?;
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let trace = TraceConfig::of_file(name, file);
                let window_s = self.window_h.saturating_mul(3600);
                let longer = window_s > 0 && peak.last_arrival_s > window_s;
                (if longer { trace.with_window_s(window_s) } else { trace }, peak.hosts(self.host))
            }
        };
        let hosts = if self.hosts.is_empty() { vec![needed] } else { self.hosts.clone() };
        let mut experiment = Experiment::new("compare_policies", 1..=self.seeds).with_trace(trace);
        for count in hosts {
            let group = HostGroup::new("h", count, self.host.vcpus, self.host.memory);
            let group = HostGroup { disk_gib: self.host.disk.get(), ..group };
            let cluster = NamedCluster::new(format!("{count} hosts"), vec![group]);
            experiment = experiment.with_cluster(cluster);
        }
        Ok(self.policies.iter().map(NamedPolicy::new).fold(experiment, Experiment::with_policy))
    }
}

/// The most that a trace holds at the same time.
#[derive(Debug, Default)]
struct Peak {
    vcpus: u64,
    memory_mib: u64,
    last_arrival_s: u64,
}

impl Peak {
    fn of(rows: impl Iterator<Item = Result<TraceRow, TraceError>>) -> Result<Self, TraceError> {
        let mut peak = Self::default();
        let (mut vcpus, mut memory, mut ends) = (0, 0, BinaryHeap::new());
        for row in rows {
            let row = row?;
            while let Some(Reverse((end, left_vcpus, left_memory))) = ends.peek().copied()
                && end <= row.arrival_s
            {
                ends.pop();
                vcpus -= left_vcpus;
                memory -= left_memory;
            }
            let (takes_vcpus, takes_memory) = (u64::from(row.vcpus.get()), row.memory.get());
            vcpus += takes_vcpus;
            memory += takes_memory;
            if let Some(end) = row.end_s {
                ends.push(Reverse((end, takes_vcpus, takes_memory)));
            }
            peak.vcpus = vcpus.max(peak.vcpus);
            peak.memory_mib = memory.max(peak.memory_mib);
            peak.last_arrival_s = row.arrival_s;
        }
        Ok(peak)
    }

    /// So many hosts hold it, if nothing is wasted.
    fn hosts(&self, host: Resources) -> u32 {
        let by_vcpus = self.vcpus.div_ceil(u64::from(host.vcpus.get()).max(1));
        let by_memory = self.memory_mib.div_ceil(host.memory.get().max(1));
        u32::try_from(by_vcpus.max(by_memory)).unwrap_or(u32::MAX).max(1)
    }
}

/// A part of an experiment as it is written on a command line: `PART/PARTS`, from 1 on.
///
/// # Errors
/// [`Invalid`] for anything else. Whether the part is among the parts is the bench's to check.
pub fn shard(text: &str) -> Result<(u32, u32), Invalid> {
    let parse = || {
        let (part, parts) = text.split_once('/')?;
        Some((part.parse().ok()?, parts.parse().ok()?))
    };
    parse().ok_or_else(|| Invalid::new("shard", text, "PART/PARTS, as 1/4"))
}

/// Where the results of an experiment go that nobody says another place for.
pub fn folder_of(experiment: Option<&Path>) -> PathBuf {
    let name = experiment.and_then(Path::file_stem).unwrap_or("compare_policies".as_ref());
    Path::new("target/experiments").join(name)
}

/// A bar for each run that is on its way, and one for all of them.
#[derive(Debug)]
pub struct Bars {
    bars: MultiProgress,
    all: ProgressBar,
    running: Mutex<BTreeMap<usize, ProgressBar>>,
    stops: Arc<AtomicBool>,
}

/// A run's bar has so many steps.
const STEPS: u64 = 1000;

impl Bars {
    /// Bars on standard error, where that is a terminal. When `stops` becomes true, no run begins.
    pub fn new(stops: Arc<AtomicBool>) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let all = bars.add(ProgressBar::new(0));
        all.set_style(style("{bar:30} {pos}/{len} runs, {elapsed} of about {duration}"));
        Self { bars, all, running: Mutex::default(), stops }
    }

    /// Takes all bars away.
    pub fn clear(&self) {
        self.all.finish_and_clear();
        // What cannot be drawn need not be taken away.
        let _ = self.bars.clear();
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, ProgressBar>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn begins(&self, nth: usize, all: usize, run: &Run) {
        self.all.set_length(all as u64);
        let bar = self.bars.insert_before(&self.all, ProgressBar::new(STEPS));
        bar.set_style(style("{bar:30} {percent:>3} % {msg}"));
        bar.set_message(run.name());
        self.running().insert(nth, bar);
    }

    fn goes_on(&self, nth: usize, share: f64) {
        if let Some(bar) = self.running().get(&nth) {
            bar.set_position((share * STEPS as f64) as u64);
        }
    }

    fn ends(&self, nth: usize, all: usize, _: bool) {
        if let Some(bar) = self.running().remove(&nth) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.all.set_length(all as u64);
        self.all.inc(1);
    }

    fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
