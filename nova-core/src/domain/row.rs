//! A host as the scheduler sees it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::domain::{
    Admission, Aggregate, ClassAmounts, ClassLedger, ClassStocks, Flavor, FlavorName, GiB,
    GuestKind, HostId, HostName, HostReport, ImageProperties, InstanceId, Inventory, Liveness,
    NumaTopology, Overcommit, PciPools, ResourceClass, ResourceKind, Resources, ZoneName,
};

/// A host as the scheduler sees it: what it offers, what is claimed on it, who is there.
///
/// The sum of the claims is kept beside them and changes only with them, here.
#[derive(Debug, Clone, PartialEq)]
pub struct HostState {
    /// The id; also the order in which hosts are visited.
    pub id: HostId,
    /// The name.
    pub name: HostName,
    /// Its availability zone.
    pub zone: ZoneName,
    /// Whether new servers may come.
    pub admission: Admission,
    /// Whether it answers.
    pub liveness: Liveness,
    /// What it offers.
    pub inventory: Inventory,
    /// The aggregates it is in, sorted by id.
    pub aggregates: Vec<Arc<Aggregate>>,
    /// What it can run.
    pub guest_kinds: Arc<[GuestKind]>,
    /// The hypervisor's version, see [`HostFacts::hypervisor_version`](crate::domain::HostFacts);
    /// none when the host does not tell.
    pub hypervisor_version: Option<u64>,
    /// Servers in a state that is heavy on the disk: being built, moved, copied.
    pub io_ops: u32,
    /// Servers that could not be built here since one was built last.
    pub failed_builds: u32,
    /// What else its agent tells of it.
    pub report: Arc<HostReport>,
    /// What its agent has measured, where that is more than what is offered and claimed.
    pub measured: Option<Measured>,
    /// Its PCI devices that guests may have and that are free.
    pub pci: PciPools,
    /// Its NUMA cells and what is used of them; none when it does not tell.
    pub numa: Option<Arc<NumaTopology>>,
    /// Sorted by id. There are few on a host, so that a list is quicker than a tree.
    claims: Vec<(InstanceId, Resources)>,
    used: Resources,
    known: BTreeMap<InstanceId, Arc<Resident>>,
    /// Few hosts have any.
    classes: Option<Box<ClassLedger>>,
}

/// What is known of a server on a host beyond what it claims.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resident {
    /// Its flavor.
    pub flavor: FlavorName,
    /// The properties of its image.
    pub image: ImageProperties,
}

/// What an agent has measured on its host. Claims that are made later are deducted, and those that
/// are released are given back, until it measures again.
///
/// Weighers prefer it to what follows from inventory and claims; capacity is never taken from it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Measured {
    /// Free memory in MiB; below zero when more is promised than there is.
    pub free_memory: i64,
    /// Free disk in MiB, likewise.
    pub free_disk: i64,
    /// Disk in use in MiB, as it was measured: it does not follow claims, which are not written yet.
    pub disk_used: i64,
    /// Virtual CPUs in use.
    pub vcpus_used: i64,
    /// Servers, ours or not.
    pub instances: i64,
}

impl HostState {
    /// An empty host, enabled and up, in no aggregate.
    pub fn new(id: HostId, name: HostName, zone: ZoneName, inventory: Inventory) -> Self {
        Self {
            id,
            name,
            zone,
            admission: Admission::Enabled,
            liveness: Liveness::Up,
            inventory,
            aggregates: Vec::new(),
            guest_kinds: Arc::from([]),
            hypervisor_version: None,
            io_ops: 0,
            failed_builds: 0,
            report: Arc::default(),
            measured: None,
            pci: PciPools::default(),
            numa: None,
            claims: Vec::new(),
            used: Resources::ZERO,
            known: BTreeMap::new(),
            classes: None,
        }
    }

    /// Counts `amount` for `instance`; an earlier claim of the same instance is replaced.
    ///
    /// This records a decision and checks nothing: a host may be over its capacity after its
    /// inventory shrank, and must still be described truly.
    pub fn claim(&mut self, instance: InstanceId, amount: Resources) {
        let before = match self.place_of(instance) {
            Ok(at) => Some(std::mem::replace(&mut self.claims[at].1, amount)),
            Err(at) => {
                self.claims.insert(at, (instance, amount));
                None
            }
        };
        if let Some(before) = before {
            self.used = self.used.saturating_sub(before);
            self.known.remove(&instance);
            self.measure(before, -1);
            self.release_classes(instance);
        }
        self.used = self.used.saturating_add(amount);
        self.measure(amount, 1);
    }

    /// Forgets what `instance` claimed and says how much that was; claiming nothing is fine.
    pub fn release(&mut self, instance: InstanceId) -> Option<Resources> {
        let (_, amount) = self.claims.remove(self.place_of(instance).ok()?);
        self.used = self.used.saturating_sub(amount);
        self.known.remove(&instance);
        self.measure(amount, -1);
        self.release_classes(instance);
        Some(amount)
    }

