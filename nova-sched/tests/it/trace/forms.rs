//! The two forms of this workspace: what they tell, and that what is written is read.

use nova_core::domain::*;
use nova_sched::sim::trace::*;
use proptest::prelude::*;

use super::check;

const CORE: &str = "vm,arrival_s,end_s,vcpu,mem_mib";

#[test]
fn further_columns_are_found_by_name() {
    let text = format!("{CORE},cpu_permille,gang,priority,disk_gib\n7,1,9,2,512,250,3,200,40\n");
    check(Format::Plain, &text, &["2: vm 7 1-9 2x512 disk 40 priority 200 gang 3 cpu 250"]);
    let text = format!("{CORE},gang\n7,1,9,2,512,\n8,1,-1,2,512,0\n");
    check(Format::Plain, &text, &["2: vm 7 1-9 2x512", "3: vm 8 1-on 2x512 gang 0"]);
}

#[test]
fn further_columns_have_ranges() {
    let text = format!(
        "{CORE},disk_gib,priority,gang,cpu_permille\n\
         1,0,9,1,1,1048577,,,\n2,0,9,1,1,,256,,\n3,0,9,1,1,,,-1,\n4,0,9,1,1,,,,1001\n5,0,9,1,1\n"
    );
    check(
        Format::Plain,
        &text,
        &[
            "line 2: disk_gib: \"1048577\" is not allowed; allowed: 0 to 1 PiB, in GiB",
            "line 3: priority: \"256\" is not allowed; allowed: 0 to 255",
            "line 4: gang: \"-1\" is not allowed; allowed: a number from 0",
            "line 5: cpu_permille: \"1001\" is not allowed; allowed: 0 to 1000",
            "line 6: 5 columns instead of 9",
        ],
    );
}

#[test]
fn a_gang_arrives_in_one_second() {
    let text = format!("{CORE},gang\n1,5,9,1,1,3\n2,5,9,1,1,3\n3,6,9,1,1,3\n4,6,9,1,1,4\n");
    check(
        Format::Plain,
        &text,
        &[
            "2: vm 1 5-9 1x1 gang 3",
            "3: vm 2 5-9 1x1 gang 3",
            "line 4: arrives at 6 s, but its gang 3 at 5 s",
            "5: vm 4 6-9 1x1 gang 4",
        ],
    );
}

#[test]
fn objects_tell_the_same() {
    let text = "{\"vm\":1,\"arrival_s\":0,\"end_s\":5,\"vcpu\":2,\"mem_mib\":512}\n\
                {\"vm\":2,\"arrival_s\":3,\"vcpu\":1,\"mem_mib\":1,\"disk_gib\":9,\"priority\":1,\"gang\":4,\"cpu_permille\":1000}\n\
                {\"mem_mib\":1,\"vm\":3,\"arrival_s\":3,\"end_s\":null,\"vcpu\":1}\n";
    check(
        Format::Json,
        text,
        &[
            "1: vm 1 0-5 2x512",
            "2: vm 2 3-on 1x1 disk 9 priority 1 gang 4 cpu 1000",
            "3: vm 3 3-on 1x1",
        ],
    );
}

#[test]
fn a_bad_object_is_named_by_its_line() {
    let text = "{\"vm\":1,\"arrival_s\":0,\"vcpu\":2,\"mem_mib\":512,\"owner\":1}\n\
                {\"vm\":1,\"arrival_s\":0,\"vcpu\":0,\"mem_mib\":512}\n\
                {\"vm\":1,\"arrival_s\":NaN,\"vcpu\":1,\"mem_mib\":512}\n\
                {\"vm\":1,\"vm\":2,\"arrival_s\":0,\"vcpu\":1,\"mem_mib\":512}\n\
                {\"vm\":5,\"arrival_s\":7,\"vcpu\":1,\"mem_mib\":512}\n\
                {\"vm\":6,\"arrival_s\":6,\"vcpu\":1,\"mem_mib\":512}\n";
    let rows = super::all(read(text.as_bytes(), Some(Format::Json), &ReadOptions::default()));
    let starts = [
        "line 1: not an object of the form: unknown field `owner`",
        "line 2: vcpu: \"0\" is not allowed; allowed: 1 to 4096",
        "line 3: not an object of the form: expected value",
        "line 4: not an object of the form: duplicate field `vm`",
        "5: vm 5 7-on 1x512",
        "line 6: arrives at 6 s, before the row above it at 7 s",
    ];
    assert_eq!(rows.len(), starts.len());
    for (row, start) in rows.iter().zip(starts) {
        assert!(row.starts_with(start), "{row} does not start with {start}");
    }
}

