//! Tables in Parquet files, for traces and for results.
//!
//! Reading is by columns and by row groups: in memory is one page of each column and a few thousand
//! of its cells. What a file claims is looked at before anybody makes room for it, see [`pages`];
//! and a panic of the library that decodes it is caught and becomes an error, so that a damaged
//! file ends nothing but its own reading. (A hook for panics still hears of it, and a program that
//! is built to abort at panics does so.)
//!
//! Compression is snappy or none; what else the library can do, it does when a program asks for
//! those features of the crate `parquet`.

mod pages;
mod read;
mod write;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;

pub(in crate::sim) use read::{Cursor, Table};
pub(in crate::sim) use write::{Field, Kind, TableWriter};

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sim) enum Cell {
    /// There is none.
    Null,
    Flag(bool),
    /// Any whole number; of a time, its milliseconds.
    Whole(i128),
    Real(f64),
    Text(ByteArray),
}

impl Cell {
    /// The whole number; a real one without a fraction is one too, since some programs write so
    /// what may be missing.
    pub(in crate::sim) fn whole(&self) -> Option<i128> {
        /// Beyond it not every whole number is a real one.
        const REAL_MAX: f64 = 9_007_199_254_740_992.0;
        match self {
            Self::Whole(number) => Some(*number),
            Self::Real(number) if number.fract() == 0.0 && number.abs() <= REAL_MAX => {
                Some(*number as i128)
            }
            _ => None,
        }
    }

    /// The number, be it whole or real.
    pub(in crate::sim) fn real(&self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            _ => None,
        }
    }

    /// What it holds, to show to people.
    pub(in crate::sim) fn shown(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Text(text) => {
                let bytes = &text.data()[..text.len().min(320)];
                String::from_utf8_lossy(bytes).chars().take(80).collect()
            }
        }
    }
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Calls the library, and makes an error of whatever it says, be it in panic. What it was called
/// for must not be used after an error.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::External(error))) => match error.downcast::<io::Error>() {
            Ok(error) => Err(*error),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        },
        Ok(Err(error)) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(_) => Err(damaged("the Parquet file is damaged in a way that no reader expects")),
    }
}
