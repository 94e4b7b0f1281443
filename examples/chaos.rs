//! Looks for mistakes in the orchestration: many seeds of a cloud whose parts fail.
//!
//! ```text
//! cargo run --release --example chaos -- --seeds 1000
//! cargo run --release --example chaos -- --first-seed 17 --seeds 1
//! cargo run --release --example chaos -- --seeds 2000 --plant all
//! cargo run --release --example chaos -- --sites --pairs
//! ```
//!
//! Exit status 0 means that nothing was found, or with `--plant` that every planted mistake was, by
//! a seed or by a death at a site that finds nothing without the mistake.
//! The output is the same for any number of processors, apart from its `timing`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nova_core::testing::{Allow, Batch, Bug, Fired, Log, Outcome, Parts, Simulation};
use nova_examples::Stopwatch;

/// Looks for mistakes in the orchestration: many seeds of a cloud whose parts fail.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds; with --plant, the most for each mistake.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Makes a known mistake, or each of `all`, and demands that it is found.
    #[arg(long)]
    plant: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Lets somebody die at every moment of every step of every operation, instead of seeds.
    #[arg(long)]
    sites: bool,
    /// With --sites: a second one dies at every moment of the recovery from each.
    #[arg(long, requires = "sites")]
    pairs: bool,
    /// With --sites: only where the name begins with this.
    #[arg(long, requires = "sites")]
    only: Option<String>,
    /// Print everything that happened in the first seed that finds something.
    #[arg(long)]
    log: bool,
}

/// Runs that a schedule may take to become smaller.
const SHRINK_RUNS: usize = 200;
/// Findings that are shrunk and told; more say the same.
const TOLD_MAX: usize = 5;

#[derive(serde::Serialize)]
struct Report<'a> {
    first_seed: u64,
    seeds: u64,
    findings: &'a [Found],
    planted: &'a [Caught],
    batch: &'a Batch,
    done_share: f64,
    weaknesses: &'a [String],
    timing: serde_json::Value,
}

/// A seed that found something.
#[derive(serde::Serialize)]
struct Found {
    replay: String,
    hash: String,
    findings: Vec<String>,
    /// The smallest schedule of faults that was seen to find something.
    schedule: Vec<Fired>,
}

