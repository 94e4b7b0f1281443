//! Files that are mostly holes, written down in few bytes.
//!
//! The headers of a disk lie far apart; a fuzzer does best with inputs that are short. So an input
//! says how long the file is and which bytes are where: eight bytes of length, then pieces of a
//! place in eight bytes, a length in two, and so many bytes. Numbers have the little end first.

use std::io::{self, Read, Seek, SeekFrom};

/// A file with holes, which counts what is read of it.
#[derive(Debug, Default, Clone)]
pub struct Sparse {
    len: u64,
    pieces: Vec<(u64, Vec<u8>)>,
    at: u64,
    /// How often something was read.
    pub reads: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

/// No file is longer.
const LEN_MAX: u64 = 1 << 46;

impl Sparse {
    /// The file that an input describes; what the input lacks is zero.
    pub fn of(mut input: &[u8]) -> Self {
        let mut number = |size: usize| {
            let (taken, rest) = input.split_at(size.min(input.len()));
            input = rest;
            taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let mut file = Self { len: number(8) % LEN_MAX, ..Self::default() };
        loop {
            let (at, size) = (number(8), number(2));
            if size == 0 {
                return file;
            }
            let bytes: Vec<u8> = (0..size).map(|_| number(1) as u8).collect();
            file.put(at % LEN_MAX, bytes);
        }
    }

    /// Writes bytes over what is there; nothing grows.
    pub fn put(&mut self, at: u64, bytes: Vec<u8>) {
        self.pieces.push((at, bytes));
    }

    /// How long it is.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes from `at` on, without counting; zero behind its end.
    pub fn peek<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut into = [0; N];
        self.copy(at, &mut into);
        into
    }

    fn copy(&self, at: u64, into: &mut [u8]) {
        into.fill(0);
        for (start, bytes) in &self.pieces {
            let from = (*start).max(at);
            let until = (start + bytes.len() as u64).min(at.saturating_add(into.len() as u64));
            let until = until.min(self.len);
            if from < until {
                let piece = &bytes[(from - start) as usize..(until - start) as usize];
                into[(from - at) as usize..(until - at) as usize].copy_from_slice(piece);
            }
        }
    }

    /// An input that describes these bytes, as far as `most` bytes of it suffice. What is at the
    /// end goes before what is in the middle.
    pub fn input(bytes: &[u8], most: usize) -> Vec<u8> {
        const TAIL: usize = 1536;
        let mut input = (bytes.len() as u64).to_le_bytes().to_vec();
        let tail = bytes.len().saturating_sub(TAIL).div_ceil(512) * 512;
        let order = bytes[tail.min(bytes.len())..].chunks(512).enumerate();
        let order = order.map(|(index, piece)| (tail + index * 512, piece));
        let head = bytes[..tail.min(bytes.len())].chunks(512).enumerate();
        for (at, piece) in order.chain(head.map(|(index, piece)| (index * 512, piece))) {
            let Some(first) = piece.iter().position(|byte| *byte != 0) else { continue };
            let last = piece.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if input.len() >= most {
                break;
            }
            input.extend(((at + first) as u64).to_le_bytes());
            input.extend(((last - first) as u16).to_le_bytes());
            input.extend(&piece[first..last]);
        }
        input
    }
}

impl Read for Sparse {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        self.copy(self.at, &mut into[..count]);
        self.at += count as u64;
        self.reads += 1;
        self.bytes += count as u64;
        Ok(count)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
