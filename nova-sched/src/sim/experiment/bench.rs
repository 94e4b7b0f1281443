//! Running the simulations of an experiment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nova_core::domain::Invalid;
use sha2::{Digest as _, Sha256};

use super::config::Experiment;
use super::files::{failed, write, write_json};
use super::input::Looked;
use super::runs::Run;
use super::table::{results_csv, series_csv};
use super::{ExperimentError, config::wrong};
use crate::Registry;
use crate::hex::hex;
use crate::sim::{OnBadRow, Report};

/// Runs an experiment into a folder.
#[derive(Debug, Clone)]
pub struct Bench {
    experiment: Experiment,
    folder: PathBuf,
    threads: usize,
    shard: (u32, u32),
    pub(super) more: Option<Registry>,
    looked: LookedAt,
    #[cfg(feature = "parquet")]
    pub(super) parquet: bool,
}

/// What traces were found to be, by what the experiment says of them: each is looked at once.
type LookedAt = Arc<Mutex<BTreeMap<String, Arc<Looked>>>>;

/// A run that has ended, now or earlier.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// A hash of everything that decides the report: the run, the trace's bytes, the version.
    pub id: String,
    /// What was run.
    pub run: Run,
    /// What came out.
    pub report: Report,
}

/// Is told how far runs are. Several are on their way at once, each on a thread of its own.
pub trait Progress: Sync {
    /// A run begins: the `nth` of `all`, from 0 on.
    fn begins(&self, nth: usize, all: usize, run: &Run) {
        let _ = (nth, all, run);
    }

    /// A run has got this far, 0 to 1.
    fn goes_on(&self, nth: usize, share: f64) {
        let _ = (nth, share);
    }

    /// A run has ended; `anew` is false where it was there already.
    fn ends(&self, nth: usize, all: usize, anew: bool) {
        let _ = (nth, all, anew);
    }

    /// Whether to stop: no further run begins.
    fn stops(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silence;

impl Progress for Silence {}

/// What is written down of a run.
#[derive(serde::Serialize)]
struct Written<'r> {
    id: &'r str,
    name: String,
    run: &'r Run,
    report: &'r Report,
}

#[derive(serde::Deserialize)]
struct Read {
    report: Report,
}

#[derive(serde::Serialize)]
struct Manifest<'m> {
    version: &'static str,
    experiment: Experiment,
    traces: Vec<&'m Looked>,
    runs: BTreeMap<&'m str, String>,
}

/// A run with all that is needed for it.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) run: Run,
    pub(super) looked: Arc<Looked>,
}

impl Run {
    /// What it is called among the runs of its experiment.
    pub fn name(&self) -> String {
        let mut name = format!(
            "{} on {} by {}, seed {}",
            self.trace.name, self.cluster.name, self.policy.name, self.seed
        );
        for (set, value) in &self.swept {
            name.push_str(&format!(", {set} = {value}"));
        }
        name
    }
}

impl Bench {
    /// A bench for `experiment` with its results in `folder`, on one thread. It looks at each trace
    /// once: files must not change while there is a bench.
    pub fn new(experiment: Experiment, folder: impl Into<PathBuf>) -> Self {
        Self {
            experiment,
            folder: folder.into(),
            threads: 1,
            shard: (1, 1),
            more: None,
            looked: Arc::default(),
            #[cfg(feature = "parquet")]
            parquet: false,
        }
    }

    /// So many runs at once, 1 to 1024. What comes out is the same.
    ///
    /// # Errors
    /// [`Invalid`] for a number out of range.
    pub fn with_threads(mut self, threads: usize) -> Result<Self, Invalid> {
        if !(1..=1024).contains(&threads) {
            return Err(Invalid::new("threads", threads, "1 to 1024"));
        }
        self.threads = threads;
        Ok(self)
    }

    /// Only a part of the runs: the `part`th of `parts`, from 1 on. All of them together are all
    /// runs.
    ///
    /// # Errors
    /// [`Invalid`] for a part that is not among them.
    pub fn with_shard(mut self, part: u32, parts: u32) -> Result<Self, Invalid> {
        if part == 0 || part > parts {
            return Err(Invalid::new("shard", format!("{part}/{parts}"), "1/N to N/N"));
        }
        self.shard = (part, parts);
        Ok(self)
    }

    /// Policies of your own: a name that the bench does not know is looked up there. What they are
    /// is not in a run's hash; give another name to what is not the same.
    #[must_use]
    pub fn with_registry(mut self, registry: Registry) -> Self {
        self.more = Some(registry);
        self
    }

