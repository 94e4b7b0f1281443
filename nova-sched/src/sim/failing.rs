//! Hosts that fail, and are repaired.

use nova_core::domain::{Liveness, Slot};
use nova_core::seed::Chance;

use super::Place;
use super::event::{Event, PutOff};
use super::simulation::{Planned, Simulation, SimulationError};

const HOUR_MS: f64 = 3_600_000.0;

impl Simulation<'_> {
    /// Draws when each host, or each rack, fails first.
    pub(super) fn plan_failures(&mut self) {
        let Some(failures) = self.scenario.failures else { return };
        let mut racks = std::collections::BTreeSet::new();
        let slots: Vec<Slot> = self.world.hosts().slots().collect();
        for host in slots {
            // The first host of a rack stands for all of it.
            let rack = self.world.rack(host).filter(|_| failures.by_rack).cloned();
            if rack.is_none_or(|rack| racks.insert(rack)) {
                self.plan_failure(host, failures.mtbf_h);
            }
        }
    }

    fn plan_failure(&mut self, host: Slot, mtbf_h: f64) {
        let at = self.world.now().after_millis(exponential(&mut self.fate, mtbf_h * HOUR_MS));
        self.put(at, Planned::Fail(host));
    }

    /// A host fails, and with it its rack where failures are of racks.
    pub(super) fn fail(&mut self, host: Slot) -> Result<(), SimulationError> {
        // When the trace has ended, what was planned before must not keep it going for ever.
        let Some(failures) = self.scenario.failures.filter(|_| !self.ending) else {
            return Ok(());
        };
        // All are down before the first VM looks for another host: none goes to one that fails too.
        let hosts = self.hosts_with(host);
        for host in &hosts {
            self.world.change_host(*host, |row| row.liveness = Liveness::Down);
            self.count_hosts_up(-1);
            self.counts.host_failures += 1;
            self.tell(Event::HostDown { host: *host });
        }
        for host in hosts {
            let vms: Vec<_> = self.world.vms_on(host).collect();
            let mut off = Vec::new();
            for vm in vms {
                match self.world.vm(vm).map(|vm| vm.place) {
                    // It runs elsewhere, and stays there.
                    Some(Place::Moving { from, to }) if from != host => {
                        self.cut_move_short(vm, from, to);
                    }
                    Some(_) => off.push(vm),
                    None => {}
                }
            }
            for vm in off {
                self.put_off(vm, PutOff::Failure, failures.restart)?;
            }
        }
        let back =
            self.world.now().after_millis(exponential(&mut self.fate, failures.mttr_h * HOUR_MS));
        self.put(back, Planned::Repair(host));
        Ok(())
    }

    /// A host is back, and with it its rack.
    pub(super) fn repair(&mut self, host: Slot) {
        for host in self.hosts_with(host) {
            self.world.change_host(host, |row| row.liveness = Liveness::Up);
            self.count_hosts_up(1);
            self.tell(Event::HostUp { host });
        }
        self.freed = true;
        if let Some(failures) = self.scenario.failures.filter(|_| !self.ending) {
            self.plan_failure(host, failures.mtbf_h);
        }
    }

    /// The hosts that fail together with one.
    fn hosts_with(&self, host: Slot) -> Vec<Slot> {
        let by_rack = self.scenario.failures.is_some_and(|failures| failures.by_rack);
        match self.world.rack(host).filter(|_| by_rack) {
            None => vec![host],
            Some(rack) => {
                let all = self.world.hosts().slots();
                all.filter(|other| self.world.rack(*other) == Some(rack)).collect()
            }
        }
    }

    fn count_hosts_up(&mut self, change: i64) {
        let (now, meter) = (self.world.now(), &mut self.world.meters.hosts_up);
        meter.set(now, meter.now().saturating_add_signed(change));
    }
}

/// A draw from the exponential distribution with this mean.
pub(super) fn exponential(chance: &mut Chance, mean: f64) -> u64 {
    let draw = -mean * libm::log(1.0 - chance.unit());
    draw.min(1e15) as u64
}
