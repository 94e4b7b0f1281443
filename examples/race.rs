//! How many conductors can place servers on one store before they are in each other's way?
//!
//! ```text
//! cargo run --release --example race
//! ```
//!
//! Exit status 0 when nobody got more than there is, and at least 99.5 % of what one conductor
//! places was placed.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use nova_examples::one_line;
use nova_examples::race::{Finish, Race, run};
use nova_sched::{PolicyConfig, Registry};

/// How many conductors can place servers on one store before they are in each other's way?
#[derive(Debug, Parser)]
struct Args {
    /// How many conductors race; each number is a race.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    conductors: Vec<usize>,
    /// Hosts.
    #[arg(long, value_name = "N", default_value_t = 128)]
    hosts: usize,
    /// How late each conductor hears of a change, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20)]
    lag: u64,
    /// Among how many of the best hosts chance decides (Nova's `host_subset_size`).
    #[arg(long, value_name = "N", default_value_t = 1)]
    subset: usize,
    /// Where chance starts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON array instead of lines.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match races(&args) {
        Ok(all) => {
            match args.json.then(|| serde_json::to_string_pretty(&all)) {
                Some(Ok(text)) => println!("{text}"),
                Some(Err(error)) => eprintln!("error: {}", one_line(&error)),
                None => {}
            }
            let good = |finish: &Finish| {
                finish.findings.is_empty() && finish.placed * 1000 >= finish.asked * 995
            };
            if all.iter().all(good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::from(2)
        }
    }
}

fn races(args: &Args) -> Result<Vec<Finish>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for conductors in &args.conductors {
        let mut race = Race::new(*conductors, args.hosts);
        race.lag = std::time::Duration::from_millis(args.lag);
        race.seed = args.seed;
        let mut config = PolicyConfig::nova();
        config.subset_size = args.subset;
        let policy = Registry::default().build("nova", &config)?;
        let finish = run(&race, Arc::new(policy))?;
        if !args.json {
            println!(
                "{:>2} conductors: {} of {} placed, {} conflicts, retries p50 {} p99 {} max {}, \
                 {} second looks, {} findings, {:.2} s of virtual time",
                finish.conductors,
                finish.placed,
                finish.asked,
                finish.conflicts,
                finish.retries_p50,
                finish.retries_p99,
                finish.retries_max,
                finish.second_looks,
                finish.findings.len(),
                finish.virtual_s,
            );
        }
        all.push(finish);
    }
    Ok(all)
}
