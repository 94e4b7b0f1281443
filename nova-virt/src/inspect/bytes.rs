//! Numbers at places of a file that somebody else wrote.

use std::io::{self, Read, Seek, SeekFrom};

use super::Refusal;

/// What a reader needs of a file.
pub trait ReadSeek: Read + Seek {}

impl<R: Read + Seek> ReadSeek for R {}

/// A file of which every read says how much and from where. Nothing is read that was not asked
/// for, and nothing is believed to be there.
pub(crate) struct Bytes<'a> {
    file: &'a mut dyn ReadSeek,
    len: u64,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(file: &'a mut dyn ReadSeek) -> Result<Self, Refusal> {
        let len = file.seek(SeekFrom::End(0)).map_err(Refusal::Io)?;
        Ok(Self { file, len })
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on that are there, at most as many as there is room for.
    pub(crate) fn some<'b>(
        &mut self,
        offset: u64,
        into: &'b mut [u8],
    ) -> Result<&'b [u8], Refusal> {
        if offset >= self.len {
            return Ok(&[]);
        }
        let mut read = || -> io::Result<usize> {
            self.file.seek(SeekFrom::Start(offset))?;
            let mut filled = 0;
            while filled < into.len() {
                match self.file.read(&mut into[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(filled)
        };
        let filled = read().map_err(Refusal::Io)?;
        Ok(&into[..filled])
    }

    /// The bytes of a header; a file that ends before is not what it says it is.
    pub(super) fn header<const N: usize>(
        &mut self,
        what: &'static str,
        offset: u64,
    ) -> Result<Header<N>, Refusal> {
        let mut bytes = [0; N];
        if self.some(offset, &mut bytes)?.len() < N {
            return Err(Refusal::Short { what });
        }
        Ok(Header { bytes })
    }

    /// `len` bytes, which the caller has bounded.
    pub(super) fn vec(
        &mut self,
        what: &'static str,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; len];
        if self.some(offset, &mut bytes)?.len() < len {
            return Err(Refusal::Short { what });
        }
        Ok(bytes)
    }

    /// Whether the file has these bytes at `offset`.
    pub(super) fn has(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, Refusal> {
        let mut there = vec![0; bytes.len()];
        Ok(self.some(offset, &mut there)? == bytes)
    }
}

/// Bytes of which every number is within.
pub(super) struct Header<const N: usize> {
    bytes: [u8; N],
}

impl<const N: usize> Header<N> {
    /// The bytes from `AT` on.
    pub(super) fn at<const LEN: usize>(&self, at: usize) -> [u8; LEN] {
        let mut some = [0; LEN];
        if let Some(there) = self.bytes.get(at..at + LEN) {
            some.copy_from_slice(there);
        }
        some
    }

    pub(super) fn all(&self) -> &[u8; N] {
        &self.bytes
    }

    pub(super) fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.at(at))
    }

    pub(super) fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.at(at))
    }

    pub(super) fn le16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.at(at))
    }

    pub(super) fn le32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.at(at))
    }

    pub(super) fn le64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.at(at))
    }
}
