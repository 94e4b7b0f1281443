//! Traces from outside: every format in small, compressed and not; hostile bytes; sorting outside
//! of memory; and the statistics of what chance makes.

mod clusters;
mod compressed;
mod decisions;
mod forms;
mod hostile;
mod machines;
pub(crate) mod opendc;
mod real;
mod series;
mod sort;
mod synthetic;
mod tables;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use nova_core::domain::*;
use nova_sched::sim::trace::{Format, ReadOptions, Rows, TraceError, TraceRow, read};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A row as people read it; what is not told is left out.
fn shown(row: &TraceRow) -> String {
    let end = row.end_s.map_or_else(|| "on".to_owned(), |end_s| end_s.to_string());
    let (vcpus, memory) = (row.vcpus.get(), row.memory.get());
    let mut text = format!("{}: vm {} {}-{end} {vcpus}x{memory}", row.line, row.vm, row.arrival_s);
    if row.disk > GiB(0) {
        text += &format!(" disk {}", row.disk.get());
    }
    if row.priority > 0 {
        text += &format!(" priority {}", row.priority);
    }
    if let Some(gang) = row.gang {
        text += &format!(" gang {gang}");
    }
    if let Some(permille) = row.cpu_permille {
        text += &format!(" cpu {permille}");
    }
    text
}

/// Everything that comes out, rows and errors.
fn all(rows: Result<Rows, TraceError>) -> Vec<String> {
    let one = |row: Result<TraceRow, TraceError>| match row {
        Ok(row) => shown(&row),
        Err(error) => error.to_string(),
    };
    match rows {
        Ok(rows) => rows.map(one).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

fn machine(vcpus: u32, mib: u64, gib: u64) -> Resources {
    Resources { vcpus: Vcpus(vcpus), memory: MiB(mib), disk: GiB(gib) }
}

/// What comes out of this text, in a format that is named and that is recognised, compressed or
/// not.
fn check_with(options: &ReadOptions, format: Format, text: &str, expected: &[&str]) {
    let bytes = text.as_bytes().to_vec();
    for bytes in [gz(&bytes), zstd(&bytes), bytes] {
        for format in [Some(format), None] {
            let reader = std::io::Cursor::new(bytes.clone());
            assert_eq!(all(read(reader, format, options)), expected, "{format:?}: {text}");
        }
    }
}

fn check(format: Format, text: &str, expected: &[&str]) {
    check_with(&ReadOptions::default(), format, text, expected);
}
