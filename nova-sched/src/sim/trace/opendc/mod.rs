//! OpenDC: tables of tasks and of what they used, in Parquet files.
//!
//! A trace is a folder with `tasks.parquet` and, where use was measured, `fragments.parquet`; in
//! older ones they are called `meta.parquet` and `trace.parquet`. The first file alone is a trace
//! too, without use. [`series`] reads the course of use.
//!
//! # Tasks
//! | column | what |
//! |---|---|
//! | `id` | a number, which is the row's `vm`, or a text. A text of digits is that number; of any other, `vm` is the first 8 bytes of its SHA-256 |
//! | `submission_time`, once `start_time` | milliseconds, or a timestamp. The earliest of all is second 0 |
//! | `duration`, or `stop_time` | milliseconds, or a timestamp |
//! | `cpu_count` | virtual CPUs |
//! | `cpu_capacity` | MHz of all of them together; only use needs it |
//! | `mem_capacity` | [`ReadOptions::memory_unit`]: MB by OpenDC's documentation, but what was made of GWA-T-12 (Bitbrains) has kB as that trace has; at least 1 MiB |
//!
//! # Fragments
//! `id`, `duration` in milliseconds and `cpu_usage` in MHz; those of a task follow each other in
//! time from its beginning. More than its capacity counts as all of it. A bad fragment is a bad row
//! of the file that is named; fragments of what is no good task are passed over. A task without any
//! has no use.

mod fragments;
mod series;

use std::fs::File;
use std::path::{Path, PathBuf};

use nova_core::domain::{GiB, Invalid};
use rustc_hash::FxHashMap;
use sha2::{Digest as _, Sha256};

use super::parquet::number;
use super::sort::Sorted;
use super::{BadRow, MemoryUnit, ReadOptions, Rows, TraceError, TraceRow, lines};
use crate::sim::parquet::{Cell, Cursor, Table};
use fragments::{Fragment, Fragments};

pub use series::series;

/// Tasks whose use is summed up in memory, in some hundred MiB.
pub const TASKS_MAX: usize = 1 << 22;

/// The largest capacity and use in MHz.
const MHZ_MAX: f64 = 1e12;
const MHZ: &str = "0 to 10^12 MHz";
const MS_MAX: u64 = TraceRow::SECONDS_MAX * 1000;
const MS: &str = "0 to 10^15 milliseconds";

const SUBMISSION: [&str; 2] = ["submission_time", "start_time"];
const DURATION: &str = "duration";
const STOP: &str = "stop_time";

/// Whether a table has the columns of tasks.
pub(super) fn is_tasks(table: &Table) -> bool {
    Tasks::new(table).is_ok()
}

/// The rows of a folder.
pub(super) fn folder(folder: &Path, options: &ReadOptions) -> Result<Rows, TraceError> {
    let (tasks, fragments) = tables(folder)?;
    rows(tasks, fragments, options)
}

/// The tasks of a folder, and the fragments where there are some.
fn tables(folder: &Path) -> Result<(Table, Option<Table>), TraceError> {
    let open = |path: PathBuf| File::open(path).and_then(Table::open).map_err(TraceError::Read);
    let (mut tasks, mut fragments) = (folder.join("tasks.parquet"), "fragments.parquet");
    let older = folder.join("meta.parquet");
    if !tasks.exists() && older.exists() {
        (tasks, fragments) = (older, "trace.parquet");
    }
    let fragments = folder.join(fragments);
    let fragments = if fragments.exists() { Some(open(fragments)?) } else { None };
    Ok((open(tasks)?, fragments))
}

pub(super) fn rows(
    tasks: Table,
    fragments: Option<Table>,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    let unit = options.memory_unit;
    let mut looked = Looked::at(&tasks, unit, fragments.is_some())?;
    let rows = WithUse {
        fragments: fragments.map(|table| Fragments::new(&table)).transpose()?,
        used: std::mem::take(&mut looked.used),
        tasks: Tasks::new(&tasks)?,
        unit,
        first_ms: looked.first_ms,
    };
    if looked.in_order {
        return Ok(Box::new(rows));
    }
    Ok(Box::new(Sorted::new(rows, options.sort.clone())))
}

/// What must be known of all tasks before the first one comes.
struct Looked {
    first_ms: i128,
    /// Whether they are in the order of submission.
    in_order: bool,
    /// Every task with a capacity, where that was asked for.
    used: FxHashMap<u64, Used>,
}

/// What a task may use, and used so far.
#[derive(Debug, Default, Clone, Copy)]
struct Used {
    capacity_mhz: f64,
    mhz_ms: f64,
    ms: f64,
}

impl Used {
    fn add(&mut self, fragment: Fragment) {
        self.mhz_ms += fragment.mhz.min(self.capacity_mhz) * fragment.ms as f64;
        self.ms += fragment.ms as f64;
    }

    fn permille(&self) -> Option<u16> {
        let max = f64::from(TraceRow::PERMILLE_MAX);
        let permille = max * self.mhz_ms / (self.capacity_mhz * self.ms);
        (self.ms > 0.0).then(|| permille.round().min(max) as u16)
    }
}

