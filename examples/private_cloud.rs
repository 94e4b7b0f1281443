//! A private cloud in one process, from its first host to its last deletion.
//!
//! ```text
//! cargo run --release --example private_cloud
//! ```
//!
//! It needs nothing but a Rust toolchain: the store is a file, the bus is a queue, the hosts are
//! simulated and take a little time for everything. The story itself is in
//! `src/private_cloud/`, in order: `plan.rs` is what the cloud is to have, `house.rs` puts the
//! parts together, and there is a file for each stage.
//!
//! Everything is stored in the data directory, so that a second run on the same directory goes on:
//!
//! - after `--keep` it finds the servers, volumes and floating IPs with their guests still
//!   running, and deletes them;
//! - after an interruption (Ctrl-C, a crash) it does what is missing. Repeating what was asked
//!   for already is harmless, since every request has an id;
//! - after a run that ended well it is a new run on the hosts that are registered there.
//!
//! It checks what it claims, and ends with an error when something is not so.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nova_examples::one_line;
use nova_examples::private_cloud::{Ending, Failure, Options, Summary, Terminal, run};

/// A private cloud in one process, from its first host to its last deletion.
#[derive(Debug, Parser)]
struct Args {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Where chance starts: ids, and how long the simulated hosts take.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where everything is stored; a temporary directory, removed at the end, when not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leave the cloud running instead of deleting everything; the next run deletes it.
    #[arg(long, requires = "data_dir")]
    keep: bool,
}

/// The exit code of a program that was told to stop, as shells expect it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    match tell(&args) {
        Ok(Some(summary)) => {
            if args.json {
                match serde_json::to_string_pretty(&summary) {
                    Ok(text) => println!("{text}"),
                    Err(error) => return fail(&error),
                }
            }
            if summary.ok { ExitCode::SUCCESS } else { fail_checks(&summary) }
        }
        Ok(None) => {
            match &args.data_dir {
                Some(at) => {
                    eprintln!("interrupted; go on with --data-dir {}", at.display());
                }
                None => eprintln!("interrupted; the temporary directory is gone"),
            }
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => fail(&*error),
    }
}

/// Runs until the end, or until somebody presses Ctrl-C.
fn tell(args: &Args) -> Result<Option<Summary>, Box<dyn std::error::Error>> {
    let temporary = match args.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("private-cloud-").tempdir()?),
    };
    let directory = match (&args.data_dir, &temporary) {
        (Some(given), _) => given.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Ok(None),
    };
    let ending = if args.keep { Ending::Keep } else { Ending::Delete };
    let options = Options::new(directory).with_seed(args.seed).with_ending(ending);
    let mut screen = if args.json { Terminal::bars_only() } else { Terminal::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let told: Result<Option<Summary>, Failure> = runtime.block_on(async {
        tokio::select! {
            biased;
            summary = run(&options, &mut screen) => summary.map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    });
    // All parts are gone with the runtime, and let go of their files, before the directory is.
    drop(runtime);
    if let Some(temporary) = temporary {
        temporary.close()?;
    }
    Ok(told?)
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("error: {}", one_line(error));
    ExitCode::FAILURE
}

fn fail_checks(summary: &Summary) -> ExitCode {
    let failed = summary.checks.iter().filter(|check| !check.holds);
    let failed: Vec<&str> = failed.map(|check| check.claim.as_str()).collect();
    eprintln!("error: not as it should be: {}", failed.join("; "));
    ExitCode::FAILURE
}
