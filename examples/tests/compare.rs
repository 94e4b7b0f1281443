//! What `compare_policies` makes of a few words, and the experiments that lie beside it.

use std::path::Path;

use nova_examples::compare::{Question, folder_of, shard};
use nova_sched::sim::experiment::{Bench, Experiment, Silence};

/// Ten VMs with 4 vCPUs, one every thousand seconds, each for so long.
fn question(folder: &Path, lifetime_s: u64) -> Question {
    let rows = (0..10).map(|n| format!("{n},{},{},4,1024\n", n * 1000, n * 1000 + lifetime_s));
    let file = folder.join("trace.csv");
    let head = "vm,arrival_s,end_s,vcpu,mem_mib\n".to_owned();
    std::fs::write(&file, head + &rows.collect::<String>()).unwrap();
    let mut question = Question::default();
    question.trace = Some(file);
    question.host.vcpus = nova_core::domain::Vcpus(4);
    question
}

#[test]
fn there_are_as_many_hosts_as_the_peak_needs() {
    let folder = tempfile::tempdir().unwrap();
    // One that leaves in the moment in which another comes makes room for it.
    for (lifetime_s, hosts) in [(1000, 1), (1001, 2), (5500, 6), (100_000, 10)] {
        let experiment = question(folder.path(), lifetime_s).experiment().unwrap();
        assert_eq!(experiment.clusters[0].hosts[0].count, hosts, "{lifetime_s}");
    }
    let mut told = question(folder.path(), 1000);
    told.hosts = vec![3, 5];
    let experiment = told.experiment().unwrap();
    let names: Vec<&str> = experiment.clusters.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["3 hosts", "5 hosts"]);
}

#[test]
fn seeds_see_windows_of_a_trace_that_is_longer() {
    let folder = tempfile::tempdir().unwrap();
    let mut question = question(folder.path(), 1000);
    for (window_h, window_s) in [(1, Some(3600)), (2, Some(7200)), (3, None), (0, None)] {
        question.window_h = window_h;
        assert_eq!(question.experiment().unwrap().traces[0].window_s, window_s);
    }
}

#[test]
fn what_is_asked_without_words_can_run() {
    let experiment = Question::default().experiment().unwrap();
    assert_eq!(experiment.runs().unwrap().len(), 50);
    assert_eq!(experiment.compared_with(), "best-fit");
}

#[test]
fn a_question_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut question = question(folder.path(), 5500);
    question.seeds = 2;
    question.window_h = 1;
    let bench = Bench::new(question.experiment().unwrap(), folder.path().join("out"));
    assert_eq!(bench.run(&Silence).unwrap().len(), 10);
    assert_eq!(bench.missing().unwrap(), [] as [String; 0]);
    assert_eq!(bench.publish().unwrap().runs, 10);
}

#[test]
fn the_experiments_beside_it_make_sense() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    for (name, runs) in [("first", 120), ("failures", 72)] {
        let experiment = Experiment::read(&folder.join(format!("{name}.toml"))).unwrap();
        assert_eq!((experiment.name.as_str(), experiment.runs().unwrap().len()), (name, runs));
    }
}

#[test]
fn arguments_are_read_or_refused() {
    assert_eq!(shard("2/3"), Ok((2, 3)));
    for text in ["", "2", "/", "2/x", "-1/3", "1/2/3"] {
        assert!(shard(text).is_err(), "{text:?}");
    }
    assert_eq!(folder_of(None), Path::new("target/experiments/compare_policies"));
    assert_eq!(folder_of(Some("a/first.toml".as_ref())), Path::new("target/experiments/first"));
}
