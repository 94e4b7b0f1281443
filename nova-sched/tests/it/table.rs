//! Parquet files as others write them, and what they hold, through the library alone.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::record::Field;
use parquet::schema::types::Type;

/// A column to write, null where there is none.
#[derive(Debug, Clone)]
pub(crate) enum Column {
    I32(Vec<Option<i32>>),
    I64(Vec<Option<i64>>),
    F64(Vec<Option<f64>>),
    Text(Vec<Option<&'static str>>),
    /// Times in microseconds.
    Micros(Vec<Option<i64>>),
}

impl Column {
    pub(crate) fn i32(cells: &[i32]) -> Self {
        Self::I32(cells.iter().copied().map(Some).collect())
    }

    pub(crate) fn i64(cells: &[i64]) -> Self {
        Self::I64(cells.iter().copied().map(Some).collect())
    }

    pub(crate) fn f64(cells: &[f64]) -> Self {
        Self::F64(cells.iter().copied().map(Some).collect())
    }

    fn has_nulls(&self) -> bool {
        match self {
            Self::I32(cells) => cells.contains(&None),
            Self::I64(cells) | Self::Micros(cells) => cells.contains(&None),
            Self::F64(cells) => cells.contains(&None),
            Self::Text(cells) => cells.contains(&None),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::I32(cells) => cells.len(),
            Self::I64(cells) | Self::Micros(cells) => cells.len(),
            Self::F64(cells) => cells.len(),
            Self::Text(cells) => cells.len(),
        }
    }

    fn schema(&self, name: &str) -> Type {
        let micros = LogicalType::timestamp(true, TimeUnit::MICROS);
        let (physical, logical) = match self {
            Self::I32(_) => (Physical::INT32, None),
            Self::I64(_) => (Physical::INT64, None),
            Self::F64(_) => (Physical::DOUBLE, None),
            Self::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Micros(_) => (Physical::INT64, Some(micros)),
        };
        let may_be_null =
            if self.has_nulls() { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let column = Type::primitive_type_builder(name, physical).with_logical_type(logical);
        column.with_repetition(may_be_null).build().unwrap()
    }

    fn write(&self, from: usize, to: usize, writer: &mut SerializedColumnWriter<'_>) {
        let nulls = self.has_nulls();
        match self {
            Self::I32(cells) => put::<Int32Type>(writer, &cells[from..to], nulls),
            Self::I64(cells) | Self::Micros(cells) => {
                put::<Int64Type>(writer, &cells[from..to], nulls);
            }
            Self::F64(cells) => put::<DoubleType>(writer, &cells[from..to], nulls),
            Self::Text(cells) => {
                let cells: Vec<_> = cells.iter().map(|cell| cell.map(ByteArray::from)).collect();
                put::<ByteArrayType>(writer, &cells[from..to], nulls);
            }
        }
    }
}

fn put<T: DataType>(writer: &mut SerializedColumnWriter<'_>, cells: &[Option<T::T>], nulls: bool) {
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    let values: Vec<T::T> = cells.iter().flatten().cloned().collect();
    writer.typed::<T>().write_batch(&values, nulls.then_some(&levels), None).unwrap();
}

/// A file of these columns, with so many rows in a group.
pub(crate) fn file(columns: &[(&str, Column)], group: usize) -> Vec<u8> {
    let fields = columns.iter().map(|(name, column)| Arc::new(column.schema(name)));
    let schema = Type::group_type_builder("m").with_fields(fields.collect()).build().unwrap();
    // Pages of both versions are met, by whether groups are even.
    let version = if group.is_multiple_of(2) {
        WriterVersion::PARQUET_2_0
    } else {
        WriterVersion::PARQUET_1_0
    };
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    let rows = columns.first().map_or(0, |(_, column)| column.rows());
    for from in (0..rows).step_by(group) {
        let mut written = writer.next_row_group().unwrap();
        for (_, column) in columns {
            let mut to = written.next_column().unwrap().unwrap();
            column.write(from, rows.min(from + group), &mut to);
            to.close().unwrap();
        }
        written.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// The columns of a file as `name: physical type`, and its cells as CSV has them.
pub(crate) fn read(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let columns = schema.columns().iter();
    let columns = columns.map(|of| format!("{}: {}", of.name(), of.physical_type())).collect();
    let rows = reader.get_row_iter(None).unwrap();
    let cells =
        rows.map(|row| row.unwrap().get_column_iter().map(|(_, cell)| text(cell)).collect());
    (columns, cells.collect())
}

/// How many row groups a file has.
pub(crate) fn groups(path: &Path) -> usize {
    SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap().num_row_groups()
}

fn text(cell: &Field) -> String {
    match cell {
        Field::Null => String::new(),
        Field::Bool(flag) => u8::from(*flag).to_string(),
        Field::ULong(number) => number.to_string(),
        Field::Double(number) => number.to_string(),
        Field::Str(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}
