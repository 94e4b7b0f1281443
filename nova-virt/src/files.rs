//! Files that this crate keeps: whole or not at all, marked with their format, locked while used.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nova_core::class::Class;

/// What is wrong with a file or directory in which this crate keeps something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Reading or writing failed.
    #[error("{}: cannot {operation}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done.
        operation: &'static str,
        /// Why it was not.
        source: io::Error,
    },
    /// The file holds something that this crate never wrote.
    #[error("{}: the contents are damaged", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not read.
        source: serde_json::Error,
    },
    /// A newer release wrote the file, and this one must not guess.
    #[error("{}: format {found}, known up to {known}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this release reads.
        known: u32,
    },
    /// The file belongs to something else.
    #[error("{}: belongs to {found}, not to {expected}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Somebody else, here or in another process, has the file open.
    #[error("{}: in use", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::InUse { .. } => Class::Retry,
            Self::Corrupt { .. } | Self::NewerFormat { .. } | Self::Foreign { .. } => {
                Class::Permanent
            }
        }
    }

    pub(crate) fn io(
        path: &Path,
        operation: &'static str,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, operation, source }
    }

    /// The same as an input/output error, for ports whose errors carry one.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Io { source, .. } => source.kind(),
            Self::InUse { .. } => io::ErrorKind::ResourceBusy,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

/// The only format there has been.
pub(crate) const FORMAT: u32 = 1;

/// Reads what [`save`] wrote; none when there is no such file.
pub(crate) fn load<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }

    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io(path, "read it")(error)),
    };
    let corrupt = |source| FileError::Corrupt { path: path.to_owned(), source };
    // The format is read before the rest, of which a newer one may have changed anything.
    let head: Head = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if head.format > FORMAT {
        let path = path.to_owned();
        return Err(FileError::NewerFormat { path, found: head.format, known: FORMAT });
    }
    if head.format == 0 {
        return Err(corrupt(serde::de::Error::custom("format 0 was never written")));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

/// Replaces the file, so that whoever reads it finds the old contents or the new ones, also when
/// the machine stops in between. The caller sees to it that nobody else saves at the same time.
pub(crate) fn save(path: &Path, contents: &impl serde::Serialize) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(contents);
    let text = text.map_err(|source| FileError::Corrupt { path: path.to_owned(), source })?;
    let temporary = beside(path, ".tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_directory_of(path)
    };
    write().map_err(FileError::io(path, "save it"))
}

/// Removes a file; one that is not there is success.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes what was created, renamed or removed beside `path` last.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// The path with something appended to the file's name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The whole path of a directory, which is made when it is not there.
pub(crate) fn directory(path: &Path) -> Result<PathBuf, FileError> {
    std::fs::create_dir_all(path)
        .and_then(|()| path.canonicalize())
        .map_err(FileError::io(path, "make the directory"))
}

/// A lock that is held until the value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else has the lock.
    pub(crate) fn wait(path: &Path) -> Result<Self, FileError> {
        let file = Self::file(path)?;
        file.lock().map_err(FileError::io(path, "lock it"))?;
        Ok(Self { _file: file })
    }

    /// Takes the lock, or says that somebody has it.
    pub(crate) fn take(path: &Path) -> Result<Self, FileError> {
        let file = Self::file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(FileError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(FileError::io(path, "lock it")(error)),
        }
    }

    fn file(path: &Path) -> Result<File, FileError> {
        // The file stays behind: a lock file that is removed can be locked twice.
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        open.map_err(FileError::io(path, "open the lock file"))
    }
}

/// Does work that waits for the disk on a thread that may wait. It goes on to its end there when
/// the caller gives up, so that a step is never left half done.
pub(crate) async fn off_thread<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
    torn: impl FnOnce(io::Error) -> E,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(torn(io::Error::other(error))),
    }
}
