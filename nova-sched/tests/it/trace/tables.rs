//! The plain form as a Parquet file; and bytes from anybody that look like one.

use std::io::{Cursor, Write as _};
use std::path::Path;

use nova_core::domain::*;
use nova_sched::sim::trace::*;
use proptest::prelude::*;

use super::all;
use super::forms::row;
use crate::table::{self, Column};

fn written(rows: &[TraceRow]) -> Vec<u8> {
    let mut writer = ParquetWriter::new(Vec::new()).unwrap();
    for row in rows {
        writer.write(row).unwrap();
    }
    writer.finish().unwrap()
}

/// The columns that must be there.
fn core() -> [(&'static str, Column); 5] {
    [
        ("vm", Column::i64(&[1, 2])),
        ("arrival_s", Column::i64(&[0, 5])),
        ("end_s", Column::I64(vec![Some(9), None])),
        ("vcpu", Column::i32(&[2, 1])),
        ("mem_mib", Column::i64(&[512, 1])),
    ]
}

fn check(columns: &[(&str, Column)], expected: &[&str]) {
    for group in [1, 2, 5] {
        let bytes = table::file(columns, group);
        for format in [None, Some(Format::Parquet)] {
            let rows = read(Cursor::new(super::zstd(&bytes)), format, &ReadOptions::default());
            assert_eq!(all(rows), expected, "groups of {group}, {format:?}");
        }
    }
}

#[test]
fn columns_are_found_by_name_and_others_are_passed_over() {
    let [vm, arrival_s, end_s, vcpu, mem_mib] = core();
    let gang = ("gang", Column::I32(vec![None, Some(4)]));
    let owner = ("owner", Column::Text(vec![Some("x"), None]));
    let all = [owner, mem_mib, gang, vcpu, end_s, arrival_s, vm];
    check(&all, &["1: vm 1 0-9 2x512", "2: vm 2 5-on 1x1 gang 4"]);
}

#[test]
fn a_bad_row_is_named_and_the_others_are_unharmed() {
    let columns = [
        ("vm", Column::I64(vec![Some(1), Some(-1), None, Some(4), Some(5), Some(6)])),
        ("arrival_s", Column::i64(&[5, 5, 5, 4, 9, 9])),
        ("end_s", Column::i64(&[9, 9, 9, 9, 8, 9])),
        ("vcpu", Column::f64(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.5])),
        ("mem_mib", Column::i64(&[1, 1, 1, 1, 1, 1])),
    ];
    check(
        &columns,
        &[
            "1: vm 1 5-9 1x1",
            "line 2: vm: \"-1\" is not allowed; allowed: a number from 0",
            "line 3: vm: \"nothing\" is not allowed; allowed: a number from 0",
            "line 4: arrives at 4 s, before the row above it at 5 s",
            "line 5: ends at 8 s, before it arrives at 9 s",
            "line 6: vcpu: \"1.5\" is not allowed; allowed: 1 to 4096",
        ],
    );
}

#[test]
fn a_table_without_a_column_is_refused_by_name() {
    let bytes = table::file(&core()[..4], 2);
    let rows = all(read(Cursor::new(bytes), Some(Format::Parquet), &ReadOptions::default()));
    assert_eq!(rows, ["the table has no column mem_mib; it has vm, arrival_s, end_s, vcpu"]);
}

#[test]
fn a_table_of_many_groups_is_a_table_of_one() {
    // More rows than are written, and than are decoded, at once.
    let count = 150_000_u64;
    let one = TraceRow {
        line: 0,
        vm: 0,
        arrival_s: 0,
        end_s: None,
        vcpus: Vcpus(1),
        memory: MiB(1),
        disk: GiB(0),
        priority: 0,
        gang: None,
        cpu_permille: None,
    };
    let rows = (1..=count).map(|line| TraceRow { line, vm: line * 3, arrival_s: line / 7, ..one });
    let rows: Vec<TraceRow> = rows.collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&written(&rows)).unwrap();
    let back = open(file.path(), None, &ReadOptions::default()).unwrap();
    assert!(back.map(Result::unwrap).eq(rows));
    assert_eq!(table::groups(file.path()), 3);
}

