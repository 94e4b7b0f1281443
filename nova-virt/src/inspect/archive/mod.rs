//! Archives of root file systems, found out before anything is unpacked.
//!
//! [`inspect_archive`] goes through all of an archive without writing anything. What unpacks it
//! reads the same [`Entries`], so that nobody sees another archive than was looked at.

mod entries;
mod header;
mod pax;
mod tree;

use super::bytes::{Bytes, ReadSeek};
use super::{Format, Refusal, shown};

pub(crate) use self::entries::Entries;
#[cfg(any(feature = "libvirt", feature = "libvirt-native"))]
pub(crate) use self::entries::{Entry, Kind, Run};
#[cfg(any(feature = "libvirt", feature = "libvirt-native"))]
pub(crate) use self::tree::parent;

/// How many users a container has; an archive has no files of others.
pub(crate) const USERS: u32 = 65_536;

/// The most entries, with the directories that are only named on the way to others.
pub(crate) const ENTRIES_MAX: usize = 1_000_000;

/// The most bytes that one byte of the archive may stand for: files may have holes.
const RATIO_MAX: u64 = 200;

/// An archive that may be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// How many entries it has.
    pub entries: u64,
    /// How many bytes its files have, with their holes.
    pub bytes: u64,
}

/// Finds out whether a file is an archive of a root file system that may be unpacked: a tar as
/// GNU and POSIX have it, not compressed, with at most `size_max` bytes in its files, where that is
/// given.
///
/// - Every entry is a file, a directory, a symbolic link, or another name of a file that came
///   before. Devices, FIFOs and whatever else tar knows are refused.
/// - Every path stays inside, without `..`, and goes through directories only: not through a link
///   that came before. No path comes twice, but for directories.
/// - What a symbolic link says is left to the guest, whose root it is: a link may begin with `/`.
///   One that climbs above the root is refused, since nothing means that.
/// - The owner is one of the users that a container has.
/// - What is not understood is refused: keys, numbers, dialects.
///
/// It reads every header and no file, and keeps the names that it has seen, of which there are at
/// most 256 MiB.
///
/// # Errors
/// [`Refusal`] says what was found that must not be.
pub fn inspect_archive(file: &mut dyn ReadSeek, size_max: Option<u64>) -> Result<Archive, Refusal> {
    let mut bytes = Bytes::new(file)?;
    if shown(&mut bytes)?.iter().any(|format| *format != Format::Raw) {
        return Err(Refusal::Wrong("it is a disk, and no archive"));
    }
    let ratio_max = bytes.len().saturating_mul(RATIO_MAX);
    let mut found = Archive { entries: 0, bytes: 0 };
    let mut entries = Entries::default();
    while let Some(entry) = entries.next(&mut bytes)? {
        found.entries += 1;
        found.bytes = found.bytes.saturating_add(entry.size);
        match size_max {
            Some(allowed) if found.bytes > allowed => {
                return Err(Refusal::TooLarge { virtual_size: found.bytes, allowed });
            }
            _ if found.bytes > ratio_max => {
                return Err(Refusal::TooMany {
                    what: "bytes for each of its own",
                    most: RATIO_MAX,
                });
            }
            _ => {}
        }
    }
    match found.entries {
        0 => Err(Refusal::Wrong("it has no entries")),
        _ => Ok(found),
    }
}
