//! Reading tables.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;
use bytes::Bytes;

use super::{Cell, damaged, guarded, pages};

/// So many cells of each column are decoded at once.
const BATCH_ROWS: usize = 4096;

/// Names of columns that are told to people.
const NAMES_MAX: usize = 20;

/// A Parquet file that is open.
#[derive(Clone)]
pub(in crate::sim) struct Table {
    reader: Arc<SerializedFileReader<Pieces>>,
    pieces: Pieces,
}

impl Table {
    /// Reads what the file says of itself, and no rows yet.
    pub(in crate::sim) fn open(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let pieces = Pieces { file: Arc::new(file), bytes };
        let opened = pieces.clone();
        let reader = Arc::new(guarded(|| SerializedFileReader::new(opened))?);
        Ok(Self { reader, pieces })
    }

    /// The column that has one of these names, the first of which counts; none where all are
    /// absent, or are lists or structures.
    pub(in crate::sim) fn find(&self, names: &[&str]) -> Option<usize> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let is = |column: &ColumnDescriptor, name: &str| {
            column.path().parts() == [name] && column.max_rep_level() == 0
        };
        names.iter().find_map(|name| schema.columns().iter().position(|column| is(column, name)))
    }

    /// The names of the columns, to show to people.
    pub(in crate::sim) fn names(&self) -> String {
        let columns = self.reader.metadata().file_metadata().schema_descr().columns();
        let short = |name: String| name.chars().take(40).collect::<String>();
        let names = columns.iter().take(NAMES_MAX).map(|column| short(column.path().string()));
        names.collect::<Vec<_>>().join(", ")
    }

    /// Goes through the rows. What is no column gives nothing but [`Cell::Null`].
    pub(in crate::sim) fn cursor(&self, columns: &[Option<usize>]) -> Cursor {
        Cursor {
            table: self.clone(),
            columns: columns.to_vec(),
            group: 0,
            left: 0,
            readers: Vec::new(),
            batch: vec![Vec::new(); columns.len()],
            rows: 0,
            at: 0,
            number: 0,
            ended: false,
        }
    }
}

/// Rows of some columns, one after the other.
pub(in crate::sim) struct Cursor {
    table: Table,
    columns: Vec<Option<usize>>,
    /// The next row group.
    group: usize,
    /// Rows of the present group that are not in a batch yet.
    left: usize,
    readers: Vec<Option<(ColumnReader, Meaning)>>,
    /// Cells by column.
    batch: Vec<Vec<Cell>>,
    rows: usize,
    /// The row behind the present one, in the batch.
    at: usize,
    number: u64,
    ended: bool,
}

impl Cursor {
    /// Moves on to the next row; false at the end, and for ever after an error.
    pub(in crate::sim) fn advance(&mut self) -> io::Result<bool> {
        while !self.ended && self.at == self.rows {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
        if self.ended {
            return Ok(false);
        }
        self.at += 1;
        self.number += 1;
        Ok(true)
    }

    /// There is nothing more.
    pub(in crate::sim) fn end(&mut self) {
        self.ended = true;
    }

    /// The number of the present row, counted from 1.
    pub(in crate::sim) fn number(&self) -> u64 {
        self.number
    }

    /// What the present row has in the `nth` of the columns that were asked for.
    pub(in crate::sim) fn cell(&self, nth: usize) -> &Cell {
        let row = self.at.checked_sub(1).and_then(|row| self.batch.get(nth)?.get(row));
        row.unwrap_or(&Cell::Null)
    }

    /// Decodes some rows; false when there are no more.
    fn fill(&mut self) -> io::Result<bool> {
        (self.at, self.rows) = (0, 0);
        if self.left == 0 {
            if self.group == self.table.reader.num_row_groups() {
                return Ok(false);
            }
            self.enter()?;
        }
        let rows = self.left.min(BATCH_ROWS);
        for (reader, cells) in self.readers.iter_mut().zip(&mut self.batch) {
            cells.clear();
            if let Some((reader, meaning)) = reader {
                guarded(|| decode(reader, *meaning, rows, cells))?;
            }
        }
        self.left -= rows;
        self.rows = rows;
        Ok(true)
    }

    /// Goes on to the next row group.
    fn enter(&mut self) -> io::Result<()> {
        let (reader, pieces) = (&self.table.reader, &self.table.pieces);
        let metadata = reader.metadata().row_group(self.group);
        let rows = usize::try_from(metadata.num_rows());
        self.left = rows.map_err(|_| damaged("a row group has less than no rows"))?;
        self.readers.clear();
        for column in &self.columns {
            let Some(column) = *column else {
                self.readers.push(None);
                continue;
            };
            let chunk = metadata.columns().get(column);
            let chunk = chunk.ok_or_else(|| damaged("a row group lacks a column"))?;
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            let place = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
            let (start, length) = place.ok_or_else(|| damaged("a column lies nowhere"))?;
            pages::check(&pieces.file, start, length)?;
            let meaning = Meaning::of(chunk.column_descr());
            let column = guarded(|| reader.get_row_group(self.group)?.get_column_reader(column))?;
            self.readers.push(Some((column, meaning)));
        }
        self.group += 1;
        Ok(())
    }
}

/// What the numbers of a column are.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Meaning {
    unsigned: bool,
    /// A millisecond has so many of its units.
    per_ms: i64,
    /// Whether cells may be missing.
    optional: bool,
}

