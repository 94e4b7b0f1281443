//! Lines, their columns, and the numbers in them.

use std::io::{self, BufRead, BufReader, Read};

use nova_core::domain::{Flavor, GiB, Invalid, MiB, Vcpus};

use super::{BadRow, TraceError, TraceRow};

/// A longer line is no row of a trace, and must not fill the memory while its end is sought.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

pub(super) const SECONDS: &str = "whole seconds from 0 to 10^12";
pub(super) const END: &str = "-1 or whole seconds from 0 to 10^12";
// The same limits as a flavor's, since a VM becomes one.
pub(super) const VCPUS: &str = "1 to 4096";
pub(super) const MEMORY: &str = "1 MiB to 64 TiB";
pub(super) const DISK: &str = "0 to 1 PiB, in GiB";
pub(super) const PERMILLE: &str = "0 to 1000";

/// Lines that are not blank, one at a time in one buffer.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    ended: bool,
}

impl<R> std::fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(LINE_BYTES_MAX, reader);
        Self { reader, line: Vec::new(), number: 0, ended: false }
    }

    /// Starts reading lines of which the first is a header: what `read` makes of it, who says none
    /// when it is another.
    ///
    /// # Errors
    /// [`TraceError::Header`] names the one that is expected; [`TraceError::Read`].
    pub(super) fn with_header<T>(
        reader: R,
        expected: &'static str,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<(Self, T), TraceError> {
        let mut lines = Self::new(reader);
        let line = if lines.advance()? { lines.line() } else { b"" };
        match read(line) {
            Some(header) => Ok((lines, header)),
            None => Err(TraceError::Header { found: shown(line), expected }),
        }
    }

    /// Moves on to the next line that is not blank, and says its number; none at the end.
    pub(super) fn next_line(&mut self) -> Option<Result<u64, TraceError>> {
        match self.advance() {
            Ok(true) => Some(Ok(self.number())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Moves on to the next line; false at the end, and for ever after an error.
    pub(super) fn advance(&mut self) -> Result<bool, TraceError> {
        while !self.ended {
            self.line.clear();
            let mut reader = (&mut self.reader).take(LINE_BYTES_MAX as u64);
            let read = reader.read_until(b'\n', &mut self.line).map_err(|error| {
                self.ended = true;
                TraceError::Read(error)
            })?;
            if read == 0 {
                self.ended = true;
                break;
            }
            self.number += 1;
            match self.line.pop_if(|last| *last == b'\n') {
                Some(_) => {}
                None if read == LINE_BYTES_MAX => {
                    self.ended = true;
                    let message = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                    let error = io::Error::new(io::ErrorKind::InvalidData, message);
                    return Err(TraceError::Read(error));
                }
                None => {}
            }
            self.line.pop_if(|last| *last == b'\r');
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The present line without its end.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The number of the present line, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The present line as the columns that a row must have.
    pub(super) fn columns<const N: usize>(&self) -> Result<[&[u8]; N], BadRow> {
        split(&self.line)
    }
}

/// Makes rows or events of lines, one at a time.
pub(super) struct Each<R, F> {
    lines: Lines<R>,
    make: F,
}

impl<R: Read, F> Each<R, F> {
    pub(super) fn new(lines: Lines<R>, make: F) -> Self {
        Self { lines, make }
    }
}

/// `None` from the function means that the line says nothing about rows.
impl<R, T, F> Iterator for Each<R, F>
where
    R: Read,
    F: FnMut(&Lines<R>) -> Result<Option<T>, BadRow>,
{
    type Item = Result<T, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let made = self.lines.next_line()?.and_then(|line| {
                (self.make)(&self.lines).map_err(|why| TraceError::BadRow { line, why })
            });
            if let Some(made) = made.transpose() {
                return Some(made);
            }
        }
    }
}

/// The beginning of a line, to show to people.
pub(super) fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(320)]).chars().take(80).collect()
}

