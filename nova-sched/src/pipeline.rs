//! The algorithm: filter, weigh, choose, claim; once for every instance of a request.
//!
//! It is Nova's. The hosts that pass for one instance are, in the order in which they were ranked,
//! the candidates for the next; a host that fell out does not come back. Either every instance
//! finds a host, or none is placed.

use std::any::Any;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use nova_core::domain::{HostState, HostTable, Near, Placement, Purpose, RequestSpec, Slot};
use nova_core::seed::Seed;

use crate::filters::{Capacity, forces};
use crate::normalise::Scale;
use crate::tally::{Chosen, Tally};
use crate::view::View;
use crate::{Filter, FilterScheduler, Rules, Runs, Ties, Verdict};

/// Where a request got stuck: the hosts and the request as the instance saw them that found none.
pub(crate) struct Stuck<'a> {
    pub(crate) view: View<'a>,
    pub(crate) request: Cow<'a, RequestSpec>,
    /// What failed, when it is not that no host was left.
    pub(crate) failed: Option<Failed>,
}

/// What makes a whole request fail under Nova's rules. What it was, the tally is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// A filter could not say.
    Filter,
    /// A weigher gave what is no number.
    Weigher,
}

/// The filters that have something to say for one instance, with their places in the chain.
type Stages<'a> = Vec<(usize, &'a dyn Filter)>;

/// The hosts that passed, with their raw weights.
#[derive(Default)]
pub(crate) struct Ranking {
    /// Where they are.
    pub(crate) passed: Vec<Slot>,
    /// For each of them one weight per weigher, with its multiplier there.
    pub(crate) raw: Vec<(f64, f64)>,
    /// For each of them the final weight.
    pub(crate) score: Vec<f64>,
    /// The first weigher of which a raw weight is no number.
    undefined: Option<usize>,
}

impl Ranking {
    /// Places in [`passed`](Self::passed), best first; ties stay in their order.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..self.passed.len()).collect();
        // Scores are finite, so any two can be compared.
        let score = |at: &usize| self.score[*at];
        ranked.sort_by(|a, b| score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal));
        ranked
    }
}

