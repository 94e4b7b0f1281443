//! Writing tables. The same values give the same bytes.

use std::io::{self, Write};
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::Result;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::Type;

use super::guarded;
use crate::sim::columns::Values;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Kind {
    Flag,
    Real,
    Text,
    Whole,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Field {
    pub(in crate::sim) name: String,
    pub(in crate::sim) kind: Kind,
    /// Whether there may be none of it in a row.
    pub(in crate::sim) optional: bool,
}

impl Field {
    /// For such values, or none.
    pub(in crate::sim) fn optional(name: &str, values: &Values) -> Self {
        let kind = match values {
            Values::Flag(_) => Kind::Flag,
            Values::Real(_) => Kind::Real,
            Values::Text(_) => Kind::Text,
            Values::Whole(_) => Kind::Whole,
        };
        Self { name: name.to_owned(), kind, optional: true }
    }
}

/// Writes a table in row groups.
pub(in crate::sim) struct TableWriter<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    optional: Vec<bool>,
}

impl<W: Write + Send> TableWriter<W> {
    /// Starts with these columns.
    pub(in crate::sim) fn new(writer: W, fields: &[Field]) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by("nova-sched".to_owned())
            .build();
        let writer = guarded(|| {
            let columns: Result<Vec<_>> =
                fields.iter().map(|one| column(one).map(Arc::new)).collect();
            let schema = Type::group_type_builder("schema").with_fields(columns?).build()?;
            SerializedFileWriter::new(writer, Arc::new(schema), Arc::new(properties))
        })?;
        Ok(Self { writer, optional: fields.iter().map(|field| field.optional).collect() })
    }

    /// Writes rows: of every column as many cells, and a cell in each that is not optional.
    pub(in crate::sim) fn write(&mut self, columns: Vec<Values>) -> io::Result<()> {
        let (writer, optional) = (&mut self.writer, &self.optional);
        guarded(|| {
            let mut group = writer.next_row_group()?;
            for (values, optional) in columns.into_iter().zip(optional) {
                let Some(mut column) = group.next_column()? else { break };
                match values {
                    Values::Flag(cells) => put::<BoolType>(&mut column, cells, *optional)?,
                    Values::Real(cells) => put::<DoubleType>(&mut column, cells, *optional)?,
                    Values::Text(cells) => {
                        let cells = cells
                            .into_iter()
                            .map(|cell| cell.map(|text| ByteArray::from(text.into_bytes())));
                        put::<ByteArrayType>(&mut column, cells, *optional)?;
                    }
                    Values::Whole(cells) => {
                        // The bits of a number that has no sign, as the type of the column says.
                        let cells = cells.into_iter().map(|cell| cell.map(|cell| cell as i64));
                        put::<Int64Type>(&mut column, cells, *optional)?;
                    }
                }
                column.close()?;
            }
            group.close().map(drop)
        })
    }

    /// Writes out what is left, and gives the writer back.
    pub(in crate::sim) fn finish(self) -> io::Result<W> {
        let mut writer = guarded(|| self.writer.into_inner())?;
        writer.flush()?;
        Ok(writer)
    }
}

fn column(Field { name, kind, optional }: &Field) -> Result<Type> {
    let (physical, logical) = match kind {
        Kind::Flag => (Physical::BOOLEAN, None),
        Kind::Real => (Physical::DOUBLE, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Whole => (Physical::INT64, Some(LogicalType::integer(64, false))),
    };
    let repetition = if *optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(repetition)
        .build()
}

fn put<T: DataType>(
    column: &mut SerializedColumnWriter<'_>,
    cells: impl IntoIterator<Item = Option<T::T>>,
    optional: bool,
) -> Result<()> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    column.typed::<T>().write_batch(&values, optional.then_some(&levels), None).map(drop)
}
