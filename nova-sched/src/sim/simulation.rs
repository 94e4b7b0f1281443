//! Virtual time: what is planned, and what comes.

use std::sync::Arc;

use nova_core::domain::{HostId, Invalid, Slot};
use nova_core::port::Scheduler;
use nova_core::seed::{Chance, Seed};

use super::agenda::Agenda;
use super::asking::Asking;
use super::cluster::{Cluster, Leaving};
use super::contention::Desks;
use super::counts::Counts;
use super::event::{Event, PutOff, Refused, Watcher};
use super::maintenance::Window;
use super::moving::Planner;
use super::report::{Report, SkippedRow};
use super::sampling::Sampler;
use super::scenario::Scenario;
use super::trace::{BadRow, TraceError, TraceRow};
use super::waiting::{Line, Waits};
use super::{Courses, CpuUse, Follow, Moment, OnBadRow, Requests, Vm, VmKey, World};

/// A simulation cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// The trace cannot be read on.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A rule of the scenario is out of range.
    #[error("the scenario: {0}")]
    Scenario(#[from] Invalid),
    /// The scheduler chose something that a scheduler may not choose.
    #[error("vm {vm}: {scheduler} chose {host:?}, which {fault}")]
    BadAnswer {
        /// The VM it was asked about.
        vm: u64,
        /// The scheduler's name.
        scheduler: String,
        /// What it chose: one host for each instance.
        host: Vec<HostId>,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// A cloud in which a trace happens.
///
/// The schedulers are those that a cloud would ask; everything else is virtual. Each simulation is
/// one thread, and the same trace, cluster, schedulers, scenario and seed give the same events.
#[derive(Debug)]
pub struct Simulation<'s> {
    pub(super) world: World,
    pub(super) schedulers: Vec<&'s dyn Scheduler>,
    pub(super) scenario: Scenario,
    pub(super) agenda: Agenda<Planned>,
    pub(super) line: Line,
    pub(super) desks: Option<Desks>,
    pub(super) windows: Vec<Window>,
    leaving: Vec<Leaving>,
    pub(super) planner: Option<&'s mut dyn Planner>,
    /// Members of a gang of which more may come.
    pub(super) gang: Vec<VmKey>,
    pub(super) counts: Counts,
    pub(super) sampler: Sampler,
    watchers: Vec<&'s mut dyn Watcher>,
    pub(super) stopwatch: Option<Stopwatch<'s>>,
    /// Chance for the schedulers' draws, one seed a question.
    pub(super) draws: Chance,
    /// Chance for failures and repairs.
    pub(super) fate: Chance,
    /// Chance for resizes: how many there are follows from who is placed, and must not move
    /// failures.
    pub(super) growth: Chance,
    /// Chance for what is expected of lifetimes.
    pub(super) foresight: Chance,
    /// Chance for the courses that VMs follow.
    use_seed: Seed,
    /// Whether something became free since the line was last looked at.
    pub(super) freed: bool,
    /// Whether the trace has ended: nothing is planned any more that would never end.
    pub(super) ending: bool,
}

/// Tells nanoseconds since some moment, for the latency of decisions.
pub struct Stopwatch<'s>(pub(super) Box<dyn Fn() -> u64 + 's>);

impl std::fmt::Debug for Stopwatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stopwatch")
    }
}

/// What will happen, but for arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planned {
    Repair(Slot),
    Depart(Tenure),
    GiveBack(u32),
    MoveEnds(Tenure),
    Fail(Slot),
    WindowBegins(u32),
    WindowNoticed(u32),
    WindowEnds(u32),
    Resize(Tenure),
    LosePatience(Tenure),
    ReadUse,
    Plan,
    Commit(u32),
    Sync(u32),
    Decide(u32),
}

