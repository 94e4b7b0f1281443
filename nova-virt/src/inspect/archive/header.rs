//! The header of one entry: a block of 512 bytes with texts and numbers in octal digits.

use super::super::Refusal;
use super::super::bytes::{Bytes, Header};

/// The bytes of a block; everything begins at a multiple of it.
pub(super) const BLOCK: u64 = 512;

/// Who wrote the header, which decides what its last third is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Gnu,
    Posix,
}

/// A header whose checksum is right.
pub(super) struct Block {
    bytes: Header<512>,
    pub(super) dialect: Dialect,
}

impl Block {
    /// The header at `at`; none when there are only zeros.
    pub(super) fn at(bytes: &mut Bytes<'_>, at: u64) -> Result<Option<Self>, Refusal> {
        let bytes = bytes.header::<512>("archive", at)?;
        if bytes.all().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let dialect = match &bytes.at::<8>(257) {
            b"ustar  \0" => Dialect::Gnu,
            b"ustar\x0000" => Dialect::Posix,
            _ => return Err(Refusal::Wrong("it has a header that is not one of GNU's or POSIX's")),
        };
        let block = Self { bytes, dialect };
        // Of all bytes, with the sum itself as spaces.
        let sum: u64 = block.bytes.all().iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = block.field(148, 8).iter().map(|byte| u64::from(*byte)).sum();
        if block.number(148, 8)? != sum - own + 8 * u64::from(b' ') {
            return Err(Refusal::Wrong("the checksum of a header is wrong"));
        }
        Ok(Some(block))
    }

    /// A block that goes on where a header ended, and has no checksum of its own.
    pub(super) fn without_sum(bytes: &mut Bytes<'_>, at: u64) -> Result<Self, Refusal> {
        Ok(Self { bytes: bytes.header::<512>("archive", at)?, dialect: Dialect::Gnu })
    }

    pub(super) fn field(&self, at: usize, len: usize) -> &[u8] {
        self.bytes.all().get(at..at + len).unwrap_or_default()
    }

    /// The text of a field, which ends with it or with a zero.
    pub(super) fn text(&self, at: usize, len: usize) -> &[u8] {
        self.field(at, len).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// A number of octal digits, or of bytes where the first bit says so; nothing is zero.
    pub(super) fn number(&self, at: usize, len: usize) -> Result<u64, Refusal> {
        let field = self.field(at, len);
        let wrong = Refusal::Wrong("a number of a header is none");
        let Some((first, rest)) = field.split_first() else { return Err(wrong) };
        match first {
            0x80 => rest.iter().try_fold(0_u64, |number, byte| {
                let more = number.checked_mul(256)?;
                more.checked_add(u64::from(*byte))
            }),
            0x81.. => None,
            _ => octal(field),
        }
        .ok_or(wrong)
    }

    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// The path as the header has it: POSIX splits a long one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        match self.text(345, 155) {
            prefix if self.dialect == Dialect::Posix && !prefix.is_empty() => {
                [prefix, b"/", name].concat()
            }
            _ => name.to_vec(),
        }
    }
}

/// Digits with spaces before them, and a space or a zero behind.
fn octal(field: &[u8]) -> Option<u64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let from = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[from..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}
