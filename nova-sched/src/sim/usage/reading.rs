//! Use in a simulation: read at regular moments, and told to whoever asks the world.

use std::sync::Arc;

use nova_core::domain::Slot;
use nova_core::seed::Seed;

use super::{CPU_PERCENT, Courses, CpuUse, CpuUsed, Follow, Usage};
use crate::sim::event::Event;
use crate::sim::simulation::{Planned, Simulation};
use crate::sim::{Moment, VmKey, World};

impl World {
    pub(crate) fn measure_use(&mut self, rules: CpuUse, seed: Seed) {
        self.usage = Some(Box::new(Usage::new(rules, self.hosts(), seed)));
        self.read_power();
    }

    pub(crate) fn follow(&mut self, courses: Arc<Courses>, follow: Follow) {
        if let Some(usage) = &mut self.usage {
            usage.follow(courses, follow);
        }
    }

    /// Measuring begins.
    pub(crate) fn start(&mut self, at: Moment) {
        self.meters.start(at);
        if let Some(usage) = &mut self.usage {
            usage.start(at);
        }
    }

    /// Who uses what after something has happened.
    pub(crate) fn take_in(&mut self, event: &Event) {
        let Some(mut usage) = self.usage.take() else { return };
        let touched = usage.saw(self, event);
        self.usage = Some(usage);
        touched.into_iter().flatten().for_each(|host| self.read_power_of(host));
    }

    fn read_use(&mut self) {
        let now = self.now();
        let Some(usage) = &mut self.usage else { return };
        usage.read(now);
        if usage.rules().tells_hosts {
            self.tell_hosts();
        }
        self.read_power();
    }

    /// Tells each host the percent of its CPUs that is used, where that has changed.
    fn tell_hosts(&mut self) {
        let slots: Vec<Slot> = self.hosts().slots().collect();
        for slot in slots {
            let percent = self.cpu_share(slot).map(|share| (share.min(1.0) * 100.0).round() as i64);
            let row = self.hosts().at(slot);
            let known = row.and_then(|row| row.report.metrics.get(CPU_PERCENT)).copied();
            if let Some(percent) = percent.filter(|percent| known != Some(*percent)) {
                self.change_host(slot, |row| {
                    let report = Arc::make_mut(&mut row.report);
                    report.metrics.insert(CPU_PERCENT.to_owned(), percent);
                });
            }
        }
    }

    /// The share of a host's CPUs that its VMs want to use, above 1 where it is overloaded; none
    /// where that is not measured.
    pub fn cpu_share(&self, host: Slot) -> Option<f64> {
        let (usage, row) = (self.usage.as_ref()?, self.hosts().at(host)?);
        let has = f64::from(row.inventory.vcpus.total().get().max(1));
        Some(usage.wanted_of(host) as f64 / 1000.0 / has)
    }

    /// The CPUs that all VMs want to use; none where that is not measured.
    pub fn cpus_wanted(&self) -> Option<f64> {
        Some(self.usage.as_ref()?.wanted() as f64 / 1000.0)
    }

    /// How many hosts lack CPUs for what their VMs want; none where that is not measured.
    pub fn hosts_overloaded(&self) -> Option<u64> {
        Some(self.usage.as_ref()?.overloaded_hosts())
    }

    /// What a VM uses of its vCPUs, in thousandths, as it was read last; none where that is not
    /// measured, or of one that has had no host yet.
    pub fn cpu_permille(&self, vm: VmKey) -> Option<u16> {
        Some(self.use_of(vm)?.0)
    }

    /// The same, with the number of the VM whose course it follows, and from which sample on.
    pub(crate) fn use_of(&self, vm: VmKey) -> Option<(u16, Option<(u64, usize)>)> {
        self.usage.as_ref()?.of(vm, self.vm(vm)?.born)
    }

    pub(crate) fn cpu_used(&mut self, millis: u64) -> Option<CpuUsed> {
        let now = self.now();
        Some(self.usage.as_mut()?.used(now, millis))
    }
}

impl Simulation<'_> {
    /// Use is read at the next whole multiple of the time between two readings.
    pub(in crate::sim) fn plan_reading(&mut self) {
        let Some(rules) = self.scenario.cpu_use else { return };
        let every_ms = rules.every_s.saturating_mul(1000);
        let next = (self.world.now().millis() / every_ms + 1).saturating_mul(every_ms);
        self.put(Moment::of_millis(next), Planned::ReadUse);
    }

    pub(in crate::sim) fn read_use(&mut self) {
        if self.ending {
            return;
        }
        self.world.read_use();
        self.tell(Event::UseRead);
        self.plan_reading();
    }
}
