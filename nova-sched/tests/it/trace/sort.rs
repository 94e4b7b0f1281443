//! Sorting outside of memory is sorting.

use nova_core::domain::*;
use nova_sched::sim::trace::sort::{SortOptions, by_arrival};
use nova_sched::sim::trace::{BadRow, TraceError, TraceRow};
use proptest::prelude::*;

fn row(line: u64, arrival_s: u64) -> TraceRow {
    TraceRow {
        line,
        vm: line * 3,
        arrival_s,
        end_s: (!line.is_multiple_of(3)).then_some(arrival_s + line),
        vcpus: Vcpus(1 + line as u32 % 4096),
        memory: MiB(1 + line),
        disk: GiB(line % 7),
        priority: line as u8,
        gang: line.is_multiple_of(2).then_some(u64::MAX - line),
        cpu_permille: (!line.is_multiple_of(5)).then_some(line as u16 % 1001),
    }
}

fn sorted(arrivals: &[u64], memory_bytes: usize) -> Vec<TraceRow> {
    let rows = arrivals.iter().zip(1..).map(|(arrival_s, line)| Ok(row(line, *arrival_s)));
    let options = SortOptions::default().with_memory_bytes(memory_bytes);
    by_arrival(rows, options).map(Result::unwrap).collect()
}

fn expected(arrivals: &[u64]) -> Vec<TraceRow> {
    let mut rows: Vec<TraceRow> =
        arrivals.iter().zip(1..).map(|(arrival_s, line)| row(line, *arrival_s)).collect();
    rows.sort_by_key(|row| row.arrival_s);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_memory_it_is_a_stable_sort(
        arrivals in proptest::collection::vec(0_u64..20, 0..300),
        memory_bytes in prop_oneof![0_usize..2000, Just(1 << 20)],
    ) {
        prop_assert_eq!(sorted(&arrivals, memory_bytes), expected(&arrivals));
    }
}

#[test]
fn many_runs_are_merged_into_longer_ones() {
    // Two rows a run: 1500 runs, so runs of runs of runs.
    let arrivals: Vec<u64> = (0..3000).map(|row| row * 7919 % 10).collect();
    assert_eq!(sorted(&arrivals, 0), expected(&arrivals));
}

#[test]
fn bad_rows_come_as_they_are_met_and_other_errors_end_it() {
    let bad = |line| Err(TraceError::BadRow { line, why: BadRow::NeverRuns });
    let broken = || Err(TraceError::Read(std::io::ErrorKind::UnexpectedEof.into()));
    let options = || SortOptions::default().with_memory_bytes(0);
    let shown = |rows: Vec<Result<TraceRow, TraceError>>| -> Vec<String> {
        let one = |row: Result<TraceRow, TraceError>| match row {
            Ok(row) => row.line.to_string(),
            Err(error) => error.to_string(),
        };
        by_arrival(rows.into_iter(), options()).map(one).collect()
    };
    let why = "tells of no time at which it runs";
    let rows = vec![Ok(row(1, 9)), bad(2), Ok(row(3, 5)), bad(4), Ok(row(5, 7))];
    let bad_first = [format!("line 2: {why}"), format!("line 4: {why}")];
    assert_eq!(shown(rows), [&bad_first[..], &["3", "5", "1"].map(str::to_owned)].concat());
    let rows = vec![Ok(row(1, 9)), Ok(row(3, 5)), broken(), Ok(row(5, 7))];
    assert_eq!(shown(rows), ["cannot read the trace"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap().path().join("gone");
    let options = SortOptions::default().with_memory_bytes(0).with_folder(folder);
    let rows = (1..9).map(|line| Ok(row(line, 1)));
    let out: Vec<Result<TraceRow, TraceError>> = by_arrival(rows, options).collect();
    assert!(matches!(out[..], [Err(TraceError::Sort(_))]), "{out:?}");
}
