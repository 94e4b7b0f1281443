//! The plain form as a table in a Parquet file.

use std::fs::File;
use std::io::Write;

use nova_core::domain::{Flavor, GiB, Invalid, MiB, Vcpus};

use super::{BadRow, Order, TraceError, TraceRow, lines};
use crate::sim::columns::Values;
use crate::sim::parquet::{Cell, Cursor, Field, Kind, Table, TableWriter};

/// The columns, and whether a cell of theirs may be missing. The first five must be there.
const COLUMNS: [(&str, bool); 9] = [
    ("vm", false),
    ("arrival_s", false),
    ("end_s", true),
    ("vcpu", false),
    ("mem_mib", false),
    ("disk_gib", true),
    ("priority", true),
    ("gang", true),
    ("cpu_permille", true),
];
const CORE: usize = 5;

/// So many rows are written at once.
const GROUP_ROWS: usize = 1 << 16;

/// Reads the rows of a trace that is a table with the columns of the plain form, one at a time.
///
/// Columns are found by their names; others are passed over. What is null is not told, and what has
/// no `end_s` stays. The line of a row is its number, counted from 1.
///
/// After a [`TraceError::BadRow`] the next call goes on with the next row; after any other error
/// there is nothing more.
pub struct ParquetReader {
    rows: Cursor,
    order: Order,
}

impl std::fmt::Debug for ParquetReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetReader").field("row", &self.rows.number()).finish_non_exhaustive()
    }
}

impl ParquetReader {
    /// Starts reading, and checks the columns.
    ///
    /// # Errors
    /// [`TraceError::NoColumn`] when one is missing, [`TraceError::Read`] when the file cannot be
    /// read or is no Parquet file.
    pub fn new(file: File) -> Result<Self, TraceError> {
        Self::of(&Table::open(file).map_err(TraceError::Read)?)
    }

    pub(super) fn of(table: &Table) -> Result<Self, TraceError> {
        let columns = COLUMNS.map(|(name, _)| table.find(&[name]));
        if let Some(missing) = columns[..CORE].iter().position(Option::is_none) {
            return Err(TraceError::no_column(table, COLUMNS[missing].0));
        }
        Ok(Self { rows: table.cursor(&columns), order: Order::default() })
    }

    fn row(&mut self) -> Result<TraceRow, BadRow> {
        let row = row(&self.rows)?;
        row.check()?;
        self.order.follow(&row)?;
        Ok(row)
    }
}

impl Iterator for ParquetReader {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.advance() {
            Ok(true) => {
                let line = self.rows.number();
                Some(self.row().map_err(|why| TraceError::BadRow { line, why }))
            }
            Ok(false) => None,
            Err(error) => Some(Err(TraceError::Read(error))),
        }
    }
}

fn row(rows: &Cursor) -> Result<TraceRow, BadRow> {
    const NUMBER: &str = "a number from 0";
    let told = |nth: usize, max, allowed| match rows.cell(nth) {
        Cell::Null => Ok(None),
        cell => number(COLUMNS[nth].0, cell, 0, max, allowed).map(Some),
    };
    let must = |nth: usize, max, allowed| number(COLUMNS[nth].0, rows.cell(nth), 0, max, allowed);
    Ok(TraceRow {
        line: rows.number(),
        vm: must(0, u64::MAX, NUMBER)?,
        arrival_s: must(1, TraceRow::SECONDS_MAX, lines::SECONDS)?,
        end_s: told(2, TraceRow::SECONDS_MAX, lines::SECONDS)?,
        vcpus: Vcpus(must(3, Flavor::VCPUS_MAX.get().into(), lines::VCPUS)? as u32),
        memory: MiB(must(4, Flavor::MEMORY_MAX.get(), lines::MEMORY)?),
        disk: GiB(told(5, Flavor::DISK_MAX.get(), lines::DISK)?.unwrap_or(0)),
        priority: told(6, u8::MAX.into(), "0 to 255")?.unwrap_or(0) as u8,
        gang: told(7, u64::MAX, NUMBER)?,
        cpu_permille: told(8, TraceRow::PERMILLE_MAX.into(), lines::PERMILLE)?
            .map(|permille| permille as u16),
    })
}

