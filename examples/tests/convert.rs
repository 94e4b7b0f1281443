//! What `convert_trace` writes, skips and refuses.

use nova_core::domain::{MiB, Vcpus};
use nova_examples::convert::{Form, convert, convert_to_file, lifetimes, permille, shape};
use nova_sched::sim::OnBadRow;
use nova_sched::sim::trace::synthetic::Lifetimes;
use nova_sched::sim::trace::{Columns, ReadOptions, Rows, TraceError, read};

fn huawei(events: &'static str) -> Rows {
    read(events.as_bytes(), None, &ReadOptions::default()).unwrap()
}

const GOOD: &str = "vmid,cpu,memory,time,type\n7,2,4,100,0\n8,1,1,160,0\n7,2,4,400,1\n";
const BAD: &str = "vmid,cpu,memory,time,type\n7,2,4,100,0\n8,0,1,160,0\n7,2,4,400,1\n9,1,1,5,1\n";

fn written(form: Form) -> String {
    let mut bytes = Vec::new();
    let converted = convert(huawei(GOOD), &mut bytes, form, OnBadRow::Refuse, |_| {}).unwrap();
    assert_eq!((converted.rows, converted.skipped), (2, 0));
    String::from_utf8(bytes).unwrap()
}

#[test]
fn each_form_is_written() {
    let core = "vm,arrival_s,end_s,vcpu,mem_mib";
    assert_eq!(
        written(Form::Plain(Columns::Core)),
        format!("{core}\n7,100,400,2,4096\n8,160,-1,1,1024\n")
    );
    assert_eq!(
        written(Form::Plain(Columns::All)),
        format!(
            "{core},disk_gib,priority,gang,cpu_permille\n\
             7,100,400,2,4096,0,0,,\n8,160,-1,1,1024,0,0,,\n"
        )
    );
    assert_eq!(
        written(Form::Json),
        "{\"vm\":7,\"arrival_s\":100,\"end_s\":400,\"vcpu\":2,\"mem_mib\":4096}\n\
         {\"vm\":8,\"arrival_s\":160,\"vcpu\":1,\"mem_mib\":1024}\n"
    );
}

#[test]
fn bad_rows_are_counted_or_refused() {
    let form = Form::Plain(Columns::Core);
    let mut told = Vec::new();
    let skipping =
        convert(huawei(BAD), Vec::new(), form, OnBadRow::Skip, |rows| told.push(rows)).unwrap();
    assert_eq!((skipping.rows, skipping.skipped, told), (1, 2, vec![1]));
    let lines: Vec<u64> = skipping.bad_rows.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [3, 5]);
    let refusing = convert(huawei(BAD), Vec::new(), form, OnBadRow::Refuse, |_| {});
    assert!(matches!(refusing, Err(TraceError::BadRow { line: 3, .. })));
}

#[test]
fn a_file_is_there_only_when_all_of_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.csv");
    let to_file = |events| {
        convert_to_file(huawei(events), &file, Form::Json, OnBadRow::Refuse, |_| {}).map(|_| ())
    };
    assert!(to_file(BAD).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    to_file(GOOD).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written(Form::Json));
}

#[test]
fn arguments_are_read_or_refused() {
    assert_eq!(lifetimes("endless"), Ok(Lifetimes::Endless));
    let pareto = Lifetimes::Pareto { min_s: 60.0, alpha: 1.2, max_s: 1e6 };
    assert_eq!(lifetimes("pareto:60:1.2:1e6"), Ok(pareto));
    for text in ["", "endless:1", "pareto:1:2", "exponential:x", "weibull:1"] {
        assert!(lifetimes(text).is_err(), "{text:?}");
    }
    let four = shape("4x8192:15").unwrap();
    assert_eq!((four.vcpus, four.memory, four.weight), (Vcpus(4), MiB(8192), 15));
    for text in ["", "4x8192", "4:15", "4x-1:15", "4x8192:15:1"] {
        assert!(shape(text).is_err(), "{text:?}");
    }
    assert_eq!(permille("100-300"), Ok((100, 300)));
    assert!(permille("100").is_err() && permille("1-70000").is_err());
}

#[cfg(feature = "parquet")]
#[test]
fn a_table_is_written_that_is_read_back() {
    let mut table = Vec::new();
    convert(huawei(GOOD), &mut table, Form::Parquet, OnBadRow::Refuse, |_| {}).unwrap();
    let rows = read(std::io::Cursor::new(table), None, &ReadOptions::default()).unwrap();
    let mut plain = Vec::new();
    convert(rows, &mut plain, Form::Plain(Columns::All), OnBadRow::Refuse, |_| {}).unwrap();
    assert_eq!(String::from_utf8(plain).unwrap(), written(Form::Plain(Columns::All)));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_tables_says_which_feature_it_lacks() {
    use nova_sched::sim::trace::{Format, open};

    let folder = tempfile::tempdir().unwrap();
    let tasks = folder.path().join("tasks.parquet");
    std::fs::write(&tasks, b"PAR1").unwrap();
    for (path, format) in [
        (folder.path(), None),
        (folder.path(), Some(Format::OpenDc)),
        (&*tasks, None),
        (&*tasks, Some(Format::OpenDc)),
    ] {
        let opened = open(path, format, &ReadOptions::default()).map(drop);
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("needs the feature `parquet` of nova-sched"), "{error}");
    }
}
