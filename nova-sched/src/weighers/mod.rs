//! The weighers that are built in, one file each, all of the same shape.

use std::sync::Arc;

use crate::{Options, Rules, Weigher};

mod build_failure;
mod cpu;
mod cross_cell_move;
mod disk;
mod hypervisor_version;
mod image_cached;
mod image_props;
mod io_ops;
mod metrics;
mod num_instances;
mod pci;
mod ram;
mod soft_affinity;
mod soft_anti_affinity;

pub use build_failure::BuildFailure;
pub use cpu::Cpu;
pub use cross_cell_move::CrossCellMove;
pub use disk::Disk;
pub use hypervisor_version::HypervisorVersion;
pub use image_cached::ImageCached;
pub use image_props::ImageProps;
pub use io_ops::IoOps;
pub use metrics::Metrics;
pub use num_instances::NumInstances;
pub use pci::Pci;
pub use ram::Ram;
pub use soft_affinity::SoftAffinity;
pub use soft_anti_affinity::SoftAntiAffinity;

/// Their names, sorted; those that [`named`] knows.
pub const NAMES: [&str; 14] = [
    "build-failure",
    "cpu",
    "cross-cell-move",
    "disk",
    "hypervisor-version",
    "image-cached",
    "image-props",
    "io-ops",
    "metrics",
    "num-instances",
    "pci",
    "ram",
    "soft-affinity",
    "soft-anti-affinity",
];

/// The weigher of this name, as `options`, `rules` and its multiplier make it.
pub fn named(
    name: &str,
    options: &Options,
    rules: Rules,
    multiplier: f64,
) -> Option<Arc<dyn Weigher>> {
    Some(match name {
        "build-failure" => Arc::new(BuildFailure),
        "cpu" => Arc::new(Cpu),
        "cross-cell-move" => Arc::new(CrossCellMove),
        "disk" => Arc::new(Disk),
        "hypervisor-version" => Arc::new(HypervisorVersion),
        "image-cached" => Arc::new(ImageCached),
        "image-props" => {
            let ratios = options.image_props_weight_setting.iter();
            Arc::new(ImageProps {
                ratios: ratios.map(|ratio| (ratio.name.clone(), ratio.ratio)).collect(),
                off: rules == Rules::Nova && multiplier == 0.0,
            })
        }
        "io-ops" => Arc::new(IoOps),
        "metrics" => {
            let ratios = options.metrics_weight_setting.iter();
            let unavailable = options.metrics_weight_of_unavailable;
            Arc::new(Metrics {
                ratios: ratios.map(|ratio| (ratio.name.clone(), ratio.ratio)).collect(),
                unavailable: (!options.metrics_required).then_some(unavailable),
                rules,
                multiplier,
            })
        }
        "num-instances" => Arc::new(NumInstances),
        "pci" => Arc::new(Pci),
        "ram" => Arc::new(Ram),
        "soft-affinity" => Arc::new(SoftAffinity),
        "soft-anti-affinity" => Arc::new(SoftAntiAffinity),
        _ => return None,
    })
}

/// Those that weigh in today's Nova where nothing is configured, with its multipliers, in the order
/// in which their parts are added up.
pub fn defaults() -> Vec<(Arc<dyn Weigher>, f64)> {
    vec![
        (Arc::new(Ram), 1.0),
        (Arc::new(Cpu), 1.0),
        (Arc::new(Disk), 1.0),
        (Arc::new(IoOps), -1.0),
        (Arc::new(SoftAffinity), 1.0),
        (Arc::new(SoftAntiAffinity), 1.0),
        (Arc::new(Pci), 1.0),
        (Arc::new(HypervisorVersion), 1.0),
        (Arc::new(BuildFailure), 1e6),
        (Arc::new(CrossCellMove), 1e6),
    ]
}

/// What a weigher says of a host and a request, both plain but for the given changes: the one way
/// in which the tests of all weighers ask.
#[cfg(test)]
fn check(
    weigher: impl Weigher,
    host: impl FnOnce(&mut nova_core::domain::HostState),
    request: impl FnOnce(&mut nova_core::domain::RequestSpec),
    expected: f64,
) {
    let mut row = crate::testkit::host(1);
    let mut spec = crate::testkit::request(1);
    host(&mut row);
    request(&mut spec);
    assert!(weigher.concerns(&spec) || expected == 0.0, "{} unconcerned", weigher.name());
    assert_eq!(weigher.weigh(&row, &spec), expected, "{}: {row:?} {spec:?}", weigher.name());
}

/// Claims 2 vCPU, 1024 MiB and 10 GiB of a test's host.
#[cfg(test)]
pub(crate) fn claim(host: &mut nova_core::domain::HostState) {
    use nova_core::domain::{GiB, InstanceId, MiB, Resources, Vcpus};
    let amount = Resources { vcpus: Vcpus(2), memory: MiB(1024), disk: GiB(10) };
    host.claim(InstanceId::from_u128(9), amount);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weigher_is_found_by_its_name() {
        for name in NAMES {
            let weigher = named(name, &Options::default(), Rules::Strict, 1.0);
            assert_eq!(weigher.map(|weigher| weigher.name().to_owned()).as_deref(), Some(name));
        }
        assert!(NAMES.is_sorted() && defaults().iter().all(|(w, _)| NAMES.contains(&w.name())));
    }
}
