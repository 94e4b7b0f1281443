//! Files with holes, piece by piece: only what was written is read, sent and written again.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The most bytes of one piece.
pub(super) const PIECE_MAX: usize = 1 << 20;

/// What shows that a file was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let changed = (meta.mtime(), meta.mtime_nsec());
        Ok(Self { inode: meta.ino(), length: meta.len(), changed })
    }

    pub(super) fn length(self) -> u64 {
        self.length
    }
}

/// Hands over what was written into a file, in order, each piece with its offset.
pub(super) fn read(
    file: &File,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_MAX];
    let mut at = 0;
    loop {
        let begin = match seek(file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(begin))?;
        at = begin;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(PIECE_MAX).min(PIECE_MAX);
            file.read_exact_at(&mut piece[..length], at)?;
            each(at, &piece[..length])?;
            at += length as u64;
        }
    }
}

/// Copies a file into another one, which must not be there yet, with its holes.
///
/// # Errors
/// With [`InvalidData`](io::ErrorKind::InvalidData) when it was changed meanwhile, or is not as
/// long as it was said to be.
pub(super) fn copy(from: &Path, into: &Path, length: u64) -> io::Result<()> {
    let from = File::open(from)?;
    let before = Stamp::of(&from)?;
    if before.length() != length {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has another length"));
    }
    let mut copy = Copy::of(into, length)?;
    read(&from, |at, bytes| copy.write(at, bytes))?;
    if Stamp::of(&from)? != before {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it was changed meanwhile"));
    }
    copy.finish()
}

/// A copy that is being made.
pub(super) struct Copy {
    file: File,
    length: u64,
}

impl Copy {
    /// A file of nothing but a hole.
    pub(super) fn of(path: &Path, length: u64) -> io::Result<Self> {
        let file = File::create_new(path)?;
        file.set_len(length)?;
        Ok(Self { file, length })
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than was said"));
        }
        self.file.write_all_at(bytes, at)
    }

    /// Sees to it that it is kept.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is copied is the same, also where it begins or ends with a hole.
    #[test]
    fn a_copy_is_the_same_and_has_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (number, written) in
            [&[][..], &[0], &[5 << 20, 6 << 20], &[(9 << 20) - 3]].iter().enumerate()
        {
            let (from, into) = (path(&format!("{number}")), path(&format!("{number}.copy")));
            let file = File::create(&from).unwrap();
            file.set_len(9 << 20).unwrap();
            written.iter().for_each(|at| file.write_all_at(b"abc", *at).unwrap());
            copy(&from, &into, 9 << 20).unwrap();
            assert!(std::fs::read(&from).unwrap() == std::fs::read(&into).unwrap());
            assert!(
                std::fs::metadata(&into).unwrap().blocks() <= file.metadata().unwrap().blocks()
            );
            assert!(copy(&from, &path("short"), 8 << 20).is_err());
        }
    }

    #[test]
    fn nothing_is_written_beyond_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut copy = Copy::of(&folder.path().join("copy"), 10).unwrap();
        assert!(copy.write(0, &[1; 10]).is_ok());
        for (at, length) in [(1, 10), (10, 1), (u64::MAX, 1), (u64::MAX - 1, 3)] {
            assert!(copy.write(at, &vec![1; length]).is_err(), "{at} {length}");
        }
    }
}