impl FilterScheduler {
    /// Places all instances of `request`, or says at which it got stuck. Without a seed nothing is
    /// drawn or shuffled: always the first of the best is taken.
    pub(crate) fn place<'a>(
        &self,
        hosts: &'a HostTable,
        request: &'a RequestSpec,
        seed: Option<Seed>,
        tally: &mut impl Tally,
    ) -> Result<Placement, Box<Stuck<'a>>> {
        let mut view = View::new(hosts);
        let mut request = Cow::Borrowed(request);
        let count = request.instances.len();
        let mut placement = Placement { hosts: Vec::with_capacity(count) };
        let mut ranking = Ranking::default();
        let mut candidates: Vec<Slot> = Vec::new();

        for nth in 0..count {
            let last = nth + 1 == count;
            let stages = self.stages(&request, nth);
            tally.begins(if nth == 0 { hosts.len() } else { candidates.len() });
            stages.iter().for_each(|(filter, _)| tally.runs(*filter));
            let among = self.subset_size.max(request.among);
            let seed = seed.filter(|_| among > 1 || self.ties == Ties::Shuffled);
            let best = last && seed.is_none() && (nth == 0 || self.rules == Rules::Strict);
            let goal = if best { Goal::Best } else { Goal::Order };
            let sieved = if nth == 0 {
                self.sieve(&stages, &view, &request, view.slots(), goal, tally, &mut ranking)
            } else {
                let before = candidates.drain(..);
                self.sieve(&stages, &view, &request, before, goal, tally, &mut ranking)
            };
            if let Err(failed) = sieved {
                return Err(Box::new(Stuck { view, request, failed: Some(failed) }));
            }
            self.score(&mut ranking);
            let seed = seed.map(|seed| seed.child_of("instance", nth as u128));
            let seed = seed.map(|seed| (seed, among));
            let (chosen, drawn) = self.choose(goal, seed, &ranking, &mut candidates);
            let chosen =
                chosen.and_then(|first| self.with_room(first, &candidates, &view, &request));
            let host = chosen.and_then(|slot| view.row(slot)).map(|row| row.id);
            let instance = request.instances[0];
            tally.chose(&Chosen { instance, view: &view, ranking: &ranking, drawn, host });
            let (Some(chosen), Some(host)) = (chosen, host) else {
                return Err(Box::new(Stuck { view, request, failed: None }));
            };
            placement.hosts.push(host);
            if !last {
                view.change(chosen, |row| self.consume(row, &request));
                let request = request.to_mut();
                request.instances.remove(0);
                if let Some(group) = &mut request.group {
                    group.join(host);
                }
            }
        }
        Ok(placement)
    }

    /// The hosts that pass for the first instance of `request`, weighed; and what failed.
    pub(crate) fn ranking(
        &self,
        view: &View<'_>,
        request: &RequestSpec,
    ) -> (Ranking, Option<Failed>) {
        let mut ranking = Ranking::default();
        let (stages, tally) = (self.stages(request, 0), &mut crate::tally::Silent);
        let sieved =
            self.sieve(&stages, view, request, view.slots(), Goal::Order, tally, &mut ranking);
        self.score(&mut ranking);
        (ranking, sieved.err())
    }

    /// Whether all instances of `request` find a host.
    pub(crate) fn fits(&self, hosts: &HostTable, request: &RequestSpec) -> bool {
        self.place(hosts, request, None, &mut crate::tally::Silent).is_ok()
    }

    /// The filters that run for the instance at `nth` of `request`.
    pub(crate) fn stages<'a>(&'a self, request: &'a RequestSpec, nth: usize) -> Stages<'a> {
        self.running(request, nth).collect()
    }

    /// The same, one after the other.
    pub(crate) fn running<'a>(
        &'a self,
        request: &'a RequestSpec,
        nth: usize,
    ) -> impl Iterator<Item = (usize, &'a dyn Filter)> {
        let filters = self.filters.iter().map(|filter| &**filter).enumerate();
        let forced = forces(request);
        let asked = move |filter: &dyn Filter| match request.purpose {
            Purpose::Rebuild => filter.on_rebuild(),
            Purpose::Place if forced => self.is_necessary(filter),
            _ => true,
        };
        filters.filter(move |(_, filter)| {
            (nth == 0 || !self.runs_once(*filter)) && asked(*filter) && filter.concerns(request)
        })
    }

    /// Whether a filter is asked before the first instance of a request only.
    fn runs_once(&self, filter: &dyn Filter) -> bool {
        // Nova asks placement for room before the first instance, and then only looks again.
        self.rules == Rules::Nova && (filter as &dyn Any).is::<Capacity>()
            || filter.runs() == Runs::OncePerRequest
    }

    /// The first of the ranked hosts that still has room, where capacity was asked for before the
    /// first instance only: that is what Nova does. Otherwise every candidate has room.
    fn with_room(
        &self,
        first: Slot,
        ranked: &[Slot],
        view: &View<'_>,
        request: &RequestSpec,
    ) -> Option<Slot> {
        if self.rules == Rules::Strict || ranked.is_empty() || !self.minds_capacity() {
            return Some(first);
        }
        let has_room = |slot: &Slot| {
            view.row(*slot).is_some_and(|row| Capacity.check(row, request) == Verdict::Pass)
        };
        ranked.iter().copied().find(has_room)
    }

    /// Makes the first instance of `request` part of `row`.
    pub(crate) fn consume(&self, row: &mut HostState, request: &RequestSpec) {
        row.claim_flavor(request.instances[0], &request.flavor);
        let has_devices = take_devices(row, request);
        if has_devices || self.rules == Rules::Strict {
            // Nova forgets them where the devices are missing, as they may be on a forced host.
            row.io_ops = row.io_ops.saturating_add(1);
        }
        if self.rules == Rules::Nova
            && let Some(measured) = &mut row.measured
        {
            // Nova claims swap in placement, and forgets it in what its weighers see.
            let swap = request.flavor.swap().to_gib_ceil().get().saturating_mul(1024);
            let swap = i64::try_from(swap).unwrap_or(i64::MAX);
            measured.free_disk = measured.free_disk.saturating_add(swap);
        }
    }

    /// Asks the filters about every candidate, and the weighers about those that pass.
    #[expect(clippy::too_many_arguments, reason = "the loop's whole state, named once")]
    fn sieve(
        &self,
        stages: &Stages<'_>,
        view: &View<'_>,
        request: &RequestSpec,
        candidates: impl Iterator<Item = Slot>,
        goal: Goal,
        tally: &mut impl Tally,
        ranking: &mut Ranking,
    ) -> Result<(), Failed> {
        ranking.passed.clear();
        ranking.raw.clear();
        ranking.undefined = None;
        let mut failed = None;
        let lenient = self.rules == Rules::Strict;
        let first_is_best =
            goal == Goal::Best && self.weighers.is_empty() && lenient && !wants_all(tally);
        'hosts: for at in candidates {
            let Some(row) = view.row(at) else { continue };
            for (place, filter) in stages {
                match filter.check(row, request) {
                    Verdict::Pass => {}
                    Verdict::Error(reason) if !lenient => {
                        tally.failed(*place, reason);
                        failed = Some(Failed::Filter);
                        continue 'hosts;
                    }
                    Verdict::Reject(reason) | Verdict::Error(reason) => {
                        tally.refused(*place, reason);
                        continue 'hosts;
                    }
                }
            }
            ranking.passed.push(at);
            if first_is_best {
                return Ok(());
            }
            // The row is at hand now. With a single host left the weights are not used.
            for (nth, weighing) in self.weighers.iter().enumerate() {
                let raw = weighing.weigher.weigh(row, request);
                if raw.is_nan() && !lenient {
                    ranking.undefined.get_or_insert(nth);
                }
                let weight = weighing.ends.clamp(raw);
                ranking.raw.push((weight, weighing.multiplier_on(row)));
            }
        }
        // With a single host nothing is weighed.
        if let Some(weigher) = ranking.undefined.filter(|_| ranking.passed.len() > 1) {
            tally.undefined(weigher);
            failed = failed.or(Some(Failed::Weigher));
        }
        failed.map_or(Ok(()), Err)
    }

    /// Turns raw weights into one score per host.
    fn score(&self, ranking: &mut Ranking) {
        ranking.score.clear();
        ranking.score.resize(ranking.passed.len(), 0.0);
        let width = self.weighers.len();
        if ranking.passed.len() < 2 || width == 0 {
            return;
        }
        // Weigher by weigher, in the order of the policy: the additions of each host happen in
        // that order, so that the sums are the same to the last bit however they are computed.
        for nth in 0..width {
            let scale = self.scale(ranking, nth);
            let weights = ranking.raw.iter().skip(nth).step_by(width);
            for ((weight, multiplier), score) in weights.zip(ranking.score.iter_mut()) {
                *score += multiplier * scale.map(*weight);
            }
        }
    }

    /// The scale of a weigher among the hosts that passed.
    pub(crate) fn scale(&self, ranking: &Ranking, nth: usize) -> Scale {
        let mut scale = Scale::new(&self.weighers[nth].ends);
        let weights = ranking.raw.iter().skip(nth).step_by(self.weighers.len());
        weights.for_each(|(weight, _)| scale.include(*weight));
        scale
    }

    /// The row to take; none when no host passed. Under [`Goal::Order`], `order` becomes the
    /// candidates for the next instance, the chosen row first.
    fn choose(
        &self,
        goal: Goal,
        seed: Option<(Seed, usize)>,
        ranking: &Ranking,
        order: &mut Vec<Slot>,
    ) -> (Option<Slot>, Drawn) {
        if goal == Goal::Best {
            // The first of the best is what a stable sort would put on top.
            let score = &ranking.score;
            let better = |best: usize, at: usize| if score[at] > score[best] { at } else { best };
            let best = (0..ranking.passed.len()).reduce(better).map(|at| ranking.passed[at]);
            return (best, Drawn::default());
        }
        let mut ranked = ranking.order();
        let drawn = seed.map(|seed| self.draw(seed, &ranking.score, &mut ranked));
        order.clear();
        order.extend(ranked.iter().map(|at| ranking.passed[*at]));
        (order.first().copied(), drawn.unwrap_or_default())
    }

    /// Shuffles the best if the policy says so, and moves the one to take to the front.
    fn draw(&self, (seed, among): (Seed, usize), score: &[f64], ranked: &mut [usize]) -> Drawn {
        let mut draw = Drawn::default();
        if self.ties == Ties::Shuffled
            && let Some(best) = ranked.first().map(|at| score[*at])
        {
            let equal = ranked.iter().take_while(|at| score[**at] == best).count();
            seed.child("ties").chance().shuffle(&mut ranked[..equal]);
            draw.shuffled = equal;
        }
        let among = among.min(ranked.len());
        if among > 1 {
            let drawn = seed.child("subset").chance().index(among);
            ranked[..=drawn].rotate_right(1);
            draw.subset = Some((among, drawn));
        }
        draw
    }
}

