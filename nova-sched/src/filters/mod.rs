//! The filters that are built in, one file each, all of the same shape.
//!
//! Each is a unit struct that any policy may name. One that does not concern a request passes
//! every host without being asked, so that a policy loses nothing by having them all.

use std::sync::Arc;

use crate::Filter;

mod affinity;
mod aggregate_extra_specs;
mod anti_affinity;
mod capacity;
mod different_host;
mod extra_specs_ops;
mod host_up;
mod image_properties;
mod requested_hosts;
mod retry;
mod same_host;
mod version;
mod zone;

pub use affinity::Affinity;
pub use aggregate_extra_specs::AggregateExtraSpecs;
pub use anti_affinity::AntiAffinity;
pub use capacity::Capacity;
pub use different_host::DifferentHost;
pub use host_up::HostUp;
pub use image_properties::ImageProperties;
pub use requested_hosts::RequestedHosts;
pub use retry::Retry;
pub use same_host::SameHost;
pub use zone::Zone;

pub(crate) use extra_specs_ops::number;
pub(crate) use requested_hosts::forces;

/// All of them, in the order in which the named policies run them: first what holds for a host as
/// such, then room, then what a request wishes.
pub fn all() -> Vec<Arc<dyn Filter>> {
    vec![
        Arc::new(RequestedHosts),
        Arc::new(HostUp),
        Arc::new(Zone),
        Arc::new(Retry),
        Arc::new(Capacity),
        Arc::new(AggregateExtraSpecs),
        Arc::new(ImageProperties),
        Arc::new(SameHost),
        Arc::new(DifferentHost),
        Arc::new(AntiAffinity),
        Arc::new(Affinity),
    ]
}

/// What a filter says of a host and a request, both plain but for the given changes: the one way
/// in which the tests of all filters ask.
#[cfg(test)]
fn check(
    filter: impl Filter,
    host: impl FnOnce(&mut nova_core::domain::HostState),
    request: impl FnOnce(&mut nova_core::domain::RequestSpec),
    expected: Result<(), &str>,
) {
    let mut row = crate::testkit::host(1);
    let mut spec = crate::testkit::request(1);
    host(&mut row);
    request(&mut spec);
    let verdict = if filter.concerns(&spec) {
        filter.check(&row, &spec)
    } else {
        // What a filter is not concerned with it must also pass when it is asked nevertheless.
        assert_eq!(
            filter.check(&row, &spec),
            crate::Verdict::Pass,
            "{} unconcerned",
            filter.name()
        );
        crate::Verdict::Pass
    };
    let said = verdict.refusal().map_or(Ok(()), |reason| Err(reason.0));
    assert_eq!(said, expected, "{}: {row:?} {spec:?}", filter.name());
}
