//! Real traces, where they are.

use nova_core::domain::*;
use nova_sched::sim::trace::planetlab::series;
use nova_sched::sim::trace::{ReadOptions, TraceRow, open};

use crate::sim::replay::trace_file;

/// All rows of a trace that is there.
fn rows(name: &str) -> Option<Vec<TraceRow>> {
    let file = trace_file(name);
    if !file.exists() {
        println!("skipped: the trace {} is not there (set NOVA_TRACES)", file.display());
        return None;
    }
    let rows = open(&file, None, &ReadOptions::default()).unwrap();
    Some(rows.collect::<Result<_, _>>().unwrap())
}

#[test]
fn every_row_of_the_plain_traces_is_read() {
    let counts = |name| {
        let rows = rows(name)?;
        let gone = rows.iter().filter(|row| row.end_s.is_some()).count();
        let mut shapes: Vec<_> = rows.iter().map(|row| (row.vcpus, row.memory)).collect();
        shapes.sort_unstable();
        shapes.dedup();
        Some((rows.len(), gone, shapes.len()))
    };
    if let Some(counts) = counts("azure_v1_dev.csv") {
        assert_eq!(counts, (259_159, 244_010, 16));
    }
    if let Some(counts) = counts("huawei_like.csv") {
        assert_eq!(counts, (125_430, 116_313, 15));
    }
}

#[test]
fn every_pod_of_openb_is_read_in_order() {
    let Some(rows) = rows("openb/openb_pod_list_default.csv") else { return };
    assert_eq!(rows.len(), 8152);
    assert!(rows.is_sorted_by_key(|row| row.arrival_s));
    let best_effort = rows.iter().filter(|row| row.priority == 0).count();
    assert_eq!(best_effort, 3398);
    let first = rows.iter().find(|row| row.line == 2).unwrap();
    let shape = (first.vcpus, first.memory, first.arrival_s, first.end_s);
    assert_eq!(shape, (Vcpus(12), MiB(16384), 0, Some(12_537_496)));
}

#[test]
fn a_day_of_planetlab_is_read() {
    let Some(rows) = rows("planetlab/20110303.tar.gz") else { return };
    assert_eq!(rows.len(), 1052);
    assert!(rows.iter().all(|row| row.end_s == Some(86_400) && row.cpu_permille.is_some()));
    let all = series(&trace_file("planetlab/20110303.tar.gz")).unwrap();
    for (series, row) in all.map(Result::unwrap).zip(&rows) {
        assert_eq!((series.percents.len(), series.mean_permille()), (288, row.cpu_permille));
    }
}
