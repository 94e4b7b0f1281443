//! The weighers that are built in, one file each, all of the same shape.

use std::sync::Arc;

use crate::Weigher;

mod cpu;
mod disk;
mod io_ops;
mod ram;
mod soft_affinity;
mod soft_anti_affinity;

pub use cpu::Cpu;
pub use disk::Disk;
pub use io_ops::IoOps;
pub use ram::Ram;
pub use soft_affinity::SoftAffinity;
pub use soft_anti_affinity::SoftAntiAffinity;

/// All of them with the multipliers of Nova, in the order in which their parts are added up.
pub fn defaults() -> Vec<(Arc<dyn Weigher>, f64)> {
    vec![
        (Arc::new(Ram), 1.0),
        (Arc::new(Cpu), 1.0),
        (Arc::new(Disk), 1.0),
        (Arc::new(IoOps), -1.0),
        (Arc::new(SoftAffinity), 1.0),
        (Arc::new(SoftAntiAffinity), 1.0),
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
    assert_eq!(weigher.weigh(&row, &spec), expected, "{}: {row:?} {spec:?}", weigher.name());
}

/// Claims 2 vCPU, 1024 MiB and 10 GiB of a test's host.
#[cfg(test)]
fn claim(host: &mut nova_core::domain::HostState) {
    use nova_core::domain::{GiB, InstanceId, MiB, Resources, Vcpus};
    let amount = Resources { vcpus: Vcpus(2), memory: MiB(1024), disk: GiB(10) };
    host.claim(InstanceId::from_u128(9), amount);
}
