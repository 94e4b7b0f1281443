//! The plain form: CSV with one row for each VM.

use std::io::{Read, Write};

use nova_core::domain::{Flavor, GiB, Invalid, MiB, Vcpus};

use super::lines::{self, Lines, number};
use super::{BadRow, Order, TraceError, TraceRow};

/// The columns that a trace must have.
const CORE: [&str; 5] = ["vm", "arrival_s", "end_s", "vcpu", "mem_mib"];
/// The columns that it may have behind them.
const FURTHER: [&str; 4] = ["disk_gib", "priority", "gang", "cpu_permille"];
const COLUMNS_MAX: usize = CORE.len() + FURTHER.len();
const EXPECTED: &str =
    "vm,arrival_s,end_s,vcpu,mem_mib and then any of disk_gib,priority,gang,cpu_permille";

/// Reads the rows of a trace in the plain form, one at a time.
///
/// After a [`TraceError::BadRow`] the next call goes on with the next row; after any other error
/// there is nothing more.
#[derive(Debug)]
pub struct TraceReader<R> {
    lines: Lines<R>,
    /// For each column of the file behind the first five, which of [`FURTHER`] it is.
    further: Vec<usize>,
    order: Order,
}

impl<R: Read> TraceReader<R> {
    /// Starts reading, and checks the header.
    ///
    /// # Errors
    /// [`TraceError::Header`] when the header is another, [`TraceError::Read`] when the bytes
    /// cannot be read.
    pub fn new(reader: R) -> Result<Self, TraceError> {
        let (lines, further) = Lines::with_header(reader, EXPECTED, further)?;
        Ok(Self { lines, further, order: Order::default() })
    }

    fn row(&mut self) -> Result<TraceRow, BadRow> {
        let row = parse(&self.lines, &self.further)?;
        self.order.follow(&row)?;
        Ok(row)
    }
}

impl<R: Read> Iterator for TraceReader<R> {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next_line()?;
        Some(line.and_then(|line| self.row().map_err(|why| TraceError::BadRow { line, why })))
    }
}

/// Whether a line is a header of the plain form.
pub(super) fn is_header(line: &[u8]) -> bool {
    further(line).is_some()
}

/// Which further columns a header has; none when it is no header.
fn further(header: &[u8]) -> Option<Vec<usize>> {
    let mut names = header.split(|byte| *byte == b',');
    if !CORE.iter().all(|name| names.next() == Some(name.as_bytes())) {
        return None;
    }
    let mut further = Vec::new();
    for name in names {
        let which = FURTHER.iter().position(|known| known.as_bytes() == name)?;
        if further.contains(&which) {
            return None;
        }
        further.push(which);
    }
    Some(further)
}

fn parse<R: Read>(lines: &Lines<R>, further: &[usize]) -> Result<TraceRow, BadRow> {
    let expected = CORE.len() + further.len();
    // On the stack: a vector for each row would cost as much as all the rest.
    let mut columns: [&[u8]; COLUMNS_MAX] = [b""; COLUMNS_MAX];
    let mut found = 0;
    for column in lines.line().split(|byte| *byte == b',') {
        if let Some(slot) = columns.get_mut(found) {
            *slot = column;
        }
        found += 1;
    }
    if found != expected {
        return Err(BadRow::Columns { found, expected });
    }
    let [vm, arrival_s, end_s, vcpu, mem_mib, rest @ ..] = columns;
    let mut row = TraceRow {
        line: lines.number(),
        vm: number("vm", vm, 0, u64::MAX, "a number from 0")?,
        arrival_s: lines::seconds("arrival_s", arrival_s)?,
        end_s: match end_s {
            b"-1" => None,
            end_s => Some(number("end_s", end_s, 0, TraceRow::SECONDS_MAX, lines::END)?),
        },
        vcpus: Vcpus(number("vcpu", vcpu, 1, Flavor::VCPUS_MAX.0.into(), lines::VCPUS)? as u32),
        memory: MiB(number("mem_mib", mem_mib, 1, Flavor::MEMORY_MAX.0, lines::MEMORY)?),
        disk: GiB(0),
        priority: 0,
        gang: None,
        cpu_permille: None,
    };
    for (field, which) in rest.iter().zip(further) {
        if !field.is_empty() {
            tell(&mut row, *which, field)?;
        }
    }
    match row.end_s {
        Some(end_s) if end_s < row.arrival_s => {
            Err(BadRow::EndsBeforeArrival { arrival_s: row.arrival_s, end_s })
        }
        _ => Ok(row),
    }
}

