//! A backend that keeps each host's network as a value.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nova_core::domain::HostId;
use nova_core::store::Revision;

use crate::backend::{BackendError, NetBackend};
use crate::host::HostNet;
use crate::plan::{Plan, Step};

/// Networks as values: exact about every rule, and without effect on any machine.
///
/// It validates every step, fences plans by their generation, and fails on demand, so that what
/// passes here has been held to everything but the kernel.
#[derive(Debug, Default)]
pub struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hosts: BTreeMap<HostId, OneHost>,
    /// How many more steps are done before one fails; none when none shall.
    fail_after: Option<usize>,
}

#[derive(Debug, Default)]
struct OneHost {
    net: HostNet,
    accepted: Revision,
    steps: u64,
}

/// The failure that a [`Recorder`] was told to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed on demand")]
#[non_exhaustive]
pub struct OnDemand;

impl Recorder {
    /// Hosts on which nothing was ever done.
    pub fn new() -> Self {
        Self::default()
    }

    /// The network of `host`.
    pub fn net(&self, host: HostId) -> HostNet {
        self.lock().hosts.get(&host).map(|host| host.net.clone()).unwrap_or_default()
    }

    /// The hosts that have a network at the moment, sorted.
    pub fn hosts(&self) -> Vec<HostId> {
        let state = self.lock();
        state.hosts.iter().filter(|(_, h)| !h.net.is_empty()).map(|(id, _)| *id).collect()
    }

    /// The generation that was last accepted for `host`.
    pub fn accepted(&self, host: HostId) -> Revision {
        self.lock().hosts.get(&host).map(|host| host.accepted).unwrap_or_default()
    }

    /// How many steps have been done on `host`, those without effect included.
    pub fn steps(&self, host: HostId) -> u64 {
        self.lock().hosts.get(&host).map(|host| host.steps).unwrap_or_default()
    }

    /// Does `steps` more steps, on whichever hosts, and fails the one after. Once.
    pub fn fail_after(&self, steps: usize) {
        self.lock().fail_after = Some(steps);
    }

    /// Forgets the network of `host`, as a restart of the machine does. What was accepted stays.
    pub fn restart(&self, host: HostId) {
        if let Some(host) = self.lock().hosts.get_mut(&host) {
            host.net = HostNet::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A step changes a network whole or not at all; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn step(&mut self, host: HostId, step: &Step) -> Result<(), BackendError> {
        match &mut self.fail_after {
            Some(0) => {
                self.fail_after = None;
                return Err(BackendError::Step { step: step.number, source: Box::new(OnDemand) });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let host = self.hosts.entry(host).or_default();
        host.steps += 1;
        let refused = |flaw| BackendError::Refused { step: step.number, source: Box::new(flaw) };
        step.action.apply(&mut host.net).map_err(refused)
    }
}

impl std::fmt::Display for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("network recorder")
    }
}

#[async_trait]
impl NetBackend for Recorder {
    async fn observe(&self, host: HostId) -> Result<HostNet, BackendError> {
        Ok(self.net(host))
    }

    async fn apply(
        &self,
        host: HostId,
        generation: Revision,
        plan: &Plan,
    ) -> Result<(), BackendError> {
        let mut state = self.lock();
        let accepted = &mut state.hosts.entry(host).or_default().accepted;
        if generation < *accepted {
            return Err(BackendError::Outdated { generation, accepted: *accepted });
        }
        *accepted = generation;
        plan.steps().iter().try_for_each(|step| state.step(host, step))
    }
}
