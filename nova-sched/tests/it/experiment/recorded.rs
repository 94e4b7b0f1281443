//! Experiments on a log of decisions: its servers, on its hosts, as they asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nova_core::domain::*;
use nova_core::memory::VirtualClock;
use nova_core::port::Scheduler as _;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::explain::DecisionLog;
use nova_sched::sim::experiment::{Bench, Experiment, Silence};

use crate::kit::{host, request};

/// Forty servers on two hosts of a zone and one of another, of which every second may be in the
/// first only; each leaves when the fourth after it comes.
fn log() -> Vec<u8> {
    let mut other = host(3, 32, 65_536);
    other.zone = ZoneName::new("b").unwrap();
    let mut hosts = HostTable::new([host(1, 8, 8192), host(2, 8, 8192), other]);
    let clock = Arc::new(VirtualClock::new());
    let log = DecisionLog::new(FilterScheduler::first_fit(), clock.clone(), Vec::new());
    for nth in 0..40_u128 {
        clock.advance(Duration::from_secs(60));
        for row in hosts.rows().map(|row| row.id).collect::<Vec<_>>() {
            hosts.update(row, |row| _ = row.release(InstanceId::from_u128(nth.wrapping_sub(4))));
        }
        let mut asked = request(1, 4, 512);
        asked.instances = vec![InstanceId::from_u128(nth)];
        asked.zone = (nth % 2 == 0).then(|| ZoneName::new("a").unwrap());
        let placed = log.find(&hosts, &asked, Seed::new(1)).unwrap().hosts;
        hosts.update(placed[0], |row| row.claim_flavor(asked.instances[0], &asked.flavor));
    }
    log.finish().unwrap()
}

fn experiment(folder: &Path, cluster: &str, trace: &str) -> Experiment {
    std::fs::write(folder.join("week.log"), log()).unwrap();
    let text = format!(
        r#"
            name = "week"
            seeds = [1]
            traces = [{{ name = "week", {trace} }}]
            clusters = [{{ name = "c", {cluster} }}]
            policies = [{{ name = "first-fit" }}, {{ name = "worst-fit" }}]
        "#
    );
    std::fs::write(folder.join("week.toml"), text).unwrap();
    Experiment::read(&folder.join("week.toml")).unwrap()
}

const LIKE_RECORDED: &str =
    "hosts = [{ name = \"h\", count = 3, vcpus = 8, memory_mib = 8192, disk_gib = 100 }]";

#[test]
fn the_servers_of_a_log_run_on_its_hosts_and_ask_as_they_did() {
    for (trace, placed) in [
        ("file = \"week.log\"", [40, 40]),
        ("file = \"week.log\", format = \"decisions\", copies = 2", [80, 80]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let experiment = experiment(folder.path(), "recorded = true", trace);
        let bench = Bench::new(experiment, folder.path().join("out"));
        let outcomes = bench.run(&Silence).unwrap();
        let of = |n: usize| &outcomes[n].report;
        assert_eq!([of(0).placed, of(1).placed], placed);
        assert_eq!((of(0).hosts, of(0).vcpus.capacity), (3, 48.0));
        // The largest host is in another zone: half of them may not go there.
        if placed[0] == 40 {
            assert!(of(1).peak_hosts_in_use > of(0).peak_hosts_in_use);
        }
    }
}

#[test]
fn other_hosts_do_not_have_their_zones() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(folder.path(), LIKE_RECORDED, "file = \"week.log\"");
    let outcomes = Bench::new(experiment, folder.path().join("out")).run(&Silence).unwrap();
    assert_eq!((outcomes[0].report.placed, outcomes[0].report.rejected), (20, 20));
}

#[test]
fn hosts_are_recorded_or_told() {
    let check = |cluster: &str, trace: &str, why: &str| {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "name = \"e\"\nseeds = [1]\ntraces = [{{ name = \"t\", {trace} }}]\n\
             clusters = [{{ name = \"c\", {cluster} }}]\npolicies = [{{ name = \"nova\" }}]\n"
        );
        let run =
            |text: &str| Bench::new(Experiment::from_toml(text)?, folder.path()).run(&Silence);
        let error = run(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{error:?} does not contain {why:?}");
    };
    let drawn = "synthetic = { rows = 3 }";
    check("recorded = true", drawn, "it is no log of decisions");
    check("recorded = false", drawn, "has either hosts or those that are recorded");
    check(
        "recorded = true, hosts = [{ name = \"h\", count = 1, vcpus = 1, memory_mib = 1 }]",
        drawn,
        "has either",
    );
    check("recorded = true", "file = \"x\", window_s = 5", "is seen in windows");
}
