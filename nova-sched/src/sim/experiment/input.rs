//! The traces of an experiment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use nova_core::domain::Resources;
use nova_core::seed::{Chance, Seed};
use sha2::{Digest as _, Sha256};

use super::ExperimentError;
use super::config::{TraceConfig, wrong};
use crate::hex::hex;
use crate::sim::trace::decisions::{self, Recorded};
use crate::sim::trace::synthetic::Synthetic;
use crate::sim::trace::{Format, ReadOptions, Rows, TraceError, TraceRow, format_of, open};
use crate::sim::{Courses, Superposed};

/// What is known of a trace after it was looked at once.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Looked {
    /// What it is called.
    pub(super) trace: String,
    /// SHA-256 of the file in lower-case hex; none of one that is drawn.
    pub(super) sha256: Option<String>,
    /// The same of the table of VM types.
    pub(super) vm_types_sha256: Option<String>,
    /// The same of the series of use.
    pub(super) courses_sha256: Option<String>,
    /// When the last VM comes.
    pub(super) last_arrival_s: u64,
    /// The shapes that come most often, with how often.
    #[serde(skip)]
    pub(super) shapes: Vec<(Resources, f64)>,
    /// What it tells of the cloud beside rows, when it is a log of decisions.
    #[serde(skip)]
    pub(super) recorded: Option<Arc<Recorded>>,
    /// The series of use, which all runs share.
    #[serde(skip)]
    pub(super) courses: Option<Arc<Courses>>,
}

/// Shapes that policies are told of.
const SHAPES_MAX: usize = 64;

/// Seconds by which a copy is later than the one before, at most.
const LATER_MAX_S: u64 = 3600;

impl TraceConfig {
    /// Reads the trace once: what it is, how long, of which shapes.
    pub(super) fn look(&self, skips_bad: bool) -> Result<Looked, ExperimentError> {
        let sha256 = self.file.as_deref().map(sha256_of).transpose()?;
        let vm_types_sha256 = self.vm_types.as_deref().map(sha256_of).transpose()?;
        let series = self.courses.as_ref().and_then(|of| of.file.as_ref().or(self.file.as_ref()));
        let courses_sha256 = series.map(|file| sha256_of(file)).transpose()?;
        let courses = series.map(|file| Courses::open(file)).transpose();
        let courses = courses.map_err(|source| self.failed(source))?.map(Arc::new);
        let (mut last_arrival_s, mut shapes) = (0, BTreeMap::<[u64; 3], (Resources, f64)>::new());
        let recorded = self.recorded()?.map(Arc::new);
        for row in self.rows(recorded.as_deref(), Seed::new(0))? {
            let row = match row {
                Err(TraceError::BadRow { .. }) if skips_bad => continue,
                row => row.map_err(|source| self.failed(source))?,
            };
            last_arrival_s = row.arrival_s.max(last_arrival_s);
            let takes = row.resources();
            let key = [takes.vcpus.get().into(), takes.memory.get(), takes.disk.get()];
            shapes.entry(key).or_insert((takes, 0.0)).1 += 1.0;
        }
        let mut shapes: Vec<(Resources, f64)> = shapes.into_values().collect();
        shapes.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        shapes.truncate(SHAPES_MAX);
        Ok(Looked {
            trace: self.name.clone(),
            sha256,
            vm_types_sha256,
            courses_sha256,
            last_arrival_s,
            shapes,
            recorded,
            courses,
        })
    }

    /// The rows that a seed sees.
    pub(super) fn seen_by(&self, looked: &Looked, seed: Seed) -> Result<Rows, ExperimentError> {
        let mut chance = seed.child("trace").chance();
        let from = self.window(looked, &mut chance);
        let recorded = looked.recorded.as_deref();
        let rows = match self.copies {
            1 => self.rows(recorded, seed)?,
            copies => {
                let (mut later_s, mut all) = (0, Vec::new());
                for copy in 0..copies {
                    let seed = seed.child_of("copy", copy.into());
                    all.push((self.rows(recorded, seed)?, later_s));
                    later_s += chance.below(LATER_MAX_S);
                }
                Box::new(Superposed::new(all))
            }
        };
        let Some((from, until)) = from else { return Ok(rows) };
        let inside = move |row: &Result<TraceRow, TraceError>| {
            row.as_ref().map_or(true, |row| (from..until).contains(&row.arrival_s))
        };
        // Whatever is behind the window need not be read.
        let before = move |row: &Result<TraceRow, TraceError>| {
            row.as_ref().map_or(true, |row| row.arrival_s < until)
        };
        let shifted = move |row: Result<TraceRow, TraceError>| {
            row.map(|row| TraceRow {
                arrival_s: row.arrival_s - from,
                end_s: row.end_s.map(|end| end - from),
                ..row
            })
        };
        Ok(Box::new(rows.take_while(before).filter(inside).map(shifted)))
    }

    fn window(&self, looked: &Looked, chance: &mut Chance) -> Option<(u64, u64)> {
        let window = self.window_s?;
        let from = chance.below(looked.last_arrival_s.saturating_sub(window) + 1);
        Some((from, from.saturating_add(window)))
    }

    /// What a log of decisions tells; none when the trace is something else.
    fn recorded(&self) -> Result<Option<Recorded>, ExperimentError> {
        let Some(file) = &self.file else { return Ok(None) };
        let format = match &self.format {
            Some(name) => Some(name.parse()?),
            None => format_of(file).map_err(|source| self.failed(source))?,
        };
        if format != Some(Format::Decisions) {
            return Ok(None);
        }
        decisions::open(file).map(Some).map_err(|source| self.failed(source))
    }

    /// All rows.
    fn rows(&self, recorded: Option<&Recorded>, seed: Seed) -> Result<Rows, ExperimentError> {
        if let Some(recorded) = recorded {
            return Ok(recorded.rows());
        }
        if let Some(recipe) = &self.synthetic {
            return Ok(Synthetic::new(recipe.clone(), seed.child("synthetic"))?.rows());
        }
        let Some(file) = &self.file else { return Err(wrong("a trace without a file")) };
        let format = self.format.as_deref().map(str::parse).transpose()?;
        let mut options = ReadOptions::default();
        if let Some(machine) = self.machine {
            options = options.with_machine(machine.into());
        }
        if let Some(shape) = self.shape {
            options = options.with_shape(shape.into());
        }
        if let Some(types) = &self.vm_types {
            options = options.with_vm_types(types.clone());
        }
        options = options.with_memory_unit(self.memory_unit.unwrap_or_default());
        options.check()?;
        open(file, format, &options).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: TraceError) -> ExperimentError {
        ExperimentError::Trace { trace: self.name.clone(), source }
    }
}

/// SHA-256 of a file, or of the names and contents of the files of a folder, in lower-case hex.
fn sha256_of(path: &Path) -> Result<String, ExperimentError> {
    let failed = |source| ExperimentError::File { path: path.to_owned(), source };
    let mut hash = Sha256::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(failed)?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(failed)?.path());
        }
        names.sort();
        for name in names.iter().filter(|name| name.is_file()) {
            hash.update(name.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(sha256_of(name)?);
        }
    } else {
        let mut file = File::open(path).map_err(failed)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
    }
    Ok(hex(&hash.finalize()))
}
