//! The filters that are built in, one file each, all of the same shape.
//!
//! Any policy may name any of them. One that does not concern a request passes every host without
//! being asked, so that a policy loses little by having many.

use std::sync::Arc;

use crate::{Filter, Options, Rules};

mod affinity;
mod aggregate_core;
mod aggregate_disk;
mod aggregate_extra_specs;
mod aggregate_image_properties;
mod aggregate_io_ops;
mod aggregate_multi_tenancy;
mod aggregate_num_instances;
mod aggregate_ram;
mod aggregate_type_affinity;
mod aggregates;
mod all_hosts;
mod anti_affinity;
mod attributes;
mod capacity;
mod compute_capabilities;
mod core;
mod different_host;
mod disk;
mod exact_core;
mod exact_disk;
mod exact_ram;
mod extra_specs_ops;
mod host_up;
mod image_properties;
mod io_ops;
mod isolated_hosts;
mod json;
mod metrics;
mod num_instances;
mod numa_topology;
mod pci_passthrough;
mod ram;
mod requested_hosts;
mod retry;
mod room;
mod same_host;
mod simple_cidr_affinity;
mod traits;
mod type_affinity;
mod version;
mod zone;

pub use affinity::Affinity;
pub use aggregate_core::AggregateCore;
pub use aggregate_disk::AggregateDisk;
pub use aggregate_extra_specs::AggregateExtraSpecs;
pub use aggregate_image_properties::AggregateImageProperties;
pub use aggregate_io_ops::AggregateIoOps;
pub use aggregate_multi_tenancy::AggregateMultiTenancy;
pub use aggregate_num_instances::AggregateNumInstances;
pub use aggregate_ram::AggregateRam;
pub use aggregate_type_affinity::AggregateTypeAffinity;
pub use all_hosts::AllHosts;
pub use anti_affinity::AntiAffinity;
pub use capacity::Capacity;
pub use compute_capabilities::ComputeCapabilities;
pub use core::Core;
pub use different_host::DifferentHost;
pub use disk::Disk;
pub use exact_core::ExactCore;
pub use exact_disk::ExactDisk;
pub use exact_ram::ExactRam;
pub use host_up::HostUp;
pub use image_properties::ImageProperties;
pub use io_ops::IoOps;
pub use isolated_hosts::IsolatedHosts;
pub use json::Json;
pub use metrics::Metrics;
pub use num_instances::NumInstances;
pub use numa_topology::NumaTopology;
pub use pci_passthrough::PciPassthrough;
pub use ram::Ram;
pub use requested_hosts::RequestedHosts;
pub use retry::Retry;
pub use same_host::SameHost;
pub use simple_cidr_affinity::SimpleCidrAffinity;
pub use traits::Traits;
pub use type_affinity::TypeAffinity;
pub use zone::Zone;

pub(crate) use aggregates::least_number;
#[cfg(feature = "conformance")]
pub(crate) use attributes::text as attribute_text;
pub(crate) use extra_specs_ops::number;
pub(crate) use requested_hosts::forces;

/// Their names, sorted; those that [`named`] knows.
pub const NAMES: [&str; 37] = [
    "affinity",
    "aggregate-core",
    "aggregate-disk",
    "aggregate-extra-specs",
    "aggregate-image-properties",
    "aggregate-io-ops",
    "aggregate-multi-tenancy",
    "aggregate-num-instances",
    "aggregate-ram",
    "aggregate-type-affinity",
    "all-hosts",
    "anti-affinity",
    "capacity",
    "compute-capabilities",
    "core",
    "different-host",
    "disk",
    "exact-core",
    "exact-disk",
    "exact-ram",
    "host-up",
    "image-properties",
    "io-ops",
    "isolated-hosts",
    "json",
    "metrics",
    "num-instances",
    "numa-topology",
    "pci-passthrough",
    "ram",
    "requested-hosts",
    "retry",
    "same-host",
    "simple-cidr-affinity",
    "traits",
    "type-affinity",
    "zone",
];

