//! Asks the scheduler what the real Nova scheduler was asked, and compares the answers.
//!
//! `cargo run --release --example conformance -- DIR` reads every `*.jsonl` file in `DIR`. Exit
//! status 0 means that every answer was the same.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nova_sched::conformance;

/// Compares the scheduler's answers with those of the real Nova.
#[derive(Parser)]
struct Args {
    /// The folder with the cases, `*.jsonl`.
    folder: PathBuf,
    /// How many answers that differ are shown.
    #[arg(long, default_value_t = 20)]
    show: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match conformance::run(&args.folder) {
        Ok(report) => {
            print!("{report}");
            report.failures.iter().take(args.show).for_each(|failure| println!("{failure}"));
            println!("{} answers differ", report.failures.len());
            if report.is_alike() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
