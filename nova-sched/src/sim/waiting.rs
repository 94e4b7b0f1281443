//! VMs that found no host and wait for one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::event::{Event, Refused};
use super::simulation::{Planned, Simulation, SimulationError, Tenure};
use super::{Moment, ShapeKey, VmKey};

/// Whether a VM waits: from when it found no host until it gets one or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    Yes,
    No,
}

/// VMs that are placed all or none; mostly one.
pub(super) type Unit = SmallVec<[VmKey; 1]>;

/// The more important first, then the earlier.
type Turn = (Reverse<u8>, u64);

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    units: BTreeMap<Turn, Unit>,
    turns: FxHashMap<VmKey, Turn>,
}

impl Line {
    fn join(&mut self, turn: Turn, unit: Unit) {
        self.turns.extend(unit.iter().map(|vm| (*vm, turn)));
        self.units.insert(turn, unit);
    }

    /// One leaves, where it is there; others of its gang stay.
    pub(super) fn leave(&mut self, vm: VmKey) {
        let Some(turn) = self.turns.remove(&vm) else { return };
        if let Some(unit) = self.units.get_mut(&turn) {
            unit.retain(|other| *other != vm);
            if unit.is_empty() {
                self.units.remove(&turn);
            }
        }
    }

    fn take(&mut self, turn: Turn) -> Option<Unit> {
        let unit = self.units.remove(&turn)?;
        unit.iter().for_each(|vm| {
            self.turns.remove(vm);
        });
        Some(unit)
    }

    fn after(&self, turn: Option<Turn>) -> Option<(Turn, &Unit)> {
        let from = turn.map_or(Bound::Unbounded, Bound::Excluded);
        let (turn, unit) = self.units.range((from, Bound::Unbounded)).next()?;
        Some((*turn, unit))
    }
}

impl Simulation<'_> {
    /// Counts a VM among those that wait, or no longer; whether that is new.
    pub(super) fn set_waits(&mut self, vm: VmKey, waits: Waits) -> bool {
        let waits = waits == Waits::Yes;
        let Some(known) = self.world.vm_mut(vm).filter(|known| known.waits != waits) else {
            return false;
        };
        known.waits = waits;
        let waiting = self.world.waiting().saturating_add_signed(if waits { 1 } else { -1 });
        self.world.set_waiting(waiting);
        true
    }

    /// VMs join the line, or come back to it from a desk.
    pub(super) fn queue(&mut self, unit: Unit) {
        let Some(waiting) = self.scenario.waiting else { return };
        let Some((priority, order)) =
            unit.first().and_then(|vm| self.world.vm(*vm)).map(|vm| (vm.priority, vm.order))
        else {
            return;
        };
        self.line.join((Reverse(priority), order), unit.clone());
        for vm in unit {
            self.plan_departure(vm);
            if let (Some(asked), Some(tenure)) =
                (self.world.vm(vm).map(|vm| vm.asked), self.tenure(vm))
            {
                // Past already where a desk took that long: it is lost at once.
                let patience_ms = waiting.patience_s.saturating_mul(1000);
                self.put(asked.after_millis(patience_ms), Planned::LosePatience(tenure));
            }
            if self.set_waits(vm, Waits::Yes) {
                self.tell(Event::Waits { vm });
            }
        }
    }

    /// Gives out what became free to those that wait, as far as it goes.
    pub(super) fn settle(&mut self) -> Result<(), SimulationError> {
        self.freed = false;
        let Some(waiting) = self.scenario.waiting else { return Ok(()) };
        let (mut at, mut failures) = (None, 0);
        // What found no host a moment ago finds none now: nothing has become free since.
        let mut hopeless: SmallVec<[ShapeKey; 8]> = SmallVec::new();
        while let Some((turn, unit)) = self.line.after(at) {
            at = Some(turn);
            let unit = unit.clone();
            let alone = if let [vm] = unit[..] { self.world.plain_shape(vm) } else { None };
            if self.desks.is_some() {
                self.line.take(turn);
                self.hand_in(unit);
                failures += 1;
            } else if alone.is_some_and(|shape| hopeless.contains(&shape)) {
                failures += 1;
            } else if self.try_place(&unit)? {
                self.line.take(turn);
            } else {
                failures += 1;
                hopeless.extend(alone);
            }
            if failures > waiting.backfill {
                break;
            }
        }
        Ok(())
    }

    /// A VM that still waits has waited for long enough.
    pub(super) fn lose_patience(&mut self, tenure: Tenure) {
        let Some(vm) = self.still(tenure) else { return };
        // It may have had a host meanwhile and been put off it: its patience began anew then.
        let patience = self.scenario.waiting.map_or(0, |waiting| waiting.patience_s);
        let since = self.world.vm(vm).map_or(Moment::ZERO, |vm| vm.asked);
        let waited = self.world.now().millis_since(since) >= patience.saturating_mul(1000);
        if self.line.turns.contains_key(&vm) && waited {
            self.refuse(vm, Refused::Patience);
        }
    }
}
