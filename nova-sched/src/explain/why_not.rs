//! Why one host was not taken.

use std::collections::BTreeMap;

use nova_core::domain::{HostId, HostTable, RequestSpec, ResourceKind};

use super::decision::{Candidate, candidate};
use super::shortages;
use crate::FilterScheduler;
use crate::pipeline::Ranking;
use crate::view::View;

/// Why a host is not the one that a request finds first.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhyNot {
    /// Filters refuse it.
    Refused {
        /// Each filter that does, in the order of the policy, with its reason.
        by: Vec<(String, String)>,
        /// What it lacks of each resource, in the resource's unit; only what is short.
        short_of: BTreeMap<ResourceKind, u64>,
    },
    /// It passes, and others come before it.
    Outranked {
        /// Its place among the hosts that pass, from 2 on.
        rank: usize,
        /// How many hosts pass.
        of: usize,
        /// Its score.
        it: Box<Candidate>,
        /// The score of the best.
        best: Box<Candidate>,
    },
    /// It is the best. Chance may still decide for another, where the policy draws.
    Best,
}

/// A host that is asked about is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("host {0} is not in the table")]
pub struct NoSuchHost(pub HostId);

impl FilterScheduler {
    /// Why `host` is not the one that the first instance of `request` goes to: all that refuses it,
    /// or by how much it is outranked. Chance is left out.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use nova_core::domain::*;
    /// use nova_sched::FilterScheduler;
    /// use nova_sched::explain::WhyNot;
    ///
    /// # let zone = ZoneName::new("z")?;
    /// # let host = |id: u128, vcpus| {
    /// #     let total = Resources { vcpus: Vcpus(vcpus), memory: MiB(4096), disk: GiB(10) };
    /// #     let name = HostName::new(format!("host-{id}"))?;
    /// #     Ok::<_, Invalid>(HostState::new(HostId::from_u128(id), name, zone.clone(), Inventory::new(total)))
    /// # };
    /// # let flavor = Arc::new(Flavor::new(FlavorName::new("small")?, Vcpus(2), MiB(512))?);
    /// # let request = RequestSpec::new(InstanceId::from_u128(1), ProjectId::new("p")?, flavor);
    /// let hosts = HostTable::new([host(1, 1)?, host(2, 8)?]);
    /// let small = HostId::from_u128(1);
    /// let WhyNot::Refused { by, short_of } = FilterScheduler::nova().why_not(&hosts, small, &request)?
    /// else { panic!() };
    /// assert_eq!(by[0].0, "capacity");
    /// assert_eq!(short_of[&ResourceKind::Vcpus], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NoSuchHost`].
    pub fn why_not(
        &self,
        hosts: &HostTable,
        host: HostId,
        request: &RequestSpec,
    ) -> Result<WhyNot, NoSuchHost> {
        let slot = hosts.slot(host).ok_or(NoSuchHost(host))?;
        let row = hosts.at(slot).ok_or(NoSuchHost(host))?;
        let refusal = |(_, filter): (usize, &dyn crate::Filter)| {
            let reason = filter.check(row, request).refusal()?;
            Some((filter.name().to_owned(), reason.0.to_owned()))
        };
        let by: Vec<_> = self.running(request, 0).filter_map(refusal).collect();
        if !by.is_empty() {
            return Ok(WhyNot::Refused { by, short_of: shortages(row, request).collect() });
        }
        let (ranking, _) = self.ranking(&View::new(hosts), request);
        let order = ranking.order();
        let place = order.iter().position(|at| ranking.passed[*at] == slot);
        let (Some(place), Some(best)) = (place, order.first()) else { return Ok(WhyNot::Best) };
        if place == 0 {
            return Ok(WhyNot::Best);
        }
        let described = |ranking: &Ranking, at: usize| {
            let row = hosts.at(ranking.passed[at]);
            row.map(|row| Box::new(candidate(self, ranking, at, row.id)))
        };
        let it = described(&ranking, order[place]).ok_or(NoSuchHost(host))?;
        let best = described(&ranking, *best).ok_or(NoSuchHost(host))?;
        Ok(WhyNot::Outranked { rank: place + 1, of: order.len(), it, best })
    }
}
