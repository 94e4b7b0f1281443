//! What would other policies have made of the decisions of a cloud?
//!
//! ```text
//! cargo run --release --example replay_decisions
//! cargo run --release --example replay_decisions -- --keep week.log
//! cargo run --release --example replay_decisions -- --log week.log --policies nova,best-fit
//! ```
//!
//! A small cloud lives for some virtual days with `nova_sched::explain::DecisionLog` around its
//! scheduler. Then each policy is asked all questions again, about the hosts as they were, and a
//! simulation lets the same servers come and go under each. With `--log`, the log of another cloud is
//! taken, compressed or not.
//!
//! Exit status 0 when the policy that decided gives the same answers again.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use nova_core::seed::Seed;
use nova_examples::decisions::{Plan, Verdict, judge, live};
use nova_examples::one_line;
use nova_sched::Registry;
use nova_sched::sim::trace::decisions::{Told, recorded};

/// What would other policies have made of the decisions of a cloud?
#[derive(Debug, Parser)]
struct Args {
    /// The log of a cloud; a small one lives for it when it is left out.
    #[arg(long, conflicts_with_all = ["hosts", "actions", "keep"])]
    log: Option<PathBuf>,
    /// Hosts of the small cloud.
    #[arg(long, default_value_t = 12)]
    hosts: usize,
    /// What its users do, all together.
    #[arg(long, default_value_t = 300)]
    actions: usize,
    /// Where chance starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to keep the log of the small cloud.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Policies with commas between them; the first decides in the small cloud.
    #[arg(long, value_delimiter = ',', default_values_t = ["nova", "first-fit", "best-fit", "worst-fit"].map(String::from))]
    policies: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the policy that decided does not give the same answers");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let registry = Registry::default();
    let policies = args.policies.iter().map(|name| registry.policy(name));
    let policies = policies.collect::<Result<Vec<_>, _>>()?;
    let log = match &args.log {
        Some(file) => std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?,
        None => {
            let mut plan = Plan::default();
            (plan.hosts, plan.actions, plan.seed) = (args.hosts, args.actions, args.seed);
            let lived = live(&plan, policies[0].clone())?;
            println!(
                "{} hosts, {:.1} days: {} servers, {} refused, {} moved; the log has {} KiB",
                plan.hosts,
                lived.took.as_secs_f64() / 86_400.0,
                lived.servers.len(),
                lived.refused,
                lived.moved,
                lived.log.len() >> 10
            );
            lived.log
        }
    };
    if let Some(file) = &args.keep {
        std::fs::write(file, &log).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    let recorded = recorded(&log[..])?;
    print_told(&recorded.told, recorded.rows.len());
    let mut verdicts = Vec::new();
    for policy in &policies {
        verdicts.push(judge(&log, &recorded, policy, Seed::new(args.seed))?);
    }
    print_table(&verdicts);
    let decided = |verdict: &&Verdict| verdict.replay.decided_by.contains(&verdict.policy);
    Ok(verdicts.iter().filter(decided).all(|verdict| verdict.replay.is_same()))
}

fn print_told(told: &Told, rows: usize) {
    println!(
        "{} questions, {} of them about moves; {} found no host; {rows} rows",
        told.questions, told.moves, told.refused
    );
    if told.faults > 0 {
        println!("{} faults, {} lines left out", told.faults, told.skipped_lines);
    }
}

fn print_table(verdicts: &[Verdict]) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "asked again",
        "same",
        "elsewhere",
        "placed now",
        "refused now",
        "simulated: placed",
        "rejected",
        "hosts in use, mean",
        "peak",
    ]);
    for Verdict { policy, replay, report, .. } in verdicts {
        table.add_row([
            policy.clone(),
            replay.same.to_string(),
            replay.elsewhere.to_string(),
            replay.placed_now.to_string(),
            replay.refused_now.to_string(),
            report.placed.to_string(),
            report.rejected.to_string(),
            format!("{:.2}", report.mean_hosts_in_use),
            report.peak_hosts_in_use.to_string(),
        ]);
    }
    println!("{table}");
}