/// Makes the first instance of `request` part of the host's NUMA cells and PCI pools, and says
/// whether it has the devices it wants. On a forced host the guest may fit into no cells; then it
/// takes none.
fn take_devices(row: &mut HostState, request: &RequestSpec) -> bool {
    let wanted = request.numa.as_deref().zip(row.numa.clone());
    let fit = wanted
        .as_ref()
        .and_then(|(guest, cells)| cells.fit(guest, row.overcommit(), &row.pci, &request.pci).ok());
    let Some(((guest, cells), fit)) = wanted.zip(fit) else {
        return row.pci.take(&request.pci, None).is_ok();
    };
    let chosen = fit.host_cells();
    let near = Near { host: &cells, cells: &chosen };
    let near = Some(near).filter(|near| !near.cells.is_empty());
    let taken = row.pci.take(&request.pci, near);
    if let Some(cells) = &mut row.numa {
        Arc::make_mut(cells).claim(guest, &fit);
    }
    taken.is_ok()
}

/// What chance decided.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Drawn {
    /// Among how many equally good hosts, which were shuffled.
    pub(crate) shuffled: usize,
    /// Among how many of the best, and which of these it was, from 0 on.
    pub(crate) subset: Option<(usize, usize)>,
}

fn wants_all<T: Tally>(_: &T) -> bool {
    T::ALL
}

/// What the ranking is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// The first of the best, and nothing more.
    Best,
    /// The order of all, to draw from or to go on with.
    Order,
}
