//! What is compressed, and what is damaged.

use std::io::Read;

use nova_sched::sim::trace::{Format, ReadOptions, TraceError, read};

use super::{all, gz, zstd};

fn trace(rows: usize) -> String {
    let rows = (0..rows).map(|row| format!("{row},{row},-1,1,{}\n", 1 + row * 7919 % 4096));
    format!("vm,arrival_s,end_s,vcpu,mem_mib\n{}", rows.collect::<String>())
}

fn rows_of(bytes: Vec<u8>) -> Vec<String> {
    all(read(std::io::Cursor::new(bytes), None, &ReadOptions::default()))
}

#[test]
fn parts_that_were_compressed_apart_are_one_trace() {
    let text = trace(3000);
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    let plain = rows_of(text.clone().into_bytes());
    assert_eq!(plain.len(), 3000);
    assert_eq!(rows_of([gz(first), gz(second)].concat()), plain);
    assert_eq!(rows_of([zstd(first), zstd(second)].concat()), plain);
    // A frame that decoders skip, before and between.
    let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frames = [&skipped[..], &zstd(first), &skipped, &zstd(second)].concat();
    assert_eq!(rows_of(frames), plain);
}

#[test]
fn what_is_cut_off_is_an_error_and_never_a_shorter_trace() {
    let text = trace(2000);
    for whole in [gz(text.as_bytes()), zstd(text.as_bytes())] {
        for cut in (1..whole.len() - 1).step_by(97).chain([whole.len() - 1]) {
            let rows = rows_of(whole[..cut].to_vec());
            let last = rows.last().map(String::as_str).unwrap_or_default();
            // Of one or two bytes nobody knows that they were compressed.
            let error =
                ["cannot read the trace"].contains(&last) || last.contains("no known format");
            assert!(error, "cut at {cut} of {}: {last}", whole.len());
        }
    }
}

#[test]
fn a_flipped_bit_does_not_pass_the_checksum() {
    let text = trace(500);
    // The checksum is in the last four bytes of zstd, and before the length in gz.
    for (mut bytes, from_end) in [(gz(text.as_bytes()), 6), (zstd(text.as_bytes()), 2)] {
        assert_eq!(rows_of(bytes.clone()).len(), 500);
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        let damaged = rows_of(bytes);
        assert_eq!(damaged.last().map(String::as_str), Some("cannot read the trace"));
    }
}

#[test]
fn a_bomb_is_a_line_that_is_too_long() {
    // 64 MiB of zeros in some 300 KiB.
    let zeros = std::io::repeat(0).take(64 << 20);
    let mut bomb = Vec::new();
    flate2::read::GzEncoder::new(zeros, flate2::Compression::fast())
        .read_to_end(&mut bomb)
        .unwrap();
    let opened = read(std::io::Cursor::new(bomb), Some(Format::Plain), &ReadOptions::default());
    assert!(matches!(opened.map(|_| ()), Err(TraceError::Read(_))));
}
