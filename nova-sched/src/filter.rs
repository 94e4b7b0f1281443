//! The question a filter answers: may this request go to this host?

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use nova_core::domain::{HostState, Invalid, RequestSpec};

/// Says of one host whether it may take a request.
///
/// Only [`name`](Self::name) and [`check`](Self::check) have to be written. The other methods
/// have defaults although a wrapper could forget to forward them, because each default is the
/// safe answer: forgetting it costs time or a refused extra spec, never a wrong placement.
///
/// The [row contract](crate#the-row-contract) holds: the verdict depends on nothing but the host
/// and the request.
pub trait Filter: Any + Debug + Send + Sync {
    /// The name in configuration and in funnels: lower case, words joined by `-`.
    fn name(&self) -> &str;

    /// Whether `host` may take the first of the instances of `request`.
    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict;

    /// How often it runs for a request of several instances.
    fn runs(&self) -> Runs {
        Runs::PerInstance
    }

    /// What of the host it looks at.
    fn reads(&self) -> Reads {
        Reads::Row
    }

    /// Whether it looks at the image, so that it is asked too when a server that is there gets
    /// another one ([`Purpose::Rebuild`](nova_core::domain::Purpose)). Others are not asked then:
    /// the server has its place already.
    fn on_rebuild(&self) -> bool {
        false
    }

    /// Whether it has anything to say about `request`, whatever the host. When not, it passes
    /// every host without being asked and does not appear in the funnel.
    fn concerns(&self, request: &RequestSpec) -> bool {
        let _ = request;
        true
    }

    /// Whether `value` is well-formed for the extra spec `key` of a flavor; none when it does not
    /// read that key. A flavor with a key that no filter reads is refused when it is made, and so is
    /// one with a value that some filter finds malformed.
    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        let _ = (key, value);
        None
    }

    /// The same for the words of the custom scheduler hint `name`, when a server is asked for.
    fn hint(&self, name: &str, words: &[String]) -> Option<Result<(), Invalid>> {
        let _ = (name, words);
        None
    }
}

/// What a filter says of a host.
// Exhaustive on purpose: there is no further answer to prepare for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The host may take the request.
    Pass,
    /// It may not, and why.
    Reject(Reason),
    /// It cannot be said: what host or request say of themselves is malformed. That is a rejection,
    /// unless the policy keeps [Nova's rules](crate::Rules::Nova): then the whole request fails.
    Error(Reason),
}

impl Verdict {
    /// Passes when `condition` holds, and rejects for `reason` when not.
    pub const fn pass_if(condition: bool, reason: Reason) -> Self {
        if condition { Self::Pass } else { Self::Reject(reason) }
    }

    /// Why the host does not pass; none when it does.
    pub const fn refusal(self) -> Option<Reason> {
        match self {
            Self::Pass => None,
            Self::Reject(reason) | Self::Error(reason) => Some(reason),
        }
    }
}

/// Why a filter rejects: a few words that cost nothing, and that funnels count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(pub &'static str);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.0)
    }
}

/// How often a filter runs for a request of several instances.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runs {
    /// For every instance: what it reads changes when an earlier one is placed.
    #[default]
    PerInstance,
    /// For the first instance only.
    OncePerRequest,
}

/// What of a host a filter looks at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Anything.
    #[default]
    Row,
    /// Nothing but zone, admission, liveness, aggregates, guest kinds and hypervisor version: hosts
    /// in which these are equal need to be asked about once.
    Class,
}

/// A filter made of a function.
///
/// ```
/// use nova_sched::{FilterScheduler, Reason, Verdict, filter_fn};
///
/// let few = filter_fn("few", |host, _| {
///     Verdict::pass_if(host.instance_count() < 50, Reason("50 servers already"))
/// });
/// let scheduler = FilterScheduler::nova().with_filter(few);
/// ```
pub fn filter_fn<F>(name: impl Into<String>, check: F) -> FilterFn<F>
where
    F: Fn(&HostState, &RequestSpec) -> Verdict + Send + Sync + 'static,
{
    FilterFn { name: name.into(), check }
}

/// A filter made of a function; [`filter_fn`] makes it.
pub struct FilterFn<F> {
    name: String,
    check: F,
}

impl<F> Debug for FilterFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FilterFn").field(&self.name).finish()
    }
}

impl<F> Filter for FilterFn<F>
where
    F: Fn(&HostState, &RequestSpec) -> Verdict + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        (self.check)(host, request)
    }
}

impl<F: Filter + ?Sized> Filter for Arc<F> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        (**self).check(host, request)
    }

    fn runs(&self) -> Runs {
        (**self).runs()
    }

    fn reads(&self) -> Reads {
        (**self).reads()
    }

    fn on_rebuild(&self) -> bool {
        (**self).on_rebuild()
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        (**self).concerns(request)
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        (**self).extra_spec(key, value)
    }

    fn hint(&self, name: &str, words: &[String]) -> Option<Result<(), Invalid>> {
        (**self).hint(name, words)
    }
}