    /// Says what it has of resource classes beyond CPUs, memory and disk. What is claimed stays.
    pub fn set_classes(&mut self, stocks: ClassStocks) {
        let ledger = self.classes.get_or_insert_default();
        ledger.set_stocks(stocks);
        if ledger.is_empty() {
            self.classes = None;
        }
    }

    /// Counts `amounts` for `instance` beside what it [claims](Self::claim) otherwise, until it is
    /// released or claims anew. As there, nothing is checked.
    pub fn claim_classes(&mut self, instance: InstanceId, amounts: &ClassAmounts) {
        if !amounts.is_empty() || self.classes.is_some() {
            self.classes.get_or_insert_default().claim(instance, amounts);
        }
    }

    /// Counts all that a server of `flavor` takes, for `instance`: what it [claims](Self::claim),
    /// and its [classes](Self::claim_classes). Malformed ones are nothing.
    pub fn claim_flavor(&mut self, instance: InstanceId, flavor: &Flavor) {
        self.claim(instance, flavor.resources());
        if let Ok(classes) = flavor.classes() {
            self.claim_classes(instance, classes);
        }
    }

    /// How much of its shared CPUs and memory may be promised to guests with NUMA cells.
    pub fn overcommit(&self) -> Overcommit {
        Overcommit { cpus: self.inventory.vcpus.ratio(), memory: self.inventory.memory.ratio() }
    }

    fn release_classes(&mut self, instance: InstanceId) {
        let Some(classes) = &mut self.classes else { return };
        classes.release(instance);
        if classes.is_empty() {
            self.classes = None;
        }
    }

    /// What it has of resource classes beyond CPUs, memory and disk.
    pub fn classes(&self) -> &ClassStocks {
        static NONE: ClassStocks = ClassStocks::new();
        self.classes.as_ref().map_or(&NONE, |ledger| ledger.stocks())
    }

    /// What is claimed of them in all.
    pub fn classes_used(&self) -> &ClassAmounts {
        static NONE: ClassAmounts = ClassAmounts::NONE;
        self.classes.as_ref().map_or(&NONE, |ledger| ledger.used())
    }

