//! Hosts of which too much is wanted.

use nova_core::domain::{HostState, ResourceKind, Slot};

use crate::sim::{Move, Place, Planner, VmKey, World};

/// Moves VMs off hosts whose VMs want to use more than a share of the CPUs: of those that are
/// enough the one with the least memory or, where none alone is, the one that uses most and then
/// the next; each to the host with room that is busiest without getting above the share too. It
/// does nothing where [use](crate::sim::CpuUse) is not measured.
///
/// This is dynamic consolidation by a threshold with the minimum migration time, after Beloglazov
/// and Buyya (2012), who then also empty hosts as [`Consolidate`](super::Consolidate) does.
#[derive(Debug, Clone)]
pub struct Relieve {
    /// The share of its CPUs that is too much for a host, 0 to 1.
    pub above: f64,
}

impl Default for Relieve {
    /// Four fifths, as in the experiments of the paper.
    fn default() -> Self {
        Self { above: 0.8 }
    }
}

/// What the planner thinks of a host while it plans.
struct Draft {
    slot: Slot,
    /// CPUs: there are, and are wanted.
    has: f64,
    wants: f64,
    free: [f64; 3],
}

impl Draft {
    fn of(world: &World, slot: Slot) -> Option<Self> {
        let row: &HostState = world.hosts().at(slot)?;
        let has = f64::from(row.inventory.vcpus.total().get());
        let free = ResourceKind::ALL.map(|kind| row.free(kind));
        Some(Self { slot, has, wants: world.cpu_share(slot)? * has, free })
    }

    /// The CPUs of which more is wanted than may be.
    fn excess(&self, above: f64) -> f64 {
        self.wants - self.has * above
    }
}

/// A VM that may be moved: what it uses in CPUs, and what it takes.
struct Guest {
    vm: VmKey,
    uses: f64,
    takes: [f64; 3],
}

fn guests(world: &World, host: Slot) -> Vec<Guest> {
    let movable = world.vms_on(host).filter_map(|key| {
        let vm = world.vm(key).filter(|vm| vm.place == Place::On(host))?;
        let resources = world.resources_of(vm);
        let takes = ResourceKind::ALL.map(|kind| kind.of(&resources) as f64);
        let uses = takes[0] * f64::from(world.cpu_permille(key)?) / 1000.0;
        Some(Guest { vm: key, uses, takes })
    });
    movable.collect()
}

/// Which of them to move so that so many CPUs fewer are wanted.
fn choose(guests: &[Guest], excess: f64) -> Option<usize> {
    let by_memory = |(_, a): &(usize, &Guest), (_, b): &(usize, &Guest)| {
        a.takes[1].total_cmp(&b.takes[1]).then(b.uses.total_cmp(&a.uses))
    };
    let enough = guests.iter().enumerate().filter(|(_, guest)| guest.uses >= excess);
    let most = || {
        guests
            .iter()
            .enumerate()
            .filter(|(_, guest)| guest.uses > 0.0)
            .min_by(|(_, a), (_, b)| b.uses.total_cmp(&a.uses))
    };
    enough.min_by(by_memory).or_else(most).map(|(at, _)| at)
}

impl Planner for Relieve {
    fn plan(&mut self, world: &World, moves_max: usize) -> Vec<Move> {
        let slots = world
            .hosts()
            .slots()
            .filter(|slot| world.hosts().at(*slot).is_some_and(HostState::is_open));
        let mut hosts: Vec<Draft> = slots.filter_map(|slot| Draft::of(world, slot)).collect();
        let mut busiest: Vec<usize> =
            (0..hosts.len()).filter(|at| hosts[*at].excess(self.above) > 0.0).collect();
        busiest
            .sort_by(|a, b| hosts[*b].excess(self.above).total_cmp(&hosts[*a].excess(self.above)));
        let mut moves = Vec::new();
        for source in busiest {
            let mut left = guests(world, hosts[source].slot);
            while moves.len() < moves_max && hosts[source].excess(self.above) > 0.0 {
                let Some(chosen) = choose(&left, hosts[source].excess(self.above)) else { break };
                let guest = left.swap_remove(chosen);
                let goal = hosts
                    .iter()
                    .enumerate()
                    .filter(|(at, host)| {
                        let fits = host.free.iter().zip(guest.takes).all(|(free, it)| *free >= it);
                        *at != source && fits && host.excess(self.above) + guest.uses <= 0.0
                    })
                    .max_by(|(a, x), (b, y)| {
                        (x.wants / x.has).total_cmp(&(y.wants / y.has)).then(b.cmp(a))
                    })
                    .map(|(at, _)| at);
                let Some(goal) = goal else { continue };
                for (at, sign) in [(source, -1.0), (goal, 1.0)] {
                    hosts[at].wants += sign * guest.uses;
                    hosts[at].free.iter_mut().zip(guest.takes).for_each(|(f, it)| *f -= sign * it);
                }
                moves.push(Move { vm: guest.vm, to: hosts[goal].slot });
            }
        }
        moves
    }
}
