//! A directory in which hosts that share it keep their guests' disks.
//!
//! The disks of a guest lie in a numbered folder below the folder of the guest. Each host that has
//! the guest has a file of its own in there, its claim; when the last claim goes, so do the disks.
//! The highest number is the latest.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nova_core::domain::InstanceId;

use crate::files;

/// Folders of one guest: one for each host that it was ever on, at most.
const FOLDERS_MAX: u32 = 100_000;

/// The directory, and the host that uses it.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    directory: PathBuf,
    claim: String,
}

impl Storage {
    /// The directory as a host with this name uses it.
    pub(super) fn at(directory: &Path, host: &str) -> Self {
        Self { directory: directory.to_owned(), claim: format!("{host}.host") }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of a guest's disks with this number.
    pub(super) fn folder(&self, guest: InstanceId, number: u32) -> PathBuf {
        self.of(guest).join(number.to_string())
    }

    fn of(&self, guest: InstanceId) -> PathBuf {
        self.directory.join(guest.to_string())
    }

    /// A new folder for a guest's disks, claimed: its number.
    pub(super) fn take(&self, guest: InstanceId) -> io::Result<u32> {
        let half = self.of(guest).join(&self.claim);
        match std::fs::remove_dir_all(&half) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&half)?,
        }
        std::fs::File::create(half.join(&self.claim))?.sync_all()?;
        loop {
            let number = self.latest(guest)?.map_or(1, |last| last.saturating_add(1));
            let folder = self.folder(guest, number);
            match std::fs::rename(&half, &folder) {
                Ok(()) => {
                    files::sync_directory_of(&folder)?;
                    return Ok(number);
                }
                // Somebody else was faster: theirs has their claim in it.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                    ) && number < FOLDERS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The latest folder of a guest's disks.
    pub(super) fn latest(&self, guest: InstanceId) -> io::Result<Option<u32>> {
        Ok(self.numbers(guest)?.into_iter().max())
    }

    /// Whether some host has the guest's disks in this folder.
    pub(super) fn is_claimed(&self, guest: InstanceId, number: u32) -> io::Result<bool> {
        claims(&self.folder(guest, number))
    }

    /// Claims a folder that another host has.
    pub(super) fn join(&self, guest: InstanceId, number: u32) -> io::Result<()> {
        let claim = self.folder(guest, number).join(&self.claim);
        std::fs::File::create(&claim)?.sync_all()?;
        files::sync_directory_of(&claim)
    }

    /// Gives up what this host has of a guest; what nobody has any more is removed.
    pub(super) fn leave(&self, guest: InstanceId) -> io::Result<()> {
        for number in self.numbers(guest)? {
            let folder = self.folder(guest, number);
            files::remove(&folder.join(&self.claim))?;
            if !claims(&folder)? {
                gone(std::fs::remove_dir_all(&folder))?;
            }
        }
        gone(std::fs::remove_dir_all(self.of(guest).join(&self.claim)))?;
        match std::fs::remove_dir(self.of(guest)) {
            // Others have it.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            other => gone(other),
        }
    }

    fn numbers(&self, guest: InstanceId) -> io::Result<Vec<u32>> {
        let entries = match std::fs::read_dir(self.of(guest)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(numbers)
    }
}

/// Whether a claim is in a folder. One that somebody else has just removed has none.
fn claims(folder: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        if Path::new(&entry?.file_name()).extension().is_some_and(|end| end == "host") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_there_until_the_last_host_gives_them_up() {
        let folder = tempfile::tempdir().unwrap();
        let guest = InstanceId::from_u128(7);
        let [one, other] = ["one", "other"].map(|name| Storage::at(folder.path(), name));
        let first = one.take(guest).unwrap();
        std::fs::write(one.folder(guest, first).join("disk"), "d").unwrap();
        other.join(guest, first).unwrap();
        one.leave(guest).unwrap();
        one.leave(guest).unwrap();
        assert!(other.is_claimed(guest, first).unwrap());
        assert!(other.folder(guest, first).join("disk").exists());
        let second = one.take(guest).unwrap();
        assert_eq!((second, one.latest(guest).unwrap()), (first + 1, Some(second)));
        other.leave(guest).unwrap();
        assert!(!one.folder(guest, first).exists() && one.folder(guest, second).exists());
        one.leave(guest).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
