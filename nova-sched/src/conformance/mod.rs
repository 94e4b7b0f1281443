//! Cases whose answers the real Nova scheduler computed, and how many are answered alike (feature
//! `conformance`).
//!
//! A folder holds files of JSON lines, `*.jsonl`: single decisions, and sequences of placements.
//! [`run`] reads them all and asks filters, weighers and the whole algorithm, under
//! [Nova's rules](crate::Rules::Nova).

mod cases;
mod names;
mod record;
mod report;
mod sequences;
mod world;

use std::path::{Path, PathBuf};

pub use report::{Report, Tally};

/// A folder of cases cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformanceError {
    /// The folder or a file in it.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file is not a record.
    #[error("{}:{line}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no file of cases in it.
    #[error("{}: no *.jsonl file", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

/// Asks every case of every `*.jsonl` file in `folder`, file by file in the order of their names.
///
/// # Errors
/// [`ConformanceError`] when a file cannot be read, or a line of it is not a record. A record
/// whose answer differs is no error: the [`Report`] tells.
pub fn run(folder: &Path) -> Result<Report, ConformanceError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ConformanceError::Io { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(ConformanceError::Empty { path: folder.to_owned() });
    }
    files.sort();
    let mut report = Report::default();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(io(&path))?;
        for (nth, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (path, line_number) = (path.clone(), nth + 1);
            let wrong = |source| ConformanceError::Record { path, line: line_number, source };
            record(line, &mut report).map_err(wrong)?;
        }
    }
    Ok(report)
}

/// Asks the case of one line.
fn record(line: &str, report: &mut Report) -> Result<(), serde_json::Error> {
    // A sequence has several requests, a case one: that is what tells them apart.
    #[derive(serde::Deserialize)]
    struct Kind {
        requests: Option<serde::de::IgnoredAny>,
    }
    match serde_json::from_str::<Kind>(line)?.requests {
        Some(_) => sequences::ask(&serde_json::from_str(line)?, report),
        None => cases::ask(&serde_json::from_str(line)?, report),
    }
    Ok(())
}
