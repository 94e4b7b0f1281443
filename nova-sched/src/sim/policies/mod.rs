//! Policies that papers compare, each a weigher of a few lines, a scheduler, or a planner.
//!
//! They are used like all others: weighers by name in a [`PolicyConfig`] or in code. [`registry`]
//! knows them beside those that production has.
//!
//! | policy | takes the host |
//! |---|---|
//! | `first-fit`, `best-fit`, `worst-fit`, `nova`, `nova-compat` | as in production |
//! | `random-fit` | drawn from all with room |
//! | `dot-product` | whose free resources, as a vector, have the largest product with the request |
//! | `cosine` | whose free resources point most nearly in its direction |
//! | `l2-norm` | that is left with the least, by the sum of squares |
//! | `fragmentation-gradient` | whose free vCPUs become useless the least |
//! | `lifetime` | whose last VM leaves last anyway, then the fullest |
//! | `power` | that takes the least more power, then the fullest |
//!
//! [`PowerOfK`] draws a few hosts and lets any policy choose among them; [`Consolidate`] moves VMs
//! so that hosts become empty, [`Defragment`] so that the largest shapes find room, [`Relieve`] so
//! that no host is asked for more CPU than it has.

mod few;
mod fragmentation;
mod lifetime;
mod packing;
mod planners;
mod power;
mod relieve;

use nova_core::domain::{HostState, RequestSpec, ResourceKind, Resources};

use super::Cluster;
use crate::{PolicyConfig, PolicyError, Registry};

pub use few::PowerOfK;
pub use fragmentation::FragmentationGradient;
pub use lifetime::LifetimeAlignment;
pub use packing::{Cosine, DotProduct, L2Norm};
pub use planners::{Consolidate, Defragment};
pub use power::PowerIncrease;
pub use relieve::Relieve;

/// The registry of production with the policies of this room for `cluster`, whose next VMs are
/// expected to have these shapes, each with its frequency on any scale: fragmentation is measured
/// with them.
///
/// # Errors
/// [`PolicyError`] for shapes without a frequency above zero, where there are any.
pub fn registry(cluster: &Cluster, shapes: &[(Resources, f64)]) -> Result<Registry, PolicyError> {
    let by = |name: &str| PolicyConfig::first_fit().with_weigher(name, 1.0);
    // The fullest of those that are as good: too little to outweigh what is not rounding.
    let then_fullest = |name: &str| by(name).with_weigher("cpu", -1e-6);
    let mut random = PolicyConfig::first_fit();
    random.subset_size = usize::from(u16::MAX) * 16;
    let registry = Registry::default()
        .with_weigher(DotProduct)?
        .with_weigher(Cosine)?
        .with_weigher(L2Norm)?
        .with_weigher(LifetimeAlignment)?
        .with_weigher(PowerIncrease::new(cluster))?
        .with_policy("random-fit", random)?
        .with_policy("dot-product", by("dot-product"))?
        .with_policy("cosine", by("cosine"))?
        .with_policy("l2-norm", by("l2-norm"))?
        .with_policy("lifetime", then_fullest("lifetime-alignment"))?
        .with_policy("power", then_fullest("power-increase"))?;
    if shapes.is_empty() {
        return Ok(registry);
    }
    registry
        .with_weigher(FragmentationGradient::new(shapes.iter().copied())?)?
        .with_policy("fragmentation-gradient", then_fullest("fragmentation-gradient"))
}

/// Of each resource that the host has, the share of its capacity that is free, and the share that
/// the request takes.
fn shares<'r>(
    host: &'r HostState,
    request: &'r RequestSpec,
) -> impl Iterator<Item = (f64, f64)> + 'r {
    let wanted = request.flavor.resources();
    ResourceKind::ALL.into_iter().filter_map(move |kind| {
        let capacity = host.inventory.capacity(kind);
        let share = |amount: f64| amount / capacity;
        (capacity > 0.0).then(|| (share(host.free(kind)), share(kind.of(&wanted) as f64)))
    })
}

/// A request for one VM of this size.
#[cfg(test)]
fn asks(vcpus: u32, memory: u64) -> RequestSpec {
    let mut request = crate::testkit::request(1);
    request.flavor = std::sync::Arc::new(crate::testkit::flavor(vcpus, memory, 0));
    request
}
