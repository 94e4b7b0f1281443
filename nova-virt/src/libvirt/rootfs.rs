//! The root file system of a container, unpacked from its image.
//!
//! An archive is [looked at](crate::inspect) as a whole before the first file is made. Then the
//! kernel is told of every path that it is below the root and leads through no link, so that what
//! was overlooked fails and harms nobody.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid};

use crate::digest::CHUNK_BYTES;
use crate::inspect::archive::{Entries, Entry, Kind, Run, parent};
use crate::inspect::{Bytes, Refusal, inspect_archive};

/// Bits that make a program run as its owner or its group.
const SET_IDS: u32 = 0o6000;

/// Unpacks an archive, of at most `size_max` bytes where that is given, into a directory, in place
/// of what was there. Files belong to the users of the container, which are those of the host from
/// `first_user` on; with 0, they are the host's own.
///
/// A file keeps its bits that make it run as its owner only where that is no user of the host:
/// guests need them, and a host must not have programs that somebody else made run as its own
/// users. Extended attributes are not unpacked.
///
/// # Errors
/// With [`InvalidData`](io::ErrorKind::InvalidData), the [`Refusal`] of an archive that must not
/// be unpacked. Whatever the error, nothing is left.
pub(super) fn unpack(
    archive: &Path,
    into: &Path,
    first_user: u32,
    size_max: Option<u64>,
) -> io::Result<()> {
    let mut archive = File::open(archive)?;
    let looked_at = inspect_archive(&mut archive, size_max);
    match std::fs::remove_dir_all(into) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    looked_at.map_err(refused)?;
    std::fs::create_dir_all(into)?;
    let unpacked = Root::at(into, first_user).and_then(|mut root| root.fill(&mut archive));
    if unpacked.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_dir_all(into);
    }
    unpacked
}

fn refused(refusal: Refusal) -> io::Error {
    match refusal {
        Refusal::Io(error) => error,
        refusal => io::Error::new(io::ErrorKind::InvalidData, refusal),
    }
}

/// Who may do what with a file, and when it was changed.
#[derive(Debug, Clone, Copy)]
struct Meta {
    mode: u32,
    user: u32,
    group: u32,
    changed: Option<i64>,
}

/// A directory on the way to something, of which nothing was said.
const UNSAID: Meta = Meta { mode: 0o755, user: 0, group: 0, changed: None };

/// A directory below which everything is made.
struct Root {
    root: OwnedFd,
    first_user: u32,
    /// What directories get when everything is in them: nobody may write into some.
    directories: BTreeMap<Vec<u8>, Meta>,
    /// The directory that something was made in last.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Root {
    fn at(path: &Path, first_user: u32) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        let directories = BTreeMap::from([(Vec::new(), UNSAID)]);
        Ok(Self { root, first_user, directories, last: None })
    }

    fn fill(&mut self, archive: &mut File) -> io::Result<()> {
        let mut bytes = Bytes::new(archive).map_err(refused)?;
        let mut entries = Entries::default();
        while let Some(entry) = entries.next(&mut bytes).map_err(refused)? {
            self.make(entry, &mut bytes)?;
        }
        let directories = std::mem::take(&mut self.directories);
        // The innermost first.
        for (path, meta) in directories.iter().rev() {
            self.finish(&File::from(self.directory(path)?), *meta)?;
        }
        Ok(())
    }

    fn make(&mut self, entry: Entry, bytes: &mut Bytes<'_>) -> io::Result<()> {
        let Entry { path, kind, mode, user, group, changed, size } = entry;
        let mut meta = Meta { mode, user, group, changed: Some(changed) };
        let name = OsStr::from_bytes(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default());
        match kind {
            Kind::Directory => {
                self.ensure(&path)?;
                self.directories.insert(path, meta);
            }
            Kind::File(runs) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let place = self.parent_of(&path)?;
                let file = rustix::fs::openat(place, name, flags, Mode::RUSR | Mode::WUSR)?;
                let file = File::from(file);
                runs.into_iter().try_for_each(|run| copy(bytes, run, &file))?;
                file.set_len(size)?;
                if self.first_user == 0 {
                    meta.mode &= !SET_IDS;
                }
                self.finish(&file, meta)?;
            }
            Kind::Symlink(says) => {
                let (user, group) = self.owner(meta)?;
                let place = self.parent_of(&path)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&says), place, name)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(place, name, Some(user), Some(group), flags)?;
            }
            Kind::Link(other) => {
                let from = self.directory(parent(&other).unwrap_or_default())?;
                let old = other.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let place = self.parent_of(&path)?;
                rustix::fs::linkat(from, OsStr::from_bytes(old), place, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// A directory that is there.
    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = OsStr::from_bytes(path);
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), inside)?)
    }

    /// The directory that something is in, made when it is not there.
    fn parent_of(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        let parent = parent(path).unwrap_or_default();
        let last = match self.last.take().filter(|(last, _)| last == parent) {
            Some(last) => last,
            None => {
                self.ensure(parent)?;
                (parent.to_vec(), self.directory(parent)?)
            }
        };
        Ok(&self.last.insert(last).1)
    }

    /// Makes a directory with those on the way, as far as they are not there.
    fn ensure(&mut self, path: &[u8]) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut way = path;
        while !self.directories.contains_key(way) {
            missing.push(way);
            way = parent(way).unwrap_or_default();
        }
        for path in missing.into_iter().rev() {
            let place = self.directory(parent(path).unwrap_or_default())?;
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            rustix::fs::mkdirat(place, OsStr::from_bytes(name), Mode::RWXU)?;
            self.directories.insert(path.to_vec(), UNSAID);
        }
        Ok(())
    }

    /// The users of the host that something belongs to.
    fn owner(&self, meta: Meta) -> io::Result<(Uid, Gid)> {
        let own = |id: u32| self.first_user.checked_add(id).ok_or(io::ErrorKind::InvalidInput);
        Ok((Uid::from_raw(own(meta.user)?), Gid::from_raw(own(meta.group)?)))
    }

    /// Gives a file or a directory what it gets at the end.
    fn finish(&self, file: &File, meta: Meta) -> io::Result<()> {
        let (user, group) = self.owner(meta)?;
        rustix::fs::fchown(file, Some(user), Some(group))?;
        // Changing the owner takes away what only the owner may give.
        file.set_permissions(Permissions::from_mode(meta.mode))?;
        if let Some(changed) = meta.changed {
            let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let last_modification = Timespec { tv_sec: changed, tv_nsec: 0 };
            rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?;
        }
        Ok(())
    }
}

/// Copies bytes of the archive to their place in a file.
fn copy(bytes: &mut Bytes<'_>, run: Run, into: &File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < run.len {
        let most = usize::try_from(run.len - done).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let some = bytes.some(run.from + done, &mut chunk[..most]).map_err(refused)?;
        if some.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into.write_all_at(some, run.at + done)?;
        done += some.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
