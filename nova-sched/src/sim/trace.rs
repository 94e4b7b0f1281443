//! Reading a trace row by row, without ever holding more than one.

use std::io::{self, Read};

use csv::{ByteRecord, Terminator};
use nova_core::domain::{Flavor, Invalid, MiB, Vcpus};

/// The header that a trace must have.
const HEADER: [&str; 5] = ["vm", "arrival_s", "end_s", "vcpu", "mem_mib"];

/// A longer line is no row of a trace, and must not fill the memory while its end is sought.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One VM of a trace.
// Exhaustive on purpose: it is the canonical row, and simulations make their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRow {
    /// The line of the file, counted from 1 with the header.
    pub line: u64,
    /// What identifies it among those that run at the same time.
    pub vm: u64,
    /// When it comes, in seconds of the trace.
    pub arrival_s: u64,
    /// When it goes; none when it stays.
    pub end_s: Option<u64>,
    /// Its virtual CPUs.
    pub vcpus: Vcpus,
    /// Its memory.
    pub memory: MiB,
}

/// A trace cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The bytes could not be read, or a line is longer than a row can be.
    #[error("cannot read the trace")]
    Read(#[source] io::Error),
    /// The first line is not the header.
    #[error("line 1: the header is {found:?}, not \"vm,arrival_s,end_s,vcpu,mem_mib\"")]
    Header {
        /// What is there, cut to a readable length.
        found: String,
    },
    /// A row does not make sense. Reading may go on with the next.
    #[error("line {line}: {why}")]
    BadRow {
        /// The line, counted from 1 with the header.
        line: u64,
        /// What is wrong with it.
        why: BadRow,
    },
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRow {
    /// Too few or too many columns.
    #[error("{found} columns instead of 5")]
    Columns {
        /// How many there are.
        found: usize,
    },
    /// A value is not what its column holds.
    #[error(transparent)]
    Value(#[from] Invalid),
    /// It goes before it comes.
    #[error("ends at {end_s} s, before it arrives at {arrival_s} s")]
    EndsBeforeArrival {
        /// When it comes.
        arrival_s: u64,
        /// When it goes.
        end_s: u64,
    },
    /// It comes before a VM that is further up in the file.
    #[error("arrives at {arrival_s} s, before the row above it at {previous_s} s")]
    ArrivesBeforePrevious {
        /// When it comes.
        arrival_s: u64,
        /// When the one before it came.
        previous_s: u64,
    },
    /// A VM of that number is running at that time.
    #[error("vm {vm} is running already")]
    RunsAlready {
        /// The number.
        vm: u64,
    },
}

/// Reads the rows of a trace, one at a time.
///
/// After a [`TraceError::BadRow`] the next call goes on with the next row; after any other error
/// there is nothing more.
#[derive(Debug)]
pub struct TraceReader<R> {
    csv: csv::Reader<Lines<R>>,
    record: ByteRecord,
    previous_s: u64,
    ended: bool,
}

impl<R: Read> TraceReader<R> {
    /// Starts reading, and checks the header.
    ///
    /// # Errors
    /// [`TraceError::Header`] when the header is another, [`TraceError::Read`] when the bytes
    /// cannot be read.
    pub fn new(reader: R) -> Result<Self, TraceError> {
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // Canonical rows have no quotes, and a stray one must not swallow the rows below it.
            .quoting(false)
            // The default would take "\r\n" apart and lose count of the lines.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Lines { reader, in_line: 0 });
        let record = ByteRecord::new();
        let mut trace = Self { csv, record, previous_s: 0, ended: false };
        trace.next_record()?;
        let (_, fields) = trace.fields();
        if fields != HEADER.map(str::as_bytes) {
            let joined = fields.join(&b","[..]);
            let found = String::from_utf8_lossy(&joined).chars().take(80).collect();
            return Err(TraceError::Header { found });
        }
        Ok(trace)
    }

    /// Moves on to the next line that is not blank; false at the end.
    fn next_record(&mut self) -> Result<bool, TraceError> {
        loop {
            match self.csv.read_byte_record(&mut self.record) {
                Ok(true) if self.record.len() == 1 && self.record[0].trim_ascii().is_empty() => {}
                Ok(more) => return Ok(more),
                Err(error) => {
                    self.ended = true;
                    return Err(TraceError::Read(match error.into_kind() {
                        csv::ErrorKind::Io(error) => error,
                        other => io::Error::other(format!("{other:?}")),
                    }));
                }
            }
        }
    }

    /// The present record and its line.
    fn fields(&self) -> (u64, Vec<&[u8]>) {
        // The reader stands behind the line feed, which every line has here.
        let line = self.csv.position().line().saturating_sub(1);
        let mut fields: Vec<&[u8]> = self.record.iter().collect();
        if let Some(last) = fields.last_mut() {
            *last = last.strip_suffix(b"\r").unwrap_or(last);
        }
        (line, fields)
    }

    fn row(&self) -> Result<TraceRow, TraceError> {
        let (line, fields) = self.fields();
        let bad = |why| TraceError::BadRow { line, why };
        let row = parse(line, &fields).map_err(bad)?;
        if row.arrival_s < self.previous_s {
            let (arrival_s, previous_s) = (row.arrival_s, self.previous_s);
            return Err(bad(BadRow::ArrivesBeforePrevious { arrival_s, previous_s }));
        }
        Ok(row)
    }
}

impl<R: Read> Iterator for TraceReader<R> {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_record() {
            Ok(true) => {}
            Ok(false) => {
                self.ended = true;
                return None;
            }
            Err(error) => return Some(Err(error)),
        }
        let row = self.row();
        if let Ok(row) = &row {
            self.previous_s = row.arrival_s;
        }
        Some(row)
    }
}

fn parse(line: u64, fields: &[&[u8]]) -> Result<TraceRow, BadRow> {
    let [vm, arrival_s, end_s, vcpu, mem_mib] = fields else {
        return Err(BadRow::Columns { found: fields.len() });
    };
    let row = TraceRow {
        line,
        vm: number("vm", vm, 0, u64::MAX, "a number from 0")?,
        arrival_s: number("arrival_s", arrival_s, 0, SECONDS_MAX, SECONDS)?,
        end_s: match *end_s {
            b"-1" => None,
            end_s => Some(number("end_s", end_s, 0, SECONDS_MAX, END)?),
        },
        // The same limits as a flavor's, since a VM becomes one.
        vcpus: Vcpus(number("vcpu", vcpu, 1, Flavor::VCPUS_MAX.0.into(), "1 to 4096")? as u32),
        memory: MiB(number("mem_mib", mem_mib, 1, Flavor::MEMORY_MAX.0, "1 MiB to 64 TiB")?),
    };
    match row.end_s {
        Some(end_s) if end_s < row.arrival_s => {
            Err(BadRow::EndsBeforeArrival { arrival_s: row.arrival_s, end_s })
        }
        _ => Ok(row),
    }
}

/// Some thirty thousand years: sums over it stay far from the largest number.
const SECONDS_MAX: u64 = 1_000_000_000_000;
const SECONDS: &str = "whole seconds from 0 to 10^12";
const END: &str = "-1 or whole seconds from 0 to 10^12";

fn number(
    column: &'static str,
    field: &[u8],
    min: u64,
    max: u64,
    allowed: &'static str,
) -> Result<u64, Invalid> {
    let digits = field.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(field).ok().filter(|_| digits).and_then(|t| t.parse().ok());
    match number {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Invalid::new(column, String::from_utf8_lossy(field), allowed)),
    }
}

