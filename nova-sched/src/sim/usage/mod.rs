//! How much of their vCPUs VMs use, and what becomes of it on hosts that promised more than they
//! have.

mod courses;
mod load;
mod reading;

use std::sync::Arc;

use nova_core::domain::{HostTable, Invalid, Slot};
use nova_core::seed::Seed;

use super::event::Event;
use super::meter::Meter;
use super::range::within;
use super::trace::TraceRow;
use super::{Moment, VmKey, World};

pub(crate) use courses::Course;
pub use courses::{Courses, Follow};
use load::{Guest, Load};

/// What VMs use of their vCPUs, where a scenario measures it.
///
/// A VM follows its [course](Courses) where it has one; otherwise it uses the share that the trace
/// tells, or [`untold_permille`](Self::untold_permille). A vCPU that is used up takes one CPU of
/// its host. Use is read every [`every_s`](Self::every_s), at the whole multiples of it, and when a
/// VM gets on a host; between that it does not change. A migrating VM uses the CPU of the host on
/// which it runs. Of what is on the hosts besides the trace, no use is known.
///
/// Where it is measured, the power of hosts follows what is used and not what is claimed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuUse {
    /// Seconds between two readings; 1 to a day.
    pub every_s: u64,
    /// What a VM uses of which nothing is told, in thousandths; 0 to 1000.
    pub untold_permille: u16,
    /// The share of a VM's use that is lost while it migrates; 0 to 1.
    pub lost_in_moves: f64,
    /// Whether hosts tell their use, in percent, as the metric [`CPU_PERCENT`] of their reports, at
    /// each reading: what weighers and filters of metrics see.
    pub tells_hosts: bool,
}

impl Default for CpuUse {
    /// Five minutes, everything, and the tenth that Beloglazov and Buyya (2012) found.
    fn default() -> Self {
        let untold_permille = TraceRow::PERMILLE_MAX;
        Self { every_s: 300, untold_permille, lost_in_moves: 0.1, tells_hosts: false }
    }
}

/// The metric of a host's report that has the percent of its CPUs that are used; Nova's name.
pub const CPU_PERCENT: &str = "cpu.percent";

impl CpuUse {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        within("cpu_use.every_s", self.every_s, 1..=86_400, "1 to 86400")?;
        let untold = 0..=TraceRow::PERMILLE_MAX;
        within("cpu_use.untold_permille", self.untold_permille, untold, "0 to 1000")?;
        within("cpu_use.lost_in_moves", self.lost_in_moves, 0.0..=1.0, "0 to 1")
    }
}

/// What was used, and what was wanted and not there.
///
/// The three of service are those of Beloglazov and Buyya, "Optimal online deterministic algorithms
/// and adaptive heuristics for energy and performance efficient dynamic consolidation of virtual
/// machines in Cloud data centers" (2012): SLATAH, PDM and their product SLAV.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct CpuUsed {
    /// The CPUs that VMs would have used on average, had they been there.
    pub mean_wanted: f64,
    /// The most that they wanted at any time.
    pub peak_wanted: f64,
    /// Of the CPUs of the hosts in use the share that was used on average, 0 to 1.
    pub of_hosts_in_use: f64,
    /// Of what was wanted the share that was not there, 0 to 1.
    pub unserved_share: f64,
    /// Hosts of which more was wanted than they have, on average.
    pub mean_overloaded_hosts: f64,
    /// The most of them at any time.
    pub peak_overloaded_hosts: u64,
    /// SLATAH: the share of its time in use for which a host was overloaded, 0 to 1; the mean over
    /// all hosts that were in use.
    pub overloaded_share: f64,
    /// PDM: the share of the CPU time that a VM wanted which migrations cost it, 0 to 1; the mean
    /// over all VMs that wanted any.
    pub lost_in_moves: f64,
    /// SLAV: the product of the two.
    pub sla_violation: f64,
}

/// Who uses how much where.
#[derive(Debug)]
pub(crate) struct Usage {
    rules: CpuUse,
    courses: Option<(Arc<Courses>, Follow)>,
    seed: Seed,
    /// By key.
    guests: Vec<Option<Guest>>,
    /// By slot.
    hosts: Vec<Load>,
    /// The sums over all hosts.
    all: Sums,
    /// The same over time, as they were when everything of a moment had been taken in.
    wanted: Meter,
    served: Meter,
    in_use: Meter,
    overloaded: Meter,
    /// VMs that have left: how many wanted any CPU, and the shares that migrations cost them.
    left: (u64, f64),
}

/// Sums over all hosts: thousandths of CPUs that are wanted, that are used, and that hosts in use
/// have; and how many hosts are overloaded.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    wanted: u64,
    served: u64,
    in_use: u64,
    overloaded: u64,
}

