//! Live migrations, and who plans them.

use std::fmt::Debug;

use nova_core::domain::Slot;

use super::event::Event;
use super::simulation::{Planned, Simulation, SimulationError, Tenure};
use super::{Place, VmKey, World};

/// A VM that should be on another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive on purpose: planners make them.
pub struct Move {
    /// The VM.
    pub vm: VmKey,
    /// Where to.
    pub to: Slot,
}

/// Plans moves: to empty hosts, to even out, to make room for what is large.
///
/// It is asked at regular times, and sees all there is. Each move is put to the scheduler before it
/// begins, with the goal as the only host that is allowed: what its filters refuse does not happen,
/// whatever was planned.
pub trait Planner: Debug {
    /// Which VMs to move where, in this order; those beyond `moves_max` are not looked at.
    fn plan(&mut self, world: &World, moves_max: usize) -> Vec<Move>;
}

impl Simulation<'_> {
    pub(super) fn plan_moves(&mut self) -> Result<(), SimulationError> {
        if self.ending {
            return Ok(());
        }
        let planning = self.scenario.planning;
        let Some(planner) = &mut self.planner else { return Ok(()) };
        let moves = planner.plan(&self.world, planning.moves_max);
        for wanted in moves.into_iter().take(planning.moves_max) {
            if !self.move_to(wanted)? {
                self.counts.moves_refused += 1;
            }
        }
        let next = self.world.now().after_millis(planning.every_s.saturating_mul(1000));
        self.put(next, Planned::Plan);
        Ok(())
    }

    /// Begins a move that was planned; whether it did.
    fn move_to(&mut self, Move { vm, to }: Move) -> Result<bool, SimulationError> {
        let Some(Place::On(from)) = self.world.vm(vm).map(|vm| vm.place) else { return Ok(false) };
        if from == to || !self.find_at(vm, to)? {
            return Ok(false);
        }
        self.begin_move(vm, from, to);
        Ok(true)
    }

    /// Begins a move to wherever the scheduler would put the VM; whether there is such a host.
    pub(super) fn move_somewhere(&mut self, vm: VmKey) -> Result<bool, SimulationError> {
        let Some(Place::On(from)) = self.world.vm(vm).map(|vm| vm.place) else { return Ok(false) };
        let Some(to) = self.find_elsewhere(vm, from)? else { return Ok(false) };
        self.begin_move(vm, from, to);
        Ok(true)
    }

    fn begin_move(&mut self, vm: VmKey, from: Slot, to: Slot) {
        self.world.claim(vm, to);
        let Some(known) = self.world.vm(vm) else { return };
        let takes = self.scenario.moves.millis(self.world.resources_of(known).memory);
        let ends = self.world.now().after_millis(takes);
        if let Some(known) = self.world.vm_mut(vm) {
            known.place = Place::Moving { from, to };
            known.move_ends = ends;
        }
        self.counts.moves += 1;
        self.counts.move_ms = self.counts.move_ms.saturating_add(takes);
        self.count_moving(1);
        if let Some(tenure) = self.tenure(vm) {
            self.put(ends, Planned::MoveEnds(tenure));
        }
        self.tell(Event::MoveBegan { vm, from, to });
    }

    /// A VM runs at its goal, and no longer takes anything where it was.
    pub(super) fn end_move(&mut self, tenure: Tenure) {
        let Some(vm) = self.still(tenure) else { return };
        // The end of an earlier move that was cut short is not that of the present one.
        let now = self.world.now();
        let Some(known) = self.world.vm(vm).filter(|vm| vm.move_ends == now) else { return };
        let Place::Moving { from, to } = known.place else { return };
        self.world.release(vm, from);
        if let Some(known) = self.world.vm_mut(vm) {
            known.place = Place::On(to);
        }
        self.freed = true;
        self.count_moving(-1);
        self.tell(Event::MoveEnded { vm, from, to, arrived: true });
    }

    /// A move is given up: the VM stays where it runs.
    pub(super) fn cut_move_short(&mut self, vm: VmKey, from: Slot, to: Slot) {
        self.world.release(vm, to);
        if let Some(known) = self.world.vm_mut(vm) {
            known.place = Place::On(from);
        }
        self.freed = true;
        self.counts.moves_cut_short += 1;
        self.count_moving(-1);
        self.tell(Event::MoveEnded { vm, from, to, arrived: false });
    }

    fn count_moving(&mut self, change: i64) {
        let (now, meter) = (self.world.now(), &mut self.world.meters.moving);
        meter.set(now, meter.now().saturating_add_signed(change));
    }
}
