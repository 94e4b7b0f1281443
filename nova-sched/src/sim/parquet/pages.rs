//! What the pages of a column claim, looked at before anybody makes room for it.
//!
//! The library believes the header of a page: how large it becomes, and how many entries a
//! dictionary has. A few bytes could so ask for many GiB. Headers are structures of Thrift in its
//! compact form; here only their numbers are read, and whatever is not as every writer writes it is
//! refused: so the library cannot understand a header otherwise than this does.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::damaged;

/// The largest page, compressed and not. Writers make pages of about one MiB.
pub(super) const PAGE_BYTES_MAX: u64 = 64 << 20;

/// The shortest entry of a dictionary: a number of 4 bytes, or the length of a text.
const ENTRY_BYTES_MIN: u64 = 4;

/// Structures in structures: a header, that of its kind, statistics, and room for what may come.
const DEPTH_MAX: u8 = 6;

/// Checks every page of the column that lies at `start` in the file.
pub(super) fn check(file: &File, start: u64, length: u64) -> io::Result<()> {
    let (mut at, mut left) = (start, length);
    let mut has_dictionary = false;
    let mut file = file;
    while left > 0 {
        file.seek(SeekFrom::Start(at))?;
        let mut header = Header::new(BufReader::with_capacity(512, file.take(left)));
        header.structure(0, 0)?;
        header.check()?;
        has_dictionary |= header.kind == DICTIONARY_PAGE;
        if header.needs_dictionary && !has_dictionary {
            return Err(damaged("a page refers to a dictionary that is not there"));
        }
        let body = header.compressed;
        let read = header.read + body;
        if read > left {
            return Err(damaged("a page is longer than its column"));
        }
        (at, left) = (at + read, left - read);
    }
    Ok(())
}

/// A header while it is read.
struct Header<R> {
    reader: R,
    /// Bytes so far.
    read: u64,
    uncompressed: u64,
    compressed: u64,
    entries: u64,
    kind: u64,
    needs_dictionary: bool,
}

/// The kind of pages that are dictionaries.
const DICTIONARY_PAGE: u64 = 2;

// The types of fields in Thrift's compact form.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const STRUCTURE: u8 = 12;

/// Of a header, the structures that hold numbers: for data, for a dictionary, for data of the
/// second version.
const DATA: u16 = 5;
const DICTIONARY: u16 = 7;
const DATA_V2: u16 = 8;
/// A structure in one of these.
const DEEPER: u16 = u16::MAX;

