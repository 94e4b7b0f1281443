//! Arrivals and departures of a cloud that is in use, made of a trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use nova_core::seed::Seed;
use nova_sched::sim::{TraceError, TraceReader};

/// The memory of every request is a multiple of this, so that references may count in it.
pub const QUANTUM_MIB: u32 = 256;

/// What one server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory, in quanta.
    pub quanta: u32,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This VM comes.
    Arrival(u32),
    /// This VM goes.
    Departure(u32),
}

/// A cloud in use: who is there, and who comes and goes after that.
#[derive(Debug)]
pub struct Stream {
    /// The shapes that there are.
    pub shapes: Vec<Shape>,
    /// For each VM its shape.
    pub shape_of: Vec<u16>,
    /// The VMs that are there when it begins: so many of the first.
    pub residents: u32,
    /// What happens then.
    pub events: Vec<Event>,
}

struct Vm {
    arrival: u64,
    end: u64,
    shape: Shape,
}

impl Stream {
    /// Copies of the trace, each from another moment on, until those that are there take this many
    /// vCPUs; then `arrivals` arrivals with the departures between them. Shapes become `shapes`
    /// different ones: memory is varied, or all are made the commonest.
    ///
    /// # Errors
    /// [`TraceError`] when the trace cannot be read.
    pub fn new(
        trace: &Path,
        vcpus: u64,
        arrivals: usize,
        shapes: usize,
        seed: Seed,
    ) -> Result<Self, TraceError> {
        let vms = read(trace)?;
        let last = vms.last().map_or(0, |vm| vm.arrival);
        let mut chance = seed.chance();
        let mut kinds: BTreeMap<Shape, u16> = BTreeMap::new();
        let mut stream =
            Self { shapes: Vec::new(), shape_of: Vec::new(), residents: 0, events: Vec::new() };
        let plain = varieties(&vms, shapes);
        let (mut taken, mut copies, mut departures) = (0, Vec::new(), Vec::new());
        let mut enter = |stream: &mut Self, shape: Shape, nth: u64| {
            let shape = plain(shape, nth);
            let next = kinds.len() as u16;
            let kind = *kinds.entry(shape).or_insert_with(|| {
                stream.shapes.push(shape);
                next
            });
            stream.shape_of.push(kind);
            (stream.shape_of.len() - 1) as u32
        };
        while taken < vcpus {
            let from = last * 2 / 5 + chance.below(last / 5 + 1);
            copies.push(from);
            for vm in vms.iter().take_while(|vm| vm.arrival < from).filter(|vm| vm.end > from) {
                if taken >= vcpus {
                    break;
                }
                let id = enter(&mut stream, vm.shape, chance.below(1 << 20));
                taken += u64::from(stream.shapes[stream.shape_of[id as usize] as usize].vcpus);
                departures.push((vm.end - from, id));
            }
        }
        stream.residents = stream.shape_of.len() as u32;
        // The last copy is there in part, and so are its arrivals.
        let mut coming: Vec<(u64, usize)> = Vec::new();
        for from in &copies {
            let first = vms.partition_point(|vm| vm.arrival < *from);
            let enough = arrivals.div_ceil(copies.len()) * 2;
            let next = (first..vms.len()).take(enough);
            coming.extend(next.map(|at| (vms[at].arrival - from, at)));
        }
        coming.sort_unstable();
        coming.truncate(arrivals);
        let mut moments = Vec::with_capacity(coming.len() * 2);
        for (offset, at) in coming {
            let vm = &vms[at];
            let id = enter(&mut stream, vm.shape, chance.below(1 << 20));
            moments.push((offset, Event::Arrival(id)));
            if vm.end != u64::MAX {
                departures.push((offset + vm.end - vm.arrival, id));
            }
        }
        let until = moments.last().map_or(0, |(offset, _)| *offset);
        let leaving = departures.into_iter().filter(|(offset, _)| *offset <= until);
        moments.extend(leaving.map(|(offset, id)| (offset, Event::Departure(id))));
        // At the same moment servers come before they go, so that none goes before it came.
        moments.sort_by_key(|(offset, event)| (*offset, matches!(event, Event::Departure(_))));
        stream.events = moments.into_iter().map(|(_, event)| event).collect();
        Ok(stream)
    }

    /// The shape of a VM.
    pub fn shape(&self, vm: u32) -> Shape {
        self.shapes[usize::from(self.shape_of[vm as usize])]
    }
}

fn read(trace: &Path) -> Result<Vec<Vm>, TraceError> {
    let file = File::open(trace).map_err(TraceError::Read)?;
    let mut vms = Vec::new();
    for row in TraceReader::new(BufReader::new(file))? {
        let row = row?;
        let quanta = row.memory.get().div_ceil(QUANTUM_MIB.into()).max(1) as u32;
        let shape = Shape { vcpus: row.vcpus.get(), quanta };
        vms.push(Vm { arrival: row.arrival_s, end: row.end_s.unwrap_or(u64::MAX), shape });
    }
    Ok(vms)
}

/// Turns the shapes of a trace into so many different ones: the commonest for one; for more than
/// there are, memory varied by some quanta; for each request by its number.
fn varieties(vms: &[Vm], shapes: usize) -> impl Fn(Shape, u64) -> Shape + use<> {
    let mut counts: BTreeMap<Shape, usize> = BTreeMap::new();
    vms.iter().for_each(|vm| *counts.entry(vm.shape).or_default() += 1);
    let commonest = counts.iter().max_by_key(|(_, count)| **count).map(|(shape, _)| *shape);
    let there = counts.len().max(1);
    let each = shapes.div_ceil(there) as u64;
    let extra = shapes.saturating_sub(there);
    let known: Vec<Shape> = counts.into_keys().collect();
    move |shape, nth| match (shapes, commonest) {
        (1, Some(commonest)) => commonest,
        (shapes, _) if shapes <= there => shape,
        _ => {
            // The first of the known shapes get one variety more than there is room for.
            let place = known.iter().position(|known| *known == shape).unwrap_or(0);
            let full = extra / there + 1;
            let varieties = (full + usize::from(place < extra % there)) as u64;
            let more = (nth % varieties.min(each + 1)) as u32;
            Shape { quanta: shape.quanta + more, ..shape }
        }
    }
}
