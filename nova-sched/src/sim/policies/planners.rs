//! Who moves VMs.

use nova_core::domain::{HostState, ResourceKind, Resources, Slot};

use crate::sim::{Move, Place, Planner, VmKey, World};

/// Empties the hosts with the fewest VMs by moving them to the fullest that have room, a host at a
/// time, and only whole hosts; it stops before the fullest host could no longer fail.
#[derive(Debug, Clone)]
pub struct Consolidate {
    /// Hosts whose share of claimed vCPUs is above this are left alone, 0 to 1.
    pub below: f64,
    /// Whether what is free on the hosts in use must stay enough for the VMs of the fullest host.
    pub keeps_spare: bool,
}

impl Default for Consolidate {
    /// Hosts that are at most half full, and one may fail.
    fn default() -> Self {
        Self { below: 0.5, keeps_spare: true }
    }
}

/// Moves VMs off the hosts that lack the least for one more VM of the largest shape, so that it finds
/// room: as long as fewer than `wanted` hosts could take it.
#[derive(Debug, Clone)]
pub struct Defragment {
    /// So many hosts should be able to take the largest shape that came so far.
    pub wanted: usize,
}

/// What a planner thinks that hosts have, while it plans.
struct Draft {
    hosts: Vec<Room>,
}

struct Room {
    slot: Slot,
    free: [f64; 3],
    used: [f64; 3],
    vms: usize,
}

/// A VM, what it takes, and the host of a draft that it is thought to be on.
type Shifted = (VmKey, [f64; 3], usize);

const KINDS: [ResourceKind; 3] = ResourceKind::ALL;

fn amounts(resources: &Resources) -> [f64; 3] {
    KINDS.map(|kind| kind.of(resources) as f64)
}

impl Draft {
    fn of(world: &World) -> Self {
        let open = |row: &&HostState| row.is_open();
        let slots = world.hosts().slots();
        let rows = slots.filter_map(|slot| Some((slot, world.hosts().at(slot).filter(open)?)));
        let hosts = rows.map(|(slot, row)| Room {
            slot,
            free: KINDS.map(|kind| row.free(kind)),
            used: amounts(row.used()),
            vms: row.instance_count(),
        });
        Self { hosts: hosts.collect() }
    }

    /// The fullest host in use that has room, but for one.
    fn fullest(&self, wanted: &[f64; 3], but: usize) -> Option<usize> {
        let fits = |host: &Room| host.free.iter().zip(wanted).all(|(free, want)| free >= want);
        let candidates = self.hosts.iter().enumerate();
        candidates
            .filter(|(at, host)| *at != but && host.vms > 0 && fits(host))
            .min_by(|(_, a), (_, b)| a.free[0].total_cmp(&b.free[0]))
            .map(|(at, _)| at)
    }

    fn shift(&mut self, amount: &[f64; 3], from: usize, to: usize) {
        for (at, sign) in [(from, -1.0), (to, 1.0)] {
            let host = &mut self.hosts[at];
            for (kind, amount) in amount.iter().enumerate() {
                host.used[kind] += sign * amount;
                host.free[kind] -= sign * amount;
            }
        }
        self.hosts[from].vms = self.hosts[from].vms.saturating_sub(1);
        self.hosts[to].vms += 1;
    }

    /// The moves that were thought of.
    fn moves(&self, shifted: Vec<Shifted>) -> impl Iterator<Item = Move> {
        shifted.into_iter().map(|(vm, _, to)| Move { vm, to: self.hosts[to].slot })
    }

    /// What was thought of is not done.
    fn shift_back(&mut self, shifted: Vec<Shifted>, source: usize) {
        for (_, amount, to) in shifted {
            self.shift(&amount, to, source);
        }
    }

    /// Whether the hosts in use have as much free, by the sum, as the fullest of them uses.
    fn has_spare(&self) -> bool {
        (0..3).all(|kind| {
            let in_use = || self.hosts.iter().filter(|host| host.vms > 0);
            let fullest = in_use().max_by(|a, b| a.used[kind].total_cmp(&b.used[kind]));
            let Some(fullest) = fullest else { return true };
            let free: f64 = in_use().map(|host| host.free[kind]).sum();
            free - fullest.free[kind] >= fullest.used[kind]
        })
    }
}

