//! A log of decisions as a trace: what would have come of other decisions.
//!
//! [`recorded`] reads a log that a cloud has written with
//! [`DecisionLog`](crate::explain::DecisionLog) and gives all that a simulation needs: the hosts with
//! what was on them before, the servers as rows, and what each asked for.
//! [`open`](super::open) gives the rows alone, which ask for room only.
//!
//! # What becomes a row
//! - A server that was asked for, found a host and was then seen there. It comes when it was first
//!   asked for, and goes at the first question at which no host had a claim of it any more; one that
//!   was not seen gone stays. Times are whole seconds since the first question, rounded down.
//! - A server that changes its size: one row ends and another begins, with a number of its own. A
//!   server that moves is one row: who moves it in a simulation is up to the
//!   [planner](crate::sim::Planner).
//! - A claim that nobody asked for here, because another process did. It comes when it was first
//!   seen, and asks for room only.
//!
//! Instances of one request are a gang. Servers that found no host are no rows, since nobody knows
//! how long they would have stayed; nor are those whose claim was never seen, which failed, or came
//! and went between two questions, even where others of their gang were seen. [`Told`] counts both. A log does not show what became of its last
//! question: what that placed is taken as there.
//!
//! A log is of one view of a cloud. Where several conductors in one process each follow the store for
//! themselves, each wants a log of its own: they see claims at different times, and a server would
//! seem to go and come back.
//!
//! # What is on the hosts
//! The cluster has every host of the log from the beginning on, as it was when it was first seen, and
//! open when it was ever seen open. That hosts come later, fail or change is not followed. What was
//! claimed by then stays where it was, and goes when it went. `io_ops` is 0, since nothing is being
//! built; free PCI devices and used NUMA cells stay as they were first seen.
//!
//! # What is kept of a request
//! The whole [`RequestSpec`], so that filters that read zones, hints, extra specs or images are asked
//! the same question. Not kept is where it was tried before, what it says of `among` and, for a
//! server that changes its size, the destination and the hosts to ignore, which are about the move.
//! Hints name servers as they are named in the simulation. A group's members of the trace are where
//! they are then; the others are where they were when it was asked. A server whose claim has another
//! size than its flavor asks for room only.

mod derive;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use nova_core::domain::RequestSpec;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;

use super::decode::decoded;
use super::{BadRow, Rows, TraceError, TraceRow};
use crate::explain::{LogError, LogReader};
use crate::sim::{Cluster, Report, Requests, Scenario, Simulation, SimulationError};

/// What a log of decisions tells of a cloud.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recorded {
    /// The hosts, with what was on them before, until it went.
    pub cluster: Cluster,
    /// The servers, in the order of arrival.
    pub rows: Arc<[TraceRow]>,
    /// What they asked for.
    pub requests: Arc<Requests>,
    /// How much there is, and how much is no row.
    pub told: Told,
}

/// How much a log of decisions told, and how much of it is not in its rows.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Told {
    /// Questions.
    pub questions: u64,
    /// Questions to place, for what is not there yet, that found no host.
    pub refused: u64,
    /// Questions for servers that were there already: to move them, or to change their size.
    pub moves: u64,
    /// Questions that place nothing: rebuilds and looks.
    pub looks: u64,
    /// Servers that were placed and never seen.
    pub unseen: u64,
    /// Rows of claims that nobody asked for in this log.
    pub unasked: u64,
    /// Claims of a size that no server can have; they are no rows.
    pub unusable: u64,
    /// Hosts that were first seen after the first question.
    pub later_hosts: u64,
    /// Whether the log ends in the middle of a line, since whoever wrote it died.
    pub torn: bool,
    /// Other faults of the log.
    pub faults: u64,
    /// The first of them with their lines, at most [`FAULTS_MAX`](Self::FAULTS_MAX).
    pub first_faults: Vec<(u64, String)>,
    /// Lines of the log that were left out because of faults.
    pub skipped_lines: u64,
}

impl Told {
    /// So many faults are told one by one.
    pub const FAULTS_MAX: usize = 100;
}

impl Recorded {
    /// The most rows that are held in memory; a log with more should be cut.
    pub const ROWS_MAX: usize = 1_000_000;

    /// The rows, as every trace has them: the faults of the log come first, as bad rows.
    pub fn rows(&self) -> Rows {
        let faults = self.told.first_faults.clone().into_iter();
        let bad = |(line, why)| Err(TraceError::BadRow { line, why: BadRow::Log { why } });
        let rows = Arc::clone(&self.rows);
        Box::new(faults.map(bad).chain((0..rows.len()).map(move |nth| Ok(rows[nth]))))
    }

    /// What a server asked for, beyond room.
    pub fn request(&self, row: &TraceRow) -> Option<&RequestSpec> {
        self.requests.of(row.vm)
    }

    /// What would have come of it under another scheduler.
    ///
    /// # Errors
    /// As of [`Simulation::new`] and [`Simulation::run`].
    pub fn simulate(
        &self,
        scheduler: &dyn Scheduler,
        scenario: Scenario,
        seed: Seed,
    ) -> Result<Report, SimulationError> {
        Simulation::new(self.cluster.clone(), scheduler, scenario, seed)?
            .with_requests(Arc::clone(&self.requests))
            .run(self.rows())
    }
}

/// What a log of decisions in a file, compressed or not, tells of a cloud.
///
/// # Errors
/// As of [`recorded`].
pub fn open(path: &Path) -> Result<Recorded, TraceError> {
    let head = File::open(path).and_then(|file| decoded(Box::new(file)));
    recorded(head.map_err(TraceError::Read)?.reader())
}

/// What a log of decisions tells of a cloud. Faults of the log are counted, and what can still be
/// read is taken.
///
/// # Errors
/// [`TraceError`] when the log cannot be read, is none, is of another version or too large, or when
/// it has no question.
pub fn recorded(log: impl Read) -> Result<Recorded, TraceError> {
    let mut reader = LogReader::new(log);
    let mut following = derive::Following::default();
    while let Some(asked) = reader.next_question() {
        match asked {
            Ok(asked) => following.take(&asked)?,
            Err(fault) if fault.is_the_end() => return Err(fault.into()),
            Err(fault) => following.fault(&fault),
        }
    }
    following.finish(reader.skipped_lines())
}

impl From<LogError> for TraceError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Read(error) => Self::Read(error),
            other => Self::Log(Box::new(other)),
        }
    }
}
