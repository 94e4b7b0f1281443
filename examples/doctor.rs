//! Is the cloud in a data directory as it should be?
//!
//! ```text
//! cargo run --release --example private_cloud -- --data-dir D --keep
//! cargo run --release --example doctor -- D
//! ```
//!
//! It examines the store, the simulated hosts and the volumes of a cloud that is not running, and
//! changes nothing. Exit status 0: nothing was found; 1: something was; 2: it cannot be read.
//! A program that holds a running cloud asks `Admin::doctor` instead.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use nova_core::doctor::Checkup;
use nova_examples::{cold, one_line};

/// Is the cloud in a data directory as it should be?
#[derive(Debug, Parser)]
struct Args {
    /// The data directory.
    #[arg(value_name = "DIR")]
    data_dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// The exit code for a directory that cannot be examined.
const UNREADABLE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let checkup = match examine(&args) {
        Ok(checkup) => checkup,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            return ExitCode::from(UNREADABLE);
        }
    };
    match args.json.then(|| serde_json::to_string_pretty(&checkup)) {
        Some(Ok(text)) => println!("{text}"),
        Some(Err(error)) => eprintln!("error: {}", one_line(&error)),
        None => show(&checkup),
    }
    if checkup.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn examine(args: &Args) -> Result<Checkup, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(cold::examine(&args.data_dir))?.checkup)
}

fn show(checkup: &Checkup) {
    let hosts = checkup.asked.len() + checkup.unasked.len();
    println!("hosts      {hosts}, {} of them asked", checkup.asked.len());
    println!("servers    {}, with {} guests seen", checkup.servers, checkup.guests);
    println!("operations {} open", checkup.operations_open);
    for (host, reason) in &checkup.unasked {
        println!("not asked  {host}: {reason}");
    }
    if let Some(reason) = &checkup.volumes_unasked {
        println!("not asked  the volumes: {reason}");
    }
    if let Some(reason) = &checkup.images_unasked {
        println!("not asked  the images: {reason}");
    }
    if checkup.is_healthy() {
        println!("Nothing was found.");
        return;
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["What must be true", "What is"]);
    for finding in &checkup.findings {
        table.add_row([finding.invariant, &finding.detail]);
    }
    println!("{table}");
}
