//! VMs that get another shape while they run.

use nova_core::domain::{Flavor, MiB, Resources, Vcpus};

use super::event::Event;
use super::failing::exponential;
use super::simulation::{Planned, Simulation, SimulationError, Tenure};
use super::{Place, VmKey};

const DAY_MS: f64 = 86_400_000.0;

impl Simulation<'_> {
    /// Draws when a VM is resized next.
    pub(super) fn plan_resize(&mut self, vm: VmKey) {
        let Some(per_day) = self.scenario.resizes.as_ref().map(|resizes| resizes.per_vm_day) else {
            return;
        };
        if per_day <= 0.0 || self.ending {
            return;
        }
        let at = self.world.now().after_millis(exponential(&mut self.growth, DAY_MS / per_day));
        let ends = self.world.vm(vm).map(|vm| vm.ends);
        if ends.is_some_and(|ends| at < ends)
            && let Some(tenure) = self.tenure(vm)
        {
            self.put(at, Planned::Resize(tenure));
        }
    }

    /// A VM gets another shape: on its host where there is room, or on another one, as the
    /// scheduler says; or stays as it is.
    pub(super) fn resize(&mut self, tenure: Tenure) -> Result<(), SimulationError> {
        let Some(vm) = self.still(tenure).filter(|_| !self.ending) else { return Ok(()) };
        let Some(known) = self.world.vm(vm).cloned() else { return Ok(()) };
        let Place::On(from) = known.place else {
            // It waits or moves; another time.
            self.plan_resize(vm);
            return Ok(());
        };
        let Some(resizes) = &self.scenario.resizes else { return Ok(()) };
        let factor = resizes.factors[self.growth.index(resizes.factors.len())];
        let before = known.shape;
        let wanted = scaled(self.world.resources_of(&known), factor);
        let shape = self.world.shape_of(wanted)?;
        self.world.release(vm, from);
        if let Some(known) = self.world.vm_mut(vm) {
            known.shape = shape;
        }
        let row = self.world.hosts().at(from);
        let stays = row.is_some_and(|row| row.lacks(&wanted).is_none());
        let to = if stays { Some(from) } else { self.find_elsewhere(vm, from)? };
        let goal = to.unwrap_or(from);
        if to.is_none()
            && let Some(known) = self.world.vm_mut(vm)
        {
            known.shape = before;
        }
        self.world.claim(vm, goal);
        if let Some(known) = self.world.vm_mut(vm) {
            known.place = Place::On(goal);
        }
        if to.is_some() {
            self.counts.resized += 1;
            self.freed = true;
            self.tell(Event::Resized { vm, from, to: goal });
        } else {
            self.counts.resizes_refused += 1;
            self.tell(Event::ResizeRefused { vm });
        }
        self.plan_resize(vm);
        Ok(())
    }
}

/// So many times the vCPUs and the memory, in the range of flavors.
fn scaled(resources: Resources, factor: f64) -> Resources {
    let vcpus = (f64::from(resources.vcpus.get()) * factor).round() as u32;
    let memory = (resources.memory.get() as f64 * factor).round() as u64;
    Resources {
        vcpus: Vcpus(vcpus.clamp(1, Flavor::VCPUS_MAX.get())),
        memory: MiB(memory.clamp(1, Flavor::MEMORY_MAX.get())),
        disk: resources.disk,
    }
}
