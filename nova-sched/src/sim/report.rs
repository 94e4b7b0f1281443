//! What a simulation found out.

use std::collections::BTreeMap;

use super::simulation::Simulation;
use super::{CpuUsed, Moment, Step, World};
use nova_core::domain::ResourceKind;

/// The result of a simulation.
///
/// Peaks and means are over the time from the first arrival to the last, or further where the
/// scenario [says so](super::Scenario::measure_until_s). What leaves after that still leaves, but an emptying cloud says nothing about a policy and is not measured. Means are
/// weighted by time; when all VMs arrive in one second they are the values after the last.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// How many hosts there were.
    pub hosts: u64,
    /// VMs that asked for a host.
    pub requests: u64,
    /// Those that got one.
    pub placed: u64,
    /// Those that never did.
    pub rejected: u64,
    /// Requests that ended without a host, by reason: those of VMs that had been put off a host
    /// among them.
    pub refused: BTreeMap<String, u64>,
    /// What refused them, sorted by filter and reason.
    pub rejected_for: Vec<RejectedFor>,
    /// So many refusals are in [`rejected_for`](Self::rejected_for): the first ones.
    pub refusals_explained: u64,
    /// Acceptance by shape, sorted by vCPUs, memory and disk.
    pub by_shape: Vec<ByShape>,
    /// VMs that left, all that ever will.
    pub departed: u64,
    /// VMs that never leave.
    pub remaining: u64,
    /// VMs that were put off a host and never got another one.
    pub lost: u64,
    /// When the first VM came, in seconds of the trace; none without one.
    pub first_arrival_s: Option<u64>,
    /// When the last row was read that could be: of a VM that came, or that is
    /// [there already](super::BadRow::RunsAlready).
    pub last_arrival_s: Option<u64>,
    /// The most hosts with at least one VM at the same time.
    pub peak_hosts_in_use: u64,
    /// How many hosts had at least one VM on average.
    pub mean_hosts_in_use: f64,
    /// The fewest hosts that could have held, by the sum of capacities, what was there at the peak:
    /// no policy needs fewer.
    pub peak_hosts_needed: u64,
    /// The same on average over time.
    pub mean_hosts_needed: f64,
    /// Of the vCPUs of the hosts in use, the share that was taken, on average: how densely VMs were
    /// packed, 0 to 1.
    pub packing_density: f64,
    /// How many hosts were up and without any VM on average.
    pub mean_empty_hosts: f64,
    /// The most VMs at the same time.
    pub peak_vms: u64,
    /// How many VMs there were on average.
    pub mean_vms: f64,
    /// How many VMs waited on average.
    pub mean_waiting: f64,
    /// Virtual CPUs in use.
    pub vcpus: Use,
    /// Memory in use, in mebibytes.
    pub memory_mib: Use,
    /// Local disk in use, in gibibytes.
    pub disk_gib: Use,
    /// How much of what was free could not be used by the next VM.
    pub fragmentation: Fragmentation,
    /// The share of what was free on hosts that could take no VM of any shape, on average over the
    /// samples.
    pub stranded: Stranded,
    /// The share of samples at which the VMs of the fullest host would have fitted on the others.
    pub n_plus_one_share: f64,
    /// How long VMs waited for their first host, in milliseconds.
    pub wait_ms: Quantiles,
    /// How many waited how long for it: the distribution of the same.
    pub waited_ms: Vec<Step>,
    /// VMs that were put off their hosts, by reason.
    pub put_off: BTreeMap<String, u64>,
    /// VMs that were more important and got a host that way.
    pub preemptions: u64,
    /// Hosts that failed.
    pub host_failures: u64,
    /// VMs that were resized.
    pub resized: u64,
    /// Resizes for which no host had room.
    pub resizes_refused: u64,
    /// Live migrations that began.
    pub migrations: u64,
    /// Live migrations that were wanted and for which there was no host.
    pub migrations_refused: u64,
    /// Live migrations that were given up.
    pub migrations_cut_short: u64,
    /// The milliseconds that all of them take together, each with room on two hosts.
    pub migration_ms: u64,
    /// Decisions that found the room taken by another scheduler.
    pub conflicts: u64,
    /// Questions to schedulers.
    pub decisions: u64,
    /// The energy that all hosts took, in kilowatt-hours; none where no host has a power curve.
    pub energy_kwh: Option<f64>,
    /// What VMs used of their vCPUs, where the scenario measures it.
    pub cpu_use: Option<CpuUsed>,
    /// Rows that were skipped because they make no sense.
    pub bad_rows_skipped: u64,
    /// The first of them, at most [`SkippedRow::NAMED_MAX`].
    pub bad_rows: Vec<SkippedRow>,
    /// What was sampled, in the order of time.
    pub series: Vec<Sample>,
    /// How long decisions took, where a stopwatch was given: the only part that is not the same
    /// again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_ns: Option<Quantiles>,
}

