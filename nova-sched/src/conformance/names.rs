//! What Nova calls the filters and weighers that are built in.

use std::sync::Arc;

use super::world::Unreadable;
use crate::{Filter, Options, Rules, Weigher, filters, weighers};

const FILTERS: [(&str, &str); 22] = [
    ("AllHostsFilter", "all-hosts"),
    ("ComputeFilter", "host-up"),
    ("ComputeCapabilitiesFilter", "compute-capabilities"),
    ("ImagePropertiesFilter", "image-properties"),
    ("ServerGroupAntiAffinityFilter", "anti-affinity"),
    ("ServerGroupAffinityFilter", "affinity"),
    ("DifferentHostFilter", "different-host"),
    ("SameHostFilter", "same-host"),
    ("SimpleCIDRAffinityFilter", "simple-cidr-affinity"),
    ("AggregateImagePropertiesIsolation", "aggregate-image-properties"),
    ("AggregateInstanceExtraSpecsFilter", "aggregate-extra-specs"),
    ("AggregateMultiTenancyIsolation", "aggregate-multi-tenancy"),
    ("AggregateTypeAffinityFilter", "aggregate-type-affinity"),
    ("IoOpsFilter", "io-ops"),
    ("AggregateIoOpsFilter", "aggregate-io-ops"),
    ("NumInstancesFilter", "num-instances"),
    ("AggregateNumInstancesFilter", "aggregate-num-instances"),
    ("IsolatedHostsFilter", "isolated-hosts"),
    ("JsonFilter", "json"),
    ("MetricsFilter", "metrics"),
    ("PciPassthroughFilter", "pci-passthrough"),
    ("NUMATopologyFilter", "numa-topology"),
];

const WEIGHERS: [(&str, &str); 13] = [
    ("RAMWeigher", "ram"),
    ("CPUWeigher", "cpu"),
    ("DiskWeigher", "disk"),
    ("IoOpsWeigher", "io-ops"),
    ("NumInstancesWeigher", "num-instances"),
    ("HypervisorVersionWeigher", "hypervisor-version"),
    ("BuildFailureWeigher", "build-failure"),
    ("PCIWeigher", "pci"),
    ("CrossCellWeigher", "cross-cell-move"),
    ("ServerGroupSoftAffinityWeigher", "soft-affinity"),
    ("ServerGroupSoftAntiAffinityWeigher", "soft-anti-affinity"),
    ("MetricsWeigher", "metrics"),
    ("ImagePropertiesWeigher", "image-props"),
];

pub(super) fn filter(name: &str, options: &Options) -> Result<Arc<dyn Filter>, Unreadable> {
    let ours = FILTERS.iter().find(|(nova, _)| *nova == name);
    let filter = ours.and_then(|(_, ours)| filters::named(ours, options, Rules::Nova));
    filter.ok_or_else(|| format!("unknown filter {name:?}"))
}

pub(super) fn weigher(
    name: &str,
    options: &Options,
    multiplier: f64,
) -> Result<Arc<dyn Weigher>, Unreadable> {
    let ours = WEIGHERS.iter().find(|(nova, _)| *nova == name);
    let weigher = |ours| weighers::named(ours, options, Rules::Nova, multiplier);
    ours.and_then(|(_, ours)| weigher(ours)).ok_or_else(|| format!("unknown weigher {name:?}"))
}
