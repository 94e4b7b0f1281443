//! Tables as Parquet files say what the CSV says.

use std::collections::BTreeMap;
use std::path::Path;

use nova_sched::sim::experiment::{Bench, Experiment};

use super::{SMALL, files, run, small};
use crate::table;

/// The cells of CSV: none of these tables has a quote in it.
fn cells(csv: &[u8]) -> Vec<Vec<String>> {
    let text = std::str::from_utf8(csv).unwrap();
    assert!(!text.contains('"'));
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// The type of a column by its name.
fn kind(table: &str, column: &str) -> &'static str {
    let is = |names: &[&str]| names.contains(&column);
    let texts = ["id", "trace", "cluster", "policy", "metric", "baseline"];
    let whole = ["at_s", "vms", "waiting", "moving", "vcpus", "memory_mib", "disk_gib"];
    match table {
        _ if is(&texts) || column.starts_with("scenario.") => "BYTE_ARRAY",
        "results.csv" if column == "seed" => "INT64",
        "comparison.csv" if is(&["seeds", "pairs"]) => "INT64",
        "results.csv" | "comparison.csv" => "DOUBLE",
        _ if column == "n_plus_one" => "BOOLEAN",
        _ if is(&whole) || column.starts_with("hosts_") => "INT64",
        _ => "DOUBLE",
    }
}

fn publish(folder: &Path, parquet: bool) -> BTreeMap<String, Vec<u8>> {
    let bench = Bench::new(small(folder), folder.join("out"));
    let bench = if parquet { bench.with_parquet() } else { bench };
    run(&bench);
    bench.publish().unwrap();
    files(bench.folder())
}

#[test]
fn every_csv_has_a_table_beside_it_with_the_same_cells() {
    let folder = tempfile::tempdir().unwrap();
    let all = publish(folder.path(), true);
    let mut compared = (0, 0);
    for (name, bytes) in all.iter().filter(|(name, _)| name.ends_with(".csv")) {
        let csv = cells(bytes);
        let path = folder.path().join("out").join(name).with_extension("parquet");
        let (columns, rows) = table::read(&path);
        let expected: Vec<String> =
            csv[0].iter().map(|column| format!("{column}: {}", kind(name, column))).collect();
        assert_eq!(columns, expected, "{name}");
        assert!(rows == csv[1..], "{name}");
        compared = (compared.0 + 1, compared.1 + rows.len());
    }
    // A series for each of 24 runs, the results, the comparison.
    assert_eq!(compared.0, 26);
    assert!(compared.1 > 26 * 5, "{compared:?}");
}

#[test]
fn tables_are_the_same_bytes_every_time_and_nothing_else_is_another() {
    let [with, again, without] = [true, true, false].map(|parquet| {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), parquet)
    });
    assert!(with == again);
    let (tables, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        with.into_iter().partition(|(name, _)| name.ends_with(".parquet"));
    assert_eq!(tables.len(), 26);
    assert!(others == without);
}

#[test]
fn runs_that_were_there_get_their_tables_later() {
    let folder = tempfile::tempdir().unwrap();
    let before = publish(folder.path(), false);
    assert!(!before.keys().any(|name| name.ends_with(".parquet")));
    let after = publish(folder.path(), true);
    assert_eq!(after.len(), before.len() + 26);
}

#[test]
fn what_is_not_drawn_has_its_series_nevertheless() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path());
    // More settings than a page draws.
    let values: Vec<u64> = (1..=30).collect();
    let text = SMALL.replace("seeds = [1, 2, 3]", "seeds = [1]");
    let text = text.replace("[60, 600]", &format!("{values:?}"));
    std::fs::write(folder.path().join("many.toml"), text).unwrap();
    let experiment = Experiment::read(&folder.path().join("many.toml")).unwrap();
    let bench = Bench::new(experiment, folder.path().join("out")).with_parquet();
    let outcomes = run(&bench);
    assert_eq!(outcomes.len(), 30 * 2 * 2);
    bench.publish().unwrap();
    for outcome in outcomes {
        let path = bench.folder().join(format!("series/{}.parquet", outcome.id));
        assert_eq!(table::read(&path).1.len(), outcome.report.series.len(), "{}", path.display());
    }
}
