//! Bytes from anybody, in every format.

use std::io::Cursor;

use nova_core::domain::*;
use nova_sched::sim::trace::{Format, ReadOptions, TraceError, read};
use proptest::prelude::*;

use super::{gz, zstd};

/// Reads everything in every format; whatever comes out is a row that a writer would take.
fn check(bytes: &[u8]) {
    let options = ReadOptions::default();
    for format in Format::ALL.into_iter().map(Some).chain([None]) {
        let Ok(rows) = read(Cursor::new(bytes.to_vec()), format, &options) else { continue };
        let mut previous_s = 0;
        let mut ended = false;
        for row in rows {
            assert!(!ended, "{format:?} goes on after the end");
            match row {
                Ok(row) => {
                    row.check().unwrap_or_else(|why| panic!("{format:?}: {row:?}: {why}"));
                    assert!(row.arrival_s >= previous_s, "{format:?}: {row:?}");
                    previous_s = row.arrival_s;
                }
                Err(TraceError::BadRow { line, .. }) => assert!(line > 0),
                Err(_) => ended = true,
            }
        }
    }
}

/// Lines that look as if they were of a format.
fn line() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        "[0-9]{1,3}",
        "-?[0-9]{1,21}(\\.[0-9]{1,3})?",
        Just("9223372036854775807".to_owned()),
        Just("NaN".to_owned()),
        Just("1e308".to_owned()),
        Just(String::new()),
        Just("Create".to_owned()),
        Just("Remove".to_owned()),
        Just("LS".to_owned()),
        Just(">24".to_owned()),
        "c_[0-9]{1,20}",
        "[jm]_[0-9]",
        "\\PC{0,6}",
    ];
    proptest::collection::vec(field, 1..14).prop_map(|fields| fields.join(","))
}

const HEADERS: [&str; 5] = [
    "vm,arrival_s,end_s,vcpu,mem_mib,gang,cpu_permille",
    "vmid,cpu,memory,time,type",
    "vmId,tenantId,vmTypeId,priority,starttime,endtime",
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time",
    "x",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes);
    }

    #[test]
    fn any_lines_are_read_without_harm(
        header in proptest::sample::select(&HEADERS[..]),
        lines in proptest::collection::vec(line(), 0..12),
    ) {
        check(format!("{header}\n{}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn any_object_is_read_without_harm(
        time in "[-0-9\"]{1,21}",
        kind in "\"?(SCHEDULE|FINISH|[0-9]{1,2})\"?",
        part in "[-.0-9eE]{1,8}",
    ) {
        let request = format!("\"resource_request\":{{\"cpus\":{part},\"memory\":{part}}}");
        let ids = "\"collection_id\":1,\"instance_index\":2";
        check(format!("{{\"time\":{time},\"type\":{kind},{ids},{request}}}\n").as_bytes());
    }

    #[test]
    fn damaged_compression_is_read_without_harm(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = b"vm,arrival_s,end_s,vcpu,mem_mib\n1,0,5,1,1\n2,1,5,1,1\n3,2,5,1,1\n";
        for mut bytes in [gz(text), zstd(text)] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            check(&bytes);
        }
    }
}

#[test]
fn a_line_without_end_is_refused_in_every_format() {
    for format in Format::ALL {
        let rows = read(std::io::repeat(b'7'), Some(format), &ReadOptions::default());
        let last = match rows {
            Ok(rows) => rows.last().map(|row| row.map(|_| ())),
            Err(error) => Some(Err(error)),
        };
        let refused = matches!(&last, Some(Err(TraceError::Read(_) | TraceError::Option(_))));
        assert!(refused, "{format}: {last:?}");
    }
}

#[test]
fn an_unknown_beginning_is_named() {
    let Err(error) = read(&b"a,b,c\n1,2,3\n"[..], None, &ReadOptions::default()) else {
        panic!("it was recognised");
    };
    assert_eq!(error.to_string(), "line 1: no known format begins with \"a,b,c\"; name the format");
}

#[test]
fn options_out_of_range_are_named() {
    let field = |options: ReadOptions| match read(&b""[..], Some(Format::Json), &options) {
        Err(TraceError::Option(invalid)) => invalid.field,
        _ => "nothing",
    };
    let default = ReadOptions::default;
    let shape = |vcpus, mib| Resources { vcpus: Vcpus(vcpus), memory: MiB(mib), disk: GiB(0) };
    assert_eq!(field(default()), "nothing");
    assert_eq!(field(default().with_machine(shape(0, 1))), "machine.vcpus");
    assert_eq!(field(default().with_machine(shape(1, 0))), "machine.memory");
    assert_eq!(field(default().with_shape(shape(4097, 1))), "shape.vcpus");
    assert_eq!(field(default().with_over(Vcpus(1), MiB(0))), "over_memory");
}

#[test]
fn names_of_formats_are_read_back() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!("csv".parse::<Format>().is_err());
}
