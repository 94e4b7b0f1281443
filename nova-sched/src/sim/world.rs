//! What there is in a simulation at one moment: hosts, VMs, and where they are.

use std::sync::Arc;

use nova_core::domain::{
    Flavor, FlavorName, GiB, HostId, HostState, HostTable, InstanceId, Invalid, Label, Liveness,
    ProjectId, RequestSpec, Resources, Slot,
};
use rustc_hash::FxHashMap;

use super::asking::Asking;
use super::bound::HostsNeeded;
use super::cluster::{Cluster, Rack};
use super::cost::PowerCurve;
use super::meter::Meter;
use super::trace::TraceRow;
use super::usage::Usage;
use super::vm::{Shape, VmKey, Vms, instance_of, number_of};
use super::{Moment, Place, ShapeKey, Vm};

/// Hosts and VMs at one moment, to be looked at. Only the [simulation](super::Simulation) changes
/// it.
#[derive(Debug)]
pub struct World {
    hosts: HostTable,
    /// By slot.
    sites: Vec<Site>,
    vms: Vms,
    shapes: Vec<Shape>,
    by_resources: FxHashMap<Resources, ShapeKey>,
    now: Moment,
    used: Resources,
    needed: HostsNeeded,
    /// Whether hosts without VMs are switched off.
    switches_off: bool,
    has_power: bool,
    /// Whether hosts are told when their VMs are expected to leave.
    tells_ends: bool,
    /// What VMs use, where that is measured.
    pub(crate) usage: Option<Box<Usage>>,
    /// What VMs ask for beyond room, where they do.
    pub(crate) asking: Option<Asking>,
    pub(crate) meters: Meters,
}

/// What a simulation knows of a host beyond what its scheduler does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Site {
    pub(crate) rack: Option<Rack>,
    pub(crate) power: Option<Arc<PowerCurve>>,
    milliwatts: u64,
    /// How many windows of maintenance keep it closed.
    closed: u32,
}

impl Site {
    pub(crate) fn new(rack: Option<Rack>, power: Option<Arc<PowerCurve>>) -> Self {
        Self { rack, power, milliwatts: 0, closed: 0 }
    }
}

/// Quantities of the whole cloud over time.
#[derive(Debug, Default, Clone)]
pub(crate) struct Meters {
    pub(crate) vcpus: Meter,
    pub(crate) memory: Meter,
    pub(crate) disk: Meter,
    pub(crate) vms: Meter,
    pub(crate) waiting: Meter,
    pub(crate) hosts: Meter,
    /// The vCPUs that hosts with VMs may promise, in thousandths.
    pub(crate) vcpus_of_hosts: Meter,
    pub(crate) hosts_up: Meter,
    pub(crate) needed: Meter,
    pub(crate) milliwatts: Meter,
    pub(crate) moving: Meter,
}

/// The name under which a host's report has the moment, in seconds, at which the last of its VMs is
/// expected to leave; absent when it has none. See
/// [`Foresight`](super::Foresight).
pub const EXPECTED_END_S: &str = "sim.expected_end_s";