impl Planned {
    /// Of what happens in one moment, the lower comes first: what makes room before what takes it.
    const fn rank(self) -> u8 {
        match self {
            Self::Repair(_) | Self::WindowEnds(_) => 0,
            Self::Depart(_) | Self::GiveBack(_) => 1,
            Self::MoveEnds(_) => 2,
            Self::Fail(_) => 3,
            // Without notice both are at once: hosts are closed before their VMs look for others.
            Self::WindowNoticed(_) => 4,
            Self::WindowBegins(_) => 5,
            Self::Resize(_) => 6,
            Self::LosePatience(_) => 7,
            Self::ReadUse => 8,
            Self::Plan => 9,
            Self::Commit(_) => 10,
            Self::Sync(_) => 11,
            Self::Decide(_) => 12,
        }
    }
}

/// One VM's time under its key; what was planned for it is void when another has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) vm: VmKey,
    born: u32,
}

impl Tenure {
    /// The VM, while it has the key.
    pub(super) fn of(self, world: &World) -> Option<&Vm> {
        world.vm(self.vm).filter(|vm| vm.born == self.born)
    }
}

impl<'s> Simulation<'s> {
    /// A simulation on `cluster`, whose hosts need not be empty, with virtual time at 0.
    ///
    /// # Errors
    /// [`SimulationError::Scenario`] when a rule is out of range.
    pub fn new(
        cluster: impl Into<Cluster>,
        scheduler: &'s dyn Scheduler,
        scenario: Scenario,
        seed: Seed,
    ) -> Result<Self, SimulationError> {
        scenario.check()?;
        let mut cluster = cluster.into();
        let leaving = std::mem::take(&mut cluster.leaving);
        let mut world = World::new(cluster);
        if scenario.switch_off_empty_hosts {
            world.switch_off_empty_hosts();
        }
        if scenario.foresight.is_some() {
            world.tell_ends();
        }
        let seed = seed.child("simulation");
        if let Some(rules) = scenario.cpu_use {
            world.measure_use(rules, seed.child("use"));
        }
        let windows = Window::all(&world, &scenario.maintenance)?;
        let sampler = Sampler::new(&world, scenario.sample_every_s);
        let mut simulation = Self {
            desks: scenario.schedulers.map(|several| Desks::new(&world, several)),
            world,
            schedulers: vec![scheduler],
            agenda: Agenda::new(),
            line: Line::default(),
            windows,
            leaving,
            planner: None,
            gang: Vec::new(),
            counts: Counts::default(),
            sampler,
            watchers: Vec::new(),
            stopwatch: None,
            draws: seed.child("draws").chance(),
            fate: seed.child("fate").chance(),
            growth: seed.child("growth").chance(),
            foresight: seed.child("foresight").chance(),
            use_seed: seed.child("use"),
            freed: false,
            ending: false,
            scenario,
        };
        for nth in 0..simulation.leaving.len() {
            simulation.put(simulation.leaving[nth].at, Planned::GiveBack(nth as u32));
        }
        simulation.plan_windows();
        simulation.plan_failures();
        Ok(simulation)
    }

    /// Adds schedulers for [`Scenario::schedulers`]: the second asks the first of these, and so on,
    /// and who has none asks the one before it again. Each should be one of its own, since what a
    /// policy keeps is of one view.
    #[must_use]
    pub fn with_schedulers(mut self, more: impl IntoIterator<Item = &'s dyn Scheduler>) -> Self {
        self.schedulers.extend(more);
        self
    }

    /// Tells everything that happens to `watcher`, after those that were added before.
    #[must_use]
    pub fn with_watcher(mut self, watcher: &'s mut dyn Watcher) -> Self {
        self.watchers.push(watcher);
        self
    }

    /// Asks `planner` at regular times which VMs to move; see [`Scenario::planning`].
    #[must_use]
    pub fn with_planner(mut self, planner: &'s mut dyn Planner) -> Self {
        self.planner = Some(planner);
        self.put(Moment::of_seconds(self.scenario.planning.every_s), Planned::Plan);
        self
    }

    /// Lets VMs use their CPUs as `courses` say, and measures it: by the default of [`CpuUse`] where
    /// the scenario has no [rules](Scenario::cpu_use) for that.
    #[must_use]
    pub fn with_courses(mut self, courses: Arc<Courses>, follow: Follow) -> Self {
        if self.scenario.cpu_use.is_none() {
            let rules = *self.scenario.cpu_use.insert(CpuUse::default());
            self.world.measure_use(rules, self.use_seed);
        }
        self.world.follow(courses, follow);
        self
    }

