//! OpenDC's tables: rows, use, series, what is wrong with them, and bytes from anybody.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nova_sched::sim::trace::opendc::series;
use nova_sched::sim::trace::planetlab::Series;
use nova_sched::sim::trace::sort::SortOptions;
use nova_sched::sim::trace::{Format, MemoryUnit, ReadOptions, TraceError, open, read};
use proptest::prelude::*;

use super::all;
use crate::sim::replay::trace_file;
use crate::table::{Column, file};

/// Three tasks: 7 is the last to come, 8 the first.
fn tasks() -> [(&'static str, Column); 6] {
    [
        ("id", Column::i32(&[7, 8, 9])),
        ("submission_time", Column::i64(&[61_999, 1000, 2500])),
        ("duration", Column::i64(&[600_000, 900_500, 0])),
        ("cpu_count", Column::i32(&[2, 4, 1])),
        ("cpu_capacity", Column::f64(&[4000.0, 8000.0, 2000.0])),
        ("mem_capacity", Column::i64(&[4096, 1024, 0])),
    ]
}

fn fragments() -> [(&'static str, Column); 3] {
    [
        ("id", Column::i32(&[7, 7, 8, 5, 7, 8])),
        ("duration", Column::i64(&[150_000, 150_000, 300_000, 1, 300_000, 600_500])),
        ("cpu_usage", Column::f64(&[1000.0, 3000.0, 9000.0, 1.0, 4000.0, 0.0])),
    ]
}

/// The files, with so many rows in a group.
fn folder(files: &[(&str, &[(&str, Column)])], group: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, columns) in files {
        fs::write(folder.path().join(name), file(columns, group)).unwrap();
    }
    folder
}

/// What comes out of a folder with these tasks and fragments, however they are cut.
fn check(tasks: &[(&str, Column)], fragments: &[(&str, Column)], expected: &[&str]) {
    for group in [1, 2, 100] {
        let folder = folder(&[("tasks.parquet", tasks), ("fragments.parquet", fragments)], group);
        for format in [None, Some(Format::OpenDc)] {
            let rows = all(open(folder.path(), format, &ReadOptions::default()));
            assert_eq!(rows, expected, "groups of {group}, {format:?}");
        }
    }
}

/// As `check`, of the tasks alone.
fn check_alone(tasks: &[(&str, Column)], expected: &[&str]) {
    let bytes = file(tasks, 2);
    for format in [None, Some(Format::OpenDc)] {
        let reader = std::io::Cursor::new(super::gz(&bytes));
        assert_eq!(all(read(reader, format, &ReadOptions::default())), expected, "{format:?}");
    }
}

#[test]
fn tasks_come_out_in_the_order_of_submission_from_the_first_on() {
    check_alone(&tasks(), &["2: vm 8 0-900 4x1024", "3: vm 9 1-1 1x1", "1: vm 7 60-660 2x4096"]);
}

#[test]
fn use_is_weighted_by_time_and_never_more_than_the_capacity() {
    check(
        &tasks(),
        &fragments(),
        &["2: vm 8 0-900 4x1024 cpu 333", "3: vm 9 1-1 1x1", "1: vm 7 60-660 2x4096 cpu 750"],
    );
}

#[test]
fn older_names_texts_and_timestamps_are_read() {
    let tasks = [
        ("id", Column::Text(vec![Some("17"), Some("node-1")])),
        ("start_time", Column::Micros(vec![Some(5_000_000), Some(5_000_999)])),
        ("stop_time", Column::Micros(vec![Some(9_000_000), Some(8_000_000)])),
        // As some write whole numbers that may be missing.
        ("cpu_count", Column::f64(&[2.0, 1.0])),
        ("cpu_capacity", Column::f64(&[100.0, 100.0])),
        ("mem_capacity", Column::i64(&[512, 512])),
        ("nature", Column::Text(vec![None, Some("deferrable")])),
    ];
    let fragments = [
        ("id", Column::Text(vec![Some("node-1"), Some("17")])),
        ("duration", Column::i64(&[3000, 4000])),
        ("cpu_usage", Column::f64(&[25.0, 50.0])),
    ];
    // The first 8 bytes of the SHA-256 of "node-1".
    let hashed = format!("2: vm {} 0-3 1x512 cpu 250", 0x3597_1be6_e9bb_024a_u64);
    let expected = ["1: vm 17 0-4 2x512 cpu 500", hashed.as_str()];
    let folder = folder(&[("meta.parquet", &tasks), ("trace.parquet", &fragments)], 100);
    assert_eq!(all(open(folder.path(), None, &ReadOptions::default())), expected);
}

#[test]
fn memory_is_told_in_one_unit_or_the_other() {
    let bytes = file(&tasks(), 100);
    let options = ReadOptions::default().with_memory_unit(MemoryUnit::KiB);
    let rows = all(read(std::io::Cursor::new(bytes), None, &options));
    assert_eq!(rows, ["2: vm 8 0-900 4x1", "3: vm 9 1-1 1x1", "1: vm 7 60-660 2x4"]);
}

#[test]
fn bad_rows_are_named_with_their_table_and_the_others_are_unharmed() {
    let tasks = [
        ("id", Column::I64(vec![Some(1), None, Some(3), Some(4), Some(-5), Some(6)])),
        ("submission_time", Column::I64(vec![Some(0), Some(-9), Some(0), Some(0), Some(0), None])),
        ("duration", Column::i64(&[1000, 1, -1, 1000, 1, 1])),
        ("cpu_count", Column::i32(&[1, 1, 1, 0, 1, 1])),
        ("cpu_capacity", Column::f64(&[10.0, 10.0, 10.0, 10.0, 10.0, 10.0])),
        ("mem_capacity", Column::i64(&[1, 1, 1, 1, 1, 1])),
    ];
    let fragments = [
        ("id", Column::i32(&[1, 1, 1])),
        ("duration", Column::I64(vec![Some(10), None, Some(10)])),
        ("cpu_usage", Column::f64(&[5.0, 5.0, f64::NAN])),
    ];
    let ms = "allowed: 0 to 10^15 milliseconds";
    check(
        &tasks,
        &fragments,
        &[
            &format!("line 2: fragments, line 2: duration: \"nothing\" is not allowed; {ms}"),
            "line 3: fragments, line 3: cpu_usage: \"NaN\" is not allowed; allowed: 0 to 10^12 MHz",
            "1: vm 1 0-1 1x1 cpu 500",
            "line 2: id: \"nothing\" is not allowed; allowed: a text, or a number from 0",
            &format!("line 3: duration: \"-1\" is not allowed; {ms}"),
            "line 4: cpu_count: \"0\" is not allowed; allowed: 1 to 4096",
            "line 5: id: \"-5\" is not allowed; allowed: a text, or a number from 0",
            "line 6: submission_time: \"nothing\" is not allowed; allowed: a time in milliseconds",
        ],
    );
}

#[test]
fn a_table_without_a_column_is_refused_by_name() {
    let mut few = tasks().to_vec();
    few.remove(3);
    let bytes = file(&few, 100);
    let error = |format| {
        let rows = read(std::io::Cursor::new(bytes.clone()), format, &ReadOptions::default());
        rows.map(|_| ()).unwrap_err().to_string()
    };
    let found = "id, submission_time, duration, cpu_capacity, mem_capacity";
    assert_eq!(
        error(Some(Format::OpenDc)),
        format!("the table has no column cpu_count; it has {found}")
    );
    let unknown = "line 1: no known format begins with \"PAR1, a table of ";
    assert!(error(None).starts_with(unknown), "{}", error(None));
    let folder = folder(&[("tasks.parquet", &tasks()), ("fragments.parquet", &few)], 100);
    let rows = all(open(folder.path(), None, &ReadOptions::default()));
    assert_eq!(rows, [format!("the table has no column cpu_usage; it has {found}")]);
}

fn courses(folder: &Path, memory_bytes: usize) -> BTreeMap<String, Vec<u8>> {
    let sort = SortOptions::default().with_memory_bytes(memory_bytes);
    let all = series(folder, &sort).unwrap().map(Result::unwrap);
    all.map(|Series { name, percents }| (name, percents)).collect()
}

#[test]
fn series_are_means_of_five_minutes_in_time_order() {
    for group in [1, 100] {
        let folder =
            folder(&[("tasks.parquet", &tasks()), ("fragments.parquet", &fragments())], group);
        let courses = courses(folder.path(), 1 << 20);
        let expected = [("7", vec![50, 100]), ("8", vec![100, 0, 0, 0])];
        let expected = expected.map(|(name, percents)| (name.to_owned(), percents));
        assert_eq!(courses, BTreeMap::from(expected));
    }
}

#[test]
fn a_series_that_would_never_end_is_refused() {
    let endless = [
        ("id", Column::i32(&[7])),
        ("duration", Column::i64(&[1_000_000_000_000_000])),
        ("cpu_usage", Column::f64(&[1.0])),
    ];
    let folder = folder(&[("tasks.parquet", &tasks()), ("fragments.parquet", &endless)], 1);
    let all: Vec<_> = series(folder.path(), &SortOptions::default()).unwrap().collect();
    assert!(matches!(&all[..], [Err(TraceError::TooMany { .. })]), "{all:?}");
}

#[test]
fn a_folder_without_fragments_has_rows_but_no_series() {
    let folder = folder(&[("tasks.parquet", &tasks())], 100);
    assert_eq!(all(open(folder.path(), None, &ReadOptions::default())).len(), 3);
    let series = series(folder.path(), &SortOptions::default());
    assert!(matches!(series.map(|_| ()), Err(TraceError::Read(_))));
}

/// Tasks and fragments of one to five minutes, of which some tell of other tasks.
type Drawn = (Vec<(i64, i64)>, Vec<(i32, i64, u16)>);

fn drawn() -> impl Strategy<Value = Drawn> {
    let task = (0_i64..100_000_000, 0_i64..10_000_000);
    (1_usize..8).prop_flat_map(move |count| {
        let fragment = (0..count as i32 + 1, (1_i64..6).prop_map(|m| m * 60_000), 0_u16..1300);
        let fragments = prop::collection::vec(fragment, 0..60);
        (prop::collection::vec(task.clone(), count), fragments)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_and_series_tell_what_the_tables_say(
        (tasks, fragments) in drawn(),
        group in 1_usize..40,
    ) {
        let count = tasks.len();
        let columns = [
            ("id", Column::i32(&(0..count as i32).collect::<Vec<_>>())),
            ("submission_time", Column::i64(&tasks.iter().map(|t| t.0).collect::<Vec<_>>())),
            ("duration", Column::i64(&tasks.iter().map(|t| t.1).collect::<Vec<_>>())),
            ("cpu_count", Column::i32(&vec![1; count])),
            ("cpu_capacity", Column::f64(&vec![1000.0; count])),
            ("mem_capacity", Column::i64(&vec![1; count])),
        ];
        let used = [
            ("id", Column::i32(&fragments.iter().map(|f| f.0).collect::<Vec<_>>())),
            ("duration", Column::i64(&fragments.iter().map(|f| f.1).collect::<Vec<_>>())),
            ("cpu_usage", Column::f64(&fragments.iter().map(|f| f.2.into()).collect::<Vec<_>>())),
        ];
        let folder =
            folder(&[("tasks.parquet", &columns), ("fragments.parquet", &used)], group);
        let rows = open(folder.path(), None, &ReadOptions::default()).unwrap();
        let rows: Vec<_> = rows.map(Result::unwrap).collect();

        // Minute by minute.
        let mut minutes = vec![Vec::new(); count + 1];
        for (id, ms, mhz) in &fragments {
            let used = (*mhz).min(1000);
            minutes[*id as usize].extend(vec![u64::from(used); (ms / 60_000) as usize]);
        }
        let first = tasks.iter().map(|task| task.0).min().unwrap();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|task| (tasks[*task].0 - first) / 1000);
        prop_assert_eq!(rows.iter().map(|row| row.vm as usize).collect::<Vec<_>>(), order);
        for row in &rows {
            let (at, ms) = tasks[row.vm as usize];
            prop_assert_eq!(row.arrival_s as i64, (at - first) / 1000);
            prop_assert_eq!(row.end_s, Some(((at - first + ms) / 1000) as u64));
            let minutes = &minutes[row.vm as usize];
            let sum: u64 = minutes.iter().sum();
            let mean = (!minutes.is_empty()).then(|| (sum as f64 / minutes.len() as f64).round());
            prop_assert_eq!(row.cpu_permille.map(f64::from), mean);
        }
        let expected: BTreeMap<String, Vec<u8>> = (0..count)
            .filter(|task| !minutes[*task].is_empty())
            .map(|task| {
                let mean = |five: &[u64]| {
                    (five.iter().sum::<u64>() as f64 / (five.len() * 10) as f64).round() as u8
                };
                (task.to_string(), minutes[task].chunks(5).map(mean).collect())
            })
            .collect();
        prop_assert_eq!(courses(folder.path(), 1 << 20), expected.clone());
        prop_assert_eq!(courses(folder.path(), 1), expected);
    }
}

#[test]
fn real_traces_tell_what_another_program_reads_in_them() {
    // Summed up by pyarrow and a few lines of Python.
    let known = [
        ("v4/bitbrains-small", 50, 4204, 597_718, Some((50, 403_581, 3_611_465))),
        ("v5/surf_week", 6295, 3_080_402, 629_500_000, Some((6295, 236_489, 15_318_075))),
        ("v5/surf_month", 68_648, 0, 6_864_800_000, None),
    ];
    for (name, count, permille, mib, courses) in known {
        let folder = trace_file(&format!("opendc/{name}"));
        if !folder.exists() {
            println!("skipped: {} is not there (set NOVA_TRACES)", folder.display());
            continue;
        }
        let unit = if name.starts_with("v4") { MemoryUnit::KiB } else { MemoryUnit::MiB };
        let options = ReadOptions::default().with_memory_unit(unit);
        let rows: Vec<_> =
            open(&folder, None, &options).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(rows.is_sorted_by_key(|row| row.arrival_s) && rows[0].arrival_s == 0, "{name}");
        let of_use: u64 = rows.iter().filter_map(|row| row.cpu_permille).map(u64::from).sum();
        let memory: u64 = rows.iter().map(|row| row.memory.get()).sum();
        assert_eq!((rows.len(), of_use, memory), (count, permille, mib), "{name}");
        if let Some(known) = courses {
            let all = self::courses(&folder, 16 << 20);
            let samples: usize = all.values().map(Vec::len).sum();
            let sum: u64 = all.values().flatten().map(|percent| u64::from(*percent)).sum();
            assert_eq!((all.len(), samples, sum), known, "{name}");
        }
    }
}
