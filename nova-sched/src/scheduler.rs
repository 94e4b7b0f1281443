//! A policy that can be asked: filters, weighers, and how one of the best is taken.

use std::any::Any;
use std::sync::Arc;

use nova_core::domain::{HostState, HostTable, Invalid, Placement, Refusal, RequestSpec};
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;

use crate::filters::{
    self, Capacity, HostUp, NumaTopology, PciPassthrough, RequestedHosts, Traits,
};
use crate::index::{Answer, Memory};
use crate::tally::{Counts, Silent};
use crate::weighers;
use crate::{Ends, Filter, Lookup, Rules, Sense, Weigher};

/// Filters every host, ranks those that pass, takes the best.
///
/// Whatever its list of filters, a policy chooses among the hosts that a request names, never one
/// that is down or disabled, and never over-commits: [`RequestedHosts`], [`HostUp`] and
/// [`Capacity`] run first in every policy, unless the list names them elsewhere.
///
/// ```
/// use nova_sched::FilterScheduler;
/// use nova_sched::weighers::IoOps;
///
/// let calm = FilterScheduler::new("calm").with_weigher(IoOps, -1.0)?;
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
#[derive(Debug, Clone)]
pub struct FilterScheduler {
    name: String,
    pub(crate) filters: Vec<Arc<dyn Filter>>,
    pub(crate) weighers: Vec<Weighing>,
    pub(crate) subset_size: usize,
    pub(crate) ties: Ties,
    pub(crate) rules: Rules,
    pub(crate) lookup: Lookup,
    memory: Memory,
}

/// What happens to hosts that are equally good, and better than all others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ties {
    /// They stay in the order in which they came: that of their ids, and for the later instances
    /// of a request that in which the instance before ranked them.
    #[default]
    InOrder,
    /// They are shuffled by the request's seed.
    Shuffled,
}

/// A weigher with what the policy says of it.
#[derive(Debug, Clone)]
pub(crate) struct Weighing {
    pub(crate) weigher: Arc<dyn Weigher>,
    pub(crate) ends: Ends,
    multiplier: f64,
    override_key: String,
    sign: f64,
    limit: f64,
}

impl FilterScheduler {
    /// No multiplier is further from zero; it keeps sums of weights finite.
    pub const MULTIPLIER_MAX: f64 = 1e15;

