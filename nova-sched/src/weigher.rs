//! The question a weigher answers: how good is this host for this request?

use std::fmt::Debug;
use std::sync::Arc;

use nova_core::domain::{HostState, RequestSpec};

/// Says of one host how good it is for a request, on a scale of its own.
///
/// The scale does not matter: the weights of all hosts that passed the filters are mapped to 0..1
/// before they are multiplied and added. More is better when the multiplier is positive.
///
/// The multiplier comes from the policy. A host's aggregates may override it with the metadata key
/// `NAME_weight_multiplier`, where `NAME` is the weigher's [`name`](Self::name) with `_` for `-`;
/// of several such values the smallest counts, and when one of them is not a number all are
/// ignored.
///
/// The [row contract](crate#the-row-contract) holds: the weight depends on nothing but the host
/// and the request.
///
/// ```
/// use nova_core::domain::{HostState, RequestSpec};
/// use nova_sched::{FilterScheduler, Weigher};
///
/// /// Likes hosts with a newer hypervisor.
/// #[derive(Debug)]
/// struct Newest;
///
/// impl Weigher for Newest {
///     fn name(&self) -> &str {
///         "newest"
///     }
///
///     fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
///         host.hypervisor_version.unwrap_or(0) as f64
///     }
/// }
///
/// let scheduler = FilterScheduler::nova().with_weigher(Newest, 2.0)?;
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
pub trait Weigher: Debug + Send + Sync + 'static {
    /// The name in configuration: lower case, words joined by `-`.
    fn name(&self) -> &str;

    /// The raw weight of `host`. Infinities count as ±[`Ends::LIMIT`]. What is not a number counts
    /// as the lowest weight there is, and fails the request under
    /// [Nova's rules](crate::Rules::Nova).
    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64;

    /// Whether it looks at nothing but the host, so that the weight may be kept until the host
    /// changes.
    fn by_host(&self) -> bool {
        false
    }

    /// Whether it has anything to say about `request`. When not, it weighs every host 0.
    fn concerns(&self, request: &RequestSpec) -> bool {
        let _ = request;
        true
    }

    /// What a positive multiplier means.
    fn sense(&self) -> Sense {
        Sense::Prefer
    }

    /// The fixed ends of the scale, if it has any; read once, when the policy is put together.
    fn ends(&self) -> Ends {
        Ends::FREE
    }
}

/// What a positive multiplier of a weigher means.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// More weight is better.
    #[default]
    Prefer,
    /// More weight is worse: the multiplier, wherever it comes from, counts negative.
    Avoid,
}

/// The ends of a weigher's scale: where a weight maps to 0 and to 1.
///
/// An end that is not fixed is the least or the greatest weight of the hosts that passed the
/// filters. Weights beyond a fixed end count as that end.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Ends {
    /// What maps to 0.
    pub min: Option<f64>,
    /// What maps to 1.
    pub max: Option<f64>,
}

impl Ends {
    /// Neither end is fixed.
    pub const FREE: Self = Self { min: None, max: None };

    /// No end and no weight is further from zero; it keeps their differences finite.
    pub const LIMIT: f64 = 1e300;

    /// A scale that starts at `min`.
    #[must_use]
    pub const fn at_least(min: f64) -> Self {
        Self { min: Some(min), max: None }
    }

    /// Whether a scale can have these ends.
    pub(crate) fn is_valid(&self) -> bool {
        let within = |end: Option<f64>| end.is_none_or(|end| end.abs() <= Self::LIMIT);
        let ordered = !matches!((self.min, self.max), (Some(min), Some(max)) if min > max);
        within(self.min) && within(self.max) && ordered
    }

    /// `raw` as the scale counts it.
    pub(crate) fn clamp(&self, raw: f64) -> f64 {
        let low = self.min.unwrap_or(-Self::LIMIT);
        let high = self.max.unwrap_or(Self::LIMIT);
        if raw.is_nan() { low } else { raw.clamp(low, high) }
    }
}

/// A weigher made of a function of the host alone, whose weight is kept until the host changes.
///
/// ```
/// use nova_sched::{FilterScheduler, host_weigher_fn};
///
/// let crowd = host_weigher_fn("crowd", |host| host.instance_count() as f64);
/// let scheduler = FilterScheduler::nova().with_weigher(crowd, 1.0)?;
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
pub fn host_weigher_fn<F>(name: impl Into<String>, weigh: F) -> HostWeigherFn<F>
where
    F: Fn(&HostState) -> f64 + Send + Sync + 'static,
{
    HostWeigherFn { name: name.into(), weigh }
}

/// A weigher made of a function of the host alone; [`host_weigher_fn`] makes it.
pub struct HostWeigherFn<F> {
    name: String,
    weigh: F,
}

impl<F> Debug for HostWeigherFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HostWeigherFn").field(&self.name).finish()
    }
}

impl<F> Weigher for HostWeigherFn<F>
where
    F: Fn(&HostState) -> f64 + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        (self.weigh)(host)
    }

    fn by_host(&self) -> bool {
        true
    }
}

impl<W: Weigher + ?Sized> Weigher for Arc<W> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        (**self).weigh(host, request)
    }

    fn by_host(&self) -> bool {
        (**self).by_host()
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        (**self).concerns(request)
    }

    fn sense(&self) -> Sense {
        (**self).sense()
    }

    fn ends(&self) -> Ends {
        (**self).ends()
    }
}
