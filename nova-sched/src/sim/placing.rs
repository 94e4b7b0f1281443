//! A VM asks for a host, and gets it or not.

use nova_core::domain::{Destination, HostId, HostTable, RequestSpec, Slot};
use nova_core::port::Scheduler;
use nova_core::seed::Seed;

use super::counts::Latency;
use super::event::{Event, Refused};
use super::simulation::{Planned, Simulation, SimulationError, Stopwatch};
use super::trace::TraceRow;
use super::vm::instance_of;
use super::waiting::{Unit, Waits};
use super::world::EXPECTED_END_S;
use super::{Moment, Place, ShapeKey, Vm, VmKey};

/// One question to a scheduler.
pub(super) struct Question<'q> {
    pub(super) scheduler: &'q dyn Scheduler,
    pub(super) hosts: &'q HostTable,
    pub(super) request: &'q mut RequestSpec,
    pub(super) stopwatch: Option<&'q Stopwatch<'q>>,
    pub(super) latency: &'q mut Latency,
    /// Whether the scheduler is told when VMs are expected to leave.
    pub(super) tells_ends: bool,
}

impl Question<'_> {
    /// The host for this VM, if there is one.
    pub(super) fn ask(&mut self, vm: &Vm, seed: Seed) -> Result<Option<Slot>, SimulationError> {
        self.request.instances[0] = instance_of(vm.number);
        if self.tells_ends {
            let end = vm.expected_end.seconds().to_string();
            self.request.hints.custom.insert(EXPECTED_END_S.to_owned(), vec![end]);
        }
        let began = self.stopwatch.map(|stopwatch| stopwatch.0());
        let placement = self.scheduler.find(self.hosts, self.request, seed);
        if let (Some(stopwatch), Some(began)) = (self.stopwatch, began) {
            self.latency.add(stopwatch.0().saturating_sub(began));
        }
        let Some(placement) = placement else { return Ok(None) };
        let bad = |host: Vec<HostId>, fault| SimulationError::BadAnswer {
            vm: vm.number,
            scheduler: self.scheduler.to_string(),
            host,
            fault,
        };
        let [host] = placement.hosts[..] else {
            return Err(bad(placement.hosts, "is not one host for one VM"));
        };
        let wanted = self.request.flavor.resources();
        match self.hosts.slot(host).and_then(|slot| Some((slot, self.hosts.at(slot)?))) {
            None => Err(bad(vec![host], "is not in the table")),
            Some((_, row)) if row.lacks(&wanted).is_some() => Err(bad(vec![host], "has no room")),
            Some((slot, _)) => Ok(Some(slot)),
        }
    }
}

/// Which hosts a VM may go to.
#[derive(Debug, Clone, Copy)]
enum Where {
    Anywhere,
    At(Slot),
    Not(Slot),
}