    /// A policy called `name` with the filters that every policy has and no weigher: the lowest host id
    /// with room.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_chain(name.into(), Rules::Strict, Vec::new())
    }

    /// Nova's policy: every filter of [`filters::defaults`], every weigher of [`weighers::defaults`].
    pub fn nova() -> Self {
        let mut nova = Self::with_chain("nova".to_owned(), Rules::Strict, filters::defaults());
        for (weigher, multiplier) in weighers::defaults() {
            nova.push_weigher(weigher, multiplier);
        }
        nova
    }

    /// Nova's policy with [Nova's rules](Rules::Nova): what Nova would answer where nothing is
    /// configured, its surprises included. [`differences`](crate::differences) lists them.
    pub fn nova_compat() -> Self {
        let chain = filters::nova_defaults();
        let mut compat = Self::with_chain("nova-compat".to_owned(), Rules::Nova, chain);
        for (weigher, multiplier) in weighers::defaults() {
            compat.push_weigher(weigher, multiplier);
        }
        compat
    }

    /// The lowest host id that passes every filter of [`filters::defaults`].
    pub fn first_fit() -> Self {
        Self::with_chain("first-fit".to_owned(), Rules::Strict, filters::defaults())
    }

    /// Of the hosts that pass every filter of [`filters::defaults`], the one with the fewest free
    /// vCPUs; ties go to the lowest id. It packs.
    pub fn best_fit() -> Self {
        let mut best = Self::with_chain("best-fit".to_owned(), Rules::Strict, filters::defaults());
        best.push_weigher(Arc::new(weighers::Cpu), -1.0);
        best
    }

    /// Of the hosts that pass every filter of [`filters::defaults`], the one with the most free vCPUs;
    /// ties go to the lowest id. It spreads.
    pub fn worst_fit() -> Self {
        let mut worst =
            Self::with_chain("worst-fit".to_owned(), Rules::Strict, filters::defaults());
        worst.push_weigher(Arc::new(weighers::Cpu), 1.0);
        worst
    }

    /// The policies above, sorted by name.
    pub fn named() -> Vec<Self> {
        let nova = [Self::nova(), Self::nova_compat()];
        let fits = [Self::best_fit(), Self::first_fit()];
        fits.into_iter().chain(nova).chain([Self::worst_fit()]).collect()
    }

    /// Renames it, for messages.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a filter behind the others.
    #[must_use]
    pub fn with_filter(mut self, filter: impl Filter) -> Self {
        self.filters.push(Arc::new(filter));
        // What is kept is of the policy as it was.
        self.memory = Memory::default();
        self
    }

    /// Adds a weigher behind the others. A positive multiplier prefers hosts with more of its
    /// weight, a negative one those with less.
    ///
    /// # Errors
    /// [`Invalid`] when the multiplier is not a number or beyond
    /// ±[`MULTIPLIER_MAX`](Self::MULTIPLIER_MAX), or the weigher's [`ends`](Weigher::ends) are not
    /// numbers, beyond ±[`Ends::LIMIT`] or the wrong way round.
    pub fn with_weigher(mut self, weigher: impl Weigher, multiplier: f64) -> Result<Self, Invalid> {
        if !is_multiplier(multiplier) {
            let allowed = "a number from -1e15 to 1e15";
            return Err(Invalid::new("weigher.multiplier", multiplier, allowed));
        }
        let ends = weigher.ends();
        if !ends.is_valid() {
            let ends = format!("{}: {ends:?}", weigher.name());
            let allowed = "numbers from -1e300 to 1e300, min at most max";
            return Err(Invalid::new("weigher.ends", ends, allowed));
        }
        self.push_weigher(Arc::new(weigher), multiplier);
        self.memory = Memory::default();
        Ok(self)
    }

    /// Draws the host from so many of the best, each equally likely, instead of taking the best:
    /// so that several schedulers at work on the same hosts meet less often.
    ///
    /// When the draws leave no host for a later instance of the same request, the request is
    /// placed without drawing; Nova refuses it then.
    ///
    /// # Errors
    /// [`Invalid`] for zero.
    pub fn with_subset_size(mut self, size: usize) -> Result<Self, Invalid> {
        if size == 0 {
            return Err(Invalid::new("subset_size", size, "at least 1"));
        }
        self.subset_size = size;
        Ok(self)
    }

    /// Says what happens to hosts that are equally good.
    #[must_use]
    pub fn with_ties(mut self, ties: Ties) -> Self {
        self.ties = ties;
        self
    }

    /// Says how the best host is looked for. The answer is the same.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = lookup;
        self
    }

    /// How many bytes are kept between requests to find hosts quickly.
    pub fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The names of its filters, in the order in which they run.
    pub fn filter_names(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|filter| filter.name())
    }

    /// Its weighers' names and multipliers, in the order in which their parts are added up.
    pub fn weigher_names(&self) -> impl Iterator<Item = (&str, f64)> {
        self.weighers.iter().map(|weighing| (weighing.weigher.name(), weighing.multiplier))
    }

    /// A policy with these filters, behind those that no policy is without.
    pub(crate) fn with_chain(name: String, rules: Rules, chain: Vec<Arc<dyn Filter>>) -> Self {
        fn has<F: Filter>(chain: &[Arc<dyn Filter>]) -> bool {
            // By type and not by name: a name proves nothing.
            chain.iter().any(|filter| (&**filter as &dyn Any).is::<F>())
        }
        let mut filters: Vec<Arc<dyn Filter>> = Vec::with_capacity(chain.len() + 3);
        if !has::<RequestedHosts>(&chain) {
            filters.push(Arc::new(RequestedHosts));
        }
        if !has::<HostUp>(&chain) {
            filters.push(Arc::new(HostUp));
        }
        if !has::<Capacity>(&chain) {
            filters.push(Arc::new(Capacity));
        }
        filters.extend(chain);
        let weighers = Vec::new();
        let (lookup, memory) = Default::default();
        let ties = Ties::InOrder;
        Self { name, filters, weighers, subset_size: 1, ties, rules, lookup, memory }
    }

    /// Whether a filter runs even where the request forces hosts.
    pub(crate) fn is_necessary(&self, filter: &dyn Filter) -> bool {
        let filter = filter as &dyn Any;
        filter.is::<RequestedHosts>()
            || filter.is::<Capacity>()
            || filter.is::<Traits>()
            || self.rules == Rules::Strict
                && (filter.is::<HostUp>()
                    || filter.is::<PciPassthrough>()
                    || filter.is::<NumaTopology>())
    }

    /// Whether a filter of its chain asks for room.
    pub(crate) fn minds_capacity(&self) -> bool {
        self.filters.iter().any(|filter| (&**filter as &dyn Any).is::<Capacity>())
    }

    /// Nova looks at no key and no value before a server is placed.
    fn strictly<T>(&self, checked: Option<Result<(), T>>) -> Option<Result<(), T>> {
        if self.rules == Rules::Nova { Some(Ok(())) } else { checked }
    }

    /// Adds a weigher whose ends and multiplier are known to be good.
    fn push_weigher(&mut self, weigher: Arc<dyn Weigher>, multiplier: f64) {
        self.weighers.push(Weighing::new(weigher, multiplier, self.rules));
    }
}

impl Weighing {
    pub(crate) fn new(weigher: Arc<dyn Weigher>, multiplier: f64, rules: Rules) -> Self {
        let override_key = format!("{}_weight_multiplier", weigher.name().replace('-', "_"));
        let ends = weigher.ends();
        let sign = if weigher.sense() == Sense::Avoid { -1.0 } else { 1.0 };
        let limit = match rules {
            Rules::Strict => FilterScheduler::MULTIPLIER_MAX,
            Rules::Nova => f64::MAX,
        };
        Self { weigher, ends, multiplier, override_key, sign, limit }
    }

