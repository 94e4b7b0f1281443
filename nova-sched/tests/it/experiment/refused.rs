//! What is no experiment, and what is said about it.

use nova_sched::sim::experiment::{Bench, Experiment, Silence};

use super::SMALL;

/// The first experiment with `from` put in the place of `to` is refused with these words.
#[track_caller]
fn check(from: &str, to: &str, said: &str) {
    assert!(SMALL.contains(from), "{from}");
    let refused = Experiment::from_toml(&SMALL.replacen(from, to, 1)).and_then(|e| e.runs());
    let refused = refused.map(|runs| runs.len()).unwrap_err().to_string();
    assert!(refused.contains(said), "{refused}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    check("[1, 2, 3]", "[]", "seeds is empty");
    check("[1, 2, 3]", "[1, 1]", "seeds has \"1\" twice");
    check("[1, 2, 3]", "[-1]", "invalid value");
    check("baseline = \"best-fit\"", "baseline = \"x\"", "baseline \"x\" is none of the policies");
    check("file = \"told.csv\",", "", "trace \"told\" needs either a file or a recipe");
    check("window_s = 3600", "window_s = 0", "window_s is at least 1");
    check("window_s = 3600", "copies = 0", "copies are 1 to 10000");
    check("{ name = \"worst-fit\" }", "{ name = \"best-fit\" }", "policies has \"best-fit\" twice");
    check("sample_every_s = 600", "sample_every_s = 0", "1 to 31536000");
    check("sample_every_s = 600", "cpu_use = { untold_permille = 1001 }", "0 to 1000");
    let relieve = "{ name = \"worst-fit\", planner = { relieve = { above = 1.5 } } }";
    check("{ name = \"worst-fit\" }", relieve, "shares are 0 to 1");
    check("name = \"drawn\"", "name = \"drawn\", courses = {}", "neither they nor it have a file");
    check("sample_every_s = 600", "sample_every = 600", "unknown field `sample_every`");
}

#[test]
fn sweeps_that_make_no_sense_are_refused_by_name() {
    let set = "scenario.waiting.patience_s";
    check(set, "seeds", "it can set something of traces");
    check(set, "clusters.1.hosts", "\"clusters.1.hosts\", which is not there");
    check(set, "clusters.x", "which is not there");
    check(set, "scenario.waiting.patience", "unknown field `patience`");
    check("[60, 600]", "[]", "has no values");
    check("[60, 600]", "[60, 60]", "has \"60\" twice");
    check("[60, 600]", "[0]", "1 to 1000000000");
    check("[60, 600]", &format!("{:?}", Vec::from_iter(1..500_000)), "at most 1000000 are allowed");
}

#[test]
fn what_cannot_run_is_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let check = |from: &str, to: &str, said: &str| {
        let mut experiment = super::small(folder.path());
        let text = SMALL.replacen(from, to, 1);
        std::fs::write(folder.path().join("x.toml"), text).unwrap();
        experiment.clone_from(&Experiment::read(&folder.path().join("x.toml")).unwrap());
        let refused = Bench::new(experiment, folder.path().join("out")).run(&Silence).unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(!folder.path().join("out").exists());
    };
    // The last policy: the first would have run.
    check("{ name = \"best-fit\" }]", "{ name = \"best-fit\" }, { name = \"x\" }]", "policy \"x\"");
    check("count = 5", "count = 0", "hosts");
    check("told.csv", "nowhere.csv", "nowhere.csv");
    check("told.csv\"", "told.csv\", courses = { file = \"nowhere\" }", "nowhere");
}

#[test]
fn parts_and_threads_are_in_their_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let bench = || Bench::new(super::small(folder.path()), "out");
    assert!(bench().with_shard(0, 3).is_err() && bench().with_shard(4, 3).is_err());
    assert!(bench().with_threads(0).is_err() && bench().with_threads(1025).is_err());
}
