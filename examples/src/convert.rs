//! What `convert_trace` does with rows, and the short ways in which its arguments are written.

use std::io::{BufWriter, Write};
use std::path::Path;

use nova_core::domain::{GiB, Invalid, MiB, Vcpus};
#[cfg(feature = "parquet")]
use nova_sched::sim::trace::ParquetWriter;
use nova_sched::sim::trace::synthetic::{Lifetimes, Shape};
use nova_sched::sim::trace::{
    BadRow, Columns, JsonWriter, Rows, TraceError, TraceRow, TraceWriter,
};
use nova_sched::sim::{OnBadRow, SkippedRow};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// CSV with so many columns.
    Plain(Columns),
    /// One JSON object a line.
    Json,
    /// A table in a Parquet file.
    #[cfg(feature = "parquet")]
    Parquet,
}

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Rows that were written.
    pub rows: u64,
    /// Bad rows that were left out.
    pub skipped: u64,
    /// The lines of the first of them, and what is wrong with each.
    pub bad_rows: Vec<(u64, BadRow)>,
}

/// Writes rows to `writer`, and calls `written` after each with their number so far.
///
/// # Errors
/// [`TraceError`] when rows cannot be read or written, or one is bad and bad rows are refused.
pub fn convert(
    rows: Rows,
    writer: impl Write + Send,
    form: Form,
    on_bad_row: OnBadRow,
    mut written: impl FnMut(u64),
) -> Result<Converted, TraceError> {
    let mut sink = Sink::new(BufWriter::new(writer), form)?;
    let mut converted = Converted::default();
    for row in rows {
        match row {
            Ok(row) => {
                sink.write(&row)?;
                converted.rows += 1;
                written(converted.rows);
            }
            Err(TraceError::BadRow { line, why }) if on_bad_row == OnBadRow::Skip => {
                converted.skipped += 1;
                if converted.bad_rows.len() < SkippedRow::NAMED_MAX {
                    converted.bad_rows.push((line, why));
                }
            }
            Err(error) => return Err(error),
        }
    }
    sink.finish()?;
    Ok(converted)
}

/// As [`convert`], into a file that is there only when all of it is.
///
/// # Errors
/// As of [`convert`].
pub fn convert_to_file(
    rows: Rows,
    file: &Path,
    form: Form,
    on_bad_row: OnBadRow,
    written: impl FnMut(u64),
) -> Result<Converted, TraceError> {
    // In the same folder, since a file cannot be renamed into another file system.
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(TraceError::Write)?;
    let converted = convert(rows, &mut part, form, on_bad_row, written)?;
    part.persist(file).map_err(|error| TraceError::Write(error.error))?;
    Ok(converted)
}

enum Sink<W: Write + Send> {
    Plain(TraceWriter<W>),
    Json(JsonWriter<W>),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetWriter<W>>),
}

impl<W: Write + Send> Sink<W> {
    fn new(writer: W, form: Form) -> Result<Self, TraceError> {
        Ok(match form {
            Form::Plain(columns) => Self::Plain(TraceWriter::new(writer, columns)?),
            Form::Json => Self::Json(JsonWriter::new(writer)),
            #[cfg(feature = "parquet")]
            Form::Parquet => Self::Parquet(Box::new(ParquetWriter::new(writer)?)),
        })
    }

    fn write(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        match self {
            Self::Plain(writer) => writer.write(row),
            Self::Json(writer) => writer.write(row),
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.write(row),
        }
    }

    fn finish(self) -> Result<(), TraceError> {
        match self {
            Self::Plain(writer) => writer.finish().map(drop),
            Self::Json(writer) => writer.finish().map(drop),
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.finish().map(drop),
        }
    }
}

/// Lifetimes as they are written on a command line: `endless`, `exponential:MEAN`,
/// `pareto:MIN:ALPHA:MAX` or `log-normal:MEDIAN:SIGMA`, times in seconds.
///
/// # Errors
/// [`Invalid`] for anything else. Ranges are the recipe's to check.
pub fn lifetimes(text: &str) -> Result<Lifetimes, Invalid> {
    let allowed = "endless, exponential:MEAN, pareto:MIN:ALPHA:MAX or log-normal:MEDIAN:SIGMA";
    let invalid = || Invalid::new("lifetimes", text, allowed);
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let numbers: Result<Vec<f64>, _> = parts.map(str::parse).collect();
    match (name, &numbers.map_err(|_| invalid())?[..]) {
        ("endless", []) => Ok(Lifetimes::Endless),
        ("exponential", &[mean_s]) => Ok(Lifetimes::Exponential { mean_s }),
        ("pareto", &[min_s, alpha, max_s]) => Ok(Lifetimes::Pareto { min_s, alpha, max_s }),
        ("log-normal", &[median_s, sigma]) => Ok(Lifetimes::LogNormal { median_s, sigma }),
        _ => Err(invalid()),
    }
}

/// A shape as it is written on a command line: `VCPUSxMIB:WEIGHT`.
///
/// # Errors
/// [`Invalid`] for anything else. Ranges are the recipe's to check.
pub fn shape(text: &str) -> Result<Shape, Invalid> {
    let parse = || {
        let (size, weight) = text.split_once(':')?;
        let (vcpus, mib) = size.split_once('x')?;
        Some(Shape {
            vcpus: Vcpus(vcpus.parse().ok()?),
            memory: MiB(mib.parse().ok()?),
            disk: GiB(0),
            priority: 0,
            weight: weight.parse().ok()?,
        })
    };
    parse().ok_or_else(|| Invalid::new("shape", text, "VCPUSxMIB:WEIGHT, as 4x8192:15"))
}

/// A range of use as it is written on a command line: `LEAST-MOST` in thousandths.
///
/// # Errors
/// [`Invalid`] for anything else. Ranges are the recipe's to check.
pub fn permille(text: &str) -> Result<(u16, u16), Invalid> {
    let parse = || {
        let (least, most) = text.split_once('-')?;
        Some((least.parse().ok()?, most.parse().ok()?))
    };
    parse().ok_or_else(|| Invalid::new("cpu_permille", text, "LEAST-MOST, as 100-300"))
}