#[test]
fn no_rows_are_a_table_too() {
    assert_eq!(all(read(Cursor::new(written(&[])), None, &ReadOptions::default())).len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(mut rows in prop::collection::vec(row(), 0..40)) {
        rows.sort_by_key(|row| row.arrival_s);
        for (row, line) in rows.iter_mut().zip(1..) {
            row.line = line;
        }
        let bytes = written(&rows);
        prop_assert_eq!(&bytes, &written(&rows));
        let back = read(Cursor::new(bytes), None, &ReadOptions::default()).unwrap();
        prop_assert_eq!(back.collect::<Result<Vec<_>, _>>().unwrap(), rows);
    }
}

/// Reads a table in each format, and gives the number of good rows and whether it came to its end.
/// Whatever comes out is a row that a writer would take.
fn read_without_harm(bytes: &[u8]) -> (usize, bool) {
    let (mut good, mut whole) = (0, true);
    for format in [None, Some(Format::OpenDc), Some(Format::Parquet)] {
        let rows = match read(Cursor::new(bytes.to_vec()), format, &ReadOptions::default()) {
            Ok(rows) => rows,
            Err(_) => {
                whole = false;
                continue;
            }
        };
        let mut ended = false;
        for row in rows {
            assert!(!ended, "{format:?} goes on after the end");
            match row {
                Ok(row) => {
                    row.check().unwrap();
                    good += 1;
                }
                Err(TraceError::BadRow { line, .. }) => assert!(line > 0),
                Err(_) => ended = true,
            }
        }
        whole &= !ended;
    }
    (good, whole)
}

/// Tables of both kinds in one: names do not clash.
fn both() -> Vec<u8> {
    let mut columns = core().to_vec();
    columns.extend([
        ("id", Column::Text(vec![Some("a"), Some("b")])),
        ("submission_time", Column::i64(&[3, 4])),
        ("duration", Column::i64(&[3, 4])),
        ("cpu_count", Column::i32(&[3, 4])),
        ("mem_capacity", Column::I32(vec![Some(3), None])),
    ]);
    table::file(&columns, 2)
}

#[test]
fn a_table_that_is_cut_off_is_an_error() {
    let bytes = both();
    let (good, whole) = read_without_harm(&bytes);
    assert_eq!((good, whole), (4, true), "one of two tasks twice, and two rows");
    for cut in 0..bytes.len() {
        assert_eq!(read_without_harm(&bytes[..cut]), (0, false), "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_table_is_read_without_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = both();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_without_harm(&bytes);
    }

    #[test]
    fn anything_between_the_marks_is_read_without_harm(
        inside in prop::collection::vec(any::<u8>(), 0..300),
        footer in 0_u32..400,
    ) {
        let mut bytes = b"PAR1".to_vec();
        bytes.extend(inside);
        bytes.extend(footer.to_le_bytes());
        bytes.extend(b"PAR1");
        read_without_harm(&bytes);
    }
}

/// The library panics at some of these; its reader must not.
#[test]
fn every_byte_may_have_a_wrong_bit() {
    let whole = both();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        read_without_harm(&bytes);
    }
}

#[test]
fn what_is_no_table_says_so() {
    for format in [Format::OpenDc, Format::Parquet] {
        let error = read(&b"vm,arrival_s\n"[..], Some(format), &ReadOptions::default());
        let error = error.map(|_| ()).unwrap_err();
        let TraceError::Read(why) = &error else { panic!("{error}") };
        assert_eq!(why.to_string(), "it is no Parquet file: it does not begin with PAR1");
    }
    let nowhere = open(Path::new("/nowhere"), Some(Format::OpenDc), &ReadOptions::default());
    assert!(matches!(nowhere.map(|_| ()), Err(TraceError::Read(_))));
}