impl Meaning {
    fn of(column: &ColumnDescriptor) -> Self {
        use ConvertedType::{TIMESTAMP_MICROS, UINT_8, UINT_16, UINT_32, UINT_64};
        let (mut unsigned, mut per_ms) = match column.converted_type() {
            UINT_8 | UINT_16 | UINT_32 | UINT_64 => (true, 1),
            TIMESTAMP_MICROS => (false, 1000),
            _ => (false, 1),
        };
        match column.logical_type_ref() {
            Some(LogicalType::Integer(kind)) => unsigned = !kind.is_signed,
            Some(LogicalType::Timestamp(kind)) => {
                per_ms = match kind.unit {
                    TimeUnit::MILLIS => 1,
                    TimeUnit::MICROS => 1000,
                    TimeUnit::NANOS => 1_000_000,
                };
            }
            _ => {}
        }
        Self { unsigned, per_ms, optional: column.max_def_level() > 0 }
    }

    fn of_32(self, number: i32) -> Cell {
        Cell::Whole(if self.unsigned { (number as u32).into() } else { number.into() })
    }

    fn of_64(self, number: i64) -> Cell {
        Cell::Whole(match self.unsigned {
            true => (number as u64).into(),
            false => number.div_euclid(self.per_ms).into(),
        })
    }
}

/// The next `rows` cells of a column.
fn decode(
    reader: &mut ColumnReader,
    meaning: Meaning,
    rows: usize,
    cells: &mut Vec<Cell>,
) -> Result<()> {
    use ColumnReader as Of;
    let optional = meaning.optional;
    match reader {
        Of::BoolColumnReader(reader) => put(reader, optional, rows, cells, Cell::Flag),
        Of::Int32ColumnReader(reader) => {
            put(reader, optional, rows, cells, |number| meaning.of_32(number))
        }
        Of::Int64ColumnReader(reader) => {
            put(reader, optional, rows, cells, |number| meaning.of_64(number))
        }
        Of::FloatColumnReader(reader) => {
            put(reader, optional, rows, cells, |number| Cell::Real(number.into()))
        }
        Of::DoubleColumnReader(reader) => put(reader, optional, rows, cells, Cell::Real),
        Of::ByteArrayColumnReader(reader) => put(reader, optional, rows, cells, Cell::Text),
        Of::Int96ColumnReader(_) | Of::FixedLenByteArrayColumnReader(_) => {
            let what = "a column has a type that is not read: 96 bits, or bytes of one length";
            Err(ParquetError::NYI(what.to_owned()))
        }
    }
}

fn put<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    optional: bool,
    rows: usize,
    cells: &mut Vec<Cell>,
    cell: impl Fn(T::T) -> Cell,
) -> Result<()> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (records, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter().map(cell);
    if optional {
        // Of a column that stands in no other, a level is 1 where there is a value.
        let told = levels.iter().map(|level| match *level {
            0 => Some(Cell::Null),
            _ => values.next(),
        });
        cells.extend(told.map_while(|cell| cell));
    } else {
        cells.extend(values);
    }
    if records != rows || cells.len() != rows {
        let what = format!("a column ends after {records} rows, too early");
        return Err(ParquetError::EOF(what));
    }
    Ok(())
}

/// A file in pieces, none of which is larger than a page may be.
#[derive(Clone)]
struct Pieces {
    file: Arc<File>,
    bytes: u64,
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Pieces {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let fits = length as u64 <= pages::PAGE_BYTES_MAX
            && start.checked_add(length as u64).is_some_and(|end| end <= self.bytes);
        if !fits {
            let what = format!("{length} bytes from {start} on are too many, or not there");
            return Err(ParquetError::EOF(what));
        }
        self.file.get_bytes(start, length)
    }
}
