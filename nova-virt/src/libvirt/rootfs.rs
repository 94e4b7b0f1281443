//! The root file system of a container, unpacked from its image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::lchown;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType};

use super::definition::USERS;

/// The most files that an image may have.
const ENTRIES_MAX: usize = 1_000_000;

/// Unpacks an archive into a directory that must not be there yet. Files belong to the users of the
/// container, which are those of the host from `first_user` on; with 0, they are the host's own.
///
/// # Errors
/// With [`InvalidData`](io::ErrorKind::InvalidData), an entry that would lead out of the directory,
/// that is a device, or that belongs to a user that a container does not have.
pub(super) fn unpack(archive: &Path, into: &Path, first_user: u32) -> io::Result<()> {
    match std::fs::remove_dir_all(into) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(into)?,
    }
    let mut archive = Archive::new(BufReader::new(File::open(archive)?));
    // Directories that nobody may write into are closed when everything is in them.
    let mut closed = BTreeMap::new();
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        if count >= ENTRIES_MAX {
            return Err(wrong(format!("it has more than {ENTRIES_MAX} files")));
        }
        let path = inside(&entry.path()?)?;
        let kind = entry.header().entry_type();
        let (user, group) = (entry.header().uid()?, entry.header().gid()?);
        if user >= u64::from(USERS) || group >= u64::from(USERS) {
            return Err(wrong(format!("{} belongs to user {user}:{group}", path.display())));
        }
        let own = |id: u64| u32::try_from(id).ok().and_then(|id| first_user.checked_add(id));
        let target = into.join(&path);
        match kind {
            EntryType::Directory => {
                closed.insert(target.clone(), entry.header().mode()? & 0o7777);
                entry.unpack_in(into)?;
                set_mode(&target, 0o755)?;
            }
            EntryType::Link => {
                // To something that was unpacked before, in here.
                let link = entry.link_name()?.unwrap_or_default();
                let name = inside(&link)?;
                if has_link(into, &name) || has_link(into, path.parent().unwrap_or(Path::new(""))) {
                    return Err(wrong(format!("{} leads out of the image", path.display())));
                }
                std::fs::hard_link(into.join(name), &target)?;
                continue;
            }
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Symlink => {
                if !entry.unpack_in(into)? {
                    return Err(wrong(format!("{} leads out of the image", path.display())));
                }
            }
            EntryType::XGlobalHeader => continue,
            other => {
                return Err(wrong(format!("{} is a {other:?}", path.display())));
            }
        }
        lchown(&target, own(user), own(group))?;
        if kind.is_file() {
            // Changing the owner takes away what only the owner may give.
            set_mode(&target, entry.header().mode()? & 0o7777)?;
        }
    }
    // The innermost first.
    for (directory, mode) in closed.iter().rev() {
        set_mode(directory, *mode)?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// The path without its beginning `./`, if it stays inside.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                let why = format!("{} leads out of the image", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    Ok(inside)
}

/// Whether a directory on the way is a link, which might lead anywhere.
fn has_link(root: &Path, path: &Path) -> bool {
    let mut way = root.to_owned();
    path.components().any(|part| {
        way.push(part);
        way.symlink_metadata().is_ok_and(|meta| meta.file_type().is_symlink())
    })
}