    /// The first class of which `wanted` is more than is left here; none when it fits.
    pub fn lacks_class<'a>(&self, wanted: &'a ClassAmounts) -> Option<&'a ResourceClass> {
        wanted.lacks(self.classes(), self.classes_used())
    }

    /// Says more of `instance`, until it is released.
    pub fn describe(&mut self, instance: InstanceId, resident: Arc<Resident>) {
        self.known.insert(instance, resident);
    }

    /// What is known of the servers that are there, as far as they were described.
    pub fn residents(&self) -> impl Iterator<Item = &Resident> {
        self.known.values().map(|resident| &**resident)
    }

    pub(crate) fn described(&self) -> &BTreeMap<InstanceId, Arc<Resident>> {
        &self.known
    }

    /// Who claims what of resource classes; none where nobody does and none are there.
    pub(crate) fn class_claims(&self) -> Option<&BTreeMap<InstanceId, ClassAmounts>> {
        self.classes.as_ref().map(|ledger| ledger.claims())
    }

    fn measure(&mut self, amount: Resources, sign: i64) {
        let Some(measured) = &mut self.measured else { return };
        let signed = |amount: u64| sign * signed(amount);
        let disk = amount.disk.0.saturating_mul(1024);
        measured.free_memory = measured.free_memory.saturating_sub(signed(amount.memory.0));
        measured.free_disk = measured.free_disk.saturating_sub(signed(disk));
        measured.vcpus_used = measured.vcpus_used.saturating_add(signed(amount.vcpus.0.into()));
        measured.instances = measured.instances.saturating_add(sign);
    }

    /// What is claimed in all.
    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// How many servers are there.
    pub fn instance_count(&self) -> usize {
        self.claims.len()
    }

    /// How many servers are there, ours or not, as far as that was measured.
    pub fn instances(&self) -> i64 {
        let ours = i64::try_from(self.claims.len()).unwrap_or(i64::MAX);
        self.measured.map_or(ours, |measured| measured.instances)
    }

    /// Free memory in MiB, without the allocation ratio: what was measured, or what is there less
    /// what is reserved and claimed.
    pub fn free_memory(&self) -> i64 {
        let stock = &self.inventory.memory;
        let used = self.used.memory.get();
        let free = || signed(stock.total().get()) - signed(stock.reserved().get()) - signed(used);
        self.measured.map_or_else(free, |measured| measured.free_memory)
    }

    /// Free disk in MiB, likewise.
    pub fn free_disk(&self) -> i64 {
        let stock = &self.inventory.disk;
        let used = self.used.disk;
        let mib = |disk: GiB| signed(disk.to_mib().get());
        let free = || mib(stock.total()) - mib(stock.reserved()) - mib(used);
        self.measured.map_or_else(free, |measured| measured.free_disk)
    }

    /// Virtual CPUs in use, the reserved ones among them.
    pub fn vcpus_used(&self) -> i64 {
        let stock = &self.inventory.vcpus;
        let used = || i64::from(stock.reserved().get()) + i64::from(self.used.vcpus.get());
        self.measured.map_or_else(used, |measured| measured.vcpus_used)
    }

    /// SHA-256 over everything that is known of the host: two that differ in anything have different
    /// ones. It says what a decision was made on.
    pub fn digest(&self) -> [u8; 32] {
        // Every field by name, so that a new one is not forgotten.
        let Self {
            id,
            name,
            zone,
            admission,
            liveness,
            inventory,
            aggregates,
            guest_kinds,
            hypervisor_version,
            io_ops,
            failed_builds,
            report,
            measured,
            pci,
            numa,
            claims,
            // The sum of the claims.
            used: _,
            known,
            classes,
        } = self;
        let mut hash = Hashed(Sha256::new());
        let texts = (id, name, zone, admission, liveness, inventory, aggregates);
        let more = (guest_kinds, hypervisor_version, io_ops, failed_builds, report);
        // It takes whatever is written into it.
        let _ = write!(hash, "{:?}", (texts, more, measured, pci, numa, known, classes));
        for (instance, amount) in claims {
            hash.0.update(instance.as_u128().to_le_bytes());
            hash.0.update(amount.vcpus.0.to_le_bytes());
            hash.0.update(amount.memory.0.to_le_bytes());
            hash.0.update(amount.disk.0.to_le_bytes());
        }
        hash.0.finalize().into()
    }

    /// Whether new servers may come: it answers, and its operator lets them.
    pub fn is_open(&self) -> bool {
        self.liveness == Liveness::Up && self.admission == Admission::Enabled
    }

    /// Whether `instance` is there.
    pub fn has_instance(&self, instance: InstanceId) -> bool {
        self.place_of(instance).is_ok()
    }

    /// Where the claim of `instance` is, or where it would be.
    fn place_of(&self, instance: InstanceId) -> Result<usize, usize> {
        self.claims.binary_search_by_key(&instance, |(id, _)| *id)
    }

    /// The servers that are there with what each claims, sorted by id.
    pub fn claims(&self) -> impl Iterator<Item = (InstanceId, &Resources)> {
        self.claims.iter().map(|(id, amount)| (*id, amount))
    }

    /// The first resource that `wanted` lacks here; none when it fits.
    pub fn lacks(&self, wanted: &Resources) -> Option<ResourceKind> {
        self.inventory.lacks(&self.used, wanted)
    }

    /// Capacity left of one resource, `(total - reserved) * ratio - used`: below zero when the
    /// inventory shrank under what was claimed.
    pub fn free(&self, kind: ResourceKind) -> f64 {
        self.inventory.capacity(kind) - kind.of(&self.used) as f64
    }
}

/// Hashes what is written.
struct Hashed(Sha256);

impl std::fmt::Write for Hashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// No host has more than half of what a number holds, so that differences of two fit.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MiB, Vcpus};

    fn host(id: u128) -> HostState {
        let total = Resources { vcpus: Vcpus(8), memory: MiB(1024), disk: GiB(10) };
        HostState::new(
            HostId::from_u128(id),
            HostName::new(format!("h{id}")).unwrap(),
            ZoneName::new("z").unwrap(),
            Inventory::new(total),
        )
    }

    #[test]
    fn used_is_always_the_sum_of_the_claims() {
        let mut host = host(1);
        let amount = |v| Resources { vcpus: Vcpus(v), memory: MiB(v.into()), disk: GiB(0) };
        let id = InstanceId::from_u128;
        host.claim(id(1), amount(2));
        host.claim(id(2), amount(3));
        host.claim(id(1), amount(4));
        assert_eq!(*host.used(), amount(7));
        assert_eq!(host.release(id(1)), Some(amount(4)));
        assert_eq!(host.release(id(1)), None);
        assert_eq!(*host.used(), amount(3));
    }

    #[test]
    fn what_was_measured_follows_the_claims() {
        let mut host = host(1);
        let measured =
            Measured { free_memory: 100, free_disk: 10, disk_used: 7, vcpus_used: 1, instances: 3 };
        host.measured = Some(measured);
        let id = InstanceId::from_u128(1);
        host.claim(id, Resources { vcpus: Vcpus(2), memory: MiB(300), disk: GiB(1) });
        let after = Measured {
            free_memory: -200,
            free_disk: -1014,
            vcpus_used: 3,
            instances: 4,
            ..measured
        };
        assert_eq!(host.measured, Some(after));
        host.release(id);
        assert_eq!(host.measured, Some(measured));
    }
}