    /// Lets VMs ask for what `requests` have for their numbers, and not for room only.
    ///
    /// What such a VM takes is its room all the same: PCI devices, NUMA cells and resource classes
    /// are asked for, but nothing of them is in use by it then.
    #[must_use]
    pub fn with_requests(mut self, requests: Arc<Requests>) -> Self {
        self.world.asking = Some(Asking::new(requests));
        self
    }

    /// Measures how long each decision takes in real time, with a stopwatch that tells
    /// nanoseconds. The report has it apart from what is repeatable.
    #[must_use]
    pub fn with_stopwatch(mut self, stopwatch: impl Fn() -> u64 + 's) -> Self {
        self.stopwatch = Some(Stopwatch(Box::new(stopwatch)));
        self
    }

    /// Lets the whole trace happen, then waits until everything that leaves has left.
    ///
    /// # Errors
    /// [`SimulationError`] when the trace cannot be read on, a row is bad and bad rows are
    /// refused, or the scheduler breaks a law.
    pub fn run(
        &mut self,
        trace: impl IntoIterator<Item = Result<TraceRow, TraceError>>,
    ) -> Result<Report, SimulationError> {
        for row in trace {
            match row.map_err(SimulationError::from).and_then(|row| self.come(&row)) {
                Ok(()) => {}
                Err(SimulationError::Trace(TraceError::BadRow { line, why }))
                    if self.scenario.on_bad_row == OnBadRow::Skip =>
                {
                    self.counts.skip(SkippedRow { line, why: why.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        self.close_gang()?;
        self.settle()?;
        let until = self.scenario.measure_until_s.map_or(Moment::ZERO, Moment::of_seconds);
        if until > self.world.now() && self.counts.first_arrival.is_some() {
            self.advance(until)?;
        }
        self.sampler.take(&self.world);
        let measured = self.measured();
        self.ending = true;
        // Whoever waits loses patience in the end, so that nobody is left.
        self.advance(Moment::NEVER)?;
        Ok(self.report(measured))
    }

    /// The world as it is now.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn come(&mut self, row: &TraceRow) -> Result<(), SimulationError> {
        let bad = |why| SimulationError::Trace(TraceError::BadRow { line: row.line, why });
        row.check().map_err(bad)?;
        let at = Moment::of_seconds(row.arrival_s);
        if at < self.world.now() {
            let previous_s = self.world.now().seconds();
            return Err(bad(BadRow::ArrivesBeforePrevious {
                arrival_s: row.arrival_s,
                previous_s,
            }));
        }
        let joins = row.gang.is_some()
            && at == self.world.now()
            && self.gang.last().and_then(|vm| self.world.vm(*vm)?.gang) == row.gang;
        if !joins {
            self.close_gang()?;
            self.advance(at)?;
        }
        if self.world.numbered(row.vm).is_some() {
            // Time has come here nevertheless, and is measured up to here.
            self.counts.last_arrival = Some(at);
            return Err(bad(BadRow::RunsAlready { vm: row.vm }));
        }
        let shape = self.world.shape_of(row.resources()).map_err(|invalid| bad(invalid.into()))?;
        if self.counts.first_arrival.is_none() {
            self.counts.first_arrival = Some(at);
            self.world.start(at);
            self.plan_reading();
            self.sampler.start(at);
            self.sampler.take(&self.world);
        }
        self.counts.last_arrival = Some(at);
        self.arrive(row, shape)
    }

    /// Lets everything happen that is planned up to and including `until`, and time pass.
    pub(super) fn advance(&mut self, until: Moment) -> Result<(), SimulationError> {
        loop {
            let next = self.agenda.next_at();
            // What became free in one moment is given out before the next.
            if next.is_none_or(|next| next > self.world.now()) && self.freed {
                self.settle()?;
                continue;
            }
            if next.is_none_or(|next| next > until) {
                break;
            }
            let Some((at, planned)) = self.agenda.take_until(until) else { break };
            self.pass_until(at);
            self.happen(planned)?;
        }
        if until < Moment::NEVER {
            self.pass_until(until);
        }
        Ok(())
    }

    fn pass_until(&mut self, at: Moment) {
        while let Some(due) = self.sampler.due(at).filter(|_| !self.ending) {
            self.world.set_now(due);
            self.sampler.take(&self.world);
            for watcher in &mut self.watchers {
                watcher.sampled(&self.world);
            }
        }
        self.world.set_now(at);
    }

    fn happen(&mut self, planned: Planned) -> Result<(), SimulationError> {
        match planned {
            Planned::Depart(tenure) => self.depart(tenure),
            Planned::GiveBack(nth) => self.give_back(nth),
            Planned::Repair(host) => self.repair(host),
            Planned::MoveEnds(tenure) => self.end_move(tenure),
            Planned::Fail(host) => return self.fail(host),
            Planned::WindowNoticed(window) => return self.notice_window(window),
            Planned::WindowBegins(window) => return self.begin_window(window),
            Planned::WindowEnds(window) => self.end_window(window),
            Planned::Resize(tenure) => return self.resize(tenure),
            Planned::LosePatience(tenure) => self.lose_patience(tenure),
            Planned::ReadUse => self.read_use(),
            Planned::Plan => return self.plan_moves(),
            Planned::Commit(desk) => return self.commit(desk),
            Planned::Sync(desk) => self.sync(desk),
            Planned::Decide(desk) => return self.decide(desk),
        }
        Ok(())
    }

    pub(super) fn put(&mut self, at: Moment, planned: Planned) {
        self.agenda.put(at, planned.rank(), planned);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.world.take_in(&event);
        for watcher in &mut self.watchers {
            watcher.saw(&self.world, &event);
        }
    }

    pub(super) fn tenure(&self, vm: VmKey) -> Option<Tenure> {
        self.world.vm(vm).map(|known| Tenure { vm, born: known.born })
    }

    /// The VM of a tenure, while it lasts.
    pub(super) fn still(&self, tenure: Tenure) -> Option<VmKey> {
        tenure.of(&self.world).map(|_| tenure.vm)
    }

    /// A VM reaches its end, wherever it is.
    fn depart(&mut self, tenure: Tenure) {
        let Some(vm) = self.still(tenure) else { return };
        let host = self.leave_hosts(vm);
        if self.world.vm(vm).is_some_and(|vm| vm.started) {
            self.counts.departed += 1;
            self.tell(Event::Departed { vm, host });
        } else {
            self.refuse(vm, Refused::Ended);
            return;
        }
        self.drop_vm(vm);
    }

    /// What was claimed from the beginning on is free.
    fn give_back(&mut self, nth: u32) {
        let Leaving { host, instance, .. } = self.leaving[nth as usize];
        if let Some(host) = self.world.slot(host) {
            self.world.release_instance(instance, host);
            self.freed = true;
        }
    }

    /// Puts a VM off its host against its will; it asks for another one, or is lost.
    pub(super) fn put_off(
        &mut self,
        vm: VmKey,
        why: PutOff,
        again: bool,
    ) -> Result<(), SimulationError> {
        if !self.evict(vm, why) {
            return Ok(());
        }
        if again {
            return self.ask_again(vm);
        }
        self.counts.lost += 1;
        self.drop_vm(vm);
        Ok(())
    }

    /// Puts a VM off its host; whether it had one.
    pub(super) fn evict(&mut self, vm: VmKey, why: PutOff) -> bool {
        let Some(host) = self.leave_hosts(vm) else { return false };
        self.counts.put_off(why);
        self.tell(Event::PutOff { vm, host, why });
        true
    }

    /// Forgets a VM that is nowhere.
    pub(super) fn drop_vm(&mut self, vm: VmKey) {
        self.line.leave(vm);
        self.set_waits(vm, Waits::No);
        self.world.forget(vm);
    }
}
