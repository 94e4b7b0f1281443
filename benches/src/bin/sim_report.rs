//! A whole simulation with everything that it measures, beside the same placements without any of
//! it: by the engine alone, and by a scan of packed columns that knows one policy and nothing else.
//!
//! `cargo run --release -p nova-benches --bin sim_report -- --trace FILE` measures in turns, on one
//! thread, the processor time that each needs. All three must place the same VMs.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use nova_benches::packed::Packed;
use nova_benches::stream::{QUANTUM_MIB, Shape};
use nova_benches::{Rule, empty_hosts};
use nova_core::domain::{Flavor, FlavorName, InstanceId, ProjectId, RequestSpec, Resources, Slot};
use nova_core::port::Scheduler as _;
use nova_core::seed::Seed;
use nova_sched::sim::{
    Report, Scenario, Simulation, Superposed, TraceError, TraceReader, TraceRow,
};
use nova_sched::{FilterScheduler, Registry};

/// Measures a simulation, the engine alone, and a scan, on the same trace.
#[derive(Parser)]
struct Args {
    /// The trace: `vm,arrival_s,end_s,vcpu,mem_mib`.
    #[arg(long)]
    trace: PathBuf,
    /// Hosts of 64 vCPU and 256 GiB.
    #[arg(long, default_value_t = 10_000)]
    hosts: usize,
    /// So many copies of the trace at once, each some minutes later than the one before.
    #[arg(long, default_value_t = 1)]
    copies: u64,
    /// Policies.
    #[arg(long, value_delimiter = ',', default_values_t = ["best-fit", "worst-fit"].map(str::to_owned))]
    policies: Vec<String>,
    /// Rounds, in each of which all are measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the simulation: the others hold the whole trace in memory.
    #[arg(long)]
    alone: bool,
}

/// Seconds between the beginnings of two copies.
const LATER_S: u64 = 613;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    for name in &args.policies {
        let policy = Registry::default().policy(name)?;
        if args.alone {
            let (took, report) = simulate(&args, &policy)?;
            println!(
                "{name}: {} VMs on {} hosts, {took:.2} s, {:.0} placements/s, {} refused, {:.0} MiB",
                report.requests,
                report.hosts,
                report.requests as f64 / took,
                report.rejected,
                peak_rss_mib().unwrap_or(f64::NAN),
            );
            continue;
        }
        let rule = Rule::of(name).ok_or("the scan knows best-fit and worst-fit")?;
        let (events, rows) = events(&args)?;
        let mut ratios: [Vec<f64>; 2] = Default::default();
        let mut rates: [Vec<f64>; 3] = Default::default();
        for _ in 0..args.rounds {
            let (whole, report) = simulate(&args, &policy)?;
            let (engine, by_engine) = engine(&args, &policy, &events, &rows)?;
            let (scan, by_scan) = scan(&args, rule, &events, &rows);
            if report.placed != by_engine || by_engine != by_scan {
                return Err("they do not place the same".into());
            }
            ratios[0].push(whole / engine);
            ratios[1].push(scan / whole);
            for (rates, took) in rates.iter_mut().zip([whole, engine, scan]) {
                rates.push(report.requests as f64 / took);
            }
        }
        println!(
            "{name}, {} hosts, {} VMs: simulation {:.0}/s, engine {:.0}/s, scan {:.0}/s; \
             simulation ÷ engine {:.2}, scan ÷ simulation {:.2} (medians of {})",
            args.hosts,
            rows.len(),
            median(&mut rates[0]),
            median(&mut rates[1]),
            median(&mut rates[2]),
            median(&mut ratios[0]),
            median(&mut ratios[1]),
            args.rounds,
        );
    }
    Ok(())
}

fn open(path: &Path) -> Result<TraceReader<BufReader<File>>, TraceError> {
    TraceReader::new(BufReader::new(File::open(path).map_err(TraceError::Read)?))
}

fn trace(
    args: &Args,
) -> Result<impl Iterator<Item = Result<TraceRow, TraceError>> + use<>, TraceError> {
    let copies = (0..args.copies).map(|copy| Ok((open(&args.trace)?, copy * LATER_S)));
    Ok(Superposed::new(copies.collect::<Result<Vec<_>, TraceError>>()?))
}

fn simulate(args: &Args, policy: &FilterScheduler) -> Result<(f64, Report), Box<dyn Error>> {
    let hosts = empty_hosts(args.hosts)?;
    let policy = policy.clone();
    let watch = Watch::start();
    let mut simulation = Simulation::new(hosts, &policy, Scenario::default(), Seed::new(1))?;
    // Reading is part of it.
    let report = match args.copies {
        1 => simulation.run(open(&args.trace)?)?,
        _ => simulation.run(trace(args)?)?,
    };
    Ok((watch.seconds(), report))
}

#[derive(Clone, Copy)]
enum Event {
    Departure(u32),
    Arrival(u32),
}

