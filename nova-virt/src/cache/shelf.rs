//! The files of a cache: images, notes of them, and who needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nova_core::clock::Timestamp;
use nova_core::domain::{ImageContent, ImageFormat, InstanceId};

use crate::files::{self, FileError, Lock};

/// A directory of images, each named by its checksum: `.image` is the file, `.json` what is noted of
/// it, `.<n>.part` half a download, and `.<guest>.use` says that a guest needs it.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) directory: PathBuf,
    _lock: Lock,
}

/// What lies beside an image.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Note {
    pub(super) format: u32,
    #[serde(flatten)]
    pub(super) content: ImageContent,
    pub(super) used_at: Timestamp,
    /// The file as it was when it was measured.
    pub(super) measured: Stamp,
    /// What was made of it, where it was converted: that is what the file holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) converted: Option<Converted>,
}

/// An image that is kept in another format.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Converted {
    /// Its own format.
    pub(super) from: ImageFormat,
    /// What the file holds.
    pub(super) file: ImageContent,
}

impl Note {
    /// What the file holds.
    pub(super) fn file(&self) -> &ImageContent {
        self.converted.as_ref().map_or(&self.content, |converted| &converted.file)
    }
}

/// A file that has this has not been written to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let meta = path.metadata()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        Ok(Self { inode: meta.ino(), size: meta.len(), changed })
    }
}

impl Shelf {
    /// The directory, which is made when it is not there, without what was left of downloads.
    pub(super) fn at(directory: &Path) -> Result<Self, FileError> {
        let directory = files::directory(directory)?;
        let lock = Lock::take(&directory.join(".lock"))?;
        let shelf = Self { directory, _lock: lock };
        let clean = || -> io::Result<()> {
            let names: BTreeSet<_> = shelf.names()?.into_iter().collect();
            for (sha256, what) in &names {
                let noted = || names.contains(&(sha256.clone(), "json".to_owned()));
                if what.ends_with("part") || what == "image" && !noted() {
                    files::remove(&shelf.file(sha256, what))?;
                }
            }
            Ok(())
        };
        clean().map_err(FileError::io(&shelf.directory, "remove leftovers"))?;
        Ok(shelf)
    }

    pub(super) fn file(&self, sha256: &str, what: &str) -> PathBuf {
        self.directory.join(format!("{sha256}.{what}"))
    }

    pub(super) fn use_of(&self, sha256: &str, guest: InstanceId) -> PathBuf {
        self.file(sha256, &format!("{guest}.use"))
    }

    /// The parts of the names of all files: the checksum, and what follows it.
    pub(super) fn names(&self) -> io::Result<Vec<(String, String)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('.'));
            let parts = parts.filter(|(sha256, _)| is_checksum(sha256));
            names.extend(parts.map(|(sha256, what)| (sha256.to_owned(), what.to_owned())));
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn kept(&self) -> io::Result<BTreeMap<String, BTreeSet<InstanceId>>> {
        let mut kept: BTreeMap<String, BTreeSet<InstanceId>> = BTreeMap::new();
        for (sha256, what) in self.names()? {
            if let Some(guest) = what.strip_suffix(".use").and_then(|guest| guest.parse().ok()) {
                kept.entry(sha256).or_default().insert(guest);
            }
        }
        Ok(kept)
    }

    pub(super) fn notes(&self) -> Result<Vec<Note>, FileError> {
        let names = self.names().map_err(FileError::io(&self.directory, "list it"))?;
        let mut notes = Vec::new();
        for (sha256, _) in names.iter().filter(|(_, what)| what == "json") {
            // One that cannot be read is of a file that is downloaded again.
            notes.extend(files::load::<Note>(&self.file(sha256, "json")).ok().flatten());
        }
        Ok(notes)
    }

    /// Removes an image; its note first, without which it is not there.
    pub(super) fn discard(&self, sha256: &str) -> io::Result<()> {
        files::remove(&self.file(sha256, "json"))?;
        files::remove(&self.file(sha256, "image"))
    }
}

pub(crate) fn is_checksum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
