//! Why a request found the host that it found, or none, and the least that would have to change.
//!
//! - [`Scheduler::explain`](nova_core::port::Scheduler::explain): why a request finds no host;
//! - [`Recorder`]: decisions as data that can be replayed to the same bytes;
//! - [`DecisionLog`], [`replay`]: decisions of a running cloud on disk, and how another policy would
//!   have decided; see [`log`];
//! - [`FilterScheduler::why_not`]: why one host was not taken;
//! - [`FilterScheduler::what_would_fit`]: the least that has to change for a request to find hosts;
//! - [`FilterScheduler::how_many_fit`]: how many more servers there is room for, and what ends it on
//!   each host;
//! - [`what_if`]: the table as it would be, to ask any of these.

mod change;
mod decision;
mod how_many;
pub mod log;
mod what_if;
mod why_not;

use std::collections::BTreeMap;

use nova_core::domain::{HostState, HostTable, NearMiss, Refusal, RequestSpec, ResourceKind};

pub use self::change::apply;
use self::change::smallest_change;
pub use self::decision::{
    Candidate, Choice, Conflict, Decision, Draw, Outcome, Recorder, ReplayError, WeightPart,
};
pub use self::how_many::{HostRoom, Limit, Room};
pub use self::log::{
    Asked, DecisionLog, LogError, LogFailure, LogReader, Replay, Replayed, replay,
};
pub use self::what_if::{HostChange, WhatIfError, what_if};
pub use self::why_not::{NoSuchHost, WhyNot};
use crate::pipeline::Stuck;
use crate::tally::{Counts, Tally};
use crate::{FilterScheduler, Verdict};

/// No explanation names more hosts than this: more is a list, not an explanation.
pub const NEAREST_MAX: usize = 3;

/// Everything that can be said about `request`. It is asked without chance, as a refusal is.
pub(crate) fn explain(
    scheduler: &FilterScheduler,
    hosts: &HostTable,
    request: &RequestSpec,
) -> Refusal {
    let mut counts = Counts::default();
    let count = hosts.len();
    match scheduler.place(hosts, request, None, &mut counts) {
        Err(stuck) => Refusal {
            funnel: counts.into_funnel(scheduler, count),
            nearest: nearest(scheduler, &stuck),
            smallest_change: match stuck.failed {
                None => smallest_change(scheduler, hosts, request),
                // It is not that hosts lack something.
                Some(_) => None,
            },
        },
        // Nothing to explain: the funnel shows how many hosts would do.
        Ok(_) => Refusal {
            funnel: count_all(scheduler, hosts, request).into_funnel(scheduler, count),
            nearest: Vec::new(),
            smallest_change: None,
        },
    }
}

fn count_all(scheduler: &FilterScheduler, hosts: &HostTable, request: &RequestSpec) -> Counts {
    let mut counts = Counts::default();
    let stages = scheduler.stages(request, 0);
    stages.iter().for_each(|(place, _)| counts.runs(*place));
    for row in hosts.rows() {
        let refusal = stages.iter().find_map(|(place, filter)| {
            filter.check(row, request).refusal().map(|reason| (*place, reason))
        });
        if let Some((place, reason)) = refusal {
            counts.refused(place, reason);
        }
    }
    counts
}

/// The hosts that fewest filters refused; of those the ones that lack the smallest share of what
/// was asked for; of those the lowest ids.
fn nearest(scheduler: &FilterScheduler, stuck: &Stuck<'_>) -> Vec<NearMiss> {
    let request = &*stuck.request;
    // Every filter is asked, those that run once per request too: what refused a host for an
    // earlier instance still does.
    let stages = scheduler.stages(request, 0);
    let mut misses: Vec<(usize, f64, &HostState)> = Vec::new();
    for row in stuck.view.rows() {
        let refusals =
            stages.iter().filter(|(_, filter)| filter.check(row, request) != Verdict::Pass).count();
        if refusals > 0 {
            misses.push((refusals, relative_shortage(row, request), row));
        }
    }
    // Shares are finite; the sort is stable and the rows come sorted by id.
    misses.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    misses.truncate(NEAREST_MAX);
    let describe = |row: &HostState| NearMiss {
        host: row.id,
        name: row.name.clone(),
        refused_by: stages
            .iter()
            .filter_map(|(_, filter)| {
                let reason = filter.check(row, request).refusal()?;
                Some((filter.name().to_owned(), reason.0.to_owned()))
            })
            .collect(),
        short_of: shortages(row, request).collect::<BTreeMap<_, _>>(),
    };
    misses.into_iter().map(|(_, _, row)| describe(row)).collect()
}

/// How much of each resource would have to be there besides, in the resource's unit.
fn shortages<'a>(
    row: &'a HostState,
    request: &'a RequestSpec,
) -> impl Iterator<Item = (ResourceKind, u64)> + 'a {
    let wanted = request.flavor.resources();
    ResourceKind::ALL.into_iter().filter_map(move |kind| {
        let wanted = kind.of(&wanted);
        let beyond_free = (wanted as f64 - row.free(kind)).ceil().max(0.0) as u64;
        // No guest gets more than its host physically has, whatever is free.
        let beyond_host = wanted.saturating_sub(kind.of(&row.inventory.total()));
        let short = beyond_free.max(beyond_host);
        (short > 0).then_some((kind, short))
    })
}

fn relative_shortage(row: &HostState, request: &RequestSpec) -> f64 {
    let wanted = request.flavor.resources();
    shortages(row, request).map(|(kind, short)| short as f64 / kind.of(&wanted).max(1) as f64).sum()
}