impl Simulation<'_> {
    /// A VM of the trace comes.
    pub(super) fn arrive(
        &mut self,
        row: &TraceRow,
        shape: ShapeKey,
    ) -> Result<(), SimulationError> {
        let order = self.counts.requests;
        self.counts.requests += 1;
        self.world.shape_mut(shape).requests += 1;
        let vm = self.world.admit(row, shape, order);
        self.foresee(vm);
        self.tell(Event::Arrived { vm });
        if row.gang.is_some() {
            self.gang.push(vm);
            return Ok(());
        }
        self.ask_for(Unit::from_elem(vm, 1))
    }

    /// No more of the present gang will come.
    pub(super) fn close_gang(&mut self) -> Result<(), SimulationError> {
        if self.gang.is_empty() {
            return Ok(());
        }
        let gang = std::mem::take(&mut self.gang);
        self.ask_for(Unit::from_vec(gang))
    }

    /// A VM that was put off asks for another host.
    pub(super) fn ask_again(&mut self, vm: VmKey) -> Result<(), SimulationError> {
        let now = self.world.now();
        if let Some(known) = self.world.vm_mut(vm) {
            known.asked = now;
        }
        self.ask_for(Unit::from_elem(vm, 1))
    }

    /// Asks for hosts for VMs that are placed all or none.
    fn ask_for(&mut self, unit: Unit) -> Result<(), SimulationError> {
        if self.desks.is_some() {
            self.hand_in(unit);
            return Ok(());
        }
        if self.try_place(&unit)? {
            return Ok(());
        }
        if self.preempt_for(&unit)? {
            return Ok(());
        }
        self.explain_refusal(&unit);
        self.found_none(unit, Refused::NoHost);
        Ok(())
    }

    /// Asks the scheduler for hosts for VMs, and gives them to all or to none of them.
    pub(super) fn try_place(&mut self, unit: &Unit) -> Result<bool, SimulationError> {
        if let [vm] = unit[..] {
            let host = self.find(vm)?;
            if let Some(host) = host {
                self.world.claim(vm, host);
                self.has_come(vm, host);
            }
            return Ok(host.is_some());
        }
        let mut hosts = Vec::with_capacity(unit.len());
        // What is claimed for some of them only was never in use.
        let meters = self.world.meters.clone();
        for vm in unit {
            let Some(host) = self.find(*vm)? else {
                let undone = unit.iter().zip(hosts);
                undone.for_each(|(vm, host)| self.world.release(*vm, host));
                self.world.meters = meters;
                return Ok(false);
            };
            self.world.claim(*vm, host);
            hosts.push(host);
        }
        unit.iter().zip(hosts).for_each(|(vm, host)| self.has_come(*vm, host));
        Ok(true)
    }

    /// The host that the scheduler has for a VM.
    pub(super) fn find(&mut self, vm: VmKey) -> Result<Option<Slot>, SimulationError> {
        self.find_where(vm, Where::Anywhere)
    }

    /// Whether the scheduler would put a VM on this very host.
    pub(super) fn find_at(&mut self, vm: VmKey, host: Slot) -> Result<bool, SimulationError> {
        Ok(self.find_where(vm, Where::At(host))? == Some(host))
    }

    /// The host that the scheduler has for a VM, other than this one.
    pub(super) fn find_elsewhere(
        &mut self,
        vm: VmKey,
        host: Slot,
    ) -> Result<Option<Slot>, SimulationError> {
        self.find_where(vm, Where::Not(host))
    }

    fn find_where(&mut self, vm: VmKey, place: Where) -> Result<Option<Slot>, SimulationError> {
        let Some(known) = self.world.vm(vm).cloned() else { return Ok(None) };
        let seed = self.draws.seed();
        let (hosts, request) = self.world.question(&known);
        let name = |host| hosts.at(host).map(|row| row.name.clone());
        match place {
            Where::Anywhere => {}
            Where::At(host) => {
                let to = Destination { host: name(host), ..Destination::default() };
                request.destination = Some(to);
            }
            Where::Not(host) => request.ignore_hosts.extend(name(host)),
        }
        let mut question = Question {
            scheduler: self.schedulers[0],
            hosts,
            request,
            stopwatch: self.stopwatch.as_ref(),
            latency: &mut self.counts.latency,
            tells_ends: self.scenario.foresight.is_some(),
        };
        let found = question.ask(&known, seed);
        // The question is that of the whole shape, and asked again for others.
        question.request.destination = None;
        question.request.ignore_hosts.clear();
        self.counts.decisions += 1;
        found
    }

    /// A VM, for which room is claimed, is on its host from now on.
    pub(super) fn has_come(&mut self, vm: VmKey, host: Slot) {
        self.plan_departure(vm);
        let now = self.world.now();
        let Some(known) = self.world.vm_mut(vm) else { return };
        known.place = Place::On(host);
        let (first, waited, shape) = (!known.started, now.millis_since(known.arrived), known.shape);
        known.started = true;
        if first {
            self.counts.placed += 1;
            self.counts.waits.add(waited);
            self.world.shape_mut(shape).placed += 1;
        }
        self.counts.running += 1;
        self.world.meters.vms.set(now, self.counts.running);
        self.set_waits(vm, Waits::No);
        // Later ones follow from the first, whatever happens between.
        if first {
            self.plan_resize(vm);
        }
        self.tell(Event::Placed { vm, host });
    }

    /// A VM leaves the host or the hosts on which it has room; the host on which it ran.
    pub(super) fn leave_hosts(&mut self, vm: VmKey) -> Option<Slot> {
        let place = self.world.vm(vm)?.place;
        let host = place.host()?;
        if let Place::Moving { to, .. } = place {
            self.cut_move_short(vm, host, to);
        }
        self.world.release(vm, host);
        if let Some(known) = self.world.vm_mut(vm) {
            known.place = Place::Waiting;
        }
        self.freed = true;
        self.counts.running -= 1;
        self.world.meters.vms.set(self.world.now(), self.counts.running);
        Some(host)
    }

    /// Says when a VM leaves, once.
    pub(super) fn plan_departure(&mut self, vm: VmKey) {
        let Some(known) = self.world.vm_mut(vm) else { return };
        let ends = known.ends;
        if !std::mem::replace(&mut known.leaves, true)
            && ends < Moment::NEVER
            && let Some(tenure) = self.tenure(vm)
        {
            self.put(ends, Planned::Depart(tenure));
        }
    }

    /// VMs found no hosts: they wait, or leave.
    pub(super) fn found_none(&mut self, unit: Unit, why: Refused) {
        if self.scenario.waiting.is_some() {
            self.queue(unit);
            return;
        }
        let alone = unit.len() == 1;
        for vm in unit {
            self.refuse(vm, if alone { why } else { Refused::Gang });
        }
    }

    /// A VM leaves without a host.
    pub(super) fn refuse(&mut self, vm: VmKey, why: Refused) {
        self.counts.refuse(why);
        if self.world.vm(vm).is_some_and(|vm| !vm.started) {
            self.counts.rejected += 1;
        }
        self.tell(Event::Refused { vm, why });
        self.drop_vm(vm);
    }

    /// Asks again to count what refused each host, for the first refusals.
    pub(super) fn explain_refusal(&mut self, unit: &Unit) {
        let (Some(vm), true) =
            (unit.first(), self.counts.explained < self.scenario.explain_refusals)
        else {
            return;
        };
        let Some(known) = self.world.vm(*vm).cloned() else { return };
        // No draw of its own: how many are explained must not move what is drawn for others.
        let seed = Seed::new(self.counts.explained);
        let (hosts, request) = self.world.question(&known);
        // Of a gang it is the first; where that one fits alone, there is nothing to say.
        if let Err(refused) = self.schedulers[0].select(hosts, request, seed) {
            self.counts.explain(refused.funnel);
        }
    }

    /// What is expected of a VM's lifetime.
    fn foresee(&mut self, vm: VmKey) {
        let Some(foresight) = self.scenario.foresight else { return };
        let (Some(known), true) = (self.world.vm_mut(vm), foresight.noise > 0.0) else { return };
        if known.ends == Moment::NEVER {
            return;
        }
        let lifetime = known.ends.millis_since(known.arrived) as f64;
        // Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958).
        let (first, second) = (self.foresight.unit(), self.foresight.unit());
        let radius = (-2.0 * libm::log(1.0 - first)).sqrt();
        let normal = radius * libm::cos(std::f64::consts::TAU * second);
        let expected = lifetime * libm::exp(foresight.noise * normal);
        known.expected_end = known.arrived.after_millis(expected.min(1e15) as u64);
    }
}
