//! A backend that shows what would be done.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use nova_core::domain::HostId;
use nova_core::store::Revision;

use crate::backend::{BackendError, NetBackend};
use crate::host::HostNet;
use crate::plan::Plan;

/// Observes through another backend, and collects plans instead of applying them.
///
/// Put it before the real one to read what an upgrade or a repair would do to each host:
///
/// ```
/// # use nova_net::backend::{DryRun, Recorder};
/// let backend = DryRun::new(Recorder::new());
/// assert!(backend.take().is_empty());
/// ```
#[derive(Debug)]
pub struct DryRun<B> {
    inner: B,
    intents: Mutex<VecDeque<Intent>>,
}

/// A plan that would have been applied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Intent {
    /// Where.
    pub host: HostId,
    /// On which revision of the store it was decided.
    pub generation: Revision,
    /// What.
    pub plan: Plan,
}

impl<B: NetBackend> DryRun<B> {
    /// More plans than this are not kept: the oldest are dropped.
    pub const INTENTS_MAX: usize = 10_000;

    /// Shows what would be done to the hosts of `inner`.
    pub fn new(inner: B) -> Self {
        Self { inner, intents: Mutex::default() }
    }

    /// The plans since the last call that have steps, oldest first.
    pub fn take(&self) -> Vec<Intent> {
        let mut intents = self.intents.lock().unwrap_or_else(PoisonError::into_inner);
        intents.drain(..).collect()
    }
}

impl<B: NetBackend> std::fmt::Display for DryRun<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dry run on {}", self.inner)
    }
}

#[async_trait]
impl<B: NetBackend> NetBackend for DryRun<B> {
    async fn observe(&self, host: HostId) -> Result<HostNet, BackendError> {
        self.inner.observe(host).await
    }

    async fn apply(
        &self,
        host: HostId,
        generation: Revision,
        plan: &Plan,
    ) -> Result<(), BackendError> {
        if !plan.is_empty() {
            let mut intents = self.intents.lock().unwrap_or_else(PoisonError::into_inner);
            if intents.len() == Self::INTENTS_MAX {
                intents.pop_front();
            }
            intents.push_back(Intent { host, generation, plan: plan.clone() });
        }
        Ok(())
    }
}
