//! A scheduler that is wrong now and then: what claims has to look again.

use std::sync::Arc;

use crate::domain::{HostTable, Invalid, Liveness, Placement, Refusal, RequestSpec};
use crate::port::{NoValidHost, Scheduler};
use crate::seed::Seed;
use crate::testing::fate::{Fate, Fault};

/// Around a scheduler, one that sometimes names any host that is up, fitting or not.
#[derive(Debug)]
pub struct ChaosScheduler<S: ?Sized> {
    scheduler: Arc<S>,
    fate: Arc<Fate>,
}

impl<S: Scheduler + ?Sized> ChaosScheduler<S> {
    /// Stands in front of `scheduler`.
    pub fn new(scheduler: Arc<S>, fate: Arc<Fate>) -> Self {
        Self { scheduler, fate }
    }
}

impl<S: Scheduler + ?Sized> std::fmt::Display for ChaosScheduler<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreliable {}", &*self.scheduler)
    }
}

impl<S: Scheduler + ?Sized> Scheduler for ChaosScheduler<S> {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        if let Some(mut strike) = self.fate.strikes(Fault::WrongHost) {
            let up = hosts.rows().filter(|host| host.liveness == Liveness::Up);
            let up: Vec<_> = up.map(|host| host.id).collect();
            if let Some(host) = up.get(strike.index(up.len())) {
                return Ok(Placement { hosts: vec![*host] });
            }
        }
        self.scheduler.select(hosts, request, seed)
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        self.scheduler.explain(hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        self.scheduler.check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        self.scheduler.check_hint(name, words)
    }
}
