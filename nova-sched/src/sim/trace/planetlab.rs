//! PlanetLab: how much CPU VMs used, as one whole percent a line, 5 minutes apart.
//!
//! A trace is a folder or a tar archive with a file for each VM, or one such file.
//! [`series`] reads them one at a time, with the course of use; as rows of a trace each is a VM
//! that is there from the beginning to its last sample.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use nova_core::domain::Resources;

use super::decode::{Head, decoded};
use super::lines::{Lines, number};
use super::tar::{Tar, is_tar};
use super::{BadRow, TraceError, TraceRow};

/// Seconds between two samples.
pub const SAMPLE_S: u64 = 300;

/// Samples of one VM that are held in memory: ten years.
pub const SAMPLES_MAX: usize = 1 << 20;

/// Files of a folder whose names are held in memory.
const FILES_MAX: usize = 1 << 20;

/// How much of its CPU a VM used.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive on purpose: it is all that a file tells.
pub struct Series {
    /// The name of its file.
    pub name: String,
    /// Percent of its CPU, one for every [`SAMPLE_S`] seconds from 0 on.
    pub percents: Vec<u8>,
}

impl Series {
    /// The mean in thousandths, rounded; none when there are no samples.
    pub fn mean_permille(&self) -> Option<u16> {
        let samples = self.percents.len() as u64;
        let sum: u64 = self.percents.iter().map(|percent| u64::from(*percent)).sum();
        (samples > 0).then(|| ((sum * 10 + samples / 2) / samples) as u16)
    }

    /// The percent at a second; none after the last sample.
    pub fn at(&self, second: u64) -> Option<u8> {
        let sample = usize::try_from(second / SAMPLE_S).ok()?;
        self.percents.get(sample).copied()
    }
}

/// The series of a folder in the order of names, of an archive in its order, or of one file.
///
/// After a [`TraceError::BadRow`], whose line is the number of the series, the next call goes on
/// with the next series; after any other error there is nothing more.
///
/// # Errors
/// [`TraceError::Read`] when it cannot be opened, [`TraceError::TooMany`] for a folder with more
/// than a million files.
pub fn series(
    path: &Path,
) -> Result<Box<dyn Iterator<Item = Result<Series, TraceError>> + Send>, TraceError> {
    if path.is_dir() {
        let files = files(path)?;
        let one = |(number, path): (usize, PathBuf)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let head = File::open(path).and_then(|file| decoded(Box::new(file)));
            one(number as u64 + 1, name, head.map_err(TraceError::Read)?.reader())
        };
        return Ok(Box::new(files.into_iter().enumerate().map(one)));
    }
    let head = File::open(path).and_then(|file| decoded(Box::new(file)));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(series_of(name, head.map_err(TraceError::Read)?))
}

/// The series of an archive, or of one file that has this name.
pub(super) fn series_of(
    name: String,
    head: Head,
) -> Box<dyn Iterator<Item = Result<Series, TraceError>> + Send> {
    if is_tar(&head.bytes) {
        return Box::new(Archive { tar: Tar::new(head.reader()), number: 0, ended: false });
    }
    Box::new(std::iter::once_with(|| one(1, name, head.reader())))
}

/// Each series as a VM of this shape.
pub(super) fn rows(
    series: impl Iterator<Item = Result<Series, TraceError>> + Send + 'static,
    shape: Resources,
) -> super::Rows {
    let mut line = 0;
    let mut ended = false;
    let row = move |series: Result<Series, TraceError>| {
        line += 1;
        let series = series?;
        let Some(permille) = series.mean_permille() else {
            return Err(TraceError::BadRow { line, why: BadRow::NeverRuns });
        };
        Ok(TraceRow {
            line,
            vm: line,
            arrival_s: 0,
            end_s: Some(series.percents.len() as u64 * SAMPLE_S),
            vcpus: shape.vcpus,
            memory: shape.memory,
            disk: shape.disk,
            priority: 0,
            gang: None,
            cpu_permille: Some(permille),
        })
    };
    Box::new(series.map(row).take_while(move |row| {
        let go_on = !ended;
        ended |= matches!(row, Err(error) if !matches!(error, TraceError::BadRow { .. }));
        go_on
    }))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, TraceError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(TraceError::Read)? {
        let path = entry.map_err(TraceError::Read)?.path();
        if !path.is_file() {
            continue;
        }
        if files.len() == FILES_MAX {
            return Err(TraceError::TooMany { what: "files in the folder", max: FILES_MAX });
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// Reads one file to its end.
fn one(file: u64, name: String, reader: impl Read) -> Result<Series, TraceError> {
    let mut lines = Lines::new(reader);
    let mut percents = Vec::new();
    while lines.advance()? {
        if percents.len() == SAMPLES_MAX {
            return Err(TraceError::TooMany { what: "samples of a VM", max: SAMPLES_MAX });
        }
        match number("percent", lines.line().trim_ascii(), 0, 100, "0 to 100") {
            Ok(percent) => percents.push(percent as u8),
            Err(why) => {
                let why = BadRow::Sample { name, line: lines.number(), why };
                return Err(TraceError::BadRow { line: file, why });
            }
        }
    }
    Ok(Series { name, percents })
}

struct Archive {
    tar: Tar<Box<dyn Read + Send>>,
    number: u64,
    ended: bool,
}

impl Iterator for Archive {
    type Item = Result<Series, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let series = match self.tar.advance() {
            Ok(Some(name)) => {
                self.number += 1;
                let name = name.rsplit('/').next().unwrap_or_default().to_owned();
                one(self.number, name, &mut self.tar)
            }
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(error) => Err(TraceError::Read(error)),
        };
        self.ended = matches!(&series, Err(error) if !matches!(error, TraceError::BadRow { .. }));
        Some(series)
    }
}
