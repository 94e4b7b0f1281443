//! Where servers go.

use std::fmt::{Debug, Display};

use crate::domain::{Funnel, HostTable, Invalid, Placement, Refusal, RequestSpec};
use crate::seed::Seed;

/// Chooses hosts. A scheduler decides and does nothing: the same hosts, the same request and the
/// same seed give the same answer, and nothing else is asked.
///
/// Laws:
/// - `select_is_repeatable`: the same question gives the same answer;
/// - `select_never_overcommits`: every chosen host has room for all instances put on it by the
///   answer, beside what is claimed already;
/// - `select_skips_hosts_that_are_down_or_disabled`;
/// - `a_rebuild_is_asked_only_what_depends_on_the_image`: a host that is down, disabled or full is
///   an answer to [`Purpose::Rebuild`](crate::domain::Purpose) when it is the destination;
/// - `select_answers_for_every_instance_or_for_none`;
/// - `find_agrees_with_select`: both find the same hosts, or none;
/// - `explain_agrees_with_select`: where `select` finds no host, the last stage of the
///   explanation's funnel lets none through.
pub trait Scheduler: Display + Debug + Send + Sync + 'static {
    /// A host for every instance of `request`, in its order, or the reason why not.
    ///
    /// # Errors
    /// [`NoValidHost`] when not every instance finds a host; none is placed then.
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost>;

    /// What [`select`](Self::select) finds, without a reason where that is nothing: for those who
    /// ask again and again, since to count what refused each host takes as long as to ask all.
    fn find(&self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Option<Placement> {
        self.select(hosts, request, seed).ok()
    }

    /// Why `request` finds no host, as fully as can be said; costs far more than `select`.
    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal;

    /// Whether this scheduler understands the extra spec `key` with this value: asked when a flavor
    /// is made, so that a typing mistake is not silently ignored.
    ///
    /// # Errors
    /// [`Invalid`] when no part of it reads the key, or one finds the value malformed.
    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid>;

    /// The same for the words of the custom hint `name`: asked when servers are asked for.
    ///
    /// # Errors
    /// [`Invalid`] when no part of it reads the hint, or one finds the words malformed.
    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid>;
}

/// No host can take the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no valid host for {instances} instances: {funnel}")]
pub struct NoValidHost {
    /// How many were asked for.
    pub instances: usize,
    /// How many hosts were left after each filter, for the first instance that found none.
    pub funnel: Funnel,
}

impl<S: Scheduler + ?Sized> Scheduler for std::sync::Arc<S> {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        (**self).select(hosts, request, seed)
    }

    fn find(&self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Option<Placement> {
        (**self).find(hosts, request, seed)
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        (**self).explain(hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        (**self).check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        (**self).check_hint(name, words)
    }
}

const _: fn(Box<dyn Scheduler>) = |port| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(port);
};
