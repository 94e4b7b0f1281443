//! Kills a cloud again and again, and looks whether anything that it had acknowledged is lost.
//!
//! ```text
//! cargo run --release --example kill -- --kills 500
//! ```
//!
//! A process runs a cloud on a store file and simulated hosts, and several tasks ask it for
//! servers, volumes and floating IPs. It is killed (SIGKILL) at a random moment, what it has left
//! is examined, and the next process goes on in the same directory. Every request that was
//! acknowledged has to be there: done, failed with a reason, or still progressing. In the end
//! everything comes to rest, is deleted, and nothing may be left.
//!
//! Exit status 0: nothing was found; 1: something was; 2: it could not be tried.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use nova_examples::kill::{self, Options, Outcome};
use nova_examples::one_line;

/// Kills a cloud again and again, and looks whether anything that it had acknowledged is lost.
#[derive(Debug, Parser)]
struct Args {
    /// How often it is killed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: u32,
    /// Where chance starts: the load, and the moments.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of sentences.
    #[arg(long)]
    json: bool,
    /// Where everything is stored and stays; a temporary directory when not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The exit code when nothing can be said.
const UNTRIED: u8 = 2;

fn main() -> ExitCode {
    if let Some(job) = kill::job() {
        kill::child(&job);
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    let outcome = match run(&args) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            return ExitCode::from(UNTRIED);
        }
    };
    match args.json.then(|| serde_json::to_string_pretty(&outcome)) {
        Some(Ok(text)) => println!("{text}"),
        Some(Err(error)) => eprintln!("error: {}", one_line(&error)),
        None => show(&outcome),
    }
    if outcome.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(args: &Args) -> Result<Outcome, Box<dyn std::error::Error>> {
    let temporary = tempfile::Builder::new().prefix("kill-").tempdir()?;
    let directory = args.data_dir.as_deref().unwrap_or(temporary.path());
    let options = Options::new(directory).with_kills(args.kills).with_seed(args.seed);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} kills, {elapsed} ({eta} left)")?;
    let bar = ProgressBar::new(args.kills.into()).with_style(style);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(kill::run(&options, |kills| bar.set_position(kills.into())));
    bar.finish_and_clear();
    Ok(outcome?)
}

fn show(outcome: &Outcome) {
    let Outcome { kills, while_opening, acknowledged, interrupted, fates, wall_s, .. } = outcome;
    println!("{kills} kills, {while_opening} of them while the cloud was being opened");
    println!("{acknowledged} requests acknowledged: {} done, {} failed", fates.done, fates.failed);
    println!("{interrupted} times an operation was found in the middle of its work");
    println!("{wall_s:.1} s");
    for finding in &outcome.findings {
        println!("found: {finding}");
    }
    if outcome.findings.is_empty() {
        println!("Nothing was found.");
    }
}
