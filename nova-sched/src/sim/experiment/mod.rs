//! Experiments as data: which traces on which clusters under which policies, run on all cores,
//! gone on with after a kill, shared among machines, and compared.
//!
//! To begin with, see [`first`]. An [`Experiment`] is a TOML file. [`Bench`] runs it into a folder:
//!
//! ```text
//! FOLDER/manifest.json     what was run: hashes of all inputs, versions, seeds
//! FOLDER/runs/ID.json      one report each; ID is a hash of all that decides it
//! FOLDER/series/ID.csv     what was sampled
//! FOLDER/results.csv       a row for each run, every metric a column; results.json the same
//! FOLDER/comparison.csv    means, intervals and tests; comparison.json and .md the same
//! FOLDER/report.html       tables and drawings on one page that needs nothing else
//! ```
//!
//! With the feature `parquet` and `Bench::with_parquet` each `NAME.csv` has a `NAME.parquet` beside
//! it.
//!
//! A run that is there is not repeated, so a bench that was killed goes on where it was, and the
//! folders of several machines that each ran a [shard](Bench::with_shard) can be put together by
//! copying. The same inputs give the same bytes.

mod bench;
mod compare;
mod config;
mod files;
pub mod first;
mod input;
mod make;
mod page;
#[cfg(feature = "parquet")]
mod parquet;
mod plot;
mod publish;
mod runs;
mod simulate;
pub mod stats;
mod table;

use std::io;
use std::path::PathBuf;

use nova_core::domain::Invalid;

use super::SimulationError;
use super::trace::TraceError;
use crate::PolicyError;

pub use bench::{Bench, Outcome, Progress, Silence};
pub use compare::{Compared, Comparison, Difference, Estimate, Setting};
pub use config::{
    CoursesConfig, Experiment, Machine, NamedCluster, NamedPolicy, PlannerConfig, Sweep,
    TraceConfig,
};
pub use publish::Published;
pub use runs::{Run, Swept};
pub use table::{Metric, results_csv, series_csv};
#[cfg(feature = "parquet")]
pub use table::{results_parquet, series_parquet};

/// An experiment makes no sense, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// The text is no experiment.
    #[error("the experiment cannot be read: {0}")]
    Toml(Box<toml::de::Error>),
    /// It is one that makes no sense.
    #[error("the experiment: {what}")]
    Wrong {
        /// What is wrong with it, and what is allowed.
        what: String,
    },
    /// A number is out of range.
    #[error("the experiment: {0}")]
    Invalid(#[from] Invalid),
    /// A policy cannot be made.
    #[error("policy {policy:?}")]
    Policy {
        /// Which.
        policy: String,
        /// Why.
        source: PolicyError,
    },
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A trace cannot be read.
    #[error("trace {trace:?}")]
    Trace {
        /// Which.
        trace: String,
        /// Why.
        source: TraceError,
    },
    /// A simulation cannot go on.
    #[error("{run}")]
    Simulation {
        /// Which.
        run: String,
        /// Why.
        source: Box<SimulationError>,
    },
}

impl From<toml::de::Error> for ExperimentError {
    fn from(error: toml::de::Error) -> Self {
        Self::Toml(Box::new(error))
    }
}
