//! Foresight, draws, samples, and traces that are put together.

use nova_core::domain::{HostTable, Invalid, MiB, Placement, Refusal, RequestSpec, Vcpus};
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::sim::policies::PowerOfK;
use nova_sched::sim::trace::{BadRow, TraceError};
use nova_sched::sim::{
    Cluster, EXPECTED_END_S, Foresight, OnBadRow, Scenario, Simulation, Superposed,
};

use super::super::runs::trace;
use super::{Policy, row, run};

/// First-fit that writes down what it is told of ends: the request's, then each host's.
#[derive(Debug)]
struct Curious(FilterScheduler, std::sync::Mutex<Vec<(String, Vec<i64>)>>);

impl std::fmt::Display for Curious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("curious")
    }
}

impl Scheduler for Curious {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let of = |row: &nova_core::domain::HostState| {
            row.report.metrics.get(EXPECTED_END_S).copied().unwrap_or(-1)
        };
        let end = request.hints.custom.get(EXPECTED_END_S).map(|end| end[0].clone());
        let told = (end.unwrap_or_default(), hosts.rows().map(of).collect());
        self.1.lock().unwrap().push(told);
        self.0.select(hosts, request, seed)
    }
    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        self.0.explain(hosts, request)
    }
    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        self.0.check_extra_spec(key, value)
    }
    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        self.0.check_hint(name, words)
    }
}

/// What a scheduler is told with so much noise, on two hosts of 4 vCPU.
fn told_of_ends(noise: Option<f64>, rows: &str) -> Vec<(String, Vec<i64>)> {
    let run = run(2, rows, |scenario| {
        scenario.foresight = noise.map(|noise| Foresight { noise });
        scenario.explain_refusals = 0;
    });
    let curious = Curious(FilterScheduler::first_fit(), Default::default());
    let cluster = Cluster::new(&run.cluster).unwrap();
    let mut simulation =
        Simulation::new(cluster, &curious, run.scenario.clone(), Seed::new(1)).unwrap();
    simulation.run(trace(&run.rows)).unwrap();
    let told = curious.1.lock().unwrap();
    told.clone()
}

#[test]
fn foresight_without_noise_knows_the_end() {
    let rows = "1:0-100:2 2:1-50:2 3:2-70:4 4:60-80:2 5:110-120:1";
    let told = told_of_ends(Some(0.0), rows);
    let expected = [
        ("100", vec![-1, -1]),
        ("50", vec![100, -1]),
        ("70", vec![100, -1]),
        ("80", vec![100, 70]),
        ("120", vec![-1, -1]),
    ];
    assert_eq!(told, expected.map(|(end, hosts)| (end.to_owned(), hosts)));
    assert!(
        told_of_ends(None, rows).iter().all(|(end, hosts)| end.is_empty() && hosts == &[-1, -1])
    );
    assert_ne!(told_of_ends(Some(1.0), rows), told);
}

#[test]
fn power_of_k_draws_k_hosts_and_falls_back_to_all() {
    let hosts = nova_sched::sim::uniform_hosts(
        20,
        nova_core::domain::Resources { vcpus: Vcpus(4), memory: MiB(4096), ..Default::default() },
    )
    .unwrap();
    let request = crate::kit::request(1, 4, 1);
    let policy = PowerOfK::new(2, FilterScheduler::first_fit()).unwrap();
    let choose = |hosts: &HostTable, seed| policy.find(hosts, &request, Seed::new(seed));
    let first = |seed| choose(&hosts, seed).unwrap().hosts[0].as_u128();
    let chosen: Vec<u128> = (0..400).map(first).collect();
    // The lower of two different ones: never the last, the first in a tenth of all draws.
    assert!(chosen.iter().all(|host| *host < 20));
    let of_first = chosen.iter().filter(|host| **host == 1).count();
    assert!((20..65).contains(&of_first), "{of_first}");
    // With one host free, two draws mostly miss it.
    let mut full = hosts;
    for (nth, slot) in full.slots().collect::<Vec<_>>().into_iter().enumerate().skip(1) {
        let takes = request.flavor.resources();
        let vm = nova_core::domain::InstanceId::from_u128(nth as u128);
        full.update_at(slot, |row| row.claim(vm, takes));
    }
    assert!((0..50).all(|seed| choose(&full, seed).unwrap().hosts[0].as_u128() == 1));
}

