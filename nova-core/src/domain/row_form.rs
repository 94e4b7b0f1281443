//! A host's row as it is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::{
    Admission, Aggregate, AggregateId, ClassAmounts, ClassStocks, GuestKind, HostId, HostName,
    HostReport, HostState, InstanceId, Invalid, Inventory, Liveness, Measured, NumaTopology,
    PciPools, Resident, Resources, ZoneName,
};

/// All that is in a [`HostState`], to be written down and read again. Aggregates are named only:
/// whoever writes rows writes each aggregate once, and not with each of its hosts.
///
/// ```
/// # use nova_core::domain::*;
/// # let total = Resources { vcpus: Vcpus(8), memory: MiB(1024), disk: GiB(10) };
/// # let (name, zone) = (HostName::new("h")?, ZoneName::new("z")?);
/// let mut host = HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total));
/// host.claim(InstanceId::from_u128(7), Resources { vcpus: Vcpus(2), ..Resources::ZERO });
/// let text = serde_json::to_string(&HostRow::of(&host))?;
/// let read: HostRow = serde_json::from_str(&text)?;
/// assert_eq!(read.into_state(|_| None)?, host);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRow {
    id: HostId,
    name: HostName,
    zone: ZoneName,
    admission: Admission,
    liveness: Liveness,
    inventory: Inventory,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aggregates: Vec<AggregateId>,
    #[serde(default = "no_guests", skip_serializing_if = "is_empty")]
    guest_kinds: Arc<[GuestKind]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hypervisor_version: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    io_ops: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    failed_builds: u32,
    #[serde(default, skip_serializing_if = "says_nothing")]
    report: Arc<HostReport>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measured: Option<Measured>,
    #[serde(default, skip_serializing_if = "has_none")]
    pci: PciPools,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numa: Option<Arc<NumaTopology>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<(InstanceId, Resources)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    known: BTreeMap<InstanceId, Arc<Resident>>,
    #[serde(default, skip_serializing_if = "ClassStocks::is_empty")]
    classes: ClassStocks,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    class_claims: BTreeMap<InstanceId, ClassAmounts>,
}

impl HostRow {
    /// The row of a host.
    pub fn of(host: &HostState) -> Self {
        Self {
            id: host.id,
            name: host.name.clone(),
            zone: host.zone.clone(),
            admission: host.admission.clone(),
            liveness: host.liveness,
            inventory: host.inventory,
            aggregates: host.aggregates.iter().map(|aggregate| aggregate.id).collect(),
            guest_kinds: Arc::clone(&host.guest_kinds),
            hypervisor_version: host.hypervisor_version,
            io_ops: host.io_ops,
            failed_builds: host.failed_builds,
            report: Arc::clone(&host.report),
            measured: host.measured,
            pci: host.pci.clone(),
            numa: host.numa.clone(),
            claims: host.claims().map(|(instance, amount)| (instance, *amount)).collect(),
            known: host.described().clone(),
            classes: host.classes().clone(),
            class_claims: host.class_claims().cloned().unwrap_or_default(),
        }
    }

    /// The host.
    pub fn id(&self) -> HostId {
        self.id
    }

    /// The host as it was, with each aggregate from `aggregate`.
    ///
    /// # Errors
    /// [`Invalid`] for an aggregate that `aggregate` does not have, or two claims of one instance.
    pub fn into_state(
        self,
        mut aggregate: impl FnMut(AggregateId) -> Option<Arc<Aggregate>>,
    ) -> Result<HostState, Invalid> {
        let mut host = HostState::new(self.id, self.name, self.zone, self.inventory);
        host.admission = self.admission;
        host.liveness = self.liveness;
        for id in self.aggregates {
            let unknown = || Invalid::new("host.aggregates", id, "aggregates that were told of");
            host.aggregates.push(aggregate(id).ok_or_else(unknown)?);
        }
        host.guest_kinds = self.guest_kinds;
        host.hypervisor_version = self.hypervisor_version;
        host.io_ops = self.io_ops;
        host.failed_builds = self.failed_builds;
        host.report = self.report;
        host.pci = self.pci;
        host.numa = self.numa;
        host.set_classes(self.classes);
        let mut seen = BTreeSet::new();
        for (instance, amount) in self.claims {
            if !seen.insert(instance) {
                return Err(Invalid::new("host.claims", instance, "one claim of each instance"));
            }
            host.claim(instance, amount);
        }
        for (instance, amounts) in &self.class_claims {
            host.claim_classes(*instance, amounts);
        }
        for (instance, resident) in self.known {
            host.describe(instance, resident);
        }
        // What was measured has been told with these claims.
        host.measured = self.measured;
        Ok(host)
    }
}