/// How much of one resource was in use.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Use {
    /// What all hosts together may promise.
    pub capacity: f64,
    /// The most at any time.
    pub peak: u64,
    /// The mean.
    pub mean: f64,
    /// The peak as a share of the capacity, 0 to 1.
    pub peak_share: f64,
    /// The mean as a share of the capacity, 0 to 1.
    pub mean_share: f64,
}

/// The share of all free vCPUs that lies on hosts which could not take the next VM, 0 to 1.
///
/// The next VM is drawn from the shapes that came so far, each as likely as it was frequent: the
/// share is computed for every shape and averaged by frequency. A host that has free vCPUs but
/// lacks the memory, or has fewer than the shape needs, counts with all its free vCPUs. Without
/// any free vCPU the share is 0. This is the statistical measure of Weng et al., "Beware of
/// Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX
/// ATC 2023), applied to vCPUs and divided by what is free.
///
/// It is looked at on the first arrival, before that is placed, then at every sample.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Fragmentation {
    /// The mean of the samples.
    pub mean: f64,
    /// The largest of them.
    pub peak: f64,
    /// After the last arrival.
    pub at_end: f64,
}

/// Of each resource, the share of what is free on hosts that can take no VM of any shape that came
/// so far, because they lack something else; 0 to 1, and 0 where nothing is free, or before
/// the first came.
///
/// Barbalho et al., "Virtual Machine Allocation with Lifetime Predictions" (MLSys 2023), call what
/// is left over in this way stranded.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Stranded {
    /// Virtual CPUs.
    pub vcpus: f64,
    /// Memory.
    pub memory: f64,
    /// Local disk.
    pub disk: f64,
}

/// Whether the fullest host may fail.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct NPlusOne {
    /// Whether its VMs fit on the others, the largest first, each on the fullest host with room.
    pub holds: bool,
    /// The free vCPUs of all others without those that it uses: below zero it cannot hold.
    pub spare_vcpus: f64,
}

/// The world at one moment.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Sample {
    /// When, in seconds of the trace.
    pub at_s: u64,
    /// VMs on hosts.
    pub vms: u64,
    /// VMs that wait for one.
    pub waiting: u64,
    /// Hosts that are up.
    pub hosts_up: u64,
    /// Hosts with at least one VM.
    pub hosts_in_use: u64,
    /// The fewest hosts that could hold what is there, by the sum of capacities.
    pub hosts_needed: u64,
    /// vCPUs that are claimed.
    pub vcpus: u64,
    /// Memory that is claimed.
    pub memory_mib: u64,
    /// Disk that is claimed.
    pub disk_gib: u64,
    /// VMs that are moving.
    pub moving: u64,
    /// Power of all hosts; none where no host has a power curve.
    pub watts: Option<f64>,
    /// CPUs that VMs want to use; none where it is not measured.
    pub cpus_wanted: Option<f64>,
    /// Hosts of which more is wanted than they have; none where it is not measured.
    pub hosts_overloaded: Option<u64>,
    /// See [`Fragmentation`].
    pub fragmentation: f64,
    /// See [`Stranded`].
    pub stranded: Stranded,
    /// See [`NPlusOne`].
    pub n_plus_one: NPlusOne,
}

