//! Counting who was refused by what.

use nova_core::domain::{Funnel, FunnelStage, HostId, InstanceId};

use crate::pipeline::{Drawn, Ranking};
use crate::view::View;
use crate::{FilterScheduler, Reason};

/// Told of every refusal while hosts are filtered.
pub(crate) trait Tally {
    /// Whether every host is to be asked, although the first that passes would do.
    const ALL: bool = false;
    /// An instance is placed next, of which so many hosts are candidates.
    fn begins(&mut self, _candidates: usize) {}
    /// The filter at this place of the chain runs for the present request.
    fn runs(&mut self, filter: usize);
    /// The filter at this place refused one host, which no other filter is asked about.
    fn refused(&mut self, filter: usize, reason: Reason);
    /// The filter at this place cannot say, and the whole request fails.
    fn failed(&mut self, filter: usize, reason: Reason);
    /// The weigher at this place gave what is no number, and the whole request fails.
    fn undefined(&mut self, weigher: usize);
    /// This was made of the hosts that passed.
    fn chose(&mut self, _: &Chosen<'_>) {}
}

/// What was made of the hosts that passed for one instance.
pub(crate) struct Chosen<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) view: &'a View<'a>,
    pub(crate) ranking: &'a Ranking,
    pub(crate) drawn: Drawn,
    pub(crate) host: Option<HostId>,
}

/// Counts nothing: for the way on which a host is expected to be found.
pub(crate) struct Silent;

impl Tally for Silent {
    fn runs(&mut self, _: usize) {}
    fn refused(&mut self, _: usize, _: Reason) {}
    fn failed(&mut self, _: usize, _: Reason) {}
    fn undefined(&mut self, _: usize) {}
}

/// Counts refusals by filter and reason.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    stages: Vec<Stage>,
    undefined: Option<usize>,
}

#[derive(Debug, Default, Clone)]
struct Stage {
    runs: bool,
    /// Why it cannot say, so that no host passes.
    failed: Option<Reason>,
    /// A filter has a handful of reasons, so looking through them is quicker than a map.
    reasons: Vec<(Reason, usize)>,
}

impl Counts {
    fn stage(&mut self, filter: usize) -> &mut Stage {
        if self.stages.len() <= filter {
            self.stages.resize_with(filter + 1, Stage::default);
        }
        &mut self.stages[filter]
    }

    /// The funnel of `hosts` hosts through the filters of `policy`, up to the first that let none
    /// through. A weigher that failed the request comes behind them.
    ///
    /// For a request of several instances a host is counted where it fell out, whichever instance
    /// was being placed then.
    pub(crate) fn into_funnel(self, policy: &FilterScheduler, hosts: usize) -> Funnel {
        let (filters, undefined) = (&policy.filters, self.undefined);
        let mut left = hosts;
        let mut funnel = Funnel::default();
        for (filter, mut stage) in filters.iter().zip(self.stages).filter(|(_, stage)| stage.runs) {
            let hosts_in = left;
            if let Some(reason) = stage.failed {
                stage.reasons = vec![(reason, hosts_in)];
            }
            left -= stage.reasons.iter().map(|(_, count)| count).sum::<usize>();
            funnel.stages.push(FunnelStage {
                filter: filter.name().to_owned(),
                hosts_in,
                hosts_out: left,
                reasons: stage.reasons.into_iter().map(|(r, n)| (r.0.to_owned(), n)).collect(),
            });
            if left == 0 {
                return funnel;
            }
        }
        if let Some(weighing) = undefined.and_then(|nth| policy.weighers.get(nth)) {
            funnel.stages.push(FunnelStage {
                filter: weighing.weigher.name().to_owned(),
                hosts_in: left,
                hosts_out: 0,
                reasons: [("the weight of a host is not a number".to_owned(), left)].into(),
            });
        }
        funnel
    }
}

impl Tally for Counts {
    fn runs(&mut self, filter: usize) {
        self.stage(filter).runs = true;
    }

    fn failed(&mut self, filter: usize, reason: Reason) {
        self.stage(filter).failed.get_or_insert(reason);
    }

    fn undefined(&mut self, weigher: usize) {
        self.undefined = Some(weigher);
    }

    fn refused(&mut self, filter: usize, reason: Reason) {
        let reasons = &mut self.stage(filter).reasons;
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
}