    /// Whether the weights for `request` depend on nothing but the host.
    pub(crate) fn is_by_host(&self, request: &RequestSpec) -> bool {
        self.weigher.by_host() || !self.weigher.concerns(request)
    }

    /// The multiplier for `host`: the least of those that its aggregates name, or the policy's.
    pub(crate) fn multiplier_on(&self, host: &HostState) -> f64 {
        let mut least: Option<f64> = None;
        let named = host.aggregates.iter().filter_map(|a| a.metadata.get(&self.override_key));
        for text in named {
            let number = filters::number(text).filter(|number| number.abs() <= self.limit);
            // One that is no number makes Nova ignore the others too.
            let Some(number) = number else { return self.sign * self.multiplier };
            least = Some(least.map_or(number, |least| least.min(number)));
        }
        self.sign * least.unwrap_or(self.multiplier)
    }
}

fn is_multiplier(number: f64) -> bool {
    number.abs() <= FilterScheduler::MULTIPLIER_MAX
}

impl FilterScheduler {
    /// A host for every instance, drawn where the policy draws.
    fn drawn(&self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Option<Placement> {
        match self.memory.best(self, hosts, request) {
            Answer::Host(host) => Some(Placement { hosts: vec![host?] }),
            Answer::AskAll => self.place(hosts, request, Some(seed), &mut Silent).ok(),
        }
    }
}

impl Scheduler for FilterScheduler {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        if let Some(placement) = self.drawn(hosts, request, seed) {
            return Ok(placement);
        }
        // Asked a second time to count, so that those that find a host never pay for counting. It
        // is asked without chance: a draw must not refuse several instances that fit together,
        // and a refusal does not depend on the seed.
        let mut counts = Counts::default();
        self.place(hosts, request, None, &mut counts).map_err(|_| NoValidHost {
            instances: request.instances.len(),
            funnel: counts.into_funnel(self, hosts.len()),
        })
    }

    fn find(&self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Option<Placement> {
        let drawn = self.drawn(hosts, request, seed);
        // As in `select`: several instances may fit together where the draw was unlucky.
        let again = drawn.is_none() && request.instances.len() > 1;
        if again { self.place(hosts, request, None, &mut Silent).ok() } else { drawn }
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        crate::explain::explain(self, hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        let answers = self.filters.iter().filter_map(|filter| filter.extra_spec(key, value));
        self.strictly(all_of(answers)).unwrap_or_else(|| {
            let allowed = "a key that a filter of the scheduler reads";
            Err(Invalid::new("flavor.extra_specs", key, allowed))
        })
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        let answers = self.filters.iter().filter_map(|filter| filter.hint(name, words));
        self.strictly(all_of(answers)).unwrap_or_else(|| {
            let allowed = "a name that a filter of the scheduler reads";
            Err(Invalid::new("hints.custom", name, allowed))
        })
    }
}

/// The first error among `answers`; none when nobody answers.
fn all_of(answers: impl Iterator<Item = Result<(), Invalid>>) -> Option<Result<(), Invalid>> {
    answers.reduce(|all, answer| all.and(answer))
}

impl std::fmt::Display for FilterScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{host, join_aggregate};

    /// The multiplier of io-ops, -1 in the policy, on a host whose aggregates say this of it.
    fn check(aggregates: &[&str], expected: f64) {
        let policy = FilterScheduler::new("x").with_weigher(weighers::IoOps, -1.0).unwrap();
        let mut host = host(1);
        join_aggregate(&mut host, &[("ram_weight_multiplier", "9")]);
        for value in aggregates {
            join_aggregate(&mut host, &[("io_ops_weight_multiplier", value)]);
        }
        assert_eq!(policy.weighers[0].multiplier_on(&host), expected, "{aggregates:?}");
    }

    #[test]
    fn the_least_multiplier_of_the_aggregates_counts() {
        check(&[], -1.0);
        check(&["2.5"], 2.5);
        check(&["2.5", "-3", "1e1"], -3.0);
    }

    #[test]
    fn one_multiplier_that_is_no_number_leaves_the_policys() {
        for bad in ["", "many", "inf", "1,5", "1e16"] {
            check(&["2.5", bad], -1.0);
        }
    }

    #[test]
    fn the_necessary_filters_are_known_by_type_and_not_by_name() {
        #[derive(Debug)]
        struct Impostor;
        impl Filter for Impostor {
            fn name(&self) -> &str {
                "capacity"
            }
            fn check(&self, _: &HostState, _: &RequestSpec) -> crate::Verdict {
                crate::Verdict::Pass
            }
        }
        let chain: Vec<Arc<dyn Filter>> = vec![Arc::new(Impostor)];
        let policy = FilterScheduler::with_chain("x".to_owned(), Rules::Strict, chain);
        let names: Vec<&str> = policy.filter_names().collect();
        assert_eq!(names, ["requested-hosts", "host-up", "capacity", "capacity"]);
    }
}
