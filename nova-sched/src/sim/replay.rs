//! Virtual time: arrivals from the trace, departures from a queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::Read;
use std::sync::Arc;

use nova_core::domain::{
    Flavor, FlavorName, Funnel, HostId, HostTable, InstanceId, Invalid, ProjectId, RequestSpec,
    ResourceKind, Resources,
};
use nova_core::port::Scheduler;
use nova_core::seed::Seed;

use super::meter::Meter;
use super::report::{Fragmentation, RejectedFor, Report, SkippedRow, Use};
use super::trace::{BadRow, TraceError, TraceReader, TraceRow};

/// Seconds of virtual time between two looks at fragmentation.
const SAMPLE_EVERY_S: u64 = 3600;

/// Traces of real clouds have tens of shapes. Of one that has more, fragmentation looks at those
/// that came first.
const SHAPES_MAX: usize = 256;

/// What to do with a row that makes no sense.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnBadRow {
    /// Stop with an error that names it.
    #[default]
    Refuse,
    /// Leave it out, and say so in the report.
    Skip,
}

/// A replay cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The trace cannot be read on.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The scheduler chose something that a scheduler may not choose.
    #[error("line {line}: {scheduler} chose {host:?}, which {fault}")]
    BadAnswer {
        /// The row it was asked about.
        line: u64,
        /// The scheduler's name.
        scheduler: String,
        /// What it chose: one host for each instance.
        host: Vec<HostId>,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// A cloud in which a trace happens.
#[derive(Debug)]
pub struct Replay<'s> {
    scheduler: &'s dyn Scheduler,
    seed: Seed,
    hosts: HostTable,
    /// Who leaves when: by second, then by request, so that no two are alike.
    departures: BinaryHeap<Reverse<(u64, u64, u64, HostId)>>,
    running: BTreeSet<u64>,
    shapes: BTreeMap<ShapeKey, Shape>,
    now_s: u64,
    /// Seconds since the first arrival that the meters have seen.
    measured_s: u64,
    used: Resources,
    meters: Meters,
    counts: Counts,
    samples: Samples,
}

/// Shapes sort by CPUs, then memory.
type ShapeKey = (u32, u64);

#[derive(Debug)]
struct Shape {
    flavor: Arc<Flavor>,
    arrivals: u64,
}

#[derive(Debug, Default)]
struct Meters {
    vcpus: Meter,
    memory: Meter,
    vms: Meter,
    hosts: Meter,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    placed: u64,
    departed: u64,
    first_arrival_s: Option<u64>,
    last_arrival_s: Option<u64>,
    rejected_for: BTreeMap<(String, String), (u64, u64)>,
    bad_rows_skipped: u64,
    bad_rows: Vec<SkippedRow>,
}

#[derive(Debug, Default)]
struct Samples {
    next_s: u64,
    count: u64,
    sum: f64,
    peak: f64,
}

impl<'s> Replay<'s> {
    /// A replay on `hosts`, which need not be empty, with virtual time at 0.
    pub fn new(scheduler: &'s dyn Scheduler, hosts: HostTable, seed: Seed) -> Self {
        let used = hosts.rows().map(|row| *row.used()).sum();
        let mut replay = Self {
            scheduler,
            seed: seed.child("replay"),
            hosts,
            departures: BinaryHeap::new(),
            running: BTreeSet::new(),
            shapes: BTreeMap::new(),
            now_s: 0,
            measured_s: 0,
            used,
            meters: Meters::default(),
            counts: Counts::default(),
            samples: Samples::default(),
        };
        let in_use = replay.hosts.rows().filter(|row| row.instance_count() > 0).count();
        replay.meters.hosts.set(in_use as u64);
        replay.read_meters();
        replay
    }