/// How many VMs of one shape found a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ByShape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Local disk.
    pub disk_gib: u64,
    /// VMs that came with this shape.
    pub requests: u64,
    /// Those that got a host; those too that were resized later.
    pub placed: u64,
}

/// Of many numbers, those below which certain shares lie, each rounded up by less than a sixteenth.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half are not larger.
    pub p50: u64,
    /// 90 % are not larger.
    pub p90: u64,
    /// 99 % are not larger.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Quantiles {
    pub(super) fn of(histogram: &super::histogram::Histogram) -> Self {
        Self {
            count: histogram.count(),
            mean: histogram.mean(),
            p50: histogram.quantile(0.5),
            p90: histogram.quantile(0.9),
            p99: histogram.quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// One reason for which VMs found no host.
///
/// A VM that is refused was refused by every host, by each for one reason, so a VM can count under
/// several reasons and the counts of hosts add up to refused VMs times hosts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct RejectedFor {
    /// The filter that refused.
    pub filter: String,
    /// The reason it gave.
    pub reason: String,
    /// VMs that at least one host refused for this reason.
    pub vms: u64,
    /// How many hosts refused for this reason, over all of them.
    pub hosts: u64,
}

/// A row that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct SkippedRow {
    /// Its line in the file, counted from 1 with the header.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

impl SkippedRow {
    /// A report names no more rows than this; the others are counted.
    pub const NAMED_MAX: usize = 20;
}

/// What is measured over time, up to the last arrival.
#[derive(Debug)]
pub(super) struct Measured {
    peak_hosts_in_use: u64,
    mean_hosts_in_use: f64,
    peak_hosts_needed: u64,
    mean_hosts_needed: f64,
    mean_empty_hosts: f64,
    peak_vms: u64,
    mean_vms: f64,
    mean_waiting: f64,
    packing_density: f64,
    uses: [Use; 3],
    energy_kwh: Option<f64>,
    cpu_use: Option<CpuUsed>,
}

impl Simulation<'_> {
    /// What was measured over time, when the last VM has come.
    pub(super) fn measured(&mut self) -> Measured {
        let now = self.world.now();
        let millis = now.millis_since(self.counts.first_arrival.unwrap_or(now));
        let cpu_use = self.world.cpu_used(millis);
        let world = &self.world;
        let meters = &world.meters;
        let usage = |kind: ResourceKind, meter: &super::meter::Meter| {
            let capacity = capacity(world, kind);
            let share = |amount: f64| if capacity > 0.0 { amount / capacity } else { 0.0 };
            let (peak, mean) = (meter.peak(), meter.mean(now, millis));
            let (peak_share, mean_share) = (share(peak as f64), share(mean));
            Use { capacity, peak, mean, peak_share, mean_share }
        };
        let (hosts, up) = (meters.hosts.mean(now, millis), meters.hosts_up.mean(now, millis));
        let in_use = meters.vcpus_of_hosts.mean(now, millis) / 1000.0;
        let packing_density =
            if in_use > 0.0 { meters.vcpus.mean(now, millis) / in_use } else { 0.0 };
        Measured {
            packing_density,
            peak_hosts_in_use: meters.hosts.peak(),
            mean_hosts_in_use: hosts,
            peak_hosts_needed: meters.needed.peak(),
            mean_hosts_needed: meters.needed.mean(now, millis),
            mean_empty_hosts: (up - hosts).max(0.0),
            peak_vms: meters.vms.peak(),
            mean_vms: meters.vms.mean(now, millis),
            mean_waiting: meters.waiting.mean(now, millis),
            uses: [
                usage(ResourceKind::Vcpus, &meters.vcpus),
                usage(ResourceKind::Memory, &meters.memory),
                usage(ResourceKind::Disk, &meters.disk),
            ],
            // Milliwatts times milliseconds.
            energy_kwh: world.has_power().then(|| meters.milliwatts.sum(now) as f64 / 3.6e12),
            cpu_use,
        }
    }

    pub(super) fn report(&self, measured: Measured) -> Report {
        let (counts, world) = (&self.counts, &self.world);
        let samples = &self.sampler.samples;
        let mean = |of: &dyn Fn(&Sample) -> f64| {
            let sum = samples.iter().map(of).fold(0.0, |sum, value| sum + value);
            sum / samples.len().max(1) as f64
        };
        let [vcpus, memory_mib, disk_gib] = measured.uses;
        Report {
            hosts: world.hosts().len() as u64,
            requests: counts.requests,
            placed: counts.placed,
            rejected: counts.rejected,
            refused: counts.refused.iter().map(|(why, n)| (word(why), *n)).collect(),
            rejected_for: self.rejected_for(),
            refusals_explained: counts.explained,
            by_shape: self.by_shape(),
            departed: counts.departed,
            remaining: counts.running,
            lost: counts.lost + counts.refused.values().sum::<u64>() - counts.rejected,
            first_arrival_s: counts.first_arrival.map(Moment::seconds),
            last_arrival_s: counts.last_arrival.map(Moment::seconds),
            peak_hosts_in_use: measured.peak_hosts_in_use,
            mean_hosts_in_use: measured.mean_hosts_in_use,
            peak_hosts_needed: measured.peak_hosts_needed,
            mean_hosts_needed: measured.mean_hosts_needed,
            packing_density: measured.packing_density,
            mean_empty_hosts: measured.mean_empty_hosts,
            peak_vms: measured.peak_vms,
            mean_vms: measured.mean_vms,
            mean_waiting: measured.mean_waiting,
            vcpus,
            memory_mib,
            disk_gib,
            fragmentation: self.sampler.fragmentation_of_all(),
            stranded: Stranded {
                vcpus: mean(&|sample| sample.stranded.vcpus),
                memory: mean(&|sample| sample.stranded.memory),
                disk: mean(&|sample| sample.stranded.disk),
            },
            n_plus_one_share: mean(&|sample| f64::from(u8::from(sample.n_plus_one.holds))),
            wait_ms: Quantiles::of(&counts.waits),
            waited_ms: counts.waits.steps().collect(),
            put_off: counts.put_off.iter().map(|(why, n)| (word(why), *n)).collect(),
            preemptions: counts.preemptions,
            host_failures: counts.host_failures,
            resized: counts.resized,
            resizes_refused: counts.resizes_refused,
            migrations: counts.moves,
            migrations_refused: counts.moves_refused,
            migrations_cut_short: counts.moves_cut_short,
            migration_ms: counts.move_ms,
            conflicts: counts.conflicts,
            decisions: counts.decisions,
            energy_kwh: measured.energy_kwh,
            cpu_use: measured.cpu_use,
            bad_rows_skipped: counts.bad_rows_skipped,
            bad_rows: counts.bad_rows.clone(),
            series: samples.clone(),
            decision_ns: self.stopwatch.as_ref().map(|_| Quantiles::of(&counts.latency)),
        }
    }

    fn rejected_for(&self) -> Vec<RejectedFor> {
        let reasons = self.counts.rejected_for.iter();
        let reason = |((filter, reason), (vms, hosts)): (&(String, String), &(u64, u64))| {
            let (filter, reason) = (filter.clone(), reason.clone());
            RejectedFor { filter, reason, vms: *vms, hosts: *hosts }
        };
        reasons.map(reason).collect()
    }

    fn by_shape(&self) -> Vec<ByShape> {
        let shapes = self.world.shapes_that_came();
        let mut by_shape: Vec<ByShape> = shapes
            .map(|shape| ByShape {
                vcpus: shape.resources.vcpus.get(),
                memory_mib: shape.resources.memory.get(),
                disk_gib: shape.resources.disk.get(),
                requests: shape.requests,
                placed: shape.placed,
            })
            .collect();
        by_shape.sort_unstable_by_key(|shape| (shape.vcpus, shape.memory_mib, shape.disk_gib));
        by_shape
    }
}

/// What all hosts together may promise of a resource.
fn capacity(world: &World, kind: ResourceKind) -> f64 {
    let capacities = world.hosts().rows().map(|row| row.inventory.capacity(kind));
    capacities.fold(0.0, |sum, capacity| sum + capacity)
}

/// The name of a reason, as it is written elsewhere.
fn word(reason: &impl serde::Serialize) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
