//! How a host becomes known.

use std::collections::BTreeMap;

use crate::class::Class;
use crate::cloud::error::{ApiError, Overload};
use crate::cloud::ports::Ports;
use crate::domain::{
    Admission, AllocationRatio, ClassAmounts, ClassStocks, Host, HostFacts, HostId, HostName,
    Invalid, Inventory, NumaTopology, Quantity, ResourceClass, ResourceKind, Resources, Stock,
    Units, ZoneName, check_facts,
};
use crate::store::record::{Claim, Ledger, NameClaim, keys};
use crate::store::{Prefix, Scan, Store as _, StoreError, StoreExt as _, Txn};

/// A host as its operator introduces it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HostSpec {
    /// Its name, unique in the cloud.
    pub name: HostName,
    /// Its availability zone.
    pub zone: ZoneName,
    /// What it keeps for itself.
    pub reserved: Resources,
    /// How far its virtual CPUs are promised.
    pub cpu_ratio: AllocationRatio,
    /// How far its memory is promised.
    pub memory_ratio: AllocationRatio,
    /// How far its disk is promised.
    pub disk_ratio: AllocationRatio,
    /// In which amounts one server may have its CPUs, memory or disk, where that is not any amount
    /// from one unit to all there is.
    pub units: BTreeMap<ResourceKind, Units>,
    /// What it has of resource classes beyond CPUs, memory and disk, besides what its driver
    /// says, or instead of it.
    pub classes: ClassStocks,
}

impl HostSpec {
    /// A host in the zone `nova` that keeps nothing for itself and promises what it has.
    pub fn new(name: HostName) -> Self {
        Self {
            name,
            zone: ZoneName::default(),
            reserved: Resources::ZERO,
            cpu_ratio: AllocationRatio::ONE,
            memory_ratio: AllocationRatio::ONE,
            disk_ratio: AllocationRatio::ONE,
            units: BTreeMap::new(),
            classes: ClassStocks::new(),
        }
    }

    /// Lies in this zone.
    #[must_use]
    pub fn with_zone(self, zone: ZoneName) -> Self {
        Self { zone, ..self }
    }

    /// Keeps so much for itself.
    #[must_use]
    pub fn with_reserved(self, reserved: Resources) -> Self {
        Self { reserved, ..self }
    }

    /// Promises its virtual CPUs so far.
    #[must_use]
    pub fn with_cpu_ratio(self, ratio: AllocationRatio) -> Self {
        Self { cpu_ratio: ratio, ..self }
    }

    /// Promises its memory so far.
    #[must_use]
    pub fn with_memory_ratio(self, ratio: AllocationRatio) -> Self {
        Self { memory_ratio: ratio, ..self }
    }

    /// Promises its disk so far.
    #[must_use]
    pub fn with_disk_ratio(self, ratio: AllocationRatio) -> Self {
        Self { disk_ratio: ratio, ..self }
    }

    /// Gives out its CPUs, memory (in MiB) or disk (in GiB) only in these amounts.
    #[must_use]
    pub fn with_units(mut self, kind: ResourceKind, units: Units) -> Self {
        self.units.insert(kind, units);
        self
    }

    /// Has so much of a resource class, whatever its driver says of it: licences, for example, of
    /// which no driver knows.
    #[must_use]
    pub fn with_class(mut self, class: ResourceClass, stock: Stock<u64>) -> Self {
        self.classes.insert(class, stock);
        self
    }

    fn stocks(&self, told: &ClassStocks) -> ClassStocks {
        told.iter().chain(&self.classes).map(|(class, stock)| (class.clone(), *stock)).collect()
    }

    fn inventory(&self, total: Resources) -> Result<Inventory, ApiError> {
        let Resources { vcpus, memory, disk } = self.reserved;
        Ok(Inventory {
            vcpus: self.stock(ResourceKind::Vcpus, total.vcpus, vcpus, self.cpu_ratio)?,
            memory: self.stock(ResourceKind::Memory, total.memory, memory, self.memory_ratio)?,
            disk: self.stock(ResourceKind::Disk, total.disk, disk, self.disk_ratio)?,
        })
    }

    fn stock<Q: Quantity>(
        &self,
        kind: ResourceKind,
        total: Q,
        reserved: Q,
        ratio: AllocationRatio,
    ) -> Result<Stock<Q>, Invalid> {
        let units = self.units.get(&kind).copied().unwrap_or_default();
        Stock::new(total).with_ratio(ratio).with_reserved(reserved)?.with_units(units)
    }
}

