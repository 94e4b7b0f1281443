//! A table by its columns, before it is written in one form or another.

use std::fmt::Write as _;

/// The cells of a column, or some of them; none is a cell without a value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sim) enum Values {
    /// In CSV 1 is yes, and 0 is no.
    Flag(Vec<Option<bool>>),
    Real(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
    Whole(Vec<Option<u64>>),
}

impl Values {
    fn put(&self, row: usize, csv: &mut String) {
        let written = match self {
            Self::Flag(cells) => cells[row].map(|cell| write!(csv, "{}", u8::from(cell))),
            Self::Real(cells) => cells[row].map(|cell| write!(csv, "{cell}")),
            Self::Text(cells) => cells[row].as_ref().map(|cell| csv.write_str(&field(cell))),
            Self::Whole(cells) => cells[row].map(|cell| write!(csv, "{cell}")),
        };
        // Nothing keeps a text from growing.
        debug_assert!(written.is_none_or(|written| written.is_ok()));
    }

    fn len(&self) -> usize {
        match self {
            Self::Flag(cells) => cells.len(),
            Self::Real(cells) => cells.len(),
            Self::Text(cells) => cells.len(),
            Self::Whole(cells) => cells.len(),
        }
    }
}

/// Columns are collected from values, or from what may be none.
macro_rules! collected {
    ($($kind:ident of $cell:ty),*) => {$(
        impl FromIterator<Option<$cell>> for Values {
            fn from_iter<I: IntoIterator<Item = Option<$cell>>>(cells: I) -> Self {
                Self::$kind(cells.into_iter().collect())
            }
        }

        impl FromIterator<$cell> for Values {
            fn from_iter<I: IntoIterator<Item = $cell>>(cells: I) -> Self {
                cells.into_iter().map(Some).collect()
            }
        }
    )*};
}

collected!(Flag of bool, Real of f64, Text of String, Whole of u64);

/// Columns with their names, all of one length.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::sim) struct Columns(Vec<(String, Values)>);

impl Columns {
    /// With a further column.
    #[must_use]
    pub(in crate::sim) fn with<T>(
        mut self,
        name: impl Into<String>,
        cells: impl Iterator<Item = T>,
    ) -> Self
    where
        Values: FromIterator<T>,
    {
        self.0.push((name.into(), cells.collect()));
        let (first, last) = (self.0.first(), self.0.last());
        debug_assert_eq!(first.map(|(_, of)| of.len()), last.map(|(_, of)| of.len()));
        self
    }

    fn rows(&self) -> usize {
        self.0.first().map_or(0, |(_, values)| values.len())
    }

    /// The table as CSV with a header.
    pub(in crate::sim) fn csv(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|(name, _)| field(name)).collect();
        let mut csv = names.join(",") + "\n";
        for row in 0..self.rows() {
            for (nth, (_, values)) in self.0.iter().enumerate() {
                if nth > 0 {
                    csv.push(',');
                }
                values.put(row, &mut csv);
            }
            csv.push('\n');
        }
        csv
    }

    /// The table as a Parquet file. Every column may have nulls, be there some or not: what a
    /// column is does not depend on what is in it.
    #[cfg(feature = "parquet")]
    pub(in crate::sim) fn parquet(self) -> std::io::Result<Vec<u8>> {
        use super::parquet::{Field, TableWriter};

        let field = |(name, values): &(String, Values)| Field::optional(name, values);
        let fields: Vec<Field> = self.0.iter().map(field).collect();
        let mut writer = TableWriter::new(Vec::new(), &fields)?;
        if self.rows() > 0 {
            writer.write(self.0.into_iter().map(|(_, values)| values).collect())?;
        }
        writer.finish()
    }
}

/// A field of CSV, quoted where it has to be.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
