//! Room for what is more important.

use nova_core::domain::{Resources, Slot};

use super::event::PutOff;
use super::simulation::{Simulation, SimulationError};
use super::waiting::Unit;
use super::{Place, VmKey};

/// Who would have to go from a host: the fewer the better, then the less important.
type Cost = (usize, u64);

impl Simulation<'_> {
    /// Puts less important VMs off one host, so that a more important one gets it; whether it did.
    /// A gang puts nobody off.
    pub(super) fn preempt_for(&mut self, unit: &Unit) -> Result<bool, SimulationError> {
        let (Some(rule), [vm]) = (self.scenario.preemption, &unit[..]) else { return Ok(false) };
        let vm = *vm;
        let Some(known) = self.world.vm(vm) else { return Ok(false) };
        let Some(below) = known.priority.checked_sub(rule.priority_gap) else { return Ok(false) };
        let wanted = self.world.resources_of(known);
        let mut hosts: Vec<(Cost, Slot, Vec<VmKey>)> = Vec::new();
        for host in self.world.hosts().slots() {
            if let Some(victims) = self.victims(host, below, &wanted) {
                let priorities = victims.iter().filter_map(|vm| self.world.vm(*vm));
                let sum = priorities.map(|vm| u64::from(vm.priority)).sum();
                hosts.push(((victims.len(), sum), host, victims));
            }
        }
        // By cost, then in the order of ids, in which they were looked at.
        hosts.sort_by_key(|(cost, _, _)| *cost);
        for (_, host, victims) in hosts.into_iter().take(rule.hosts_tried) {
            victims.iter().for_each(|victim| self.world.release(*victim, host));
            let found = self.find_at(vm, host);
            victims.iter().for_each(|victim| self.world.claim(*victim, host));
            if found? {
                self.counts.preemptions += 1;
                // All of them leave before the first asks for another host.
                for victim in &victims {
                    self.evict(*victim, PutOff::Preemption);
                }
                self.world.claim(vm, host);
                self.has_come(vm, host);
                for victim in victims {
                    self.ask_again(victim)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The VMs of at most this priority that would have to leave a host so that there is room for
    /// `wanted`; none where that is not enough.
    fn victims(&self, host: Slot, below: u8, wanted: &Resources) -> Option<Vec<VmKey>> {
        let row = self.world.hosts().at(host)?;
        let lacks = |freed: Resources| {
            row.inventory.lacks(&row.used().saturating_sub(freed), wanted).is_some()
        };
        let mut candidates: Vec<(u8, std::cmp::Reverse<u64>, VmKey, Resources)> = self
            .world
            .vms_on(host)
            .filter_map(|key| {
                let vm = self.world.vm(key)?;
                let stays = vm.priority > below || vm.place != Place::On(host);
                let takes = self.world.resources_of(vm);
                (!stays).then_some((vm.priority, std::cmp::Reverse(vm.order), key, takes))
            })
            .collect();
        // The least important go first, of those the latest.
        candidates.sort_unstable_by_key(|(priority, order, _, _)| (*priority, *order));
        let (mut freed, mut victims) = (Resources::ZERO, Vec::new());
        for (_, _, key, takes) in candidates {
            if !lacks(freed) {
                break;
            }
            freed = freed.saturating_add(takes);
            victims.push((key, takes));
        }
        if lacks(freed) || victims.is_empty() {
            return None;
        }
        // Some may not be needed after those that followed; the most important stay if they can.
        let mut at = victims.len();
        while at > 0 {
            at -= 1;
            let without = freed.saturating_sub(victims[at].1);
            if !lacks(without) {
                freed = without;
                victims.remove(at);
            }
        }
        Some(victims.into_iter().map(|(key, _)| key).collect())
    }
}
