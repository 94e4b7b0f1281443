//! Traces that are tables in Parquet files: which format they are of, and where they are read from.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use super::sort::SortOptions;
use super::{Format, ReadOptions, Rows, TraceError};
#[cfg(feature = "parquet")]
use super::{ParquetReader, lines, opendc};
#[cfg(feature = "parquet")]
use crate::sim::parquet::Table;

/// The first bytes of every Parquet file.
pub(super) const MAGIC: [u8; 4] = *b"PAR1";

/// The largest table that is copied to a temporary file.
const COPY_BYTES_MAX: u64 = 64 << 30;

/// Whether a folder holds tables of OpenDC's.
pub(in crate::sim) fn is_opendc(path: &Path) -> bool {
    ["tasks.parquet", "meta.parquet"].iter().any(|name| path.join(name).exists())
}

/// Whether a trace of this format may be a table.
pub(super) fn may_be(format: Option<Format>) -> bool {
    matches!(format, None | Some(Format::OpenDc | Format::Parquet))
}

/// Whether a file begins like a table; then it is at its beginning again.
pub(super) fn begins(file: &mut File) -> io::Result<bool> {
    // What cannot be wound back, a pipe, is read like any bytes.
    if file.stream_position().is_err() {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
    file.rewind()?;
    Ok(bytes == MAGIC)
}

/// A copy in a temporary file.
pub(super) fn copied(reader: impl Read, options: &SortOptions) -> io::Result<File> {
    let mut file = options.file()?;
    if io::copy(&mut reader.take(COPY_BYTES_MAX + 1), &mut file)? > COPY_BYTES_MAX {
        let message = format!("a table is larger than {COPY_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    file.rewind()?;
    Ok(file)
}

pub(super) fn no_table() -> io::Error {
    let message = "it is no Parquet file: it does not begin with PAR1";
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// The rows of OpenDC's folder.
#[cfg(feature = "parquet")]
pub(super) fn folder(path: &Path, options: &ReadOptions) -> Result<Rows, TraceError> {
    opendc::folder(path, options)
}

/// The rows of a file.
#[cfg(feature = "parquet")]
pub(super) fn rows(
    file: File,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    let table = Table::open(file).map_err(TraceError::Read)?;
    let is_tasks = || format.is_none() && opendc::is_tasks(&table);
    if format == Some(Format::OpenDc) || is_tasks() {
        return opendc::rows(table, None, options);
    }
    match ParquetReader::of(&table) {
        Err(TraceError::NoColumn { found, .. }) if format.is_none() => {
            let found = format!("PAR1, a table of {found}");
            Err(TraceError::Unrecognised { found: lines::shown(found.as_bytes()) })
        }
        rows => Ok(Box::new(rows?)),
    }
}

#[cfg(not(feature = "parquet"))]
pub(super) fn folder(_: &Path, _: &ReadOptions) -> Result<Rows, TraceError> {
    Err(TraceError::NotBuilt { format: Format::OpenDc })
}

#[cfg(not(feature = "parquet"))]
pub(super) fn rows(_: File, format: Option<Format>, _: &ReadOptions) -> Result<Rows, TraceError> {
    Err(TraceError::NotBuilt { format: format.unwrap_or(Format::Parquet) })
}
