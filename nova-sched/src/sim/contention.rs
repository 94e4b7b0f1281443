//! Several schedulers at work on the same hosts, each on what it saw a while ago.
//!
//! Each has a desk: a queue of requests, and a copy of the table of hosts that is brought up to
//! date at regular times. A decision takes time; when it is made, the room is claimed on the hosts
//! as they are. Where it is gone, that is a conflict: the desk learns how those hosts are, and tries
//! again.

use std::collections::VecDeque;

use nova_core::domain::{HostTable, Slot, TableRevision};
use smallvec::SmallVec;

use super::event::{Event, Refused};
use super::placing::Question;
use super::scenario::Several;
use super::simulation::{Planned, Simulation, SimulationError, Tenure};
use super::waiting::Unit;
use super::world::World;

/// The desks of all schedulers.
#[derive(Debug)]
pub(super) struct Desks {
    rules: Several,
    desks: Vec<Desk>,
    next: usize,
}

#[derive(Debug)]
struct Desk {
    view: HostTable,
    /// Up to where the view knows what changed.
    seen: TableRevision,
    queue: VecDeque<Case>,
    /// What it is deciding, and what it chose; none where it found no hosts.
    current: Option<(Case, Option<Chosen>)>,
    syncs: bool,
}

/// A host for each VM.
type Chosen = Vec<(Tenure, Slot)>;

#[derive(Debug)]
struct Case {
    /// By tenure: some may leave while they are here, and their keys be given to others.
    vms: SmallVec<[Tenure; 1]>,
    conflicts: u32,
}

impl Desks {
    pub(super) fn new(world: &World, rules: Several) -> Self {
        let desk = |_| Desk {
            view: world.hosts().clone(),
            seen: world.hosts().revision(),
            queue: VecDeque::new(),
            current: None,
            syncs: false,
        };
        Self { rules, desks: (0..rules.count).map(desk).collect(), next: 0 }
    }
}

impl Desk {
    /// Sees the hosts as they are.
    fn catch_up(&mut self, hosts: &HostTable) {
        match hosts.changed_since(self.seen) {
            Some(changed) => {
                let mut slots: Vec<Slot> = changed.collect();
                slots.sort_unstable();
                slots.dedup();
                slots.into_iter().for_each(|slot| self.look_at(hosts, slot));
            }
            // So much has changed that the log has forgotten the first of it.
            None => hosts.slots().for_each(|slot| self.look_at(hosts, slot)),
        }
        self.seen = hosts.revision();
    }

    fn look_at(&mut self, hosts: &HostTable, slot: Slot) {
        if let Some(row) = hosts.at(slot) {
            self.view.update_at(slot, |seen| seen.clone_from(row));
        }
    }
}

