//! PlanetLab's series: folders, archives and single files.

use std::io::Write as _;

use nova_sched::sim::trace::planetlab::{SAMPLE_S, series};
use nova_sched::sim::trace::{Format, ReadOptions, TraceError, open, read};

use super::{all, check, gz, machine, zstd};

/// A tar of these files.
fn tar(files: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, text) in files {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        (&mut header[124..136]).write_all(format!("{:011o}\0", text.len()).as_bytes()).unwrap();
        header[156] = *kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        (&mut header[148..156]).write_all(format!("{sum:06o}\0 ").as_bytes()).unwrap();
        bytes.extend(header);
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    bytes
}

const FILES: [(&str, u8, &str); 4] = [
    ("20110303/", b'5', ""),
    ("20110303/a", b'0', "10\n20\n30\n"),
    ("20110303/b", b'0', "0\r\n101\r\n"),
    ("20110303/c", b'0', "100"),
];

const ROWS: [&str; 3] = [
    "1: vm 1 0-900 2x100 cpu 200",
    "line 2: b, line 2: percent: \"101\" is not allowed; allowed: 0 to 100",
    "3: vm 3 0-300 2x100 cpu 1000",
];

fn options() -> ReadOptions {
    ReadOptions::default().with_shape(machine(2, 100, 0))
}

#[test]
fn archives_and_folders_tell_the_same() {
    let archive = tar(&FILES);
    for bytes in [gz(&archive), zstd(&archive), archive] {
        assert_eq!(all(read(std::io::Cursor::new(bytes), None, &options())), ROWS);
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, _, text) in &FILES[1..] {
        std::fs::write(folder.path().join(&name[9..]), text).unwrap();
    }
    assert_eq!(all(open(folder.path(), None, &options())), ROWS);
}

#[test]
fn one_file_is_one_vm() {
    check(Format::PlanetLab, "7\n8\n", &["1: vm 1 0-600 1x1024 cpu 75"]);
}

#[test]
fn a_file_without_samples_never_runs() {
    let bytes = tar(&[("x/a", b'0', "\n"), ("x/b", b'0', "1\n")]);
    let rows = all(read(std::io::Cursor::new(bytes), None, &options()));
    assert_eq!(rows, ["line 1: tells of no time at which it runs", "2: vm 2 0-300 2x100 cpu 10"]);
}

#[test]
fn an_archive_that_is_cut_off_or_damaged_is_an_error() {
    let whole = tar(&FILES);
    let rows = |bytes: &[u8]| {
        let rows = read(std::io::Cursor::new(bytes.to_vec()), None, &options()).unwrap();
        let mut good = 0;
        let last = rows.inspect(|row| good += usize::from(row.is_ok())).last();
        (good, matches!(last, Some(Err(TraceError::Read(_)))))
    };
    // In the first file, in the header of the second, in the last file, before the end mark.
    for (cut, good) in [(1024 + 3, 0), (1600, 1), (3072 + 1, 1), (3584, 2)] {
        assert_eq!(rows(&whole[..cut]), (good, true), "cut at {cut}");
    }
    let mut damaged = whole;
    damaged[512 + 124] = b'7';
    assert_eq!(rows(&damaged), (0, true));
}

#[test]
fn a_series_knows_its_course() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vm");
    std::fs::write(&file, "5\n10\n16\n").unwrap();
    let all: Vec<_> = series(&file).unwrap().map(Result::unwrap).collect();
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!((one.name.as_str(), one.mean_permille()), ("vm", Some(103)));
    let at = [0, SAMPLE_S - 1, SAMPLE_S, 3 * SAMPLE_S - 1, 3 * SAMPLE_S].map(|s| one.at(s));
    assert_eq!(at, [Some(5), Some(5), Some(10), Some(16), None]);
}
