//! Stopping, going on, threads, shards and folders: none of them is seen in what comes out.

use nova_sched::sim::experiment::{Bench, Experiment};

use super::{Counting, files, run, small};

const ALL: usize = 24;

#[test]
fn threads_and_places_are_not_in_the_results() {
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let one = Bench::new(small(here.path()), here.path().join("out"));
    let two = Bench::new(small(there.path()), there.path().join("out")).with_threads(2).unwrap();
    assert_eq!(run(&one).len(), ALL);
    let outcomes = run(&two);
    let ids = |bench: &Bench| bench.results().unwrap().0.into_iter().map(|o| o.id);
    assert!(ids(&one).eq(outcomes.iter().map(|outcome| outcome.id.clone())));
    assert_eq!(one.publish().unwrap(), two.publish().unwrap());
    let [one, two] = [&one, &two].map(|bench| files(bench.folder()));
    // A report and a series for each run, the manifest, and six files of results.
    assert_eq!(one.len(), 2 * ALL + 7, "{:?}", one.keys());
    assert!(one == two);
    for (name, bytes) in &one {
        let place = here.path().to_str().unwrap().as_bytes();
        assert!(!bytes.windows(place.len()).any(|part| part == place), "{name}");
    }
}

#[test]
fn seeds_and_values_of_sweeps_make_a_difference() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = run(&Bench::new(small(folder.path()), folder.path().join("out")));
    let of = |policy: &str| {
        let same = outcomes.iter().filter(move |o| o.run.policy.name == policy);
        same.map(|o| serde_json::to_string(&o.report).unwrap()).collect::<Vec<_>>()
    };
    for policy in ["best-fit", "worst-fit"] {
        let mut reports = of(policy);
        reports.sort();
        reports.dedup();
        assert_eq!(reports.len(), ALL / 2, "{policy}");
    }
    assert_ne!(of("best-fit"), of("worst-fit"));
}

#[test]
fn a_bench_that_was_stopped_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(small(folder.path()), folder.path().join("out"));
    let stopped = Counting::until(5);
    assert_eq!(bench.run(&stopped).unwrap().len(), 5);
    assert_eq!(stopped.told(), (5, 5, 0));
    let (there, missing) = bench.results().unwrap();
    assert_eq!((there.len(), missing.len()), (5, ALL - 5));

    let before = files(bench.folder());
    let gone_on = Counting::until(ALL);
    assert_eq!(bench.run(&gone_on).unwrap().len(), ALL);
    assert_eq!(gone_on.told(), (ALL - 5, ALL - 5, 5));
    let shares = gone_on.shares();
    assert!(!shares.is_empty() && shares.iter().all(|share| (0.0..=1.0).contains(share)));

    let again = Counting::until(1);
    assert_eq!(bench.run(&again).unwrap().len(), ALL);
    assert_eq!(again.told(), (0, 0, ALL));

    let after = files(bench.folder());
    let kept = before.iter().filter(|(name, _)| *name != "results.csv");
    assert!(kept.into_iter().all(|(name, bytes)| after[name] == *bytes));
    let fresh = Bench::new(small(folder.path()), folder.path().join("fresh"));
    run(&fresh);
    for bench in [&bench, &fresh] {
        bench.publish().unwrap();
    }
    assert!(files(bench.folder()) == files(fresh.folder()));
}

#[test]
fn a_report_that_was_half_written_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(small(folder.path()), folder.path().join("out"));
    let id = run(&bench)[3].id.clone();
    let whole = files(bench.folder());
    let file = bench.folder().join("runs").join(format!("{id}.json"));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let told = Counting::until(ALL);
    bench.run(&told).unwrap();
    assert_eq!(told.told(), (1, 1, ALL - 1));
    assert!(files(bench.folder()) == whole);
}

#[test]
fn shards_of_several_machines_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |name: &str| Bench::new(small(folder.path()), folder.path().join(name));
    let mut count = 0;
    for part in 1..=3 {
        let shard = bench(&format!("part-{part}")).with_shard(part, 3).unwrap();
        count += run(&shard).len();
    }
    assert_eq!(count, ALL);
    let merged = bench("merged");
    for part in 1..=3 {
        let from = folder.path().join(format!("part-{part}"));
        assert_eq!(merged.merge(&from).unwrap(), ALL / 3);
        assert_eq!(merged.merge(&from).unwrap(), 0, "merging twice changes nothing");
    }
    let whole = bench("whole");
    run(&whole);
    for bench in [&merged, &whole] {
        bench.publish().unwrap();
    }
    assert!(files(merged.folder()) == files(whole.folder()));
}

#[test]
fn merging_refuses_what_came_out_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |name: &str| Bench::new(small(folder.path()), folder.path().join(name));
    let (mine, theirs) = (bench("mine"), bench("theirs"));
    let id = run(&mine)[0].id.clone();
    run(&theirs);
    let file = theirs.folder().join("runs").join(format!("{id}.json"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"requests\": ", "\"requests\": 1", 1)).unwrap();
    let refused = mine.merge(theirs.folder()).unwrap_err().to_string();
    assert!(refused.contains("drawn on c by worst-fit, seed 1") && refused.contains("theirs"));
}

#[test]
fn a_trace_that_has_changed_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(small(folder.path()), folder.path().join("out"));
    run(&bench);
    let file = folder.path().join("told.csv");
    let longer = std::fs::read_to_string(&file).unwrap() + "1000,9000,9001,1,1024\n";
    std::fs::write(&file, longer).unwrap();
    let told = Counting::until(ALL);
    Bench::new(bench.experiment().clone(), bench.folder()).run(&told).unwrap();
    assert_eq!(told.told(), (ALL / 2, ALL / 2, ALL / 2));
}

#[test]
fn a_sweep_may_change_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let text = super::SMALL.replace("scenario.waiting.patience_s", "traces.0.synthetic.rows");
    std::fs::write(folder.path().join("sweep.toml"), text).unwrap();
    let _ = small(folder.path());
    let experiment = Experiment::read(&folder.path().join("sweep.toml")).unwrap();
    let outcomes = run(&Bench::new(experiment, folder.path().join("out")));
    for outcome in outcomes.iter().filter(|outcome| outcome.run.trace.name == "drawn") {
        let rows: u64 = outcome.run.swept["traces.0.synthetic.rows"].parse().unwrap();
        assert_eq!(outcome.report.requests, rows);
    }
}