pub(super) fn row() -> impl Strategy<Value = TraceRow> {
    let ends = proptest::option::of(0_u64..1_000_000);
    let size = (1_u32..=4096, 1_u64..=64 << 20, 0_u64..=1 << 20);
    let more =
        (any::<u8>(), proptest::option::of(any::<u64>()), proptest::option::of(0_u16..=1000));
    (any::<u64>(), 0_u64..1000, ends, size, more).prop_map(|(vm, arrival_s, stay, size, more)| {
        TraceRow {
            line: 0,
            vm,
            arrival_s,
            end_s: stay.map(|stay| arrival_s + stay),
            vcpus: Vcpus(size.0),
            memory: MiB(size.1),
            disk: GiB(size.2),
            priority: more.0,
            gang: more.1,
            cpu_permille: more.2,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(mut rows in proptest::collection::vec(row(), 0..40)) {
        rows.sort_by_key(|row| row.arrival_s);
        let mut plain = TraceWriter::new(Vec::new(), Columns::All).unwrap();
        let mut json = JsonWriter::new(Vec::new());
        for row in &rows {
            plain.write(row).unwrap();
            json.write(row).unwrap();
        }
        let (plain, json) = (plain.finish().unwrap(), json.finish().unwrap());
        let with_lines = |first: u64| -> Vec<TraceRow> {
            let numbered = rows.iter().zip(first..);
            numbered.map(|(row, line)| TraceRow { line, ..*row }).collect()
        };
        let read: Vec<TraceRow> =
            TraceReader::new(plain.as_slice()).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, with_lines(2));
        let read: Vec<TraceRow> = JsonReader::new(json.as_slice()).map(Result::unwrap).collect();
        prop_assert_eq!(read, with_lines(1));
    }
}

#[test]
fn writers_refuse_what_readers_would() {
    let good = TraceRow {
        line: 0,
        vm: 1,
        arrival_s: 5,
        end_s: Some(9),
        vcpus: Vcpus(1),
        memory: MiB(1),
        disk: GiB(0),
        priority: 0,
        gang: None,
        cpu_permille: None,
    };
    let bad = [
        TraceRow { vcpus: Vcpus(0), ..good },
        TraceRow { memory: MiB(0), ..good },
        TraceRow { end_s: Some(4), ..good },
        TraceRow { cpu_permille: Some(1001), ..good },
        TraceRow { arrival_s: TraceRow::SECONDS_MAX + 1, end_s: None, ..good },
        TraceRow { arrival_s: 4, ..good },
    ];
    let mut plain = TraceWriter::new(Vec::new(), Columns::Core).unwrap();
    let mut json = JsonWriter::new(Vec::new());
    plain.write(&good).unwrap();
    json.write(&good).unwrap();
    for row in bad {
        assert!(matches!(plain.write(&row), Err(TraceError::BadRow { line: 3, .. })), "{row:?}");
        assert!(matches!(json.write(&row), Err(TraceError::BadRow { line: 2, .. })), "{row:?}");
    }
    let text = String::from_utf8(plain.finish().unwrap()).unwrap();
    assert_eq!(text, format!("{CORE}\n1,5,9,1,1\n"));
}
