//! One placement after the other on a cloud in use, four ways: by asking every host, by the index,
//! and by two references that know one policy and nothing else.
//!
//! `cargo run --release -p nova-benches --bin placement_report -- --trace FILE --json` writes one
//! object a line. All four are asked the same in turns, on one core, and must answer the same.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use nova_benches::contest::{Contest, Contestant};
use nova_benches::stream::Stream;
use nova_benches::{Rule, VCPUS};
use nova_core::seed::Seed;

/// Measures placements on a stream of arrivals and departures from a trace.
#[derive(Parser)]
struct Args {
    /// The trace: `vm,arrival_s,end_s,vcpu,mem_mib`.
    #[arg(long)]
    trace: PathBuf,
    /// Numbers of hosts.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    hosts: Vec<usize>,
    /// Numbers of different request shapes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 300])]
    shapes: Vec<usize>,
    /// Policies: best-fit, worst-fit, nova, nova-custom.
    #[arg(long, value_delimiter = ',',
          default_values_t = ["best-fit", "worst-fit", "nova"].map(str::to_owned))]
    policies: Vec<String>,
    /// Rounds, in each of which all four are measured.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Arrivals of each round.
    #[arg(long, default_value_t = 2_000)]
    arrivals: usize,
    /// How much of the vCPUs is taken.
    #[arg(long, default_value_t = 0.7)]
    load: f64,
    /// Only one of rows, fast, scan and index: to look at it with a profiler.
    #[arg(long, value_enum)]
    only: Option<Contestant>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// Seconds that asking every host may take in a round.
const ROWS_BUDGET: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if !args.json {
        println!(
            "{:>9} {:<12} {:>6} {:>12} {:>9} {:>12} {:>12} {:>8} {:>8} {:>7} {:>7}",
            "hosts",
            "policy",
            "shapes",
            "rows ns",
            "fast ns",
            "scan ns",
            "index ns",
            "scan/f",
            "fast/i",
            "c/plain",
            "B/host"
        );
    }
    for hosts in &args.hosts {
        for shapes in &args.shapes {
            let arrivals = args.arrivals * (args.rounds + 5);
            let vcpus = (*hosts as f64 * f64::from(VCPUS) * args.load) as u64;
            let stream = Stream::new(&args.trace, vcpus, arrivals, *shapes, Seed::new(1))?;
            for policy in &args.policies {
                measure(&args, *hosts, *shapes, policy, &stream)?;
            }
        }
    }
    Ok(())
}

fn measure(
    args: &Args,
    hosts: usize,
    shapes: usize,
    policy: &str,
    stream: &Stream,
) -> Result<(), Box<dyn Error>> {
    let rule = Rule::of(policy).ok_or_else(|| format!("unknown policy {policy:?}"))?;
    let mut contest = Contest::new(hosts, policy, rule, stream)?;
    let (mut rounds, mut to_plain): (Vec<[f64; 4]>, Vec<f64>) = Default::default();
    let mut events = stream.events.as_slice();
    for round in 0..args.rounds + 5 {
        let (batch, rest) = split(events, args.arrivals);
        events = rest;
        let mut ns = [0.0; 4];
        // Who goes first changes from round to round.
        let mut order = [Contestant::Fast, Contestant::Packed, Contestant::Grid];
        order.rotate_left(round % 3);
        let asked_for = |one: Contestant| args.only.is_none_or(|only| only == one);
        for contestant in order.into_iter().filter(|one| asked_for(*one)) {
            let begin = Instant::now();
            let placed = contest.play(contestant, stream, batch)?;
            ns[contestant as usize] = begin.elapsed().as_nanos() as f64 / placed.max(1) as f64;
        }
        if args.only.is_none() {
            contest.agree()?;
        }
        let mut plain_ns = f64::NAN;
        if let Some(plain) = contest.plain() {
            let begin = Instant::now();
            let placed = plain.play(Contestant::Fast, stream, batch)?;
            plain_ns = begin.elapsed().as_nanos() as f64 / placed.max(1) as f64;
            // The references cannot follow.
            ns[Contestant::Packed as usize] = f64::NAN;
            ns[Contestant::Grid as usize] = f64::NAN;
        }
        let begin = Instant::now();
        let mut asked = 0_u32;
        while asked_for(Contestant::Rows)
            && (asked == 0 || begin.elapsed() < ROWS_BUDGET && asked < 200)
        {
            contest.ask_rows(stream, asked)?;
            asked += 1;
        }
        ns[Contestant::Rows as usize] = begin.elapsed().as_nanos() as f64 / f64::from(asked);
        // The first rounds warm up.
        if round >= 5 {
            rounds.push(ns);
            to_plain.push(ns[Contestant::Fast as usize] / plain_ns);
        }
    }
    let [rows, fast, packed, grid] = std::array::from_fn(|at| median(rounds.iter().map(|r| r[at])));
    let against = |at: usize| median(rounds.iter().map(|r| r[at] / r[Contestant::Fast as usize]));
    let (rows_ratio, scan_ratio) = (against(0), against(2));
    let index_ratio = median(rounds.iter().map(|r| r[1] / r[3]));
    let custom_ratio = median(to_plain.into_iter());
    let bytes = contest.bytes_per_host();
    let mut out = std::io::stdout().lock();
    if args.json {
        let line = serde_json::json!({
            "hosts": hosts, "policy": policy, "shapes": stream.shapes.len(),
            "shapes_asked_for": shapes,
            "ns_per_placement": {
                "rows": rows, "fast": fast, "packed_scan": packed, "specialised_index": grid,
            },
            "ratios": {
                "rows_to_fast": rows_ratio, "packed_scan_to_fast": scan_ratio,
                "fast_to_specialised_index": index_ratio, "custom_to_plain": custom_ratio,
            },
            "refused": contest.refused, "index_bytes_per_host": bytes,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(
            out,
            "{hosts:>9} {policy:<12} {:>6} {rows:>12.0} {fast:>9.0} {packed:>12.0} {grid:>12.0} \
             {scan_ratio:>8.2} {index_ratio:>8.2} {custom_ratio:>7.2} {bytes:>7.0}",
            stream.shapes.len()
        )?;
    }
    Ok(())
}

/// The events up to and with so many arrivals, and the rest.
fn split(
    events: &[nova_benches::stream::Event],
    arrivals: usize,
) -> (&[nova_benches::stream::Event], &[nova_benches::stream::Event]) {
    use nova_benches::stream::Event;
    let mut left = arrivals;
    let at = events.iter().position(|event| {
        left -= usize::from(matches!(event, Event::Arrival(_)));
        left == 0
    });
    events.split_at(at.map_or(events.len(), |at| at + 1))
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