/// Registrations of one name that conflict with each other, before it is given up.
const REGISTER_ATTEMPTS_MAX: u32 = 8;

/// Makes the record of a host, or finds it and brings it up to what the host is now.
pub(crate) async fn register(
    ports: &Ports,
    spec: &HostSpec,
    facts: &HostFacts,
) -> Result<HostId, ApiError> {
    check_facts(facts.numa.as_ref(), &facts.pci)?;
    for _ in 0..REGISTER_ATTEMPTS_MAX {
        let name = ports.store.read::<NameClaim>(&keys::host_name(&spec.name)).await?;
        let mut txn = Txn::new();
        let known = match &name {
            Some(name) => ports.store.read::<Host>(&keys::host(name.value.host)).await?,
            None => None,
        };
        // A host of this name that was removed was drawn at an earlier revision.
        let revision = ports.store.scan(Scan::new(Prefix::all()).with_limit(1)).await?.revision;
        let seed = ports.seed.child(&format!("host {}", spec.name));
        let seed = seed.child_of("revision", revision.0.into());
        let fresh = HostId::draw(&mut seed.chance());
        let id = known.as_ref().map_or(fresh, |host| host.value.id);
        let host = Host {
            id,
            name: spec.name.clone(),
            zone: spec.zone.clone(),
            admission: known.as_ref().map_or(Admission::Enabled, |h| h.value.admission.clone()),
            // An operator's word outlives an agent's start: only an operator takes it back.
            disabled_reason: known.as_ref().and_then(|h| h.value.disabled_reason.clone()),
            forced_down: known.as_ref().and_then(|h| h.value.forced_down.clone()),
            inventory: spec.inventory(facts.total)?,
            guest_kinds: facts.guest_kinds.clone(),
            hypervisor_version: facts.hypervisor_version,
            traits: facts.traits.clone(),
            classes: spec.stocks(&facts.classes),
            numa: facts.numa.clone().map(NumaTopology::unused),
            pci: facts.pci.clone(),
        };
        match &known {
            Some(known) if known.value == host => return Ok(id),
            Some(known) => {
                keep_claims(ports, &known.value, &host, &mut txn).await?;
                txn.replace(known, &host)
            }
            None => txn.create(&host).create(&NameClaim { name: spec.name.clone(), host: id }),
        };
        match ports.store.commit(txn).await {
            Ok(_) => return Ok(id),
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
    let key = keys::host_name(&spec.name).to_string();
    Err(Overload::Conflicts { attempts: REGISTER_ATTEMPTS_MAX, key }.into())
}

/// Marks the claims of a host that is about to offer less than they are, if they were right.
///
/// Whoever claims or gives back writes the host's ledger, so that a claim that comes meanwhile
/// conflicts.
async fn keep_claims(
    ports: &Ports,
    was: &Host,
    is: &Host,
    txn: &mut Txn,
) -> Result<(), StoreError> {
    let same_stock = was.inventory == is.inventory && was.classes == is.classes;
    if same_stock && was.numa == is.numa && was.pci == is.pci {
        return Ok(());
    }
    let ledger = ports.store.read::<Ledger>(&keys::host_ledger(is.id)).await?;
    let claims = ports.store.read_all::<Claim>(&keys::claims_on(is.id)).await?;
    let used = claims.iter().map(|claim| claim.value.amount).sum();
    let mut classes = ClassAmounts::default();
    claims.iter().for_each(|claim| classes.add(&claim.value.classes));
    let has = |host: &Host, claim: &Claim| {
        claim.assigned.missing(host.numa.as_ref(), &host.pci).is_none()
    };
    let holds = |host: &Host| {
        host.inventory.exceeded(&used).is_none()
            && classes.exceeds(&host.classes).is_none()
            && claims.iter().all(|claim| has(host, &claim.value))
    };
    let right = holds(was) || claims.iter().all(|claim| claim.value.kept);
    if holds(is) || !right {
        return Ok(());
    }
    for claim in claims.iter().filter(|claim| !claim.value.kept) {
        txn.replace(claim, &Claim { kept: true, ..claim.value.clone() });
    }
    txn.touch(ledger.as_ref(), &Ledger::for_host(is.id));
    Ok(())
}
