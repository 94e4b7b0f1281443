//! The files of a tar archive, one after the other.
//!
//! Only what reading needs: nothing is unpacked, links and folders are passed over. The crates for
//! tar lend out entries that borrow the archive, which an iterator that owns it cannot hand on.

use std::io::{self, Read};

const BLOCK: usize = 512;

/// Whether these bytes begin a tar archive.
pub(super) fn is_tar(head: &[u8]) -> bool {
    head.len() >= BLOCK && &head[257..262] == b"ustar"
}

/// A tar archive. Reading from it is reading the present file.
pub(super) struct Tar<R> {
    reader: R,
    /// Bytes of the present file that have not been read.
    left: u64,
    /// Bytes behind it up to the next block.
    padding: u64,
}

impl<R: Read> Tar<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0 }
    }

    /// Moves on to the next file, and returns its name; none at the end of the archive.
    pub(super) fn advance(&mut self) -> io::Result<Option<String>> {
        loop {
            let rest = self.left + self.padding;
            if io::copy(&mut (&mut self.reader).take(rest), &mut io::sink())? < rest {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (self.left, self.padding) = (0, 0);
            let mut header = [0; BLOCK];
            self.reader.read_exact(&mut header)?;
            if header == [0; BLOCK] {
                return Ok(None);
            }
            let size = size(&header)?;
            self.left = size;
            self.padding = size.next_multiple_of(BLOCK as u64) - size;
            // A file, as it is written today and as it once was.
            if matches!(header[156], b'0' | 0) {
                return Ok(Some(name(&header)));
            }
        }
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.reader).take(self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c: char| c == '\0' || c == ' ');
    u64::from_str_radix(text, 8).ok()
}

fn size(header: &[u8; BLOCK]) -> io::Result<u64> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a header in the tar is damaged");
    // The sum is taken with blanks where it stands.
    let sum = header.iter().enumerate().map(|(at, byte)| match at {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    if octal(&header[148..156]) != Some(sum.sum()) {
        return Err(damaged());
    }
    // The first digit of larger files is no digit; no file of a trace is that large.
    octal(&header[124..136]).ok_or_else(damaged)
}

fn name(header: &[u8; BLOCK]) -> String {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    text(&header[..100])
}
