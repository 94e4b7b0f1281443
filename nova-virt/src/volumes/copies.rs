//! Copies of files that take no more room than they have to.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// Makes `to`, which is empty, share all of `from` until either changes, at one moment. False
/// where the file system cannot.
#[cfg(target_os = "linux")]
pub(super) fn share(from: &File, to: &File) -> io::Result<bool> {
    use rustix::io::Errno;

    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        // What file systems say that do not know it, or not between these two files.
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::XDEV | Errno::INVAL) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn share(_: &File, _: &File) -> io::Result<bool> {
    Ok(false)
}

/// Copies what was written within the first `length` bytes. Holes stay holes.
pub(super) fn copy(from: &File, to: &File, length: u64) -> io::Result<()> {
    copy_written(from, to, length)?;
    to.set_len(length)
}

/// The same onto what is as large as it is, such as a device: what was not written is left there.
pub(crate) fn copy_written(mut from: &File, mut to: &File, length: u64) -> io::Result<()> {
    let mut at = 0;
    while let Some((start, end)) = written(from, at)?.filter(|(start, _)| *start < length) {
        let end = end.min(length);
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut from.take(end - start), &mut to)?;
        if copied < end - start {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter"));
        }
        at = end;
    }
    Ok(())
}

/// Where the next bytes that were written begin and end.
#[cfg(target_os = "linux")]
fn written(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::SeekFrom;
    use rustix::io::Errno;

    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, rustix::fs::seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn written(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let end = file.metadata()?.len();
    Ok((at < end).then_some((at, end)))
}