impl Usage {
    pub(crate) fn new(rules: CpuUse, hosts: &HostTable, seed: Seed) -> Self {
        let mut loads = vec![Load::default(); hosts.slots_end()];
        for slot in hosts.slots() {
            let cpus = hosts.at(slot).map_or(0, |row| row.inventory.vcpus.total().get());
            loads[slot.index()] = Load::new(cpus);
        }
        Self {
            rules,
            courses: None,
            seed,
            guests: Vec::new(),
            hosts: loads,
            all: Sums::default(),
            wanted: Meter::default(),
            served: Meter::default(),
            in_use: Meter::default(),
            overloaded: Meter::default(),
            left: (0, 0.0),
        }
    }

    pub(crate) fn rules(&self) -> &CpuUse {
        &self.rules
    }

    pub(crate) fn follow(&mut self, courses: Arc<Courses>, follow: Follow) {
        self.courses = Some((courses, follow));
    }

    /// Forgets what was before `at`.
    pub(crate) fn start(&mut self, at: Moment) {
        for meter in [&mut self.wanted, &mut self.served, &mut self.in_use, &mut self.overloaded] {
            meter.start(at);
        }
        self.hosts.iter_mut().for_each(|load| load.start(at));
    }

    /// Something happened; the hosts of which another share may be used now.
    pub(crate) fn saw(&mut self, world: &World, event: &Event) -> [Option<Slot>; 2] {
        let touched = self.take_in(world, event);
        self.measure(world.now());
        touched
    }

    fn take_in(&mut self, world: &World, event: &Event) -> [Option<Slot>; 2] {
        match *event {
            Event::Placed { vm, host } => self.put_on(world, vm, host),
            Event::Departed { vm, .. } | Event::PutOff { vm, .. } => self.take_off(world, vm),
            Event::Resized { vm, to, .. } => {
                let [from, _] = self.take_off(world, vm);
                let [_, to] = self.put_on(world, vm, to);
                [from, to]
            }
            Event::MoveBegan { vm, .. } => {
                self.change(world.now(), vm, |guest| guest.moves = true);
                [None; 2]
            }
            Event::MoveEnded { vm, to, arrived, .. } => {
                let on = |guest: &mut Guest| {
                    guest.moves = false;
                    guest.on = if arrived { Some(to) } else { guest.on };
                };
                self.change(world.now(), vm, on)
            }
            _ => [None; 2],
        }
    }

    /// A VM gets on a host.
    fn put_on(&mut self, world: &World, vm: VmKey, host: Slot) -> [Option<Slot>; 2] {
        let Some(known) = world.vm(vm) else { return [None; 2] };
        let place = vm.0 as usize;
        if self.guests.len() <= place {
            self.guests.resize_with(place + 1, || None);
        }
        if self.guests[place].as_ref().is_none_or(|guest| guest.born != known.born) {
            // Whoever had the key before has left without having been on a host in the end.
            self.forget(place);
            let followed = self
                .courses
                .as_ref()
                .and_then(|(courses, follow)| courses.followed(known.number, *follow, &self.seed));
            let told = known.cpu_permille.unwrap_or(self.rules.untold_permille);
            let course = followed.unwrap_or(Course::Constant(told));
            self.guests[place] = Some(Guest::new(known, course));
        }
        let (vcpus, now) = (world.resources_of(known).vcpus.get(), world.now());
        let permille = self.permille(place, now);
        self.change(now, vm, |guest| {
            (guest.on, guest.vcpus) = (Some(host), vcpus);
            guest.permille = permille;
        })
    }

    /// A VM leaves its host, perhaps for good.
    fn take_off(&mut self, world: &World, vm: VmKey) -> [Option<Slot>; 2] {
        self.change(world.now(), vm, |guest| (guest.on, guest.moves) = (None, false))
    }

    /// The thousandths that a VM uses at a moment.
    fn permille(&self, place: usize, now: Moment) -> u16 {
        let Some(Some(guest)) = self.guests.get(place) else { return 0 };
        match (guest.course, &self.courses) {
            (Course::Constant(permille), _) => permille,
            (Course::Along { at, from }, Some((courses, _))) => {
                courses.at(at, from, now.millis_since(guest.arrived))
            }
            (Course::Along { .. }, None) => 0,
        }
    }

    /// Changes a VM; the host on which it was and the one on which it is.
    fn change(
        &mut self,
        now: Moment,
        vm: VmKey,
        change: impl FnOnce(&mut Guest),
    ) -> [Option<Slot>; 2] {
        let Some(Some(guest)) = self.guests.get_mut(vm.0 as usize) else { return [None; 2] };
        guest.pass(now);
        let (from, gave) = (guest.on, guest.wants());
        change(guest);
        let (to, gives) = (guest.on, guest.wants());
        if let Some(from) = from {
            self.load(now, from, |load| load.leave(gave));
        }
        if let Some(to) = to {
            self.load(now, to, |load| load.join(gives));
        }
        [from, to]
    }