#[test]
fn another_seed_is_another_log_where_chance_is_used() {
    let rows: String = (1..20).map(|vm| format!("{vm}:{vm}-:1 ")).collect();
    for policy in [Policy::Named("random-fit"), Policy::Few(2)] {
        let log = |seed| {
            let mut run = run(9, &rows, |_| {});
            (run.policy, run.seed) = (policy, seed);
            run.checked().0
        };
        assert_ne!(log(1), log(2), "{policy:?}");
    }
    let first_fit = |seed| {
        let mut run = run(9, &rows, |_| {});
        run.seed = seed;
        run.checked().0
    };
    assert_eq!(first_fit(1), first_fit(2));
}

#[test]
fn how_many_refusals_are_explained_moves_no_draw() {
    let rows: String = (1..40).map(|vm| format!("{vm}:{vm}-{}:3 ", vm + 5)).collect();
    let log = |explained| {
        let mut run = run(4, &rows, |scenario| scenario.explain_refusals = explained);
        run.policy = Policy::Named("random-fit");
        let (log, report) = run.checked();
        assert_eq!(report.refusals_explained, explained.min(report.rejected));
        assert!(report.rejected > 3);
        log
    };
    assert_eq!(log(0), log(3));
    assert_eq!(log(0), log(1000));
}

#[test]
fn a_long_series_is_thinned_evenly() {
    let run = run(1, "1:0-:1 2:9000-:1", |scenario| scenario.sample_every_s = 1);
    let series = run.unwatched().series;
    assert!((2000..=4096).contains(&series.len()), "{}", series.len());
    let gaps: Vec<u64> = series.windows(2).map(|two| two[1].at_s - two[0].at_s).collect();
    assert!(gaps[..gaps.len() - 1].iter().all(|gap| *gap == 4), "{gaps:?}");
}

#[test]
fn traces_that_are_put_together_keep_their_order_and_get_other_numbers() {
    let rows =
        |text: &str| trace(&text.split_whitespace().map(row).collect::<Vec<_>>()).into_iter();
    let traces = [(rows("1:0-9:1 2:5-:1:g3 3:5-:1:g3"), 0), (rows("1:0-9:1 2:2-:1:g3"), 3)];
    let all: Vec<_> = Superposed::new(traces).map(Result::unwrap).collect();
    let shown: Vec<_> =
        all.iter().map(|row| (row.vm, row.arrival_s, row.end_s, row.gang)).collect();
    let second = 1 << 40;
    let expected = [
        (1, 0, Some(9), None),
        (second + 1, 3, Some(12), None),
        (2, 5, None, Some(3)),
        (3, 5, None, Some(3)),
        (second + 2, 5, None, Some(second + 3)),
    ];
    assert_eq!(shown, expected);
    let large = format!("{}:0-:1 2:1-:1", 1_u64 << 40);
    let mut bad = Superposed::new([(rows(&large), 0)]);
    assert!(matches!(bad.next(), Some(Err(TraceError::BadRow { line: 1, why: BadRow::Value(_) }))));
    assert_eq!(bad.next().unwrap().unwrap().vm, 2);
    assert!(bad.next().is_none());
}

#[test]
fn a_row_that_runs_already_ends_measuring_where_it_comes() {
    let rows: Vec<_> = "1:0-:4 1:10-:4".split_whitespace().map(row).collect();
    let run = run(1, "", |scenario| scenario.on_bad_row = OnBadRow::Skip);
    let policy = FilterScheduler::first_fit();
    let report = |scenario: Scenario| {
        let cluster = Cluster::new(&run.cluster).unwrap();
        let mut simulation = Simulation::new(cluster, &policy, scenario, Seed::new(1)).unwrap();
        simulation.run(trace(&rows)).unwrap()
    };
    let report = report(run.scenario.clone());
    assert_eq!((report.bad_rows_skipped, report.requests), (1, 1));
    assert_eq!((report.last_arrival_s, report.vcpus.mean), (Some(10), 4.0));
    assert_eq!(report.series.last().unwrap().at_s, 10);
}
