//! What is looked at from time to time: all hosts, one by one.

use nova_core::domain::{ResourceKind, Resources};

use super::report::{Fragmentation, NPlusOne, Sample, Stranded};
use super::{Moment, World};

/// Traces of real clouds have tens of shapes. Of one that has more, fragmentation looks at those
/// that came first.
pub(super) const SHAPES_MAX: usize = 256;

/// Takes samples at regular moments, from the first arrival on.
#[derive(Debug)]
pub(super) struct Sampler {
    every_ms: u64,
    next: Moment,
    pub(super) samples: Vec<Sample>,
    /// What hosts have free now, a column for each resource: filled anew for every sample.
    free: [Vec<f32>; 3],
}

impl Sampler {
    /// A series of more samples than this is thinned: every second one is dropped, and from then
    /// on half as many are taken.
    const SAMPLES_MAX: usize = 4096;

    pub(super) fn new(world: &World, every_s: u64) -> Self {
        let column = || Vec::with_capacity(world.hosts().len());
        let free = [column(), column(), column()];
        Self { every_ms: every_s * 1000, next: Moment::NEVER, samples: Vec::new(), free }
    }

    pub(super) fn start(&mut self, at: Moment) {
        self.next = at.after_millis(self.every_ms);
    }

    /// The next moment of a sample, if it is not after `until`.
    pub(super) fn due(&self, until: Moment) -> Option<Moment> {
        (self.next <= until).then_some(self.next)
    }

    /// Takes a sample of the world as it is.
    pub(super) fn take(&mut self, world: &World) {
        let at = world.now();
        if at >= self.next {
            self.next = at.after_millis(self.every_ms);
        }
        self.look(world);
        let sample = Sample {
            at_s: at.seconds(),
            vms: world.meters.vms.now(),
            waiting: world.waiting(),
            hosts_up: world.meters.hosts_up.now(),
            hosts_in_use: world.hosts_in_use(),
            hosts_needed: world.meters.needed.now(),
            vcpus: world.used().vcpus.get().into(),
            memory_mib: world.used().memory.get(),
            disk_gib: world.used().disk.get(),
            moving: world.meters.moving.now(),
            watts: world.has_power().then(|| world.milliwatts() as f64 / 1000.0),
            cpus_wanted: world.cpus_wanted(),
            hosts_overloaded: world.hosts_overloaded(),
            fragmentation: self.fragmentation(world),
            stranded: self.stranded(world),
            n_plus_one: self.n_plus_one(world),
        };
        if self.samples.len() >= Self::SAMPLES_MAX {
            let mut nth = 0;
            self.samples.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.every_ms = self.every_ms.saturating_mul(2);
            self.next = at.after_millis(self.every_ms);
        }
        self.samples.push(sample);
    }

    /// Reads what each host that takes VMs has free.
    fn look(&mut self, world: &World) {
        self.free.iter_mut().for_each(Vec::clear);
        for row in world.hosts().rows().filter(|row| row.is_open()) {
            for (column, kind) in self.free.iter_mut().zip(ResourceKind::ALL) {
                // Free amounts are far below 2^24 of their units where it matters, and rounded
                // down beyond.
                column.push(floor(row.free(kind).max(0.0)));
            }
        }
    }

    /// The share of all free vCPUs on hosts that could not take the next VM.
    fn fragmentation(&self, world: &World) -> f64 {
        let shapes = || world.shapes_that_came().take(SHAPES_MAX);
        let all: f64 = self.free[0].iter().map(|free| f64::from(*free)).sum();
        let requests: u64 = shapes().map(|shape| shape.requests).sum();
        if all <= 0.0 || requests == 0 {
            return 0.0;
        }
        let lost = |shape: &super::Shape| shape.requests as f64 * self.unusable(&shape.resources);
        shapes().map(lost).fold(0.0, |sum, lost| sum + lost) / (requests as f64 * all)
    }

    /// The vCPUs that are free on hosts that cannot take these.
    fn unusable(&self, wanted: &Resources) -> f64 {
        let wanted = ResourceKind::ALL.map(|kind| kind.of(wanted) as f32);
        let [vcpus, memory, disk] = &self.free;
        let mut lost = 0.0;
        for ((vcpus, memory), disk) in vcpus.iter().zip(memory).zip(disk) {
            let fits = *vcpus >= wanted[0] && *memory >= wanted[1] && *disk >= wanted[2];
            lost += f64::from(*vcpus) * if fits { 0.0 } else { 1.0 };
        }
        lost
    }

