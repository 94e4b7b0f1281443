//! The table of fragments: what tasks used, one stretch of time after the other.

use nova_core::domain::Invalid;

use super::{DURATION, MS, MS_MAX, id, mhz};
use crate::sim::parquet::{Cursor, Table};
use crate::sim::trace::parquet::number;
use crate::sim::trace::sort::Record;
use crate::sim::trace::{BadRow, TraceError};

/// The stretch of time in which a task used so much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fragment {
    pub(super) vm: u64,
    /// The row of the table, from 1.
    pub(super) row: u64,
    pub(super) ms: u64,
    pub(super) mhz: f64,
}

/// By task, then in the order of the table.
impl Record for Fragment {
    type Key = (u64, u64);
    const WORDS: usize = 4;

    fn key(&self) -> (u64, u64) {
        (self.vm, self.row)
    }

    fn words(&self, words: &mut [u64]) {
        words.copy_from_slice(&[self.vm, self.row, self.ms, self.mhz.to_bits()]);
    }

    fn of_words(words: &[u64]) -> Self {
        Self { vm: words[0], row: words[1], ms: words[2], mhz: f64::from_bits(words[3]) }
    }
}

/// Reads fragments, one at a time. A bad one is a bad row that names the table.
pub(super) struct Fragments {
    rows: Cursor,
}

impl Fragments {
    pub(super) fn new(table: &Table) -> Result<Self, TraceError> {
        let column = |name| match table.find(&[name]) {
            None => Err(TraceError::no_column(table, name)),
            some => Ok(some),
        };
        let columns = [column("id")?, column(DURATION)?, column("cpu_usage")?];
        Ok(Self { rows: table.cursor(&columns) })
    }

    fn fragment(&self) -> Result<Fragment, Invalid> {
        let cell = |nth| self.rows.cell(nth);
        Ok(Fragment {
            vm: id(cell(0))?,
            row: self.rows.number(),
            ms: number(DURATION, cell(1), 0, MS_MAX, MS)?,
            mhz: mhz("cpu_usage", cell(2))?,
        })
    }
}

impl Iterator for Fragments {
    type Item = Result<Fragment, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.rows.advance() {
            Ok(true) => self.rows.number(),
            Ok(false) => return None,
            Err(error) => return Some(Err(TraceError::Read(error))),
        };
        Some(self.fragment().map_err(|why| {
            let why = BadRow::Sample { name: "fragments".to_owned(), line: row, why };
            TraceError::BadRow { line: row, why }
        }))
    }
}
