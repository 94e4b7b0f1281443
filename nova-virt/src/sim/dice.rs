//! What chance decides about a call, and how many calls there were.

use std::collections::BTreeMap;
use std::time::Duration;

use nova_core::domain::HostName;
use nova_core::seed::{Chance, Seed};

use super::options::{Fate, SimOptions, Verb};

/// The streams of numbers of one host: for each verb one for every purpose.
#[derive(Debug)]
pub(super) struct Dice {
    streams: BTreeMap<Verb, Streams>,
    pub(super) calls: BTreeMap<Verb, u64>,
}

#[derive(Debug)]
struct Streams {
    latency: Chance,
    fault: Chance,
    hang: Chance,
}

impl Dice {
    /// The streams of the host with this name. Hosts that are given the same seed differ.
    pub(super) fn new(seed: Seed, host: &HostName) -> Self {
        let seed = seed.child("simulated host").child(host.as_str());
        let streams = Verb::ALL.map(|verb| {
            let stream = |purpose: &str| seed.child(purpose).child(verb.name()).chance();
            let streams = Streams {
                latency: stream("latency"),
                fault: stream("fault"),
                hang: stream("hang"),
            };
            (verb, streams)
        });
        Self { streams: streams.into(), calls: BTreeMap::new() }
    }

    /// How long the next call of `verb` takes, and what becomes of it.
    pub(super) fn roll(&mut self, verb: Verb, options: &SimOptions) -> (Duration, Fate) {
        *self.calls.entry(verb).or_default() += 1;
        let Some(streams) = self.streams.get_mut(&verb) else {
            return (Duration::ZERO, Fate::Well);
        };
        let latency = options.latency_of(verb);
        let spread = latency.longest().saturating_sub(latency.shortest()).as_nanos();
        let spread = u64::try_from(spread).unwrap_or(u64::MAX);
        let extra = Duration::from_nanos(streams.latency.below(spread.saturating_add(1)));
        // Every call draws from every stream, so that a call keeps its lot whatever came before.
        let done_before_hanging = streams.hang.happens(0.5);
        let fate = options.faults_of(verb).fate(streams.fault.unit(), done_before_hanging);
        (latency.shortest().saturating_add(extra), fate)
    }
}