/// Sets one of the further columns.
fn tell(row: &mut TraceRow, which: usize, field: &[u8]) -> Result<(), Invalid> {
    match FURTHER[which] {
        "disk_gib" => {
            row.disk = GiB(number("disk_gib", field, 0, Flavor::DISK_MAX.0, lines::DISK)?);
        }
        "priority" => row.priority = number("priority", field, 0, 255, "0 to 255")? as u8,
        "gang" => row.gang = Some(number("gang", field, 0, u64::MAX, "a number from 0")?),
        _ => {
            let max = u64::from(TraceRow::PERMILLE_MAX);
            let permille = number("cpu_permille", field, 0, max, lines::PERMILLE)?;
            row.cpu_permille = Some(permille as u16);
        }
    }
    Ok(())
}

/// How many columns to write.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
// Exhaustive on purpose: there is nothing between the two.
pub enum Columns {
    /// The five that every trace has. What the others would tell is left out.
    Core,
    /// All of them.
    #[default]
    All,
}

/// Writes the plain form.
///
/// What it writes, [`TraceReader`] reads: it refuses rows that the reader would.
#[derive(Debug)]
pub struct TraceWriter<W: Write> {
    writer: W,
    columns: Columns,
    order: Order,
    line: u64,
    row: Vec<u8>,
}

impl<W: Write> TraceWriter<W> {
    /// Starts with the header. Each row is one write, so let `writer` be buffered.
    ///
    /// # Errors
    /// [`TraceError::Write`] when the header cannot be written.
    pub fn new(mut writer: W, columns: Columns) -> Result<Self, TraceError> {
        let mut header = CORE.join(",");
        if columns == Columns::All {
            header = format!("{header},{}", FURTHER.join(","));
        }
        writer.write_all(format!("{header}\n").as_bytes()).map_err(TraceError::Write)?;
        Ok(Self { writer, columns, order: Order::default(), line: 1, row: Vec::new() })
    }

    /// Writes one row.
    ///
    /// # Errors
    /// [`TraceError::BadRow`] for a value out of range or a row out of order, and nothing has been
    /// written then; [`TraceError::Write`] when it cannot be written.
    pub fn write(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        self.order.write(row, self.line + 1)?;
        self.line += 1;
        self.row.clear();
        self.put(row).map_err(TraceError::Write)?;
        self.writer.write_all(&self.row).map_err(TraceError::Write)
    }

    fn put(&mut self, row: &TraceRow) -> std::io::Result<()> {
        let text = &mut self.row;
        write!(text, "{},{},", row.vm, row.arrival_s)?;
        match row.end_s {
            Some(end_s) => write!(text, "{end_s}")?,
            None => text.extend_from_slice(b"-1"),
        }
        write!(text, ",{},{}", row.vcpus.get(), row.memory.get())?;
        if self.columns == Columns::All {
            write!(text, ",{},{},", row.disk.get(), row.priority)?;
            if let Some(gang) = row.gang {
                write!(text, "{gang}")?;
            }
            text.push(b',');
            if let Some(permille) = row.cpu_permille {
                write!(text, "{permille}")?;
            }
        }
        text.push(b'\n');
        Ok(())
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
        let twice = "vm,arrival_s,end_s,vcpu,mem_mib,gang,gang\n";
        let unknown = "vm,arrival_s,end_s,vcpu,mem_mib,owner\n";
        for text in ["", "1,0,5,1,1\n", "vm,arrival_s,end_s,vcpu\n", twice, unknown] {
            let opened = TraceReader::new(text.as_bytes()).map(|_| ());
            assert!(matches!(opened, Err(TraceError::Header { .. })), "{text:?}");
        }
        assert!(TraceReader::new("vm,arrival_s,end_s,vcpu,mem_mib\r\n".as_bytes()).is_ok());
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let opened = TraceReader::new(std::io::repeat(b'x')).map(|_| ());
        assert!(matches!(opened, Err(TraceError::Read(_))));
    }
}
