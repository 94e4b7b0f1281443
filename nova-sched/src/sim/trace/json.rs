//! The JSON form: one object a line.

use std::io::{Read, Write};

use nova_core::domain::{GiB, MiB, Vcpus};
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{BadRow, Order, TraceError, TraceRow};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    vm: u64,
    arrival_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_s: Option<u64>,
    vcpu: u32,
    mem_mib: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_gib: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gang: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_permille: Option<u16>,
}

/// Reads the rows of a trace in the JSON form, one at a time.
///
/// After a [`TraceError::BadRow`] the next call goes on with the next row; after any other error
/// there is nothing more.
#[derive(Debug)]
pub struct JsonReader<R> {
    lines: Lines<R>,
    order: Order,
}

impl<R: Read> JsonReader<R> {
    /// Reads from here. There is no header, so nothing is read yet.
    pub fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), order: Order::default() }
    }

    fn row(&mut self) -> Result<TraceRow, BadRow> {
        let object: Object = parse(self.lines.line())?;
        let row = TraceRow {
            line: self.lines.number(),
            vm: object.vm,
            arrival_s: object.arrival_s,
            end_s: object.end_s,
            vcpus: Vcpus(object.vcpu),
            memory: MiB(object.mem_mib),
            disk: GiB(object.disk_gib.unwrap_or(0)),
            priority: object.priority.unwrap_or(0),
            gang: object.gang,
            cpu_permille: object.cpu_permille,
        };
        row.check()?;
        self.order.follow(&row)?;
        Ok(row)
    }
}

/// An object of a line.
pub(super) fn parse<'l, T: Deserialize<'l>>(line: &'l [u8]) -> Result<T, BadRow> {
    serde_json::from_slice(line).map_err(|error| {
        // A parser may repeat what it read.
        BadRow::Json { why: error.to_string().chars().take(160).collect() }
    })
}

impl<R: Read> Iterator for JsonReader<R> {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next_line()?;
        Some(line.and_then(|line| self.row().map_err(|why| TraceError::BadRow { line, why })))
    }
}

/// Writes the JSON form.
///
/// What it writes, [`JsonReader`] reads: it refuses rows that the reader would. What is not told,
/// and a disk or priority of 0, is left out.
#[derive(Debug)]
pub struct JsonWriter<W: Write> {
    writer: W,
    order: Order,
    line: u64,
}

impl<W: Write> JsonWriter<W> {
    /// Writes to here. Rows are written in parts, so let `writer` be buffered.
    pub fn new(writer: W) -> Self {
        Self { writer, order: Order::default(), line: 0 }
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`TraceError::BadRow`] for a value out of range or a row out of order, and nothing has been
    /// written then; [`TraceError::Write`] when it cannot be written.
    pub fn write(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        self.order.write(row, self.line + 1)?;
        self.line += 1;
        let object = Object {
            vm: row.vm,
            arrival_s: row.arrival_s,
            end_s: row.end_s,
            vcpu: row.vcpus.get(),
            mem_mib: row.memory.get(),
            disk_gib: Some(row.disk.get()).filter(|gib| *gib > 0),
            priority: Some(row.priority).filter(|priority| *priority > 0),
            gang: row.gang,
            cpu_permille: row.cpu_permille,
        };
        serde_json::to_writer(&mut self.writer, &object)
            .map_err(|error| TraceError::Write(error.into()))?;
        self.writer.write_all(b"\n").map_err(TraceError::Write)
    }

    /// Writes out what is in buffers, and gives the writer back.
    ///
    /// # Errors
    /// [`TraceError::Write`] when it cannot be written.
    pub fn finish(mut self) -> Result<W, TraceError> {
        self.writer.flush().map_err(TraceError::Write)?;
        Ok(self.writer)
    }
}
