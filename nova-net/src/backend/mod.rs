//! Backends: who makes a host's network what a plan says.
//!
//! [`NetBackend`] is an extension point. [`Recorder`] keeps each host's network as a value, for
//! tests and simulation; [`DryRun`] stands before another backend, shows what would be done, and
//! does nothing.

mod dry_run;
#[cfg(all(feature = "linux", target_os = "linux"))]
pub mod linux;
mod recorder;

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use nova_core::class::Class;
use nova_core::domain::HostId;
use nova_core::store::Revision;

pub use dry_run::{DryRun, Intent};
pub use recorder::{OnDemand, Recorder};

use crate::host::{Flaw, HostNet};
use crate::plan::Plan;

/// Sees and changes the networks of hosts.
///
/// Rules for whoever writes one:
/// - a plan whose generation is older than one that was accepted for the host is refused, whole,
///   and accepting a generation is remembered before the first step is done, also when there is
///   no step;
/// - steps are done in their order, and the first that fails is the last that was tried;
/// - a step that has been done already is success and changes nothing, so that a plan can be
///   applied again after a failure in its middle;
/// - only what a backend itself has added is seen by [`observe`](Self::observe) and removed.
#[async_trait]
pub trait NetBackend: Display + Debug + Send + Sync + 'static {
    /// The network of `host` as it is; nothing for a host on which nothing was ever done.
    ///
    /// # Errors
    /// [`BackendError::Observe`].
    async fn observe(&self, host: HostId) -> Result<HostNet, BackendError>;

    /// Does the steps of `plan`, which was decided on the store's revision `generation`.
    ///
    /// # Errors
    /// [`BackendError::Outdated`]; [`BackendError::Refused`] and [`BackendError::Step`] name the
    /// step, before which all others have been done.
    async fn apply(
        &self,
        host: HostId,
        generation: Revision,
        plan: &Plan,
    ) -> Result<(), BackendError>;
}

/// What went wrong with a host's network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// What is there could not be seen.
    #[error("cannot see the network")]
    Observe {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A plan that was decided later has been accepted already.
    #[error("generation {generation} is older than {accepted}")]
    Outdated {
        /// Of the plan that was refused.
        generation: Revision,
        /// Of the plan that was accepted before.
        accepted: Revision,
    },
    /// A step does not fit what is there: something else has changed the host meanwhile.
    #[error("step {step} does not fit")]
    Refused {
        /// The step's number.
        step: usize,
        /// Why.
        source: Box<Flaw>,
    },
    /// A step was tried and failed.
    #[error("step {step} failed")]
    Step {
        /// The step's number.
        step: usize,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BackendError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Outdated { .. } | Self::Refused { .. } => Class::Conflict,
            Self::Observe { .. } | Self::Step { .. } => Class::Retry,
        }
    }
}

macro_rules! forward {
    ($($pointer:ty),+) => {$(
        #[async_trait]
        impl<B: NetBackend + ?Sized> NetBackend for $pointer {
            async fn observe(&self, host: HostId) -> Result<HostNet, BackendError> {
                (**self).observe(host).await
            }

            async fn apply(
                &self,
                host: HostId,
                generation: Revision,
                plan: &Plan,
            ) -> Result<(), BackendError> {
                (**self).apply(host, generation, plan).await
            }
        }
    )+};
}

forward!(std::sync::Arc<B>, Box<B>);

const _: fn(Box<dyn NetBackend>) = |backend| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(backend);
};
