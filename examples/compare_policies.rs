//! Compares placement policies on a trace, or runs any experiment from a file.
//!
//! ```text
//! cargo run --release --example compare_policies
//! cargo run --release --example compare_policies -- --trace FILE --hosts 400 --hosts 500
//! cargo run --release --example compare_policies -- --experiment FILE.toml --out DIR
//! cargo run --release --example compare_policies -- --experiment FILE.toml --out DIR --shard 1/4
//! cargo run --release --example compare_policies -- --experiment FILE.toml --out DIR --merge A B
//! ```
//!
//! Runs that are in the folder already are not repeated, so what was stopped or killed goes on where
//! it was. Ctrl-C lets the runs end that are on their way; a second one ends them. The format of
//! experiments is described at `nova_sched::sim::experiment`.

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use nova_core::domain::{MiB, Vcpus};
use nova_examples::compare::{Bars, Question, folder_of, shard};
use nova_examples::one_line;
use nova_sched::sim::experiment::{Bench, Experiment};

/// Compares placement policies on a trace, or runs any experiment from a file.
#[derive(Debug, Parser)]
struct Args {
    /// The experiment, a TOML file.
    #[arg(long, conflicts_with_all = ["trace", "hosts", "policies", "seeds", "window_h"])]
    experiment: Option<PathBuf>,
    /// A trace in any known format; one is drawn when it is left out.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// How many hosts there are; may be given several times, for several clusters. What the peak of
    /// the trace needs when it is left out.
    #[arg(long)]
    hosts: Vec<u32>,
    /// Virtual CPUs of each host.
    #[arg(long, default_value_t = 64, conflicts_with = "experiment")]
    host_vcpus: u32,
    /// Memory of each host, in MiB.
    #[arg(long, default_value_t = 262_144, conflicts_with = "experiment")]
    host_memory_mib: u64,
    /// Policies with commas between them; the others are compared with the first.
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// How many seeds, from 1 on; 10 when it is left out.
    #[arg(long)]
    seeds: Option<u64>,
    /// Each seed sees another window of so many hours of a trace from a file; 24 when it is left
    /// out, and 0 is all of it, the same for every seed.
    #[arg(long)]
    window_h: Option<u64>,
    /// The folder of the results; target/experiments/NAME when it is left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Runs at the same time; as many as there are processors when it is left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Write every table as a Parquet file too.
    #[cfg(feature = "parquet")]
    #[arg(long)]
    parquet: bool,
    /// Only a part of the runs, PART/PARTS from 1 on: for one of several machines.
    #[arg(long, value_parser = shard)]
    shard: Option<(u32, u32)>,
    /// Run nothing; take the runs over from these folders instead.
    #[arg(long, num_args = 1.., conflicts_with = "shard")]
    merge: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let experiment = match &args.experiment {
        Some(file) => Experiment::read(file)?,
        None => question(args).experiment()?,
    };
    let folder = args.out.clone().unwrap_or_else(|| folder_of(args.experiment.as_deref()));
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let (part, parts) = args.shard.unwrap_or((1, 1));
    let bench = Bench::new(experiment, folder)
        .with_threads(args.threads.unwrap_or_else(processors))?
        .with_shard(part, parts)?;
    #[cfg(feature = "parquet")]
    let bench = if args.parquet { bench.with_parquet() } else { bench };
    let shown = bench.folder().display();
    if args.merge.is_empty() {
        let stops = Arc::new(AtomicBool::new(false));
        stop_at_ctrl_c(Arc::clone(&stops))?;
        let bars = Bars::new(Arc::clone(&stops));
        let ran = bench.run(&bars);
        bars.clear();
        let ran = ran?.len();
        if stops.load(Ordering::Relaxed) {
            eprintln!(
                "stopped; {ran} runs are in {shown}, the same command goes on with the others"
            );
            return Ok(ExitCode::from(130));
        }
        let missing = bench.missing()?.len();
        if args.shard.is_some() && missing > 0 {
            println!("part {part}/{parts} is in {shown}; {missing} runs of other parts are not");
            return Ok(ExitCode::SUCCESS);
        }
    } else {
        for folder in &args.merge {
            println!("{} runs from {}", bench.merge(folder)?, folder.display());
        }
    }
    let published = bench.publish()?;
    let runs = published.runs;
    let text =
        format!("{}{runs} runs; the report is {shown}/report.html\n", published.comparison.text());
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        said => said?,
    }
    if published.missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "{} runs are missing, the first is {}",
        published.missing.len(),
        published.missing[0]
    );
    Ok(ExitCode::FAILURE)
}

fn question(args: &Args) -> Question {
    let mut question = Question::default();
    question.trace.clone_from(&args.trace);
    question.hosts.clone_from(&args.hosts);
    question.host.vcpus = Vcpus(args.host_vcpus);
    question.host.memory = MiB(args.host_memory_mib);
    if !args.policies.is_empty() {
        question.policies.clone_from(&args.policies);
    }
    question.seeds = args.seeds.unwrap_or(question.seeds);
    question.window_h = args.window_h.unwrap_or(question.window_h);
    question
}

/// Sets a flag at the first Ctrl-C, and ends at the second: files are whole or not there.
fn stop_at_ctrl_c(stops: Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                stops.store(true, Ordering::Relaxed);
                eprintln!("\nwaiting for the runs that are on their way");
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    });
    Ok(())
}