impl<R: BufRead> Header<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            read: 0,
            uncompressed: 0,
            compressed: 0,
            entries: 0,
            kind: 0,
            needs_dictionary: false,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.uncompressed > PAGE_BYTES_MAX || self.compressed > PAGE_BYTES_MAX {
            return Err(damaged(format!("a page is larger than {PAGE_BYTES_MAX} bytes")));
        }
        if self.entries > self.uncompressed / ENTRY_BYTES_MIN {
            return Err(damaged("a dictionary claims more entries than it has room for"));
        }
        Ok(())
    }

    /// Reads a structure that is field `outer` of the header, or the header itself (0).
    fn structure(&mut self, depth: u8, outer: u16) -> io::Result<()> {
        if depth == DEPTH_MAX {
            return Err(damaged("the header of a page is too deep"));
        }
        let mut id = 0_u16;
        loop {
            let byte = self.byte()?;
            let (delta, kind) = (byte >> 4, byte & 0xf);
            if kind == 0 {
                return Ok(());
            }
            // In their order, so that none is there twice.
            id += u16::from(delta);
            if delta == 0 || id > 1000 || !fits(outer, id, kind) {
                return Err(damaged(format!("field {id} of the header of a page is damaged")));
            }
            match kind {
                TRUE | FALSE => {}
                BYTE => self.skip(1)?,
                I16 | I32 | I64 => {
                    let zigzag = self.varint()?;
                    self.number(outer, id, zigzag)?;
                }
                DOUBLE => self.skip(8)?,
                BINARY => {
                    let length = self.varint()?;
                    self.skip(length)?;
                }
                STRUCTURE => self.structure(depth + 1, if depth == 0 { id } else { DEEPER })?,
                _ => return Err(damaged("the header of a page holds what no header does")),
            }
        }
    }

    fn number(&mut self, outer: u16, id: u16, zigzag: u64) -> io::Result<()> {
        let number = zigzag >> 1;
        let in_range = zigzag & 1 == 0 && number <= i32::MAX as u64;
        match (outer, id) {
            (0, 1..=3) | (DICTIONARY, 1) | (DATA, 1..=2) | (DATA_V2, 1..=6) if !in_range => {
                return Err(damaged(format!("field {id} of the header of a page is out of range")));
            }
            (0, 1) => self.kind = number,
            (0, 2) => self.uncompressed = number,
            (0, 3) => self.compressed = number,
            (DICTIONARY, 1) => self.entries = number,
            (DATA, 2) | (DATA_V2, 4) => match number {
                // Plain, runs, differences of numbers, streams of bytes.
                0 | 3 | 5 | 9 => {}
                2 | 8 => self.needs_dictionary = true,
                other => {
                    return Err(damaged(format!("a page has encoding {other}, which is not read")));
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number in the header of a page is too long"))
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > PAGE_BYTES_MAX {
            return Err(damaged("the header of a page is too long"));
        }
        let skipped = io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink())?;
        self.read += skipped;
        if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Whether a field has the type that it must have.
fn fits(outer: u16, id: u16, kind: u8) -> bool {
    match (outer, id) {
        (0, 1..=4) | (DATA, 1..=4) | (DICTIONARY, 1..=2) | (DATA_V2, 1..=6) => kind == I32,
        (0, 5..=8) | (DATA, 5) | (DATA_V2, 8) => kind == STRUCTURE,
        (DICTIONARY, 3) | (DATA_V2, 7) => matches!(kind, TRUE | FALSE),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    /// What is said of a column of these bytes; nothing when it is good.
    fn check(bytes: &[u8]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let checked = super::check(&file, 0, bytes.len() as u64);
        checked.map_or_else(|error| error.to_string(), |()| String::new())
    }

    /// A dictionary of two numbers of 4 bytes, then a page of data without any.
    const GOOD: &[u8] = &[
        0x15, 0x04, 0x15, 0x10, 0x15, 0x10, 0x4c, 0x15, 0x04, 0x15, 0x00, 0x00, 0x00, //
        1, 0, 0, 0, 2, 0, 0, 0, //
        0x15, 0x00, 0x15, 0x00, 0x15, 0x00, 0x2c, 0x15, 0x00, 0x15, 0x10, 0x15, 0x06, 0x15, 0x06,
        0x00, 0x00,
    ];

    fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut good = GOOD.to_vec();
        good.splice(at..at + 1, bytes.iter().copied());
        good
    }

    #[test]
    fn what_a_writer_writes_passes() {
        assert_eq!(check(GOOD), "");
    }

    #[test]
    fn what_claims_too_much_is_refused() {
        let entries = "a dictionary claims more entries than it has room for";
        assert_eq!(check(&changed(8, &[0x06])), entries);
        assert_eq!(check(&changed(8, &[0xfe, 0xff, 0xff, 0xff, 0x0f])), entries);
        let large = "a page is larger than 67108864 bytes";
        assert_eq!(check(&changed(3, &[0xfe, 0xff, 0xff, 0xff, 0x0f])), large);
        assert_eq!(check(&changed(5, &[0x7e])), "a page is longer than its column");
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        // A size again, with its number told in full; a size that is a text; one below zero; one
        // beyond 32 bits.
        let damaged = |field| format!("field {field} of the header of a page is damaged");
        assert_eq!(check(&changed(6, &[0x05, 0x04, 0x7e, 0x4c])), damaged(3));
        assert_eq!(check(&changed(2, &[0x18])), damaged(2));
        let range = "field 2 of the header of a page is out of range";
        assert_eq!(check(&changed(3, &[0x11])), range);
        assert_eq!(check(&changed(3, &[0x90, 0x80, 0x80, 0x80, 0x20])), range);
        assert_eq!(check(&changed(31, &[0x0c])), "a page has encoding 6, which is not read");
    }

    #[test]
    fn a_dictionary_comes_before_what_refers_to_it() {
        assert_eq!(check(&GOOD[21..]), "a page refers to a dictionary that is not there");
    }
}
