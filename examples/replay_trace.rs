//! Replays a VM trace through a placement policy and reports how it went.
//!
//! ```text
//! cargo run --release --example replay_trace -- \
//!     --trace FILE --hosts 1000 --host-vcpus 64 --host-memory-mib 262144 --policy best-fit
//! ```
//!
//! The trace has any of the formats of `nova_sched::sim::trace`, compressed or not; most are
//! recognised, and `--format` names it where it is not. With `--json`, one object is
//! printed on standard output; apart from its `timing` it is the same for the same arguments.

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nova_core::domain::{GiB, MiB, Resources, Vcpus};
use nova_core::seed::Seed;
use nova_examples::{Stopwatch, Timing};
use nova_sched::Registry;
use nova_sched::sim::trace::{Format, ReadOptions, open, read};
use nova_sched::sim::{
    OnBadRow, Report, Scenario, Simulation, SimulationError, Use, uniform_hosts,
};

/// Replays a VM trace through a placement policy and reports how it went.
#[derive(Debug, Parser)]
struct Args {
    /// The trace, in any known format.
    #[arg(long)]
    trace: PathBuf,
    /// Its format, where it is not recognised by its first line.
    #[arg(long)]
    format: Option<Format>,
    /// How many hosts there are, all alike.
    #[arg(long)]
    hosts: u32,
    /// Virtual CPUs of each host.
    #[arg(long)]
    host_vcpus: u32,
    /// Memory of each host, in MiB.
    #[arg(long)]
    host_memory_mib: u64,
    /// nova, first-fit, best-fit or worst-fit.
    #[arg(long)]
    policy: String,
    /// Where chance starts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// What to do with a row that makes no sense.
    #[arg(long, value_enum, default_value_t = BadRows::Refuse)]
    on_bad_row: BadRows,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BadRows {
    /// Stop and name it.
    Refuse,
    /// Leave it out and count it.
    Skip,
}

#[derive(serde::Serialize)]
struct Output<'a> {
    policy: &'a str,
    seed: u64,
    host_vcpus: u32,
    host_memory_mib: u64,
    #[serde(flatten)]
    report: &'a Report,
    timing: Timing,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let shape = Resources {
        vcpus: Vcpus(args.host_vcpus),
        memory: MiB(args.host_memory_mib),
        disk: GiB(0),
    };
    let hosts = uniform_hosts(args.hosts, shape)?;
    let policy = Registry::default().policy(&args.policy)?;
    let name = args.trace.display();
    let options = ReadOptions::default();
    let (trace, bar) = if args.trace.is_dir() {
        (open(&args.trace, args.format, &options), ProgressBar::hidden())
    } else {
        let opened = File::open(&args.trace);
        let file = opened.map_err(|error| format!("cannot open {name}: {error}"))?;
        let bytes = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        let bar = progress_bar(args, bytes);
        (read(bar.wrap_read(file), args.format, &options), bar)
    };

    let stopwatch = Stopwatch::start();
    let mut scenario = Scenario::default();
    scenario.on_bad_row = match args.on_bad_row {
        BadRows::Refuse => OnBadRow::Refuse,
        BadRows::Skip => OnBadRow::Skip,
    };
    let mut simulation = Simulation::new(hosts, &policy, scenario, Seed::new(args.seed))?;
    let report = trace.map_err(Into::into).and_then(|trace| simulation.run(trace));
    bar.finish_and_clear();
    let report = report.map_err(|error| Failed { trace: name.to_string(), source: error })?;
    let timing = stopwatch.timing(report.placed);

    let output = Output {
        policy: &args.policy,
        seed: args.seed,
        host_vcpus: args.host_vcpus,
        host_memory_mib: args.host_memory_mib,
        report: &report,
        timing,
    };
    if args.json {
        println!("{}", serde_json::to_string(&output)?);
    } else {
        print_tables(&output);
    }
    Ok(())
}

/// The simulation's error with the file in front of it.
#[derive(Debug)]
struct Failed {
    trace: String,
    source: SimulationError,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.trace, self.source)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The simulation's own message is part of this one; what is behind it is not.
        self.source.source()
    }
}

fn progress_bar(args: &Args, bytes: u64) -> ProgressBar {
    if args.json {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {percent:>3} %  {elapsed} of about {duration}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print_tables(output: &Output<'_>) {
    let Output { policy, report, timing, .. } = output;
    println!(
        "{policy} on {} hosts of {} vCPU and {} MiB, seed {}",
        report.hosts, output.host_vcpus, output.host_memory_mib, output.seed
    );
    let share = |part: u64| {
        format!("{part} ({:.2} %)", 100.0 * part as f64 / report.requests.max(1) as f64)
    };
    let mut servers = table(["requests", "placed", "rejected", "departed", "remaining"]);
    servers.add_row([
        report.requests.to_string(),
        share(report.placed),
        share(report.rejected),
        report.departed.to_string(),
        report.remaining.to_string(),
    ]);
    println!("{servers}");

    let mut usage = table(["in use", "of", "peak", "", "mean", ""]);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut row = |name: &str, used: Use| {
        usage.add_row([
            name.to_owned(),
            used.capacity.to_string(),
            used.peak.to_string(),
            percent(used.peak_share),
            format!("{:.1}", used.mean),
            percent(used.mean_share),
        ]);
    };
    row("vCPU", report.vcpus);
    row("memory (MiB)", report.memory_mib);
    let hosts = report.hosts as f64;
    usage.add_row([
        "hosts".to_owned(),
        report.hosts.to_string(),
        report.peak_hosts_in_use.to_string(),
        percent(report.peak_hosts_in_use as f64 / hosts),
        format!("{:.1}", report.mean_hosts_in_use),
        percent(report.mean_hosts_in_use / hosts),
    ]);
    println!("{usage}");

    let fragmentation = report.fragmentation;
    println!(
        "free vCPU that the next VM could not have: {} on average, {} at most, {} at the end",
        percent(fragmentation.mean),
        percent(fragmentation.peak),
        percent(fragmentation.at_end)
    );
    if !report.rejected_for.is_empty() {
        let mut rejected = table(["rejected by", "because", "VMs", "hosts"]);
        for reason in &report.rejected_for {
            rejected.add_row([
                reason.filter.clone(),
                reason.reason.clone(),
                reason.vms.to_string(),
                reason.hosts.to_string(),
            ]);
        }
        println!("{rejected}");
    }
    if report.bad_rows_skipped > 0 {
        println!("{} rows skipped:", report.bad_rows_skipped);
        for row in &report.bad_rows {
            println!("  line {}: {}", row.line, row.why);
        }
    }
    print!("{:.0} placements/s, {:.2} s", timing.placements_per_s, timing.wall_s);
    match timing.peak_rss_mib {
        Some(mib) => println!(", {mib:.1} MiB resident at most"),
        None => println!(),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(header);
    table
}