fn no_guests() -> Arc<[GuestKind]> {
    Arc::from([])
}

fn is_empty(kinds: &Arc<[GuestKind]>) -> bool {
    kinds.is_empty()
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn says_nothing(report: &Arc<HostReport>) -> bool {
    **report == HostReport::default()
}

fn has_none(pci: &PciPools) -> bool {
    pci.pools.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        AggregateMetadata, FlavorName, GiB, Label, MemoryPages, MiB, NumaCell, PciPool,
        ResourceClass, Stock, Vcpus,
    };

    fn host() -> HostState {
        let total = Resources { vcpus: Vcpus(8), memory: MiB(1024), disk: GiB(10) };
        let (name, zone) = (HostName::new("h").unwrap(), ZoneName::new("z").unwrap());
        HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total))
    }

    fn aggregate(id: u128) -> Arc<Aggregate> {
        Arc::new(Aggregate {
            id: AggregateId::from_u128(id),
            name: Label::new("a").unwrap(),
            hosts: vec![HostId::from_u128(1)],
            metadata: AggregateMetadata::new([("ssd", "true")]).unwrap(),
        })
    }

    fn again(host: &HostState) -> Result<HostState, Invalid> {
        let text = serde_json::to_string(&HostRow::of(host)).unwrap();
        let read: HostRow = serde_json::from_str(&text).unwrap();
        read.into_state(|id| (id.as_u128() < 9).then(|| aggregate(id.as_u128())))
    }

    proptest! {
        #[test]
        fn a_row_that_is_written_down_is_read_as_it_was(
            claims in prop::collection::vec((0_u128..9, 0_u32..9, any::<bool>(), 0_u64..3), 0..20),
            aggregates in prop::collection::vec(0_u128..9, 0..3),
            (closed, down, tells, measures) in any::<(bool, bool, bool, bool)>(),
            (io_ops, failed_builds, version) in any::<(u32, u32, Option<u64>)>(),
        ) {
            let mut host = host();
            let licence = ResourceClass::new("CUSTOM_LICENCE").unwrap();
            if closed {
                host.admission = Admission::Disabled;
                host.set_classes([(licence.clone(), Stock::new(5))].into());
            }
            if down {
                host.liveness = Liveness::Down;
                let kind = |name: &str| name.to_owned();
                host.guest_kinds = Arc::from([GuestKind {
                    architecture: kind("x86_64"),
                    hypervisor: kind("kvm"),
                    vm_mode: kind("hvm"),
                }]);
            }
            if tells {
                host.report = Arc::new(HostReport { node: Some("n".into()), ..Default::default() });
                let pages = vec![MemoryPages { size_kb: 4, total: 9, used: 1, reserved: 0 }];
                let cells = vec![NumaCell { memory: 7, pages, ..NumaCell::default() }];
                host.numa = Some(Arc::new(NumaTopology { cells }));
                host.pci.pools.push(PciPool { vendor_id: "8086".into(), count: 2, ..PciPool::default() });
            }
            if measures {
                host.measured = Some(Measured { free_memory: 5, ..Measured::default() });
            }
            (host.io_ops, host.failed_builds, host.hypervisor_version) =
                (io_ops, failed_builds, version);
            host.aggregates = aggregates.into_iter().map(aggregate).collect();
            for (instance, vcpus, comes, licences) in claims {
                let instance = InstanceId::from_u128(instance);
                if !comes {
                    host.release(instance);
                    continue;
                }
                host.claim(instance, Resources { vcpus: Vcpus(vcpus), ..Resources::ZERO });
                if let Ok(amounts) = BTreeMap::from([(licence.clone(), licences)]).try_into() {
                    host.claim_classes(instance, &amounts);
                }
                let resident = Resident { flavor: FlavorName::new("f").unwrap(), image: Default::default() };
                host.describe(instance, Arc::new(resident));
            }
            let read = again(&host).unwrap();
            prop_assert_eq!(read.digest(), host.digest());
            prop_assert_eq!(read, host);
        }
    }

    #[test]
    fn what_cannot_be_a_row_is_named() {
        let mut unknown = host();
        unknown.aggregates.push(aggregate(9));
        assert_eq!(again(&unknown).unwrap_err().field, "host.aggregates");
        let mut twice = HostRow::of(&host());
        twice.claims = vec![(InstanceId::from_u128(1), Resources::ZERO); 2];
        assert_eq!(twice.into_state(|_| None).unwrap_err().field, "host.claims");
    }
}