/// A whole number within limits.
pub(super) fn number(
    column: &'static str,
    cell: &Cell,
    min: u64,
    max: u64,
    allowed: &'static str,
) -> Result<u64, Invalid> {
    match cell.whole().and_then(|number| u64::try_from(number).ok()) {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Invalid::new(column, cell.shown(), allowed)),
    }
}

/// Writes the plain form as a table in a Parquet file: all of its columns, as numbers without a
/// sign; what is not told is null.
///
/// What it writes, [`ParquetReader`] reads: it refuses rows that the reader would. The same rows
/// give the same bytes.
///
/// ```
/// use nova_sched::sim::trace::{ParquetReader, ParquetWriter, TraceReader};
///
/// let text = "vm,arrival_s,end_s,vcpu,mem_mib\n7,0,60,2,4096\n8,5,-1,1,1024\n";
/// let mut file = tempfile::tempfile()?;
/// let mut table = ParquetWriter::new(&mut file)?;
/// for row in TraceReader::new(text.as_bytes())? {
///     table.write(&row?)?;
/// }
/// table.finish()?;
/// let rows = ParquetReader::new(file)?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!((rows[0].end_s, rows[1].end_s), (Some(60), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ParquetWriter<W: Write + Send> {
    table: TableWriter<W>,
    order: Order,
    line: u64,
    rows: Vec<TraceRow>,
}

impl<W: Write + Send> std::fmt::Debug for ParquetWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetWriter").field("rows", &self.line).finish_non_exhaustive()
    }
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Starts a table. Some ten thousand rows are in memory before they are written.
    ///
    /// # Errors
    /// [`TraceError::Write`] when its beginning cannot be written.
    pub fn new(writer: W) -> Result<Self, TraceError> {
        let field = |(name, optional): (&str, bool)| Field {
            name: name.to_owned(),
            kind: Kind::Whole,
            optional,
        };
        let table = TableWriter::new(writer, &COLUMNS.map(field)).map_err(TraceError::Write)?;
        Ok(Self { table, order: Order::default(), line: 0, rows: Vec::new() })
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`TraceError::BadRow`] for a value out of range or a row out of order, and the table is as
    /// it was then; [`TraceError::Write`] when rows cannot be written.
    pub fn write(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        self.order.write(row, self.line + 1)?;
        self.line += 1;
        self.rows.push(*row);
        if self.rows.len() == GROUP_ROWS { self.put() } else { Ok(()) }
    }

    /// Writes the rows that are in memory.
    fn put(&mut self) -> Result<(), TraceError> {
        let cells: [fn(&TraceRow) -> Option<u64>; COLUMNS.len()] = [
            |row| Some(row.vm),
            |row| Some(row.arrival_s),
            |row| row.end_s,
            |row| Some(row.vcpus.get().into()),
            |row| Some(row.memory.get()),
            |row| Some(row.disk.get()),
            |row| Some(row.priority.into()),
            |row| row.gang,
            |row| row.cpu_permille.map(u64::from),
        ];
        let column = |cell| Values::Whole(self.rows.iter().map(cell).collect());
        let columns = cells.map(column).into();
        self.table.write(columns).map_err(TraceError::Write)?;
        self.rows.clear();
        Ok(())
    }

    /// Writes out the rest and what a table ends with, and gives the writer back. Without it there
    /// is no table.
    ///
    /// # Errors
    /// [`TraceError::Write`] when it cannot be written.
    pub fn finish(mut self) -> Result<W, TraceError> {
        if !self.rows.is_empty() {
            self.put()?;
        }
        self.table.finish().map_err(TraceError::Write)
    }
}