/// The filter of this name, as `options` and `rules` make it.
pub fn named(name: &str, options: &Options, rules: Rules) -> Option<Arc<dyn Filter>> {
    Some(match name {
        "affinity" => Arc::new(Affinity),
        "aggregate-core" => Arc::new(AggregateCore),
        "aggregate-disk" => Arc::new(AggregateDisk),
        "aggregate-extra-specs" => Arc::new(AggregateExtraSpecs { rules }),
        "aggregate-image-properties" => Arc::new(AggregateImageProperties {
            namespace: options.aggregate_image_properties_isolation_namespace.clone(),
            separator: options.aggregate_image_properties_isolation_separator.clone(),
            rules,
        }),
        "aggregate-io-ops" => Arc::new(AggregateIoOps { max: options.max_io_ops_per_host }),
        "aggregate-multi-tenancy" => Arc::new(AggregateMultiTenancy),
        "aggregate-num-instances" => {
            Arc::new(AggregateNumInstances { max: options.max_instances_per_host })
        }
        "aggregate-ram" => Arc::new(AggregateRam),
        "aggregate-type-affinity" => Arc::new(AggregateTypeAffinity),
        "all-hosts" => Arc::new(AllHosts),
        "anti-affinity" => Arc::new(AntiAffinity),
        "capacity" => Arc::new(Capacity),
        "compute-capabilities" => Arc::new(ComputeCapabilities { rules }),
        "core" => Arc::new(Core),
        "different-host" => Arc::new(DifferentHost),
        "disk" => Arc::new(Disk),
        "exact-core" => Arc::new(ExactCore),
        "exact-disk" => Arc::new(ExactDisk),
        "exact-ram" => Arc::new(ExactRam),
        "host-up" => Arc::new(HostUp),
        "image-properties" => Arc::new(ImageProperties {
            default_architecture: options.image_properties_default_architecture.clone(),
            rules,
        }),
        "io-ops" => Arc::new(IoOps { max: options.max_io_ops_per_host }),
        "isolated-hosts" => Arc::new(IsolatedHosts {
            hosts: options.isolated_hosts.clone(),
            images: options.isolated_images.clone(),
            restrict: options.restrict_isolated_hosts_to_isolated_images,
        }),
        "json" => Arc::new(Json { rules }),
        "metrics" => {
            let names = options.metrics_weight_setting.iter().map(|ratio| ratio.name.clone());
            Arc::new(Metrics { names: names.collect() })
        }
        "num-instances" => Arc::new(NumInstances { max: options.max_instances_per_host }),
        "numa-topology" => Arc::new(NumaTopology { rules }),
        "pci-passthrough" => Arc::new(PciPassthrough),
        "ram" => Arc::new(Ram),
        "requested-hosts" => Arc::new(RequestedHosts),
        "retry" => Arc::new(Retry),
        "same-host" => Arc::new(SameHost),
        "simple-cidr-affinity" => Arc::new(SimpleCidrAffinity),
        "traits" => Arc::new(Traits { rules }),
        "type-affinity" => Arc::new(TypeAffinity),
        "zone" => Arc::new(Zone),
        _ => return None,
    })
}

/// The chain of the named policies, in the order in which it runs: first what holds for a host as
/// such, then room, then what a request wishes.
pub fn defaults() -> Vec<Arc<dyn Filter>> {
    vec![
        Arc::new(RequestedHosts),
        Arc::new(HostUp),
        Arc::new(Zone),
        Arc::new(Retry),
        Arc::new(Capacity),
        Arc::new(Traits::default()),
        Arc::new(AggregateExtraSpecs::default()),
        Arc::new(ComputeCapabilities::default()),
        Arc::new(ImageProperties::default()),
        Arc::new(PciPassthrough),
        Arc::new(NumaTopology::default()),
        Arc::new(SameHost),
        Arc::new(DifferentHost),
        Arc::new(AntiAffinity),
        Arc::new(Affinity),
    ]
}

/// The chain that today's Nova has where nothing is configured, with its rules. Its placement
/// service is [`Capacity`] and [`Traits`].
pub fn nova_defaults() -> Vec<Arc<dyn Filter>> {
    let rules = Rules::Nova;
    vec![
        Arc::new(RequestedHosts),
        Arc::new(Capacity),
        Arc::new(Traits { rules }),
        Arc::new(HostUp),
        Arc::new(ComputeCapabilities { rules }),
        Arc::new(ImageProperties { default_architecture: None, rules }),
        Arc::new(AntiAffinity),
        Arc::new(Affinity),
    ]
}

/// Makes the request of a test one for so much.
#[cfg(test)]
fn wants(vcpus: u32, memory: u64, disk: u64) -> impl FnOnce(&mut nova_core::domain::RequestSpec) {
    move |request| request.flavor = Arc::new(crate::testkit::flavor(vcpus, memory, disk))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_found_by_its_name() {
        for name in NAMES {
            let filter = named(name, &Options::default(), Rules::Strict);
            assert_eq!(filter.map(|filter| filter.name().to_owned()).as_deref(), Some(name));
        }
        assert!(NAMES.is_sorted() && named("zoen", &Options::default(), Rules::Strict).is_none());
        assert!(defaults().iter().chain(&nova_defaults()).all(|f| NAMES.contains(&f.name())));
    }
}
