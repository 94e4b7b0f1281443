//! The questions of a log, asked again.

use std::collections::BTreeSet;
use std::io::Read;

use nova_core::clock::Timestamp;
use nova_core::domain::{HostId, HostTable, RequestSpec};
use nova_core::port::Scheduler;
use nova_core::seed::Seed;

use super::reader::{Asked, LogError, LogReader};

/// One decision of a log, and what another scheduler says to it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Replayed<'l> {
    /// The line of the log, counted from 1.
    pub line: u64,
    /// When it was asked, by the clock of the cloud.
    pub at: Timestamp,
    /// The hosts as they were.
    pub hosts: &'l HostTable,
    /// What was asked for.
    pub request: &'l RequestSpec,
    /// With which chance.
    pub seed: Seed,
    /// The hosts that were chosen; none when there was no valid host.
    pub recorded: Option<&'l [HostId]>,
    /// The hosts that are chosen now.
    pub now: Option<&'l [HostId]>,
}

/// How a scheduler answered the questions of a log.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Replay {
    /// What the schedulers called themselves that decided.
    pub decided_by: BTreeSet<String>,
    /// How many questions there are.
    pub asked: u64,
    /// How many have the same answer, which may be that there is no valid host.
    pub same: u64,
    /// How many are placed in both, but not all on the same hosts.
    pub elsewhere: u64,
    /// How many are placed now, and had no valid host.
    pub placed_now: u64,
    /// How many have no valid host now, and were placed.
    pub refused_now: u64,
    /// The lines of the first that have another answer, at most [`LINES_MAX`](Self::LINES_MAX).
    pub differing: Vec<u64>,
    /// Whether the log ends in the middle of a line, since whoever wrote it died.
    pub torn: bool,
    /// How many other faults it has.
    pub faults: u64,
    /// The first of them, at most [`LINES_MAX`](Self::LINES_MAX).
    pub first_faults: Vec<String>,
    /// How many lines were left out because of them.
    pub skipped_lines: u64,
}

impl Replay {
    /// So many lines are named at most.
    pub const LINES_MAX: usize = 100;

    /// Whether every question has the answer that was recorded.
    pub fn is_same(&self) -> bool {
        self.same == self.asked
    }

    fn count(&mut self, replayed: &Replayed<'_>) {
        self.asked += 1;
        match (replayed.recorded, replayed.now) {
            (recorded, now) if recorded == now => {
                self.same += 1;
                return;
            }
            (Some(_), Some(_)) => self.elsewhere += 1,
            (None, _) => self.placed_now += 1,
            (_, None) => self.refused_now += 1,
        }
        if self.differing.len() < Self::LINES_MAX {
            self.differing.push(replayed.line);
        }
    }
}

/// Asks `scheduler` every question of a log, about the hosts as they were and with the same chance,
/// and tells `each` what it says.
///
/// The scheduler that decided gives the same answers when it is of the same version and has the
/// same options; so questions that differ are worth a look. For another scheduler this is what it
/// would have said in the place of the first one at each moment, not what would have come of it:
/// the hosts are always as the recorded decisions have left them.
///
/// A fault of the log is counted, and what can still be read is replayed.
///
/// # Errors
/// [`LogError`] that ends the log: it cannot be read, is none, is of another version or too large.
pub fn replay(
    log: impl Read,
    scheduler: &dyn Scheduler,
    mut each: impl FnMut(&Replayed<'_>),
) -> Result<Replay, LogError> {
    let mut reader = LogReader::new(log);
    let mut report = Replay::default();
    while let Some(asked) = reader.next_question() {
        let asked = match asked {
            Ok(asked) => asked,
            Err(fault) if fault.is_the_end() => return Err(fault),
            Err(LogError::Torn { .. }) => {
                report.torn = true;
                continue;
            }
            Err(fault) => {
                report.faults += 1;
                if report.first_faults.len() < Replay::LINES_MAX {
                    report.first_faults.push(fault.to_string());
                }
                continue;
            }
        };
        let Asked { line, at, policy, hosts, ref request, seed, ref placed, .. } = asked;
        if !report.decided_by.contains(policy) && report.decided_by.len() < Replay::LINES_MAX {
            report.decided_by.insert(policy.to_owned());
        }
        let now = scheduler.find(hosts, request, seed).map(|placement| placement.hosts);
        let (recorded, now) = (placed.as_deref(), now.as_deref());
        let replayed = Replayed { line, at, hosts, request, seed, recorded, now };
        report.count(&replayed);
        each(&replayed);
    }
    report.skipped_lines = reader.skipped_lines();
    Ok(report)
}