    /// The experiment.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// Runs what is not there yet, and gives all runs of its shard, in their order; fewer when
    /// `progress` stopped it.
    ///
    /// # Errors
    /// The first [`ExperimentError`]; runs that have ended by then are kept.
    pub fn run(&self, progress: &dyn Progress) -> Result<Vec<Outcome>, ExperimentError> {
        let jobs = self.jobs()?;
        self.check(&jobs)?;
        self.make_folders()?;
        self.write_manifest(&jobs)?;
        let (part, parts) = self.shard;
        let mine: Vec<&Job> = jobs
            .iter()
            .enumerate()
            .filter(|(nth, _)| nth % parts as usize == part as usize - 1)
            .map(|(_, job)| job)
            .collect();
        let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
        let (next, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
        let first_error: Mutex<Option<(usize, ExperimentError)>> = Mutex::default();
        let work = || {
            while !broken.load(Ordering::Relaxed) && !progress.stops() {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = mine.get(nth) else { return };
                match self.outcome(job, nth, mine.len(), progress) {
                    Ok(outcome) => {
                        if let Ok(mut outcomes) = outcomes.lock() {
                            outcomes.insert(nth, outcome);
                        }
                    }
                    Err(error) => {
                        broken.store(true, Ordering::Relaxed);
                        if let Ok(mut first) = first_error.lock()
                            && first.as_ref().is_none_or(|(known, _)| nth < *known)
                        {
                            *first = Some((nth, error));
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            // This thread works too.
            let others = self.threads.min(mine.len()).saturating_sub(1);
            (0..others).for_each(|_| {
                scope.spawn(work);
            });
            work();
        });
        if let Ok(Some((_, error))) = first_error.into_inner() {
            return Err(error);
        }
        let outcomes = outcomes.into_inner().unwrap_or_default();
        Ok(outcomes.into_values().collect())
    }

    /// All runs that are in the folder, those of other shards too, in their order, and the names of
    /// those that are not; writes `results.csv` of what is there.
    ///
    /// # Errors
    /// [`ExperimentError`] when the experiment, a trace or the folder cannot be read.
    pub fn results(&self) -> Result<(Vec<Outcome>, Vec<String>), ExperimentError> {
        self.results_with(|_| true)
    }

    /// The same, where of some runs what was sampled is not kept in memory.
    pub(super) fn results_with(
        &self,
        mut keeps_samples: impl FnMut(&Run) -> bool,
    ) -> Result<(Vec<Outcome>, Vec<String>), ExperimentError> {
        let jobs = self.jobs()?;
        self.make_folders()?;
        let (mut outcomes, mut missing) = (Vec::new(), Vec::new());
        for Job { id, run, .. } in &jobs {
            match self.known(id) {
                Some(mut report) => {
                    #[cfg(feature = "parquet")]
                    self.write_series(id, &report)?;
                    if !keeps_samples(run) {
                        (report.series, report.waited_ms) = (Vec::new(), Vec::new());
                    }
                    outcomes.push(Outcome { id: id.clone(), run: run.clone(), report });
                }
                None => missing.push(run.name()),
            }
        }
        self.write_manifest(&jobs)?;
        let csv = results_csv(&outcomes);
        write(&self.folder.join("results.csv"), csv.as_bytes())?;
        #[cfg(feature = "parquet")]
        self.write_results(&outcomes)?;
        Ok((outcomes, missing))
    }

    /// The names of the runs that are not in the folder.
    ///
    /// # Errors
    /// As of [`results`](Self::results).
    pub fn missing(&self) -> Result<Vec<String>, ExperimentError> {
        let missing = |job: &Job| self.known(&job.id).is_none();
        Ok(self.jobs()?.into_iter().filter(missing).map(|job| job.run.name()).collect())
    }

    /// Takes the runs over that another bench of this experiment left in `folder`, and tells how
    /// many were not here yet. Runs of other experiments stay where they are.
    ///
    /// # Errors
    /// [`ExperimentError::Wrong`] for a run that is here too, with other results: the same version
    /// and inputs must give the same bytes.
    pub fn merge(&self, folder: &Path) -> Result<usize, ExperimentError> {
        let jobs = self.jobs()?;
        self.make_folders()?;
        self.write_manifest(&jobs)?;
        let other = Self { folder: folder.to_owned(), ..self.clone() };
        let mut anew = 0;
        for job in &jobs {
            let Some(report) = other.known(&job.id) else { continue };
            match self.known(&job.id) {
                Some(known) if known == report => continue,
                Some(_) => {
                    let (run, other) = (job.run.name(), folder.display());
                    return Err(wrong(format!("{run} came out otherwise in {other}")));
                }
                None => self.keep(job, &report)?,
            }
            anew += 1;
        }
        Ok(anew)
    }

    /// Where results are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn make_folders(&self) -> Result<(), ExperimentError> {
        for folder in ["runs", "series"] {
            let folder = self.folder.join(folder);
            fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        }
        Ok(())
    }

    /// All runs, with their traces looked at.
    fn jobs(&self) -> Result<Vec<Job>, ExperimentError> {
        let job = |run: Run| {
            let looked = self.look(&run)?;
            // Where a file lies does not matter, what is in it does: shards on other machines have
            // the same runs.
            let mut named = run.clone();
            named.trace = named.trace.without_folders();
            let hashes = (&looked.sha256, &looked.vm_types_sha256, &looked.courses_sha256);
            let text = serde_json::to_string(&(env!("CARGO_PKG_VERSION"), &named, hashes));
            let id = hex(&Sha256::digest(text.map_err(unwritable)?.as_bytes())[..8]);
            Ok(Job { id, run, looked })
        };
        self.experiment.runs()?.into_iter().map(job).collect()
    }

    fn look(&self, run: &Run) -> Result<Arc<Looked>, ExperimentError> {
        let skips = run.scenario.on_bad_row == OnBadRow::Skip;
        // A sweep may change a trace.
        let key = serde_json::to_string(&(&run.trace, skips)).map_err(unwritable)?;
        let mut known = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(looked) = known.get(&key) {
            return Ok(Arc::clone(looked));
        }
        let looked = Arc::new(run.trace.look(skips)?);
        known.insert(key, Arc::clone(&looked));
        Ok(looked)
    }

    /// Whether clusters and policies can be made, before hours are spent on those that can.
    fn check(&self, jobs: &[Job]) -> Result<(), ExperimentError> {
        let mut known = BTreeSet::new();
        for Job { run, looked, .. } in jobs {
            let hosts_of = run.cluster.recorded.then_some(&run.trace);
            let what = (&run.cluster, hosts_of, &run.policy, run.scenario.schedulers);
            if known.insert(serde_json::to_string(&what).map_err(unwritable)?) {
                self.policies(run, &run.cluster.of(looked)?, looked)?;
            }
        }
        Ok(())
    }

    fn write_manifest(&self, jobs: &[Job]) -> Result<(), ExperimentError> {
        let mut traces: Vec<&Looked> = Vec::new();
        for job in jobs {
            if !traces.iter().any(|looked| **looked == *job.looked) {
                traces.push(&job.looked);
            }
        }
        let runs = jobs.iter().map(|job| (job.id.as_str(), job.run.name())).collect();
        let experiment = self.experiment.clone().without_folders();
        let manifest = Manifest { version: env!("CARGO_PKG_VERSION"), experiment, traces, runs };
        write_json(&self.folder.join("manifest.json"), &manifest)
    }

    fn run_file(&self, id: &str) -> PathBuf {
        self.folder.join("runs").join(format!("{id}.json"))
    }

    /// The report of a run that has ended. One that cannot be read was not written to its end.
    fn known(&self, id: &str) -> Option<Report> {
        let bytes = fs::read(self.run_file(id)).ok()?;
        serde_json::from_slice::<Read>(&bytes).ok().map(|read| read.report)
    }

    fn outcome(
        &self,
        job: &Job,
        nth: usize,
        all: usize,
        progress: &dyn Progress,
    ) -> Result<Outcome, ExperimentError> {
        let outcome = |report| Outcome { id: job.id.clone(), run: job.run.clone(), report };
        if let Some(report) = self.known(&job.id) {
            progress.ends(nth, all, false);
            return Ok(outcome(report));
        }
        progress.begins(nth, all, &job.run);
        let report = self.simulate(job, nth, progress)?;
        self.keep(job, &report)?;
        progress.ends(nth, all, true);
        Ok(outcome(report))
    }

    fn keep(&self, job: &Job, report: &Report) -> Result<(), ExperimentError> {
        let series = self.folder.join("series").join(format!("{}.csv", job.id));
        write(&series, series_csv(report).as_bytes())?;
        // The report is last: when it is there, all of the run is.
        let mut run = job.run.clone();
        run.trace = run.trace.without_folders();
        let (id, name) = (job.id.as_str(), run.name());
        write_json(&self.run_file(id), &Written { id, name, run: &run, report })
    }
}

fn unwritable(error: serde_json::Error) -> ExperimentError {
    wrong(error.to_string())
}