    /// The share of what is free, of each resource, on hosts that can take no VM of any shape that
    /// came so far: it is enough to ask for the least of them.
    fn stranded(&self, world: &World) -> Stranded {
        let none = Stranded { vcpus: 0.0, memory: 0.0, disk: 0.0 };
        // Shapes that are at least as large as another in everything are no help.
        let shapes = world.shapes_that_came().take(SHAPES_MAX).map(|shape| shape.resources);
        let mut least: Vec<Resources> = Vec::new();
        for shape in shapes {
            let within = |a: &Resources, b: &Resources| {
                ResourceKind::ALL.iter().all(|kind| kind.of(a) <= kind.of(b))
            };
            if least.iter().all(|other| !within(other, &shape)) {
                least.retain(|other| !within(&shape, other));
                least.push(shape);
            }
        }
        if least.is_empty() {
            return none;
        }
        let (mut lost, mut all) = ([0.0; 3], [0.0; 3]);
        for at in 0..self.free[0].len() {
            let free = [0, 1, 2].map(|kind| self.free[kind][at]);
            let fits = |shape: &Resources| {
                ResourceKind::ALL.iter().zip(free).all(|(kind, free)| free >= kind.of(shape) as f32)
            };
            let counts = if least.iter().any(fits) { 0.0 } else { 1.0 };
            for kind in 0..3 {
                lost[kind] += f64::from(free[kind]) * counts;
                all[kind] += f64::from(free[kind]);
            }
        }
        let share = |kind: usize| if all[kind] > 0.0 { lost[kind] / all[kind] } else { 0.0 };
        Stranded { vcpus: share(0), memory: share(1), disk: share(2) }
    }

    /// Whether the VMs of the fullest host would fit on the others, one by one, the largest first,
    /// each on the fullest host that has room.
    fn n_plus_one(&mut self, world: &World) -> NPlusOne {
        let open = || world.hosts().rows().filter(|row| row.is_open());
        let fullest = open()
            .enumerate()
            .max_by_key(|(at, row)| (row.used().vcpus, row.used().memory, std::cmp::Reverse(*at)));
        let Some((at, host)) = fullest else { return NPlusOne { holds: false, spare_vcpus: 0.0 } };
        let all: f64 = self.free[0].iter().map(|free| f64::from(*free)).sum();
        let others = all - f64::from(self.free[0][at]);
        let spare_vcpus = others - f64::from(host.used().vcpus.get());
        let mut guests: Vec<Resources> = host.claims().map(|(_, takes)| *takes).collect();
        guests.sort_unstable_by_key(|takes| {
            std::cmp::Reverse((takes.vcpus, takes.memory, takes.disk))
        });
        // What the others would have free then. The columns are filled anew for the next sample.
        let free = &mut self.free;
        let holds = guests.iter().all(|wanted| {
            let wanted = ResourceKind::ALL.map(|kind| kind.of(wanted) as f32);
            let mut best: Option<usize> = None;
            for other in (0..free[0].len()).filter(|other| *other != at) {
                // Mostly it is not even the fullest so far.
                if best.is_none_or(|best| free[0][other] < free[0][best])
                    && free.iter().zip(wanted).all(|(column, wanted)| column[other] >= wanted)
                {
                    best = Some(other);
                }
            }
            let Some(best) = best else { return false };
            free.iter_mut().zip(wanted).for_each(|(column, wanted)| column[best] -= wanted);
            true
        });
        NPlusOne { holds, spare_vcpus }
    }

    /// The mean and the peak over the samples, and the last.
    pub(super) fn fragmentation_of_all(&self) -> Fragmentation {
        let values = || self.samples.iter().map(|sample| sample.fragmentation);
        let mean = values().fold(0.0, |sum, value| sum + value) / self.samples.len().max(1) as f64;
        Fragmentation {
            mean,
            peak: values().fold(0.0, f64::max),
            at_end: values().next_back().unwrap_or(0.0),
        }
    }
}

/// The nearest number that is not larger.
fn floor(number: f64) -> f32 {
    let near = number as f32;
    if f64::from(near) > number { near.next_down() } else { near }
}
