//! What is counted while a simulation runs.

use std::collections::BTreeMap;

use nova_core::domain::Funnel;

use super::Moment;
use super::event::{PutOff, Refused};
use super::histogram::Histogram;
use super::report::SkippedRow;

/// How long decisions took, in nanoseconds of real time.
pub(super) type Latency = Histogram;

/// Events, counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    /// VMs that got a host at least once.
    pub(super) placed: u64,
    /// VMs that never got one.
    pub(super) rejected: u64,
    /// VMs on hosts now.
    pub(super) running: u64,
    pub(super) departed: u64,
    pub(super) refused: BTreeMap<Refused, u64>,
    pub(super) put_off: BTreeMap<PutOff, u64>,
    /// VMs that were put off and not placed again.
    pub(super) lost: u64,
    pub(super) preemptions: u64,
    pub(super) host_failures: u64,
    pub(super) resized: u64,
    pub(super) resizes_refused: u64,
    pub(super) moves: u64,
    pub(super) moves_refused: u64,
    pub(super) moves_cut_short: u64,
    pub(super) move_ms: u64,
    pub(super) conflicts: u64,
    pub(super) decisions: u64,
    pub(super) first_arrival: Option<Moment>,
    pub(super) last_arrival: Option<Moment>,
    pub(super) waits: Histogram,
    pub(super) latency: Latency,
    /// Refusals of which is known which filters they were of.
    pub(super) explained: u64,
    pub(super) rejected_for: BTreeMap<(String, String), (u64, u64)>,
    pub(super) bad_rows_skipped: u64,
    pub(super) bad_rows: Vec<SkippedRow>,
}

impl Counts {
    pub(super) fn refuse(&mut self, why: Refused) {
        *self.refused.entry(why).or_default() += 1;
    }

    pub(super) fn put_off(&mut self, why: PutOff) {
        *self.put_off.entry(why).or_default() += 1;
    }

    pub(super) fn skip(&mut self, row: SkippedRow) {
        self.bad_rows_skipped += 1;
        if self.bad_rows.len() < SkippedRow::NAMED_MAX {
            self.bad_rows.push(row);
        }
    }

    /// Counts what refused each host.
    pub(super) fn explain(&mut self, funnel: Funnel) {
        self.explained += 1;
        for stage in funnel.stages {
            for (reason, hosts) in stage.reasons {
                let key = (stage.filter.clone(), reason);
                let (vms, all_hosts) = self.rejected_for.entry(key).or_default();
                *vms += 1;
                *all_hosts += hosts as u64;
            }
        }
    }
}