impl Looked {
    fn at(table: &Table, unit: MemoryUnit, used: bool) -> Result<Self, TraceError> {
        let mut tasks = Tasks::new(table)?;
        let (mut first_ms, mut last_ms) = (None::<i128>, None);
        let mut looked = Self { first_ms: 0, in_order: true, used: FxHashMap::default() };
        while tasks.rows.advance().map_err(TraceError::Read)? {
            // The others are named when rows are read.
            let Ok(task) = tasks.task(unit) else { continue };
            first_ms = Some(first_ms.map_or(task.at_ms, |first| first.min(task.at_ms)));
            looked.in_order &= last_ms.is_none_or(|last| last <= task.at_ms);
            last_ms = Some(task.at_ms);
            if used && task.capacity_mhz > 0.0 {
                let capacity_mhz = task.capacity_mhz;
                let unused = Used { capacity_mhz, ..Used::default() };
                looked.used.entry(task.row.vm).or_insert(unused);
                if looked.used.len() > TASKS_MAX {
                    return Err(TraceError::TooMany { what: "tasks with use", max: TASKS_MAX });
                }
            }
        }
        looked.first_ms = first_ms.unwrap_or(0);
        Ok(looked)
    }
}

/// The table of tasks.
struct Tasks {
    rows: Cursor,
    /// Whether the fourth column is the end instead of the duration.
    stops: bool,
}

/// A task, with its times apart from the row.
struct Task {
    row: TraceRow,
    at_ms: i128,
    ms: u64,
    capacity_mhz: f64,
}

impl Tasks {
    fn new(table: &Table) -> Result<Self, TraceError> {
        let column = |names: &[&'static str]| match table.find(names) {
            None => Err(TraceError::no_column(table, names[0])),
            some => Ok(some),
        };
        let stops = table.find(&[DURATION]).is_none();
        let columns = [
            column(&["id"])?,
            column(&SUBMISSION)?,
            column(&[DURATION, STOP])?,
            column(&["cpu_count"])?,
            column(&["mem_capacity"])?,
            table.find(&["cpu_capacity"]),
        ];
        Ok(Self { rows: table.cursor(&columns), stops })
    }

    fn task(&self, unit: MemoryUnit) -> Result<Task, BadRow> {
        let cell = |nth| self.rows.cell(nth);
        let time = |nth, column| {
            let allowed = "a time in milliseconds";
            cell(nth).whole().ok_or_else(|| Invalid::new(column, cell(nth).shown(), allowed))
        };
        let at_ms = time(1, SUBMISSION[0])?;
        let ms = if self.stops {
            let ms = u64::try_from(time(2, STOP)? - at_ms).ok().filter(|ms| *ms <= MS_MAX);
            let allowed = "a time at most 10^15 milliseconds behind submission_time";
            ms.ok_or_else(|| Invalid::new(STOP, cell(2).shown(), allowed))?
        } else {
            number(DURATION, cell(2), 0, MS_MAX, MS)?
        };
        let memory = number("mem_capacity", cell(4), 0, u64::MAX, "a number from 0")?;
        let mib = match unit {
            MemoryUnit::MiB => memory,
            MemoryUnit::KiB => memory.div_ceil(1024),
        };
        let row = TraceRow {
            line: self.rows.number(),
            vm: id(cell(0))?,
            arrival_s: 0,
            end_s: None,
            vcpus: lines::vcpus("cpu_count", number("cpu_count", cell(3), 1, 4096, lines::VCPUS)?)?,
            memory: lines::memory("mem_capacity", mib)?,
            disk: GiB(0),
            priority: 0,
            gang: None,
            cpu_permille: None,
        };
        let capacity_mhz = match cell(5) {
            Cell::Null => 0.0,
            cell => mhz("cpu_capacity", cell)?,
        };
        Ok(Task { row, at_ms, ms, capacity_mhz })
    }
}

/// Rows behind which all fragments have been read.
struct WithUse {
    fragments: Option<Fragments>,
    used: FxHashMap<u64, Used>,
    tasks: Tasks,
    unit: MemoryUnit,
    first_ms: i128,
}

impl WithUse {
    fn row(&self) -> Result<TraceRow, BadRow> {
        let Task { mut row, at_ms, ms, .. } = self.tasks.task(self.unit)?;
        let later_ms = u64::try_from(at_ms - self.first_ms).ok();
        let Some(later_ms) = later_ms.filter(|ms| *ms <= MS_MAX) else {
            let allowed = "a time at most 10^15 milliseconds behind the first";
            return Err(Invalid::new(SUBMISSION[0], at_ms, allowed).into());
        };
        row.arrival_s = later_ms / 1000;
        row.end_s = Some((later_ms + ms) / 1000);
        row.cpu_permille = self.used.get(&row.vm).and_then(Used::permille);
        row.check()?;
        Ok(row)
    }
}

impl Iterator for WithUse {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(fragments) = &mut self.fragments {
            match fragments.next() {
                Some(Ok(fragment)) => {
                    if let Some(used) = self.used.get_mut(&fragment.vm) {
                        used.add(fragment);
                    }
                }
                Some(Err(error)) => {
                    if !matches!(error, TraceError::BadRow { .. }) {
                        self.tasks.rows.end();
                        self.fragments = None;
                    }
                    return Some(Err(error));
                }
                None => self.fragments = None,
            }
        }
        match self.tasks.rows.advance() {
            Ok(true) => {
                let line = self.tasks.rows.number();
                Some(self.row().map_err(|why| TraceError::BadRow { line, why }))
            }
            Ok(false) => None,
            Err(error) => Some(Err(TraceError::Read(error))),
        }
    }
}

/// The number of a task.
fn id(cell: &Cell) -> Result<u64, Invalid> {
    if let Cell::Text(text) = cell {
        let hash = || {
            let hash = Sha256::digest(text.data());
            hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        return Ok(lines::digits(text.data()).unwrap_or_else(hash));
    }
    number("id", cell, 0, u64::MAX, "a text, or a number from 0")
}

fn mhz(column: &'static str, cell: &Cell) -> Result<f64, Invalid> {
    match cell.real() {
        Some(mhz) if (0.0..=MHZ_MAX).contains(&mhz) => Ok(mhz),
        _ => Err(Invalid::new(column, cell.shown(), MHZ)),
    }
}
