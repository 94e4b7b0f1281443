//! Power that a VM adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use nova_core::domain::{HostId, HostState, RequestSpec};

use crate::Weigher;
use crate::sim::{Cluster, PowerCurve};

/// Minus the watts that the host takes more when the VM comes; an empty host is thought of as
/// switched off, so that its idle power counts too. Hosts without a power curve add nothing.
#[derive(Debug, Clone, Default)]
pub struct PowerIncrease {
    curves: BTreeMap<HostId, Arc<PowerCurve>>,
}

impl PowerIncrease {
    /// For the hosts of a cluster.
    pub fn new(cluster: &Cluster) -> Self {
        Self { curves: cluster.curves().collect() }
    }
}

impl Weigher for PowerIncrease {
    fn name(&self) -> &str {
        "power-increase"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        let Some(curve) = self.curves.get(&host.id) else { return 0.0 };
        let total = f64::from(host.inventory.vcpus.total().get()).max(1.0);
        let watts = |vcpus: u32| curve.milliwatts(f64::from(vcpus) / total) as f64 / 1000.0;
        let used = host.used().vcpus.get();
        let before = if host.instance_count() == 0 { 0.0 } else { watts(used) };
        before - watts(used.saturating_add(request.flavor.resources().vcpus.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::policies::asks;
    use crate::sim::{ClusterConfig, HostGroup};
    use nova_core::domain::{InstanceId, MiB, Resources, Vcpus};

    #[test]
    fn an_empty_host_has_to_be_switched_on() {
        let mut group = HostGroup::new("h", 1, Vcpus(10), MiB(10_000));
        group.power_watts = Some(PowerCurve::new(vec![100.0, 200.0]).unwrap());
        let cluster = Cluster::new(&ClusterConfig { hosts: vec![group] }).unwrap();
        let weigher = PowerIncrease::new(&cluster);
        let mut row = cluster.hosts().rows().next().unwrap().clone();
        assert_eq!(weigher.weigh(&row, &asks(2, 1)), -120.0);
        let used = Resources { vcpus: Vcpus(5), memory: MiB(1), ..Resources::ZERO };
        row.claim(InstanceId::from_u128(1), used);
        assert_eq!(weigher.weigh(&row, &asks(2, 1)), -20.0);
    }
}
