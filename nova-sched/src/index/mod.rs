//! The best host without asking every host: an index that follows the table's changes.
//!
//! It answers what the filters and weighers answer when every host is asked, to the last bit, and
//! steps aside where it cannot: for several instances at once, where chance decides, where a
//! weigher looks at the request, where hosts are too different from each other.
//!
//! - Hosts that static filters do not tell apart ([`Reads::Class`](crate::Reads)) form a partition;
//!   such a filter is asked once for each.
//! - Room for the request is looked for in lanes of what is free, and then in the row.
//! - All other filters are asked of the hosts that would be taken otherwise.
//! - The ends of each scale, the least and the greatest weight of the hosts that pass, are found by
//!   the same search, where they matter.
//! - Where several weighers count, each host's blend bounds its score too: the score that it would
//!   have on scales that were usual lately. When they have changed much, blends are made anew, at
//!   most once in as many requests as there are hosts.

mod forest;
mod search;
mod sync;

use std::any::Any;
use std::sync::Mutex;

use nova_core::domain::{
    HostId, HostTable, Purpose, RequestSpec, ResourceKind, Slot, TableIdentity,
};

use smallvec::SmallVec;

use self::forest::down;
use self::search::{Best, GivenUp, Goal, Search, Sum, Term, Weight};
use self::sync::Index;
use crate::filters::Capacity;
use crate::normalise::Scale;
use crate::{Filter, FilterScheduler, Reads, Rules, Ties, Verdict};

/// How a scheduler looks for the best host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// By an index, from the second request on to a table of some size; row by row where it cannot
    /// serve.
    #[default]
    Auto,
    /// By an index wherever it can serve, from the first request on.
    Indexed,
    /// By asking every host.
    RowByRow,
}

/// What is kept between requests.
#[derive(Default)]
pub(crate) struct Memory(Mutex<State>);

impl std::fmt::Debug for Memory {
    /// What is kept says nothing about a policy, and is long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl Clone for Memory {
    /// A copy remembers nothing.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[derive(Debug, Default)]
struct State {
    index: Option<Index>,
    /// The table that was asked last, without an index.
    seen: Option<TableIdentity>,
    /// The table of which no index can be kept.
    unfit: Option<TableIdentity>,
    /// By slot: what the filters said, in the round of this number.
    verdicts: Vec<(u32, bool)>,
    round: u32,
}

/// What an index answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The best host, if any passes.
    Host(Option<HostId>),
    /// It cannot tell.
    AskAll,
}

/// So many that there is no need to ask for memory.
type Few<T> = SmallVec<[T; 8]>;

/// Tables with fewer hosts are asked row by row.
const HOSTS_MIN: usize = 48;

impl Memory {
    /// The best host for the only instance of `request`.
    pub(crate) fn best(
        &self,
        policy: &FilterScheduler,
        hosts: &HostTable,
        request: &RequestSpec,
    ) -> Answer {
        let few = policy.lookup == Lookup::Auto && hosts.len() < HOSTS_MIN;
        if policy.lookup == Lookup::RowByRow || few || !serves(policy, request) {
            return Answer::AskAll;
        }
        // Somebody else is using it: waiting would take longer than asking all.
        let Ok(mut state) = self.0.try_lock() else { return Answer::AskAll };
        let state = &mut *state;
        if !state.follow(policy, hosts, request) {
            return Answer::AskAll;
        }
        let State { index: Some(index), verdicts, round, .. } = state else {
            return Answer::AskAll;
        };
        let mut question = Question::new(policy, hosts, request, index, verdicts, round);
        let best = question.best();
        let spans = std::mem::take(&mut question.spans);
        drop(question);
        if index.drifts(&spans, hosts.len()) {
            let known = index.spans.iter().zip(spans);
            let spans = known.map(|(before, now)| now.unwrap_or(*before)).collect();
            state.index = Index::new(hosts, &policy.weighers, request, Some(spans)).ok();
        }
        best.map_or(Answer::AskAll, Answer::Host)
    }

    /// How many bytes are kept.
    pub(crate) fn bytes(&self) -> usize {
        let Ok(state) = self.0.lock() else { return 0 };
        state.index.as_ref().map_or(0, Index::bytes)
            + state.verdicts.capacity() * size_of::<(u32, bool)>()
    }
}

/// Whether the answer for `request` can be looked up at all.
fn serves(policy: &FilterScheduler, request: &RequestSpec) -> bool {
    request.instances.len() == 1
        && policy.rules == Rules::Strict
        && policy.subset_size.max(request.among) <= 1
        && policy.ties == Ties::InOrder
        && request.purpose == Purpose::Place
        && policy.weighers.iter().all(|weighing| weighing.is_by_host(request))
}

