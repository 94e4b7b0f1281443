//! What each part of a scenario promises, one claim a test.
//!
//! Every run here is small, its log is read as words, and the second account agrees with it.

mod contending;
mod failing;
mod keeping;
mod moving;
mod preempting;
mod using;
mod waiting;

use nova_core::domain::{MiB, Vcpus};
use nova_sched::sim::{ClusterConfig, HostGroup, Report, Scenario};

use super::checker::Row;
use super::runs::{Mover, Policy, Run};

/// So many hosts of 4 vCPU and 4096 MiB, on which rows arrive first-fit: one a word, written
/// `vm:arrival-end:vcpus`, with `-` and no end for what stays, then `p` and a priority, `g` and a
/// gang, `m` and MiB, `u` and thousandths of use where they
/// matter.
fn run(hosts: u32, rows: &str, change: impl FnOnce(&mut Scenario)) -> Run {
    let mut scenario = Scenario::default();
    change(&mut scenario);
    Run {
        cluster: ClusterConfig { hosts: vec![HostGroup::new("h", hosts, Vcpus(4), MiB(4096))] },
        rows: rows.split_whitespace().map(row).collect(),
        scenario,
        policy: Policy::Named("first-fit"),
        mover: Mover::Nobody,
        courses: None,
        seed: 1,
    }
}

fn row(word: &str) -> Row {
    let parts: Vec<&str> = word.split(':').collect();
    let [vm, times, vcpus, more @ ..] = &parts[..] else { panic!("{word} is no row") };
    let (arrival, end) = times.split_once('-').unwrap();
    let more_of = |sign: char| more.iter().find_map(|more| more.strip_prefix(sign)?.parse().ok());
    Row {
        vm: vm.parse().unwrap(),
        arrival_s: arrival.parse().unwrap(),
        end_s: end.parse().ok(),
        takes: [vcpus.parse().unwrap(), more_of('m').unwrap_or(1), 0],
        priority: more_of('p').unwrap_or(0) as u8,
        gang: more_of('g'),
        cpu_permille: more_of('u').map(|permille| permille as u16),
    }
}

/// The lines of a log in short: `seconds what vm host to why`, without arrivals.
fn told(log: &str) -> Vec<String> {
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines = lines.filter(|line| line["what"] != "arrived");
    lines
        .map(|line| {
            let mut words = vec![format!("{}", line["t"].as_u64().unwrap() as f64 / 1000.0)];
            for name in ["what", "vm", "host", "to", "why", "arrived"] {
                match &line[name] {
                    serde_json::Value::Null => {}
                    serde_json::Value::String(word) => words.push(word.replace("-000000", "")),
                    other => words.push(other.to_string()),
                }
            }
            words.join(" ")
        })
        .collect()
}

/// The lines of the run, but for departures, and its report.
fn check(run: &Run, expected: &[&str]) -> Report {
    let (log, report) = run.checked();
    let told: Vec<String> =
        told(&log).into_iter().filter(|line| !line.contains("departed")).collect();
    assert_eq!(told, expected);
    report
}