impl Simulation<'_> {
    /// Requests go to the desks in turn.
    pub(super) fn hand_in(&mut self, unit: Unit) {
        // Those that are to leave do not stay for the sake of a queue.
        unit.iter().for_each(|vm| self.plan_departure(*vm));
        let vms = unit.iter().filter_map(|vm| self.tenure(*vm)).collect();
        let Some(desks) = &mut self.desks else { return };
        let at = desks.next;
        desks.next = (at + 1) % desks.desks.len();
        let desk = &mut desks.desks[at];
        let idle = desk.queue.is_empty() && desk.current.is_none();
        desk.queue.push_back(Case { vms, conflicts: 0 });
        let (starts, sync_ms) = (!std::mem::replace(&mut desk.syncs, true), desks.rules.sync_ms);
        let now = self.world.now();
        if starts {
            desk.catch_up(self.world.hosts());
            self.put(now.after_millis(sync_ms), Planned::Sync(at as u32));
        }
        if idle {
            self.put(now, Planned::Decide(at as u32));
        }
    }

    /// A view is brought up to date.
    pub(super) fn sync(&mut self, at: u32) {
        let Some(desks) = &mut self.desks else { return };
        let (desk, sync_ms) = (&mut desks.desks[at as usize], desks.rules.sync_ms);
        desk.catch_up(self.world.hosts());
        desk.syncs = !self.ending || !desk.queue.is_empty() || desk.current.is_some();
        if desk.syncs {
            self.put(self.world.now().after_millis(sync_ms), Planned::Sync(at));
        }
    }

    /// A desk takes the next request of its queue and decides on its view.
    pub(super) fn decide(&mut self, at: u32) -> Result<(), SimulationError> {
        let Some(desks) = &mut self.desks else { return Ok(()) };
        let desk = &mut desks.desks[at as usize];
        let Some(case) = desk.queue.pop_front() else { return Ok(()) };
        let scheduler = self.schedulers[at as usize % self.schedulers.len()];
        let mut chosen: Option<Chosen> = Some(Vec::new());
        for tenure in &case.vms {
            // Those that left while they waited here are gone.
            let Some(known) = tenure.of(&self.world).cloned() else { continue };
            let amount = self.world.resources_of(&known);
            let (_, request) = self.world.question(&known);
            let mut question = Question {
                scheduler,
                hosts: &desk.view,
                request,
                stopwatch: self.stopwatch.as_ref(),
                latency: &mut self.counts.latency,
                tells_ends: self.scenario.foresight.is_some(),
            };
            let host = question.ask(&known, self.draws.seed())?;
            self.counts.decisions += 1;
            match (host, &mut chosen) {
                (Some(host), Some(hosts)) => {
                    let instance = super::vm::instance_of(known.number);
                    desk.view.update_at(host, |row| row.claim(instance, amount));
                    hosts.push((*tenure, host));
                }
                _ => {
                    // What it had chosen for the others is not taken after all.
                    for (_, host) in chosen.take().into_iter().flatten() {
                        desk.look_at(self.world.hosts(), host);
                    }
                    break;
                }
            }
        }
        desk.current = Some((case, chosen));
        let ready = self.world.now().after_millis(desks.rules.decision_ms);
        self.put(ready, Planned::Commit(at));
        Ok(())
    }

    /// A desk has decided: the room is claimed, if it is still there.
    pub(super) fn commit(&mut self, at: u32) -> Result<(), SimulationError> {
        let Some(desks) = &mut self.desks else { return Ok(()) };
        let retries = desks.rules.retries;
        let desk = &mut desks.desks[at as usize];
        let Some((mut case, chosen)) = desk.current.take() else { return Ok(()) };
        let more = !desk.queue.is_empty();
        let Some(chosen) = chosen else {
            self.next_case(at, more);
            let unit = self.still_here(&case);
            // Whoever is put off is seen on the hosts as they are, not on the view.
            if self.preempt_for(&unit)? {
                return Ok(());
            }
            self.explain_refusal(&unit);
            self.found_none(unit, Refused::NoHost);
            return Ok(());
        };
        let hosts: Vec<Slot> = chosen.iter().map(|(_, host)| *host).collect();
        // What is claimed for some of a gang only was never in use.
        let meters = self.world.meters.clone();
        let mut taken = Vec::new();
        let mut conflict = None;
        for (tenure, host) in &chosen {
            let Some(vm) = self.still(*tenure) else { continue };
            let Some(known) = self.world.vm(vm) else { continue };
            let amount = self.world.resources_of(known);
            let row = self.world.hosts().at(*host);
            if row.is_none_or(|row| !row.is_open() || row.lacks(&amount).is_some()) {
                conflict = Some((vm, *host));
                break;
            }
            self.world.claim(vm, *host);
            taken.push((vm, *host));
        }
        let Some((vm, host)) = conflict else {
            self.next_case(at, more);
            taken.into_iter().for_each(|(vm, host)| self.has_come(vm, host));
            self.see_again(at, &hosts);
            return Ok(());
        };
        taken.into_iter().for_each(|(vm, host)| self.world.release(vm, host));
        self.world.meters = meters;
        self.counts.conflicts += 1;
        self.tell(Event::Conflict { vm, host, scheduler: at as usize });
        self.see_again(at, &hosts);
        case.conflicts += 1;
        if case.conflicts > retries {
            self.next_case(at, more);
            let unit = self.still_here(&case);
            self.found_none(unit, Refused::Conflicts);
        } else if let Some(desks) = &mut self.desks {
            desks.desks[at as usize].queue.push_front(case);
            self.next_case(at, true);
        }
        Ok(())
    }

    /// Of those that a case is of, the ones that have not left.
    fn still_here(&self, case: &Case) -> Unit {
        case.vms.iter().filter_map(|tenure| self.still(*tenure)).collect()
    }

    /// A desk looks at the hosts that it has just dealt with.
    fn see_again(&mut self, at: u32, hosts: &[Slot]) {
        let Some(desks) = &mut self.desks else { return };
        for host in hosts {
            desks.desks[at as usize].look_at(self.world.hosts(), *host);
        }
    }

    fn next_case(&mut self, at: u32, more: bool) {
        if more {
            self.put(self.world.now(), Planned::Decide(at));
        }
    }
}