impl State {
    /// Makes the index one of `hosts` as they are now; whether there is one.
    fn follow(
        &mut self,
        policy: &FilterScheduler,
        hosts: &HostTable,
        request: &RequestSpec,
    ) -> bool {
        let weighers = &policy.weighers;
        if let Some(index) = &mut self.index
            && index.is_of(hosts)
            && index.sync(hosts, weighers, request).is_ok()
        {
            return true;
        }
        if self.unfit.as_ref() == Some(hosts.identity()) {
            return false;
        }
        // To make an index takes longer than to ask all once.
        let again = self.seen.replace(hosts.identity().clone());
        if policy.lookup == Lookup::Auto && again.as_ref() != Some(hosts.identity()) {
            return false;
        }
        self.index = Index::new(hosts, weighers, request, None).ok();
        if self.index.is_none() {
            self.unfit = Some(hosts.identity().clone());
        }
        self.verdicts.clear();
        self.verdicts.resize(hosts.slots_end(), (0, false));
        self.index.is_some()
    }
}

/// What a weigher adds before it is multiplied.
#[derive(Debug, Clone, Copy)]
struct Part {
    weigher: usize,
    scale: Scaled,
}

#[derive(Debug, Clone, Copy)]
enum Scaled {
    /// The same for all hosts.
    Constant(f64),
    /// The weight on a scale.
    Column { column: usize, low: f64, span: f64 },
}

impl Part {
    /// What it adds to the score of a host with these multipliers, if anything.
    fn with(&self, multipliers: &[f64]) -> Option<Term> {
        let multiplier = multipliers[self.weigher];
        let term = match self.scale {
            Scaled::Constant(normal) => Term::Constant(multiplier * normal),
            Scaled::Column { column, low, span } => Term::Column { column, multiplier, low, span },
        };
        (multiplier != 0.0).then_some(term)
    }
}

/// One request to one index.
struct Question<'a> {
    policy: &'a FilterScheduler,
    hosts: &'a HostTable,
    request: &'a RequestSpec,
    index: &'a Index,
    /// The partitions whose hosts may pass.
    partitions: Few<usize>,
    /// Filters that look at the row itself.
    filters: Few<&'a dyn Filter>,
    wanted: Few<(usize, f32)>,
    verdicts: &'a mut Vec<(u32, bool)>,
    round: u32,
    patience: usize,
    /// How far the weights of each column are apart that counts.
    spans: Few<Option<f64>>,
}

impl<'a> Question<'a> {
    fn new(
        policy: &'a FilterScheduler,
        hosts: &'a HostTable,
        request: &'a RequestSpec,
        index: &'a Index,
        verdicts: &'a mut Vec<(u32, bool)>,
        round: &mut u32,
    ) -> Self {
        if verdicts.len() < hosts.slots_end() {
            verdicts.resize(hosts.slots_end(), (0, false));
        }
        *round = round.wrapping_add(1);
        let (mut by_class, mut filters) = (Few::<&dyn Filter>::new(), Few::new());
        let mut wanted = Few::new();
        for (_, filter) in policy.running(request, 0) {
            match filter.reads() {
                Reads::Class => by_class.push(filter),
                Reads::Row => filters.push(filter),
            }
            if (filter as &dyn Any).is::<Capacity>() {
                let resources = request.flavor.resources();
                for (lane, kind) in ResourceKind::ALL.into_iter().enumerate() {
                    let amount = kind.of(&resources);
                    if amount > 0 {
                        wanted.push((lane, down(amount as f64)));
                    }
                }
            }
        }
        let may_pass = |partition: &usize| {
            let sample = index.forest.any(index.partitions[*partition].root);
            sample.and_then(|slot| hosts.at(slot)).is_some_and(|row| {
                by_class.iter().all(|filter| filter.check(row, request) == Verdict::Pass)
            })
        };
        let mut partitions = Few::new();
        (0..index.partitions.len())
            .filter(may_pass)
            .for_each(|partition| partitions.push(partition));
        // Beyond that, asking all is quicker.
        let patience = hosts.len() / 4 + 64;
        let round = *round;
        Self {
            policy,
            hosts,
            request,
            index,
            partitions,
            filters,
            wanted,
            verdicts,
            round,
            patience,
            spans: Few::new(),
        }
    }

    /// The best host, if any passes, or nothing when it is quicker to ask all.
    fn best(&mut self) -> Option<Option<HostId>> {
        let (index, mut best) = (self.index, Best::nobody());
        if let Some(weight) = self.only_weight() {
            self.search_all(&weight, &mut best).ok()?;
            return Some(self.host(best));
        }
        let (mut parts, mut terms) = (Few::new(), Few::new());
        if !self.parts(&mut parts).ok()? {
            return Some(None);
        }
        for at in 0..self.partitions.len() {
            let partition = self.partitions[at];
            let multipliers = &index.partitions[partition].multipliers;
            terms.clear();
            let adding = parts.iter().filter_map(|part| part.with(multipliers));
            adding.for_each(|term| terms.push(term));
            let goal = Sum { terms: &terms, blend: index.bound(&terms, multipliers) };
            self.search(partition, &goal, &mut best).ok()?;
        }
        Some(self.host(best))
    }