impl World {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let Cluster { hosts, mut sites, .. } = cluster;
        let used = hosts.rows().map(|row| *row.used()).sum();
        let has_power = sites.iter().any(|site| site.power.is_some());
        sites.resize_with(hosts.slots_end(), Site::default);
        let needed = HostsNeeded::new(&hosts);
        let mut world = Self {
            hosts,
            sites,
            vms: Vms::default(),
            shapes: Vec::new(),
            by_resources: FxHashMap::default(),
            now: Moment::ZERO,
            used,
            needed,
            switches_off: false,
            has_power,
            tells_ends: false,
            usage: None,
            asking: None,
            meters: Meters::default(),
        };
        let in_use = || world.hosts.rows().filter(|row| row.instance_count() > 0);
        let (hosts, vcpus) = (in_use().count(), in_use().map(millivcpus).sum());
        world.meters.hosts.set(Moment::ZERO, hosts as u64);
        world.meters.vcpus_of_hosts.set(Moment::ZERO, vcpus);
        let up = world.hosts.rows().filter(|row| row.liveness == Liveness::Up).count();
        world.meters.hosts_up.set(Moment::ZERO, up as u64);
        world.read_power();
        world.read_used();
        world
    }

    pub(crate) fn switch_off_empty_hosts(&mut self) {
        self.switches_off = true;
        self.read_power();
    }

    pub(crate) fn tell_ends(&mut self) {
        self.tells_ends = true;
    }

    /// The hosts with what is claimed on them.
    pub fn hosts(&self) -> &HostTable {
        &self.hosts
    }

    /// The time.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// A VM that is in the simulation.
    pub fn vm(&self, key: VmKey) -> Option<&Vm> {
        self.vms.get(key)
    }

    /// The VM with this number.
    pub fn numbered(&self, number: u64) -> Option<VmKey> {
        self.vms.numbered(number)
    }

    /// How many VMs there are, those that wait among them.
    pub fn vm_count(&self) -> usize {
        self.vms.len()
    }

    /// What VMs of a shape have in common; none of a key of another world.
    pub fn shape(&self, key: ShapeKey) -> Option<&Shape> {
        self.shapes.get(key.0 as usize)
    }

    /// Every shape that came so far, in the order of coming.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// The shapes with which VMs came; others are of those that were resized.
    pub fn shapes_that_came(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.iter().filter(|shape| shape.requests > 0)
    }

    /// What a VM takes.
    pub fn resources_of(&self, vm: &Vm) -> Resources {
        self.shape(vm.shape).map_or(Resources::ZERO, |shape| shape.resources)
    }

    /// The VMs of the trace that have a claim on a host, in the order of their numbers; those too
    /// that are on their way to it.
    pub fn vms_on(&self, host: Slot) -> impl Iterator<Item = VmKey> + '_ {
        let claims = self.hosts.at(host).into_iter().flat_map(HostState::claims);
        claims.filter_map(|(instance, _)| self.vms.numbered(number_of(instance)?))
    }

    /// What all VMs on hosts take.
    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// The rack of a host, where the cluster has racks.
    pub fn rack(&self, host: Slot) -> Option<&Label> {
        self.sites.get(host.index())?.rack.as_deref()
    }

    /// The power that all hosts take, in milliwatts; 0 where none has a curve.
    pub fn milliwatts(&self) -> u64 {
        self.meters.milliwatts.now()
    }

    /// The power curve of a host.
    pub fn power(&self, host: Slot) -> Option<&PowerCurve> {
        self.sites.get(host.index())?.power.as_deref()
    }

    /// How many hosts have at least one VM.
    pub fn hosts_in_use(&self) -> u64 {
        self.meters.hosts.now()
    }

    /// How many VMs wait for a host.
    pub fn waiting(&self) -> u64 {
        self.meters.waiting.now()
    }

    pub(crate) fn set_now(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    pub(crate) fn set_waiting(&mut self, waiting: u64) {
        self.meters.waiting.set(self.now, waiting);
    }

    /// The shape of these resources, a new one where there is none yet.
    pub(crate) fn shape_of(&mut self, resources: Resources) -> Result<ShapeKey, Invalid> {
        if let Some(shape) = self.by_resources.get(&resources) {
            return Ok(*shape);
        }
        let flavor = Arc::new(flavor(resources)?);
        let request =
            RequestSpec::new(instance_of(0), ProjectId::new("trace")?, Arc::clone(&flavor));
        let key = ShapeKey(self.shapes.len() as u32);
        self.shapes.push(Shape { resources, flavor, request, requests: 0, placed: 0 });
        self.by_resources.insert(resources, key);
        Ok(key)
    }

    /// The shape of a VM that asks for room only.
    pub(crate) fn plain_shape(&self, key: VmKey) -> Option<ShapeKey> {
        let vm = self.vms.get(key)?;
        let asks = self.asking.as_ref().is_some_and(|asking| asking.has(vm.number));
        (!asks).then_some(vm.shape)
    }

    pub(crate) fn shape_mut(&mut self, key: ShapeKey) -> &mut Shape {
        &mut self.shapes[key.0 as usize]
    }

    /// The question to the scheduler for a VM, to write it into.
    pub(crate) fn question(&mut self, vm: &Vm) -> (&HostTable, &mut RequestSpec) {
        let shape = &mut self.shapes[vm.shape.0 as usize];
        let own = self.asking.as_mut();
        let own = own.and_then(|asking| asking.question(vm, &shape.flavor, &self.hosts));
        (&self.hosts, own.unwrap_or(&mut shape.request))
    }

    /// A VM comes, and is nowhere yet.
    pub(crate) fn admit(&mut self, row: &TraceRow, shape: ShapeKey, order: u64) -> VmKey {
        let ends = row.end_s.map_or(Moment::NEVER, Moment::of_seconds);
        self.vms.add(Vm {
            number: row.vm,
            order,
            shape,
            arrived: self.now,
            ends,
            expected_end: ends,
            place: Place::Waiting,
            priority: row.priority,
            cpu_permille: row.cpu_permille,
            gang: row.gang,
            started: false,
            asked: self.now,
            waits: false,
            move_ends: Moment::ZERO,
            leaves: false,
            born: 0,
        })
    }

    pub(crate) fn vm_mut(&mut self, key: VmKey) -> Option<&mut Vm> {
        self.vms.get_mut(key)
    }

    /// A VM leaves for good; what it claimed has been released.
    pub(crate) fn forget(&mut self, key: VmKey) -> Option<Vm> {
        self.vms.remove(key)
    }

    /// What a VM takes is claimed on `host`. Where it is, its caller says.
    pub(crate) fn claim(&mut self, key: VmKey, host: Slot) {
        let Some(vm) = self.vms.get(key) else { return };
        let (number, amount, end) = (vm.number, self.resources_of(vm), vm.expected_end);
        let tells_ends = self.tells_ends;
        let mut first = false;
        self.hosts.update_at(host, |row| {
            first = row.instance_count() == 0;
            row.claim(instance_of(number), amount);
            if tells_ends {
                let end = i64::try_from(end.seconds()).unwrap_or(i64::MAX);
                let report = Arc::make_mut(&mut row.report);
                let known = report.metrics.entry(EXPECTED_END_S.to_owned()).or_insert(end);
                *known = end.max(*known);
            }
        });
        if let (Some(asking), Some(row)) = (&mut self.asking, self.hosts.at(host)) {
            asking.joins(number, row.id);
        }
        self.used = self.used.saturating_add(amount);
        self.changed(host, if first { 1 } else { 0 });
    }

    /// What a VM has claimed on `host` is free again.
    pub(crate) fn release(&mut self, key: VmKey, host: Slot) {
        let Some(number) = self.vms.get(key).map(|vm| vm.number) else { return };
        if let (Some(asking), Some(row)) = (&mut self.asking, self.hosts.at(host))
            && row.has_instance(instance_of(number))
        {
            asking.leaves(number, row.id);
        }
        self.release_instance(instance_of(number), host);
    }

    /// What an instance has claimed on `host` is free again.
    pub(crate) fn release_instance(&mut self, instance: InstanceId, host: Slot) {
        let (mut released, mut last) = (None, false);
        self.hosts.update_at(host, |row| {
            released = row.release(instance);
            last = released.is_some() && row.instance_count() == 0;
        });
        self.used = self.used.saturating_sub(released.unwrap_or_default());
        if self.tells_ends {
            self.tell_end_of(host);
        }
        self.changed(host, if last { -1 } else { 0 });
    }

    /// Tells a host anew when the last of its VMs is expected to leave.
    fn tell_end_of(&mut self, host: Slot) {
        let ends = self.vms_on(host).filter_map(|key| Some(self.vms.get(key)?.expected_end));
        let last = ends.max().map(|end| i64::try_from(end.seconds()).unwrap_or(i64::MAX));
        self.hosts.update_at(host, |row| {
            let report = Arc::make_mut(&mut row.report);
            match last {
                Some(end) => report.metrics.insert(EXPECTED_END_S.to_owned(), end),
                None => report.metrics.remove(EXPECTED_END_S),
            };
        });
    }

    /// Changes a host otherwise: whether it is up, whether VMs may come.
    pub(crate) fn change_host(&mut self, host: Slot, change: impl FnOnce(&mut HostState)) {
        self.hosts.update_at(host, change);
        self.changed(host, 0);
    }

    /// Counts who keeps a host closed; how many do.
    pub(crate) fn count_closed(&mut self, host: Slot, change: i32) -> u32 {
        let Some(site) = self.sites.get_mut(host.index()) else { return 0 };
        site.closed = site.closed.saturating_add_signed(change);
        site.closed
    }

    /// Reads the meters after a change of what is claimed on a host.
    fn changed(&mut self, host: Slot, in_use: i64) {
        if in_use != 0 {
            let hosts = self.meters.hosts.now().saturating_add_signed(in_use);
            self.meters.hosts.set(self.now, hosts);
            let vcpus = self.hosts.at(host).map_or(0, millivcpus);
            let vcpus = i64::try_from(vcpus).unwrap_or(i64::MAX).saturating_mul(in_use);
            let all = self.meters.vcpus_of_hosts.now().saturating_add_signed(vcpus);
            self.meters.vcpus_of_hosts.set(self.now, all);
        }
        self.read_power_of(host);
        self.read_used();
    }

    pub(crate) fn read_power_of(&mut self, host: Slot) {
        if !self.has_power {
            return;
        }
        let before = self.sites[host.index()].milliwatts;
        let after = self.power_now(host);
        self.sites[host.index()].milliwatts = after;
        let all = self.meters.milliwatts.now();
        self.meters.milliwatts.set(self.now, (all + after).saturating_sub(before));
    }

    fn read_used(&mut self) {
        let (now, meters) = (self.now, &mut self.meters);
        meters.vcpus.set(now, self.used.vcpus.get().into());
        meters.memory.set(now, self.used.memory.get());
        meters.disk.set(now, self.used.disk.get());
        meters.needed.set(now, self.needed.of(&self.used));
    }

    /// The milliwatts of a host by the share of its CPUs that is used or, where that is not
    /// measured, claimed; none of one that is down, or empty where those are switched off.
    fn power_now(&self, host: Slot) -> u64 {
        let (Some(site), Some(row)) = (self.sites.get(host.index()), self.hosts.at(host)) else {
            return 0;
        };
        let Some(curve) = &site.power else { return 0 };
        let off = self.switches_off && row.instance_count() == 0;
        if off || row.liveness == Liveness::Down {
            return 0;
        }
        let total = f64::from(row.inventory.vcpus.total().get());
        let busy = match &self.usage {
            Some(usage) => usage.wanted_of(host) as f64 / 1000.0,
            None => f64::from(row.used().vcpus.get()),
        };
        curve.milliwatts(busy / total.max(1.0))
    }

    pub(crate) fn read_power(&mut self) {
        if !self.has_power {
            return;
        }
        let slots: Vec<Slot> = self.hosts.slots().collect();
        let mut all = 0;
        for slot in slots {
            let milliwatts = self.power_now(slot);
            self.sites[slot.index()].milliwatts = milliwatts;
            all += milliwatts;
        }
        self.meters.milliwatts.set(self.now, all);
    }

    pub(crate) fn has_power(&self) -> bool {
        self.has_power
    }

    /// The slot of a host by its name.
    pub fn host_named(&self, name: &str) -> Option<Slot> {
        let named = |slot: &Slot| self.hosts.at(*slot).is_some_and(|row| row.name.as_str() == name);
        self.hosts.slots().find(named)
    }

    /// The slot of a host by its id.
    pub fn slot(&self, id: HostId) -> Option<Slot> {
        self.hosts.slot(id)
    }
}

impl Meters {
    pub(crate) fn start(&mut self, at: Moment) {
        let all = [
            &mut self.vcpus,
            &mut self.memory,
            &mut self.disk,
            &mut self.vms,
            &mut self.waiting,
            &mut self.hosts,
            &mut self.vcpus_of_hosts,
            &mut self.hosts_up,
            &mut self.needed,
            &mut self.milliwatts,
            &mut self.moving,
        ];
        all.into_iter().for_each(|meter| meter.start(at));
    }
}

/// The vCPUs that a host may promise, in thousandths.
fn millivcpus(row: &HostState) -> u64 {
    (row.inventory.capacity(nova_core::domain::ResourceKind::Vcpus) * 1000.0).round() as u64
}

fn flavor(resources: Resources) -> Result<Flavor, Invalid> {
    let Resources { vcpus, memory, disk } = resources;
    let name = FlavorName::new(format!("{}x{}x{}", vcpus.get(), memory.get(), disk.get()))?;
    let flavor = Flavor::new(name, vcpus, memory)?;
    if disk == GiB::ZERO { Ok(flavor) } else { flavor.with_root_disk(disk) }
}