    /// Changes what is wanted of a host.
    fn load(&mut self, now: Moment, host: Slot, change: impl FnOnce(&mut Load)) {
        let Some(load) = self.hosts.get_mut(host.index()) else { return };
        load.pass(now);
        let before = *load;
        change(load);
        let shift = |sum: &mut u64, before: u64, after: u64| {
            *sum = (*sum + after).saturating_sub(before);
        };
        shift(&mut self.all.wanted, before.wanted, load.wanted);
        shift(&mut self.all.served, before.served(), load.served());
        shift(&mut self.all.in_use, before.in_use(), load.in_use());
        let [was, is] = [before, *load].map(|load| u64::from(load.is_overloaded()));
        shift(&mut self.all.overloaded, was, is);
    }

    /// Takes the sums down. What they are between two changes of one moment never was.
    fn measure(&mut self, now: Moment) {
        self.wanted.set(now, self.all.wanted);
        self.served.set(now, self.all.served);
        self.in_use.set(now, self.all.in_use);
        self.overloaded.set(now, self.all.overloaded);
    }

    /// Reads what every VM uses now.
    pub(crate) fn read(&mut self, now: Moment) {
        for place in 0..self.guests.len() {
            let Some(Some(Guest { on: Some(_), .. })) = self.guests.get(place) else { continue };
            let permille = self.permille(place, now);
            self.change(now, VmKey(place as u32), |guest| guest.permille = permille);
        }
        self.measure(now);
    }

    /// The VM at a place is gone.
    fn forget(&mut self, place: usize) {
        if let Some(guest) = self.guests.get_mut(place).and_then(Option::take)
            && let Some(share) = guest.lost_in_moves(self.rules.lost_in_moves)
        {
            self.left = (self.left.0 + 1, self.left.1 + share);
        }
    }

    /// What is wanted of a host, in thousandths of its CPUs.
    pub(crate) fn wanted_of(&self, host: Slot) -> u64 {
        self.hosts.get(host.index()).map_or(0, |load| load.wanted)
    }

    /// What all VMs want, in thousandths of a CPU.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.now()
    }

    pub(crate) fn overloaded_hosts(&self) -> u64 {
        self.overloaded.now()
    }

    /// What a VM that has had a host uses of its vCPUs, in thousandths, and what it follows: the
    /// number of the VM whose course it is, and the sample with which it began.
    pub(crate) fn of(&self, vm: VmKey, born: u32) -> Option<(u16, Option<(u64, usize)>)> {
        let guest = self.guests.get(vm.0 as usize)?.as_ref().filter(|guest| guest.born == born)?;
        let followed = match (guest.course, &self.courses) {
            (Course::Along { at, from }, Some((courses, _))) => Some((courses.vm_of(at)?, from)),
            _ => None,
        };
        Some((guest.permille, followed))
    }

    /// What came out over `millis` up to `now`.
    pub(crate) fn used(&mut self, now: Moment, millis: u64) -> CpuUsed {
        let (mut vms, mut shares) = self.left;
        for guest in self.guests.iter_mut().flatten() {
            guest.pass(now);
            if let Some(share) = guest.lost_in_moves(self.rules.lost_in_moves) {
                (vms, shares) = (vms + 1, shares + share);
            }
        }
        self.hosts.iter_mut().for_each(|load| load.pass(now));
        let overloaded: Vec<f64> = self.hosts.iter().filter_map(Load::overloaded_share).collect();
        let mean = |sum: f64, count: u64| if count > 0 { sum / count as f64 } else { 0.0 };
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let (wanted, served) = (self.wanted.mean(now, millis), self.served.mean(now, millis));
        let overloaded_share =
            mean(overloaded.iter().fold(0.0, |sum, share| sum + share), overloaded.len() as u64);
        let lost_in_moves = mean(shares, vms);
        CpuUsed {
            mean_wanted: wanted / 1000.0,
            peak_wanted: self.wanted.peak() as f64 / 1000.0,
            of_hosts_in_use: ratio(served, self.in_use.mean(now, millis)),
            unserved_share: ratio(wanted - served, wanted),
            mean_overloaded_hosts: self.overloaded.mean(now, millis),
            peak_overloaded_hosts: self.overloaded.peak(),
            overloaded_share,
            lost_in_moves,
            sla_violation: overloaded_share * lost_in_moves,
        }
    }
}