    fn host(&self, best: Best) -> Option<HostId> {
        self.hosts.at(Slot(best.slot)).map(|row| row.id)
    }

    /// What each weigher that counts adds before it is multiplied; false when no host passes.
    fn parts(&mut self, parts: &mut Few<Part>) -> Result<bool, GivenUp> {
        let index = self.index;
        for (weigher, flat) in index.flat.iter().enumerate() {
            let column = index.columns.iter().position(|column| column.weigher == weigher);
            if !self.multipliers(weigher).any(|multiplier| multiplier != 0.0) {
                continue;
            }
            match (flat, column) {
                (Some(weight), _) => {
                    let normal = self.normal_of_all(weigher, *weight);
                    parts.push(Part { weigher, scale: Scaled::Constant(normal) });
                }
                (None, Some(column)) => {
                    let Some((low, span)) = self.scale(column)? else { return Ok(false) };
                    self.spans.resize(index.columns.len(), None);
                    self.spans[column] = Some(span).filter(|span| *span > 0.0);
                    // What maps to 0 everywhere adds nothing.
                    if span != 0.0 {
                        parts.push(Part { weigher, scale: Scaled::Column { column, low, span } });
                    }
                }
                (None, None) => {}
            }
        }
        Ok(true)
    }

    /// What a weigher is multiplied with, in each partition.
    fn multipliers(&self, weigher: usize) -> impl Iterator<Item = f64> {
        let all = self.partitions.iter();
        all.map(move |partition| self.index.partitions[*partition].multipliers[weigher])
    }

    /// To what the weight maps that all hosts have: 0, unless an end is fixed elsewhere.
    fn normal_of_all(&self, weigher: usize, weight: f64) -> f64 {
        let mut scale = Scale::new(&self.policy.weighers[weigher].ends);
        scale.include(weight);
        scale.map(weight)
    }

    /// The column that decides alone, so that the order of its raw weights is that of the scores:
    /// no other weigher adds anything, and different weights stay different when they are
    /// normalised and multiplied.
    fn only_weight(&self) -> Option<Weight> {
        let index = self.index;
        let mut only = None;
        for (weigher, flat) in index.flat.iter().enumerate() {
            if !self.multipliers(weigher).any(|multiplier| multiplier != 0.0) {
                continue;
            }
            match flat {
                Some(weight) if self.normal_of_all(weigher, *weight) == 0.0 => {}
                None if only.is_none() => only = Some(weigher),
                _ => return None,
            }
        }
        let weigher = only?;
        let column = index.columns.iter().position(|column| column.weigher == weigher)?;
        let first = self.multipliers(weigher).next()?;
        let alike = self.multipliers(weigher).all(|multiplier| multiplier == first);
        let plain = (1e-15..=1e15).contains(&first.abs());
        let decides = alike && plain && index.is_coarse(column);
        decides.then_some(Weight { column, positive: first > 0.0 })
    }

    /// The ends of a column's scale among the hosts that pass, as the least and the span; nothing
    /// when no host passes.
    fn scale(&mut self, column: usize) -> Result<Option<(f64, f64)>, GivenUp> {
        let ends = self.policy.weighers[self.index.columns[column].weigher].ends;
        let low = match ends.min {
            Some(low) => Some(low),
            None => self.end(column, -1.0)?,
        };
        let high = match ends.max {
            Some(high) => Some(high),
            None => self.end(column, 1.0)?,
        };
        Ok(low.zip(high).map(|(low, high)| (low, high - low)))
    }

    /// The greatest weight of the hosts that pass, or the least for the opposite direction.
    fn end(&mut self, column: usize, direction: f64) -> Result<Option<f64>, GivenUp> {
        let goal = Weight { column, positive: direction > 0.0 };
        let mut best = Best::nobody();
        self.search_all(&goal, &mut best)?;
        Ok((best.slot != u32::MAX).then(|| self.index.raw(best.slot, column)))
    }

    /// Searches every partition whose hosts may pass.
    fn search_all(&mut self, goal: &impl Goal, best: &mut Best) -> Result<(), GivenUp> {
        (0..self.partitions.len()).try_for_each(|at| self.search(self.partitions[at], goal, best))
    }

    fn search(
        &mut self,
        partition: usize,
        goal: &impl Goal,
        best: &mut Best,
    ) -> Result<(), GivenUp> {
        let Self { hosts, request, index, filters, verdicts, round, wanted, .. } = self;
        let accept = |slot: u32| {
            let verdict = &mut verdicts[slot as usize];
            if verdict.0 != *round {
                let passes = hosts.at(Slot(slot)).is_some_and(|row| {
                    filters.iter().all(|filter| filter.check(row, request) == Verdict::Pass)
                });
                *verdict = (*round, passes);
            }
            verdict.1
        };
        let patience = self.patience;
        let mut search = Search { index, goal, wanted, accept, patience };
        let found = search.run(index.partitions[partition].root, best);
        self.patience = search.patience;
        found
    }
}
