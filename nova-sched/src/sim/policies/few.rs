//! A choice among a few that are drawn.

use std::fmt;

use nova_core::domain::{HostTable, Invalid, Placement, Refusal, RequestSpec, Slot};
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;

use crate::{FilterScheduler, Lookup};

/// Draws so many hosts, each equally likely, and lets a policy choose among them: the power of two
/// choices of Mitzenmacher (1996), for any number and any policy. Where none of them takes the
/// request, the policy is asked about all.
///
/// A request for several instances draws once, for all of them.
#[derive(Debug, Clone)]
pub struct PowerOfK {
    k: usize,
    few: FilterScheduler,
    all: FilterScheduler,
}

impl PowerOfK {
    /// So many hosts, and the policy that chooses.
    ///
    /// # Errors
    /// [`Invalid`] for 0 or more than 10000 hosts.
    pub fn new(k: usize, policy: FilterScheduler) -> Result<Self, Invalid> {
        if !(1..=10_000).contains(&k) {
            return Err(Invalid::new("power_of_k", k, "1 to 10000"));
        }
        Ok(Self { k, few: policy.clone().with_lookup(Lookup::RowByRow), all: policy })
    }

    /// So many different hosts; all of them where there are fewer.
    fn draw(&self, hosts: &HostTable, seed: Seed) -> Option<HostTable> {
        if self.k >= hosts.len() {
            return None;
        }
        let mut chance = seed.child("few").chance();
        let mut drawn: Vec<Slot> = Vec::with_capacity(self.k);
        while drawn.len() < self.k {
            let slot = Slot(chance.index(hosts.slots_end()) as u32);
            if hosts.at(slot).is_some() && !drawn.contains(&slot) {
                drawn.push(slot);
            }
        }
        Some(HostTable::new(drawn.into_iter().filter_map(|slot| hosts.at(slot).cloned())))
    }
}

impl Scheduler for PowerOfK {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        match self.find(hosts, request, seed) {
            Some(placement) => Ok(placement),
            None => self.all.select(hosts, request, seed),
        }
    }

    fn find(&self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Option<Placement> {
        let few = self.draw(hosts, seed);
        few.and_then(|few| self.few.find(&few, request, seed))
            .or_else(|| self.all.find(hosts, request, seed))
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        self.all.explain(hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        self.all.check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        self.all.check_hint(name, words)
    }
}

impl fmt::Display for PowerOfK {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power-of-{} {}", self.k, self.all)
    }
}