/// What happens, in order, ready to be played.
fn events(args: &Args) -> Result<(Vec<Event>, Vec<TraceRow>), Box<dyn Error>> {
    let rows = trace(args)?.collect::<Result<Vec<_>, _>>()?;
    let mut events = Vec::with_capacity(rows.len() * 2);
    for (at, row) in rows.iter().enumerate() {
        events.push((row.arrival_s, 1, Event::Arrival(at as u32)));
        if let Some(end_s) = row.end_s {
            // Who leaves when he comes leaves after he has come.
            let rank = if end_s == row.arrival_s { 2 } else { 0 };
            events.push((end_s, rank, Event::Departure(at as u32)));
        }
    }
    events.sort_by_key(|(at, rank, _)| (*at, *rank));
    Ok((events.into_iter().map(|(_, _, event)| event).collect(), rows))
}

fn engine(
    args: &Args,
    policy: &FilterScheduler,
    events: &[Event],
    rows: &[TraceRow],
) -> Result<(f64, u64), Box<dyn Error>> {
    let mut hosts = empty_hosts(args.hosts)?;
    let policy = policy.clone();
    let mut requests: BTreeMap<(u32, u64), RequestSpec> = BTreeMap::new();
    for row in rows {
        if let std::collections::btree_map::Entry::Vacant(entry) =
            requests.entry((row.vcpus.get(), row.memory.get()))
        {
            let name = FlavorName::new(format!("{}x{}", row.vcpus.get(), row.memory.get()))?;
            let flavor = Arc::new(Flavor::new(name, row.vcpus, row.memory)?);
            let instance = InstanceId::from_u128(1);
            entry.insert(RequestSpec::new(instance, ProjectId::new("bench")?, flavor));
        }
    }
    // Which request each row asks, so that nothing is looked up while it is measured.
    let keys: Vec<(u32, u64)> = requests.keys().copied().collect();
    let mut requests: Vec<RequestSpec> = requests.into_values().collect();
    let which: Vec<usize> = rows
        .iter()
        .map(|row| keys.binary_search(&(row.vcpus.get(), row.memory.get())).unwrap_or_default())
        .collect();
    let mut places: Vec<Option<Slot>> = vec![None; rows.len()];
    let (mut placed, seed) = (0, Seed::new(1));
    let watch = Watch::start();
    for event in events {
        match *event {
            Event::Arrival(at) => {
                let at = at as usize;
                let request = &mut requests[which[at]];
                let instance = InstanceId::from_u128(at as u128 + 1);
                request.instances[0] = instance;
                let Some(placement) = policy.find(&hosts, request, seed) else { continue };
                let slot = hosts.slot(placement.hosts[0]).ok_or("no such host")?;
                let amount: Resources = request.flavor.resources();
                hosts.update_at(slot, |row| row.claim(instance, amount));
                places[at] = Some(slot);
                placed += 1;
            }
            Event::Departure(at) => {
                if let Some(slot) = places[at as usize].take() {
                    let instance = InstanceId::from_u128(u128::from(at) + 1);
                    hosts.update_at(slot, |row| {
                        row.release(instance);
                    });
                }
            }
        }
    }
    Ok((watch.seconds(), placed))
}

fn scan(args: &Args, rule: Rule, events: &[Event], rows: &[TraceRow]) -> (f64, u64) {
    let mut packed = Packed::new(args.hosts, rule);
    let shapes: Vec<Shape> = rows
        .iter()
        .map(|row| Shape {
            vcpus: row.vcpus.get(),
            quanta: row.memory.get().div_ceil(QUANTUM_MIB.into()) as u32,
        })
        .collect();
    let mut places: Vec<Option<usize>> = vec![None; rows.len()];
    let mut placed = 0;
    let watch = Watch::start();
    for event in events {
        match *event {
            Event::Arrival(at) => {
                let shape = shapes[at as usize];
                if let Some(host) = packed.best(shape) {
                    packed.claim(host, shape);
                    places[at as usize] = Some(host);
                    placed += 1;
                }
            }
            Event::Departure(at) => {
                if let Some(host) = places[at as usize].take() {
                    packed.release(host, shapes[at as usize]);
                }
            }
        }
    }
    (watch.seconds(), placed)
}

/// The processor time of this thread, where the system tells; real time elsewhere.
struct Watch {
    began: Instant,
    used_ns: Option<u64>,
}

impl Watch {
    fn start() -> Self {
        Self { began: Instant::now(), used_ns: used_ns() }
    }

    fn seconds(&self) -> f64 {
        match (self.used_ns, used_ns()) {
            (Some(before), Some(after)) => (after - before) as f64 / 1e9,
            _ => self.began.elapsed().as_secs_f64(),
        }
    }
}

fn used_ns() -> Option<u64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    line.split_whitespace().next()?.parse().ok()
}

fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
