//! Experiments whose VMs use their vCPUs as series say.

use std::fs;
use std::path::Path;

use nova_sched::sim::experiment::{Bench, Experiment};

use super::{SMALL, run, small};
use crate::trace::opendc;

/// The experiment with series of use for the trace from a file, one of a steady tenth and one that
/// is idle, then busy; hosts may promise more than they have.
fn using(folder: &Path, follow: &str) -> Experiment {
    small(folder);
    fs::create_dir_all(folder.join("use")).unwrap();
    fs::write(folder.join("use/a"), "10\n").unwrap();
    fs::write(folder.join("use/b"), "0\n100\n100\n").unwrap();
    let file = "file = \"told.csv\"";
    let with = format!("{file}, courses = {{ file = \"use\", follow = \"{follow}\" }}");
    let text = SMALL
        .replace(file, &with)
        .replace("memory_mib = 131072", "memory_mib = 131072, vcpu_ratio = 3.0")
        .replace(
            "{ name = \"worst-fit\" }",
            "{ name = \"w\", of = \"worst-fit\", planner = { relieve = { above = 0.8 } } }",
        );
    fs::write(folder.join("using.toml"), text).unwrap();
    Experiment::read(&folder.join("using.toml")).unwrap()
}

#[test]
fn use_is_a_column_where_it_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(using(folder.path(), "drawn"), folder.path().join("out"));
    for outcome in run(&bench) {
        let used = outcome.report.cpu_use;
        // Of the drawn trace no use is told, and nothing is measured.
        assert_eq!(used.is_some(), outcome.run.trace.name == "told");
        let Some(used) = used else { continue };
        assert!(used.peak_wanted > 0.0 && used.overloaded_share < 1.0, "{used:?}");
    }
    bench.publish().unwrap();
    let results = fs::read_to_string(bench.folder().join("results.csv")).unwrap();
    let mut lines = results.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = |name| header.iter().position(|column| *column == name).unwrap();
    for line in lines {
        for name in ["cpu_of_hosts_in_use", "cpu_unserved", "overloaded_share", "sla_violation"] {
            assert_eq!(line[at(name)].is_empty(), line[at("trace")] == "drawn", "{name}: {line:?}");
        }
    }
    let page = fs::read_to_string(bench.folder().join("report.html")).unwrap();
    assert!(page.contains("hosts overloaded, seed 1"));
    assert!(page.contains("wait for a host, distribution"));
}

#[test]
fn other_series_are_other_runs() {
    let folder = tempfile::tempdir().unwrap();
    let ids = |bench: &Bench| -> Vec<String> {
        run(bench)
            .into_iter()
            .filter(|outcome| outcome.run.trace.name == "told")
            .map(|outcome| outcome.id)
            .collect()
    };
    let bench =
        |follow, out: &str| Bench::new(using(folder.path(), follow), folder.path().join(out));
    let drawn = ids(&bench("drawn", "out"));
    assert_eq!(drawn, ids(&bench("drawn", "again")));
    assert_ne!(drawn, ids(&bench("own", "out")));
    let changed = bench("drawn", "changed");
    fs::write(folder.path().join("use/a"), "11\n").unwrap();
    assert_ne!(drawn, ids(&changed));
}

#[test]
fn the_vms_of_opendc_use_what_their_fragments_say() {
    let (tasks, fragments) = (opendc::tasks(), opendc::fragments());
    let folder = opendc::folder(&[("tasks.parquet", &tasks), ("fragments.parquet", &fragments)], 2);
    let text = r#"
        name = "dc"
        seeds = [1]
        traces = [{ name = "dc", file = ".", memory_unit = "mib", courses = {} }]
        clusters = [{ name = "c", hosts = [{ name = "h", count = 1, vcpus = 8, memory_mib = 8192 }] }]
        policies = [{ name = "best-fit" }]
    "#;
    fs::write(folder.path().join("dc.toml"), text).unwrap();
    let experiment = Experiment::read(&folder.path().join("dc.toml")).unwrap();
    let outcomes = run(&Bench::new(experiment, folder.path().join("out")));
    let [outcome] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((outcome.report.requests, outcome.report.placed), (3, 3));
    // All four CPUs of the first in its first five minutes, and half of the two of another.
    let used = outcome.report.cpu_use.unwrap();
    assert!((used.peak_wanted - 5.0).abs() < 1e-9, "{used:?}");
}