/// What became of a planted mistake: the seed or, without one, the site that shows it.
#[derive(serde::Serialize)]
struct Caught {
    bug: &'static str,
    seed: Option<u64>,
    finding: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let bugs: Vec<Bug> = match args.plant.as_deref() {
        None => Vec::new(),
        Some("all") => Bug::ALL.to_vec(),
        Some(name) => match Bug::ALL.iter().find(|bug| bug.name() == name) {
            Some(bug) => vec![*bug],
            None => {
                let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
                eprintln!("error: no mistake {name}; there are {}", names.join(", "));
                return ExitCode::FAILURE;
            }
        },
    };
    if args.sites {
        let only = args.only.as_deref().unwrap_or_default();
        return nova_examples::sites::run(only, args.pairs, args.json);
    }
    let watch = Stopwatch::start();
    let mut batch = Batch::default();
    let (mut found, mut caught) = (Vec::new(), Vec::new());
    let mut runs = 0;
    if bugs.is_empty() {
        let simulation = Simulation::new(Parts::default());
        let mut failing: Vec<Outcome> = Vec::new();
        over_seeds(&simulation, &args, |outcome| {
            runs += 1;
            batch.add(&outcome);
            if !outcome.findings.is_empty() {
                failing.push(outcome);
            }
            true
        });
        found = failing.iter().map(|outcome| tell(&simulation, outcome, &args)).collect();
    }
    for bug in bugs {
        let simulation = Simulation::new(Parts::default()).with_bug(bug);
        let mut caught_by = Caught { bug: bug.name(), seed: None, finding: None };
        over_seeds(&simulation, &args, |outcome| {
            runs += 1;
            if let Some(finding) = outcome.findings.first().filter(|_| simulation.catches(&outcome))
            {
                caught_by.seed = Some(outcome.seed);
                caught_by.finding = Some(finding.to_string());
            }
            caught_by.seed.is_none()
        });
        // What needs a death at one certain moment is rarely met by chance.
        if caught_by.seed.is_none() {
            caught_by.finding = nova_examples::sites::shows(bug);
        }
        if !args.json {
            show(&caught_by);
        }
        caught.push(caught_by);
    }
    // Few seeds prove little by themselves, and are not expected to.
    let weaknesses = if batch.runs >= 200 { batch.weaknesses() } else { Vec::new() };
    let seconds = watch.elapsed().as_secs_f64();
    let rate = runs as f64 / seconds.max(1e-9);
    if args.json {
        let report = Report {
            first_seed: args.first_seed,
            seeds: args.seeds,
            findings: &found,
            planted: &caught,
            done_share: batch.done_share(),
            batch: &batch,
            weaknesses: &weaknesses,
            timing: serde_json::json!({ "wall_s": seconds, "seeds_per_s": rate }),
        };
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        summary(&batch, &weaknesses);
        println!("{runs} runs, {} findings, {rate:.0} seeds/s", found.len());
    }
    let missed = caught.iter().any(|caught| caught.finding.is_none());
    match found.is_empty() && weaknesses.is_empty() && !missed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs seeds on all processors and hands their outcomes on in the order of seeds, until `take`
/// has had enough.
fn over_seeds(simulation: &Simulation, args: &Args, mut take: impl FnMut(Outcome) -> bool) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}");
    let target = match args.json {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let bar = ProgressBar::with_draw_target(Some(args.seeds), target);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let next = Arc::new(AtomicU64::new(args.first_seed));
    let end = args.first_seed.saturating_add(args.seeds);
    std::thread::scope(|scope| {
        // Bounded, so that nobody runs far ahead of the seed that is waited for.
        let (sender, outcomes) = mpsc::sync_channel::<Outcome>(threads * 16);
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), Arc::clone(&next));
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end || sender.send(simulation.run(seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = std::collections::BTreeMap::new();
        let mut wanted = args.first_seed;
        while let Ok(outcome) = outcomes.recv() {
            waiting.insert(outcome.seed, outcome);
            while let Some(outcome) = waiting.remove(&wanted) {
                wanted += 1;
                bar.inc(1);
                if !take(outcome) {
                    next.store(end, Ordering::SeqCst);
                    drop(outcomes);
                    bar.finish_and_clear();
                    return;
                }
            }
        }
        bar.finish_and_clear();
    });
}

/// Shrinks what a seed found and tells how to see it again.
fn tell(simulation: &Simulation, outcome: &Outcome, args: &Args) -> Found {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let told = TOLD.fetch_add(1, Ordering::SeqCst);
    let seed = outcome.seed;
    let replay = format!("cargo run --release --example chaos -- --first-seed {seed} --seeds 1");
    let findings: Vec<String> = outcome.findings.iter().map(ToString::to_string).collect();
    let schedule = if told < TOLD_MAX as u64 {
        simulation.shrink(outcome, SHRINK_RUNS)
    } else {
        outcome.fired.clone()
    };
    if !args.json {
        println!("{replay}");
        for finding in &findings {
            println!("    {finding}");
        }
        if told < TOLD_MAX as u64 {
            let few = schedule.iter().map(|(fault, nth)| format!("{}#{nth}", fault.name()));
            let few: Vec<_> = few.collect();
            println!("    of {} faults these are enough: [{}]", outcome.fired.len(), few.join(" "));
        }
        if args.log && told == 0 {
            let allow = Allow::Only(schedule.iter().copied().collect());
            for line in simulation.replay(seed, allow, Log::with_lines()).log {
                println!("{line}");
            }
        }
    }
    Found { replay, hash: outcome.hash.clone(), findings, schedule }
}

fn show(caught: &Caught) {
    match (caught.seed, &caught.finding) {
        (Some(seed), Some(finding)) => println!("{:22} seed {seed:5}: {finding}", caught.bug),
        (None, Some(finding)) => println!("{:22} site {finding}", caught.bug),
        _ => println!("{:22} NOT FOUND", caught.bug),
    }
}

fn summary(batch: &Batch, weaknesses: &[String]) {
    if batch.runs == 0 {
        return;
    }
    for (word, tally) in &batch.operations {
        println!("{word:28} {:7} done {:7} failed", tally.done, tally.failed);
    }
    for (fault, count) in &batch.faults {
        println!("{:28} {count:7} times", fault.name());
    }
    println!("{:.1} % of the operations succeeded", batch.done_share() * 100.0);
    for weakness in weaknesses {
        println!("weak: {weakness}");
    }
}
