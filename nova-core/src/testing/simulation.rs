//! Runs by seed, what came of them, and how a finding is made smaller.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::doctor::Finding;
use crate::plant::{Bug, plant};
use crate::testing::fate::{Allow, Fault, Fired};
use crate::testing::parts::Parts;
use crate::testing::process::Log;
use crate::testing::run::run;

/// Runs seeds over the same parts.
#[derive(Debug, Clone, Default)]
pub struct Simulation {
    parts: Parts,
    bug: Option<Bug>,
}

/// How many operations of one kind ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Done.
    pub done: u64,
    /// Not done, with a reason.
    pub failed: u64,
}

/// What came of one run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What must not be, at the first moment when anything was; empty when all went well.
    pub findings: Vec<Finding>,
    /// When the run ended, in its own time.
    pub at: Timestamp,
    /// SHA-256 of everything that happened: the same whenever the seed and the parts are.
    pub hash: String,
    /// The faults that happened, in order.
    pub fired: Vec<Fired>,
    /// Operations by kind.
    pub operations: BTreeMap<&'static str, Tally>,
    /// What happened, when it was to be written down.
    #[serde(skip)]
    pub log: Vec<String>,
}

impl Outcome {
    /// A run that could not begin, unless `reason` is empty.
    pub(crate) fn broken(seed: u64, reason: String) -> Self {
        let finding = Finding { invariant: "a run can begin", detail: reason };
        Self {
            seed,
            findings: Some(finding).into_iter().filter(|f| !f.detail.is_empty()).collect(),
            at: Timestamp::default(),
            hash: String::new(),
            fired: Vec::new(),
            operations: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

/// Takes a mistake back when the run is over, however it ends.
pub(super) struct Planted(pub(super) Option<Bug>);

impl Drop for Planted {
    fn drop(&mut self) {
        plant(self.0);
    }
}

impl Simulation {
    /// A simulation of a cloud of these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts, bug: None }
    }

    /// Makes a mistake on purpose, to see whether it is found.
    #[must_use]
    pub fn with_bug(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }

    /// Runs a seed.
    pub fn run(&self, seed: u64) -> Outcome {
        self.replay(seed, Allow::Drawn, Log::default())
    }

    /// Runs a seed with some of its faults, and writes into `log`.
    pub fn replay(&self, seed: u64, allow: Allow, log: Log) -> Outcome {
        let _planted = Planted(plant(self.bug));
        run(&self.parts, seed, allow, log)
    }

    /// Whether `outcome` found the mistake that was made on purpose: what its seed finds without
    /// it too is not its doing.
    pub fn catches(&self, outcome: &Outcome) -> bool {
        let sober = Self { bug: None, ..self.clone() };
        self.bug.is_some()
            && !outcome.findings.is_empty()
            && sober.run(outcome.seed).findings.is_empty()
    }

    /// Looks for fewer faults with which the seed of `outcome` still finds something: first
    /// without whole kinds, then without ever smaller parts of the schedule, in at most `runs`
    /// runs. What is left is a schedule for [`Allow::Only`].
    pub fn shrink(&self, outcome: &Outcome, runs: usize) -> Vec<Fired> {
        let mut left = outcome.fired.clone();
        let mut runs = runs;
        let mut still_fails = |these: &[Fired]| {
            if runs == 0 {
                return false;
            }
            runs -= 1;
            let these: BTreeSet<Fired> = these.iter().copied().collect();
            let again = self.replay(outcome.seed, Allow::Only(these), Log::default());
            !again.findings.is_empty()
        };
        if still_fails(&[]) {
            return Vec::new();
        }
        for kind in Fault::ALL {
            let without: Vec<Fired> = left.iter().copied().filter(|(k, _)| k != kind).collect();
            if without.len() < left.len() && still_fails(&without) {
                left = without;
            }
        }
        let mut piece = left.len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < left.len() {
                let end = (at + piece).min(left.len());
                let without: Vec<Fired> = left[..at].iter().chain(&left[end..]).copied().collect();
                if still_fails(&without) {
                    left = without;
                } else {
                    at = end;
                }
            }
            piece /= 2;
        }
        left
    }
}

/// What came of many runs together: whether they were worth anything.
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Batch {
    /// How many runs.
    pub runs: u64,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<Fault, u64>,
    /// Operations by kind.
    pub operations: BTreeMap<&'static str, Tally>,
}

/// The least share of operations that succeed in a batch, or it proves little.
const DONE_SHARE_MIN: f64 = 0.6;

impl Batch {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        for (fault, _) in &outcome.fired {
            *self.faults.entry(*fault).or_default() += 1;
        }
        for (word, tally) in &outcome.operations {
            let sum = self.operations.entry(word).or_default();
            sum.done += tally.done;
            sum.failed += tally.failed;
        }
    }

    /// The share of operations that succeeded.
    pub fn done_share(&self) -> f64 {
        let done: u64 = self.operations.values().map(|tally| tally.done).sum();
        let failed: u64 = self.operations.values().map(|tally| tally.failed).sum();
        done as f64 / (done + failed).max(1) as f64
    }

    /// Why these runs prove less than they seem to: kinds of faults that never happened, kinds
    /// of operations that never succeeded, too many that failed.
    pub fn weaknesses(&self) -> Vec<String> {
        let mut weak = Vec::new();
        for fault in Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault)) {
            weak.push(format!("{} never happened", fault.name()));
        }
        for word in crate::domain::OpKind::WORDS {
            if self.operations.get(word).is_none_or(|tally| tally.done == 0) {
                weak.push(format!("{word} never succeeded"));
            }
        }
        if self.done_share() < DONE_SHARE_MIN {
            let share = self.done_share() * 100.0;
            weak.push(format!("only {share:.0} % of the operations succeeded"));
        }
        weak
    }
}
