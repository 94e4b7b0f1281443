//! A cloud that is killed again and again, and what is left of what it had acknowledged.
//!
//! [`run`] starts a process of its own program, which opens a cloud in a directory and loads it
//! ([`child`]). It kills the process at a moment that chance decides, examines what is left while
//! nobody runs it, and starts the next one on the same directory. In the end everything is let
//! finish and deleted, and has to be as it was before.
//!
//! The two processes share a directory and a pipe: the child says one [`Word`] a line.

mod audit;
mod child;
mod ground;
mod load;
mod parent;

use std::path::PathBuf;

use nova_core::cloud::ApiError;
use nova_core::domain::{Invalid, OpId};

pub use audit::Fates;
pub use child::{child, job};
pub use parent::{Outcome, run};

use crate::cold::ColdError;

/// The environment variable that holds a [`Job`]: who finds it is a child.
pub const JOB: &str = "NOVA_KILL_JOB";

/// How often and where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where the cloud lies. It has to be empty.
    pub data_dir: PathBuf,
    /// Where chance starts: the load, and when the process is killed.
    pub seed: u64,
    /// How often it is killed.
    pub kills: u32,
    /// With which arguments this program is started to be a child.
    pub arguments: Vec<String>,
}

impl Options {
    /// Five kills in this directory, from seed 1.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), seed: 1, kills: 5, arguments: Vec::new() }
    }

    /// Takes chance from here.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Kills so often.
    #[must_use]
    pub fn with_kills(self, kills: u32) -> Self {
        Self { kills, ..self }
    }

    /// Starts children with these arguments.
    #[must_use]
    pub fn with_arguments<S: Into<String>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        Self { arguments: arguments.into_iter().map(Into::into).collect(), ..self }
    }
}

/// What a child is to do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Job {
    /// Where the cloud lies.
    pub data_dir: PathBuf,
    /// Where chance starts.
    pub seed: u64,
    /// How many children there were before.
    pub life: u32,
    /// What to do there.
    pub part: Part,
}

/// The parts of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Make what servers need, count, and end.
    Ground,
    /// Load the cloud until killed.
    Load,
    /// Let everything finish, examine, delete everything, examine and count, and end.
    Finish,
}

/// What a child says.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The cloud is open and every host has its agent.
    Ready,
    /// A request was acknowledged.
    Acknowledged(Acknowledged),
    /// Something is not as it must be.
    Found(String),
    /// How many records there are, and what is left outside of them.
    Counted(Count),
    /// It cannot go on.
    Broken(String),
}

/// A request that was acknowledged, and may not be forgotten any more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Acknowledged {
    /// The project.
    pub scope: String,
    /// The request id.
    pub request: String,
    /// The operation that does it, unless it was done at once.
    pub operation: Option<OpId>,
}

/// A census that can be compared with another process's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Count {
    /// The census of the records, without what rests.
    pub records: String,
    /// Guests on all hosts.
    pub guests: usize,
    /// Volumes that their driver has.
    pub volumes: usize,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// A child could not be started, heard or killed.
    #[error("cannot {doing}")]
    Process {
        /// What was to be done.
        doing: &'static str,
        /// Why it was not.
        source: std::io::Error,
    },
    /// A child ended although it should not have.
    #[error("child {life} ended by itself: {said}")]
    Ended {
        /// Which.
        life: u32,
        /// What it said last.
        said: String,
    },
    /// A child did not come to its end.
    #[error("child {life} is still not done after {seconds} s")]
    Late {
        /// Which.
        life: u32,
        /// How long was waited.
        seconds: u64,
    },
    /// What is left cannot be examined.
    #[error("cannot examine what is left")]
    Cold(#[from] ColdError),
    /// The cloud refused what it should not have.
    #[error("cannot {doing}")]
    Cloud {
        /// What was to be done.
        doing: &'static str,
        /// Why it was not.
        source: ApiError,
    },
    /// A part of the cloud could not be opened.
    #[error("cannot open {what}")]
    Open {
        /// Which.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value of the plan is out of range.
    #[error(transparent)]
    Plan(#[from] Invalid),
}