/// Takes a line apart at its commas.
pub(super) fn split<const N: usize>(line: &[u8]) -> Result<[&[u8]; N], BadRow> {
    let mut columns: [&[u8]; N] = [b""; N];
    let mut found = 0;
    let mut start = 0;
    for (at, byte) in line.iter().enumerate() {
        if *byte == b',' {
            if let Some(column) = columns.get_mut(found) {
                *column = &line[start..at];
            }
            found += 1;
            start = at + 1;
        }
    }
    if let Some(column) = columns.get_mut(found) {
        *column = &line[start..];
    }
    found += 1;
    if found == N { Ok(columns) } else { Err(BadRow::Columns { found, expected: N }) }
}

/// A whole number of nothing but digits.
pub(super) fn digits(field: &[u8]) -> Option<u64> {
    if field.is_empty() || field.len() > 20 {
        return None;
    }
    field.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// A whole number within limits.
pub(super) fn number(
    column: &'static str,
    field: &[u8],
    min: u64,
    max: u64,
    allowed: &'static str,
) -> Result<u64, Invalid> {
    match digits(field) {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Invalid::new(column, String::from_utf8_lossy(field), allowed)),
    }
}

/// A number that may have a fraction, within limits: neither infinite nor none at all.
pub(super) fn decimal(
    column: &'static str,
    field: &[u8],
    min: f64,
    max: f64,
    allowed: &'static str,
) -> Result<f64, Invalid> {
    let number = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
    match number {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Invalid::new(column, String::from_utf8_lossy(field), allowed)),
    }
}

/// Seconds since the start of the trace.
pub(super) fn seconds(column: &'static str, field: &[u8]) -> Result<u64, Invalid> {
    number(column, field, 0, TraceRow::SECONDS_MAX, SECONDS)
}

/// The next whole number above `share` of `whole`; what is within a millionth of a whole number is
/// that one, since shares were once divided and rounded.
pub(super) fn share_of(whole: u64, share: f64) -> u64 {
    let amount = whole as f64 * share;
    let nearest = amount.round();
    let amount = if (amount - nearest).abs() <= 1e-6 { nearest } else { amount.ceil() };
    // Values out of range come out at its ends.
    amount as u64
}

/// So many vCPUs, at least one.
pub(super) fn vcpus(column: &'static str, amount: u64) -> Result<Vcpus, Invalid> {
    match u32::try_from(amount.max(1)) {
        Ok(amount) if amount <= Flavor::VCPUS_MAX.0 => Ok(Vcpus(amount)),
        _ => Err(Invalid::new(column, amount, VCPUS)),
    }
}

/// So much memory, at least one MiB.
pub(super) fn memory(column: &'static str, mib: u64) -> Result<MiB, Invalid> {
    let mib = mib.max(1);
    let fits = mib <= Flavor::MEMORY_MAX.0;
    if fits { Ok(MiB(mib)) } else { Err(Invalid::new(column, mib, MEMORY)) }
}

/// So much disk.
pub(super) fn disk(column: &'static str, gib: u64) -> Result<GiB, Invalid> {
    let fits = gib <= Flavor::DISK_MAX.0;
    if fits { Ok(GiB(gib)) } else { Err(Invalid::new(column, gib, DISK)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_whole_and_noise_does_not() {
        assert_eq!(share_of(100, 0.07), 7, "0.07 * 100 is a little more than 7");
        assert_eq!(share_of(64, 0.25), 16);
        assert_eq!(share_of(64, 0.26), 17);
        assert_eq!(share_of(64, 0.0), 0);
    }

    #[test]
    fn only_digits_that_fit_are_a_whole_number() {
        assert_eq!(digits(b"18446744073709551615"), Some(u64::MAX));
        for text in ["", "18446744073709551616", "+1", "-1", "1 ", "1.0", "000000000000000000001"] {
            assert_eq!(digits(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_decimal_is_finite() {
        for text in ["NaN", "inf", "-inf", "1e999", "", " 1", "1,5"] {
            assert!(decimal("x", text.as_bytes(), 0.0, 10.0, "").is_err(), "{text:?}");
        }
        assert_eq!(decimal("x", b"1e-1", 0.0, 10.0, ""), Ok(0.1));
    }
}