/// Bytes in lines: refuses one that is too long, and ends the last one when it is not ended, so
/// that counting line feeds is counting lines.
#[derive(Debug)]
struct Lines<R> {
    reader: R,
    in_line: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if read == 0 && self.in_line > 0 && !buffer.is_empty() {
            self.in_line = 0;
            buffer[0] = b'\n';
            return Ok(1);
        }
        for byte in &buffer[..read] {
            self.in_line = if *byte == b'\n' { 0 } else { self.in_line + 1 };
            if self.in_line > LINE_BYTES_MAX {
                let message = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read from these lines below the header: `line:vm`, or the error.
    fn check(lines: &str, expected: &[&str]) {
        let text = format!("vm,arrival_s,end_s,vcpu,mem_mib\n{lines}");
        let rows: Vec<String> = TraceReader::new(text.as_bytes())
            .unwrap()
            .map(|row| match row {
                Ok(row) => format!("{}:{}", row.line, row.vm),
                Err(error) => error.to_string(),
            })
            .collect();
        assert_eq!(rows, expected, "{lines:?}");
    }

    #[test]
    fn rows_know_their_lines_whatever_ends_them() {
        check("1,0,5,1,1\n2,0,-1,1,1\n", &["2:1", "3:2"]);
        check("1,0,5,1,1\r\n\r\n2,0,-1,1,1", &["2:1", "4:2"]);
        check("1,0,5,1,1\n\n\n2,0,-1,1,1", &["2:1", "5:2"]);
        check("", &[]);
    }

    #[test]
    fn a_bad_row_is_named_and_the_others_are_unharmed() {
        check(
            "1,0,5,1,1\n2,0,5,1\n3,0,5,0,1\n4,0,5,1,x\n5,1.5,5,1,1\n6,0,-2,1,1\n7,9,8,1,1\n8,0,5,1,1",
            &[
                "2:1",
                "line 3: 4 columns instead of 5",
                "line 4: vcpu: \"0\" is not allowed; allowed: 1 to 4096",
                "line 5: mem_mib: \"x\" is not allowed; allowed: 1 MiB to 64 TiB",
                "line 6: arrival_s: \"1.5\" is not allowed; allowed: whole seconds from 0 to 10^12",
                "line 7: end_s: \"-2\" is not allowed; allowed: -1 or whole seconds from 0 to 10^12",
                "line 8: ends at 8 s, before it arrives at 9 s",
                "9:8",
            ],
        );
    }

    #[test]
    fn a_quote_does_not_swallow_what_follows() {
        let bad = "line 2: vm: \"\\\"1\" is not allowed; allowed: a number from 0";
        check("\"1,0,5,1,1\n2,0,5,1,1", &[bad, "3:2"]);
    }

    #[test]
    fn an_arrival_before_the_previous_one_is_a_bad_row() {
        let bad = "line 3: arrives at 6 s, before the row above it at 7 s";
        check("1,7,9,1,1\n2,6,9,1,1\n3,7,9,1,1", &["2:1", bad, "4:3"]);
    }

    #[test]
    fn another_header_is_refused() {
        for text in ["", "1,0,5,1,1\n", "vm,arrival_s,end_s,vcpu\n"] {
            let opened = TraceReader::new(text.as_bytes()).map(|_| ());
            assert!(matches!(opened, Err(TraceError::Header { .. })), "{text:?}");
        }
        assert!(TraceReader::new("vm,arrival_s,end_s,vcpu,mem_mib\r\n".as_bytes()).is_ok());
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let opened = TraceReader::new(io::repeat(b'x')).map(|_| ());
        assert!(matches!(opened, Err(TraceError::Read(_))));
    }
}