    /// Lets the whole trace happen, then waits until everything that leaves has left.
    ///
    /// # Errors
    /// [`ReplayError`] when the trace cannot be read on, a row is bad and bad rows are refused, or
    /// the scheduler breaks a law.
    pub fn run(
        &mut self,
        trace: TraceReader<impl Read>,
        on_bad_row: OnBadRow,
    ) -> Result<Report, ReplayError> {
        for row in trace {
            match row.map_err(ReplayError::from).and_then(|row| self.arrive(&row)) {
                Ok(()) => {}
                Err(ReplayError::Trace(TraceError::BadRow { line, why }))
                    if on_bad_row == OnBadRow::Skip =>
                {
                    self.counts.bad_rows_skipped += 1;
                    if self.counts.bad_rows.len() < SkippedRow::NAMED_MAX {
                        let why = why.to_string();
                        self.counts.bad_rows.push(SkippedRow { line, why });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let mut report = self.report();
        self.depart_until(u64::MAX);
        report.departed = self.counts.departed;
        report.remaining = self.running.len() as u64;
        Ok(report)
    }

    /// The hosts as they are now.
    pub fn hosts(&self) -> &HostTable {
        &self.hosts
    }

    fn arrive(&mut self, row: &TraceRow) -> Result<(), ReplayError> {
        let bad = |why| ReplayError::Trace(TraceError::BadRow { line: row.line, why });
        let shape = (row.vcpus.get(), row.memory.get());
        let flavor = match self.shapes.get(&shape) {
            Some(shape) => Arc::clone(&shape.flavor),
            None => Arc::new(flavor(row).map_err(|invalid| bad(invalid.into()))?),
        };
        let project = ProjectId::new("trace").map_err(|invalid| bad(invalid.into()))?;
        let request = RequestSpec::new(instance_of(row.vm), project, Arc::clone(&flavor));
        // Only what has not left by the time it comes can be in the way of a row.
        self.measure_until(row.arrival_s);
        if self.running.contains(&row.vm) {
            return Err(bad(BadRow::RunsAlready { vm: row.vm }));
        }
        self.sample();
        let number = self.counts.requests;
        self.counts.requests += 1;
        self.counts.first_arrival_s.get_or_insert(row.arrival_s);
        self.counts.last_arrival_s = Some(row.arrival_s);
        self.count_shape(shape, &flavor);
        self.place(row, number, request)
    }

    fn place(
        &mut self,
        row: &TraceRow,
        number: u64,
        request: RequestSpec,
    ) -> Result<(), ReplayError> {
        let wanted = request.flavor.resources();
        let seed = self.seed.child_of("request", number.into());
        let host = match self.scheduler.select(&self.hosts, &request, seed) {
            Ok(placement) => placement.hosts,
            Err(refused) => {
                self.count_refusal(refused.funnel);
                return Ok(());
            }
        };
        let bad = |host: Vec<HostId>, fault| ReplayError::BadAnswer {
            line: row.line,
            scheduler: self.scheduler.to_string(),
            host,
            fault,
        };
        let [host] = host[..] else { return Err(bad(host, "is not one host for one VM")) };
        match self.hosts.get(host) {
            None => return Err(bad(vec![host], "is not in the table")),
            Some(state) if state.lacks(&wanted).is_some() => {
                return Err(bad(vec![host], "has no room"));
            }
            Some(state) if state.instance_count() == 0 => {
                self.meters.hosts.set(self.meters.hosts.now() + 1);
            }
            Some(_) => {}
        }
        self.hosts.update(host, |state| state.claim(instance_of(row.vm), wanted));
        self.used = self.used.saturating_add(wanted);
        self.running.insert(row.vm);
        self.counts.placed += 1;
        self.read_meters();
        if let Some(end_s) = row.end_s {
            self.departures.push(Reverse((end_s, number, row.vm, host)));
        }
        Ok(())
    }

    /// Lets everything leave that does so up to and including `second`.
    fn depart_until(&mut self, second: u64) {
        while let Some(Reverse((end_s, _, vm, host))) = self.departures.peek().copied() {
            if end_s > second {
                return;
            }
            self.departures.pop();
            self.pass_until(end_s);
            let mut released = None;
            let mut left = 0;
            self.hosts.update(host, |state| {
                released = state.release(instance_of(vm));
                left = state.instance_count();
            });
            self.used = self.used.saturating_sub(released.unwrap_or_default());
            self.running.remove(&vm);
            self.counts.departed += 1;
            if left == 0 {
                self.meters.hosts.set(self.meters.hosts.now().saturating_sub(1));
            }
            self.read_meters();
        }
    }

    fn measure_until(&mut self, second: u64) {
        self.depart_until(second);
        self.pass_until(second);
    }

    fn pass_until(&mut self, second: u64) {
        // Nothing is measured before the first arrival.
        if self.counts.first_arrival_s.is_some() {
            let seconds = second.saturating_sub(self.now_s);
            self.measured_s = self.measured_s.saturating_add(seconds);
            self.meters.all().into_iter().for_each(|meter| meter.pass(seconds));
        }
        self.now_s = self.now_s.max(second);
    }

    fn read_meters(&mut self) {
        self.meters.vcpus.set(self.used.vcpus.get().into());
        self.meters.memory.set(self.used.memory.get());
        self.meters.vms.set(self.running.len() as u64);
    }

    fn count_shape(&mut self, shape: ShapeKey, flavor: &Arc<Flavor>) {
        if self.shapes.len() < SHAPES_MAX || self.shapes.contains_key(&shape) {
            let new = || Shape { flavor: Arc::clone(flavor), arrivals: 0 };
            self.shapes.entry(shape).or_insert_with(new).arrivals += 1;
        }
    }

    fn count_refusal(&mut self, funnel: Funnel) {
        for stage in funnel.stages {
            for (reason, hosts) in stage.reasons {
                let key = (stage.filter.clone(), reason);
                let (vms, all_hosts) = self.counts.rejected_for.entry(key).or_default();
                *vms += 1;
                *all_hosts += hosts as u64;
            }
        }
    }

    /// Looks at fragmentation when an hour has passed since the last look.
    fn sample(&mut self) {
        if self.samples.count > 0 && self.now_s < self.samples.next_s {
            return;
        }
        let share = self.fragmentation();
        let samples = &mut self.samples;
        samples.count += 1;
        samples.sum += share;
        samples.peak = samples.peak.max(share);
        samples.next_s = self.now_s.saturating_add(SAMPLE_EVERY_S);
    }

    fn fragmentation(&self) -> f64 {
        let free = |row: &nova_core::domain::HostState| row.free(ResourceKind::Vcpus).max(0.0);
        let all_free = total(self.hosts.rows().map(free));
        let arrivals: u64 = self.shapes.values().map(|shape| shape.arrivals).sum();
        if all_free <= 0.0 || arrivals == 0 {
            return 0.0;
        }
        let unusable = |shape: &Shape| -> f64 {
            let wanted = shape.flavor.resources();
            total(self.hosts.rows().filter(|row| row.lacks(&wanted).is_some()).map(free))
        };
        let weighted = |shape: &Shape| shape.arrivals as f64 * unusable(shape);
        total(self.shapes.values().map(weighted)) / (arrivals as f64 * all_free)
    }

    fn report(&self) -> Report {
        let counts = &self.counts;
        let seconds = self.measured_s;
        let usage = |kind: ResourceKind, meter: &Meter| {
            let capacity = total(self.hosts.rows().map(|row| row.inventory.capacity(kind)));
            let share = |amount: f64| if capacity > 0.0 { amount / capacity } else { 0.0 };
            let (peak, mean) = (meter.peak(), meter.mean(seconds));
            let (peak_share, mean_share) = (share(peak as f64), share(mean));
            Use { capacity, peak, mean, peak_share, mean_share }
        };
        let rejected_for = |((filter, reason), (vms, hosts)): (&(String, String), &(u64, u64))| {
            let (filter, reason) = (filter.clone(), reason.clone());
            RejectedFor { filter, reason, vms: *vms, hosts: *hosts }
        };
        Report {
            hosts: self.hosts.len() as u64,
            requests: counts.requests,
            placed: counts.placed,
            rejected: counts.requests - counts.placed,
            rejected_for: counts.rejected_for.iter().map(rejected_for).collect(),
            departed: counts.departed,
            remaining: self.running.len() as u64,
            first_arrival_s: counts.first_arrival_s,
            last_arrival_s: counts.last_arrival_s,
            peak_hosts_in_use: self.meters.hosts.peak(),
            mean_hosts_in_use: self.meters.hosts.mean(seconds),
            peak_vms: self.meters.vms.peak(),
            mean_vms: self.meters.vms.mean(seconds),
            vcpus: usage(ResourceKind::Vcpus, &self.meters.vcpus),
            memory_mib: usage(ResourceKind::Memory, &self.meters.memory),
            fragmentation: Fragmentation {
                mean: self.samples.sum / self.samples.count.max(1) as f64,
                peak: self.samples.peak,
                at_end: self.fragmentation(),
            },
            bad_rows_skipped: counts.bad_rows_skipped,
            bad_rows: counts.bad_rows.clone(),
        }
    }
}

impl Meters {
    fn all(&mut self) -> [&mut Meter; 4] {
        [&mut self.vcpus, &mut self.memory, &mut self.vms, &mut self.hosts]
    }
}

/// The sum in this order. The standard one of nothing is -0, which reads badly in a report.
fn total(parts: impl Iterator<Item = f64>) -> f64 {
    parts.fold(0.0, |sum, part| sum + part)
}

/// Instances of a trace have ids of their own, whatever runs on the hosts already.
fn instance_of(vm: u64) -> InstanceId {
    const TRACE: u128 = 0x7472_6163_6500 << 64;
    InstanceId::from_u128(TRACE | u128::from(vm))
}

fn flavor(row: &TraceRow) -> Result<Flavor, Invalid> {
    let name = FlavorName::new(format!("{}x{}", row.vcpus.get(), row.memory.get()))?;
    Flavor::new(name, row.vcpus, row.memory)
}