/// The VMs of a host, the largest first; none when one of them cannot be moved now.
fn movable(world: &World, host: Slot) -> Option<Vec<(VmKey, [f64; 3])>> {
    let mut vms = Vec::new();
    for key in world.vms_on(host) {
        let vm = world.vm(key).filter(|vm| vm.place == Place::On(host))?;
        vms.push((key, amounts(&world.resources_of(vm))));
    }
    // Those of equal size stay in the order of their numbers.
    vms.sort_by(|(_, a), (_, b)| b[0].total_cmp(&a[0]).then(b[1].total_cmp(&a[1])));
    Some(vms)
}

impl Planner for Consolidate {
    fn plan(&mut self, world: &World, moves_max: usize) -> Vec<Move> {
        let mut draft = Draft::of(world);
        let share = |host: &Room| host.used[0] / (host.used[0] + host.free[0]).max(1.0);
        let mut sources: Vec<usize> = (0..draft.hosts.len())
            .filter(|at| draft.hosts[*at].vms > 0 && share(&draft.hosts[*at]) <= self.below)
            .collect();
        sources.sort_by(|a, b| draft.hosts[*a].used[0].total_cmp(&draft.hosts[*b].used[0]));
        let mut moves = Vec::new();
        for source in sources {
            let slot = draft.hosts[source].slot;
            let Some(vms) = movable(world, slot) else { continue };
            // Others are on their way to it by now, or are none of ours: it would not be empty.
            let all = vms.len() == draft.hosts[source].vms;
            if !all || moves.len() + vms.len() > moves_max {
                continue;
            }
            let mut shifted: Vec<Shifted> = Vec::new();
            for (vm, amount) in &vms {
                let Some(to) = draft.fullest(amount, source) else { break };
                draft.shift(amount, source, to);
                shifted.push((*vm, *amount, to));
            }
            if shifted.len() == vms.len() && (!self.keeps_spare || draft.has_spare()) {
                moves.extend(draft.moves(shifted));
                continue;
            }
            draft.shift_back(shifted, source);
            if self.keeps_spare && !draft.has_spare() {
                break;
            }
        }
        moves
    }
}

impl Planner for Defragment {
    fn plan(&mut self, world: &World, moves_max: usize) -> Vec<Move> {
        let largest = world.shapes_that_came().map(|shape| shape.resources);
        let Some(largest) = largest.max_by_key(|takes| (takes.vcpus, takes.memory)) else {
            return Vec::new();
        };
        let wanted = amounts(&largest);
        let mut draft = Draft::of(world);
        let takes = |host: &Room| host.free.iter().zip(&wanted).all(|(free, want)| free >= want);
        let mut ready = draft.hosts.iter().filter(|host| takes(host)).count();
        let mut sources: Vec<usize> =
            (0..draft.hosts.len()).filter(|at| !takes(&draft.hosts[*at])).collect();
        sources.sort_by(|a, b| draft.hosts[*b].free[0].total_cmp(&draft.hosts[*a].free[0]));
        let mut moves = Vec::new();
        for source in sources {
            if ready >= self.wanted || moves.len() >= moves_max {
                break;
            }
            let Some(vms) = movable(world, draft.hosts[source].slot) else { continue };
            let mut shifted: Vec<Shifted> = Vec::new();
            // The smallest first: they find room most easily.
            for (vm, amount) in vms.iter().rev() {
                if takes(&draft.hosts[source]) || moves.len() + shifted.len() >= moves_max {
                    break;
                }
                let Some(to) = draft.fullest(amount, source) else { break };
                // No room is made here by taking it there.
                if takes(&draft.hosts[to]) {
                    continue;
                }
                draft.shift(amount, source, to);
                shifted.push((*vm, *amount, to));
            }
            if takes(&draft.hosts[source]) {
                ready += 1;
                moves.extend(draft.moves(shifted));
            } else {
                draft.shift_back(shifted, source);
            }
        }
        moves
    }
}
