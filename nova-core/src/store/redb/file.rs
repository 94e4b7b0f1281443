//! Finding, making and checking the file of a [`RedbStore`].

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, Error, ReadableDatabase as _};

use crate::store::redb::{
    ENTRIES, META, META_FORMAT, META_REVISION, RedbOptions, RedbStore, revision_of, unavailable,
};
use crate::store::{Revision, StoreError};

/// Opens the store at `path`, making it when there is none.
pub(super) fn open(
    path: &Path,
    options: &RedbOptions,
) -> Result<(PathBuf, Database, Revision), StoreError> {
    let at = if path.is_file() {
        path.to_owned()
    } else {
        fs::create_dir_all(path).map_err(|source| unavailable("make its directory", source))?;
        path.join(RedbStore::FILE_NAME)
    };
    let mut builder = Database::builder();
    let cache = options.cache.get().saturating_mul(1 << 20);
    builder.set_cache_size(usize::try_from(cache).unwrap_or(usize::MAX));
    // Without the check redb trusts what it finds, and may panic over it later.
    builder.set_check_integrity_on_open(true);
    if !exists(&at)? {
        make(&at, &builder)?;
    }
    let database = builder.open(&at).map_err(|error| failure(&at, "open its file", error))?;
    let revision = check(&at, &database).map_err(|error| match error {
        Refused::Newer(found) => StoreError::NewerFormat {
            at: at.display().to_string(),
            found,
            supported: RedbStore::FORMAT,
        },
        Refused::Failed(error) => failure(&at, "open its file", error),
    })?;
    Ok((at, database, revision))
}

/// What a failure means to whoever asked, as long as nothing was committed.
pub(super) fn failure(at: &Path, operation: &'static str, error: impl Into<Error>) -> StoreError {
    shared_failure(at, operation, &Arc::new(error.into()))
}

/// As [`failure`], for a failure that several callers are told about.
pub(super) fn shared_failure(at: &Path, operation: &'static str, error: &Arc<Error>) -> StoreError {
    if let Some(reason) = damage(error) {
        StoreError::Corrupt { at: at.display().to_string(), reason }
    } else if matches!(**error, Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch) {
        unavailable(operation, InUse { at: at.to_owned() })
    } else {
        unavailable(operation, Arc::clone(error))
    }
}

/// What is wrong with the file, when it is the file.
fn damage(error: &Error) -> Option<String> {
    match error {
        Error::Corrupted(reason) => Some(reason.clone()),
        Error::UpgradeRequired(_)
        | Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TableIsNotMultimap(_)
        | Error::TypeDefinitionChanged { .. }
        | Error::TableDoesNotExist(_) => Some(error.to_string()),
        Error::Io(io) if is_damage(io) => Some(io.to_string()),
        _ => None,
    }
}

/// Whether the bytes are to blame, and not the disk or the permissions.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

/// Somebody else has the file.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another store", at.display())]
struct InUse {
    at: PathBuf,
}

fn exists(at: &Path) -> Result<bool, StoreError> {
    at.try_exists().map_err(|source| unavailable("look for its file", source))
}

/// Makes a store beside its place and moves it there when it is complete. Therefore a file under
/// the store's own name that is empty or half made is damage, never a beginning.
fn make(at: &Path, builder: &Builder) -> Result<(), StoreError> {
    const OPERATION: &str = "make its file";
    let mut name = at.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // From here on redb's lock on the new file keeps everybody else from making one as well.
    let database = match builder.create(&new).map_err(Error::from) {
        Err(error) if damage(&error).is_some() => {
            clear_leftover(&new, at).map_err(|source| unavailable(OPERATION, source))?;
            builder.create(&new).map_err(|error| failure(&new, OPERATION, error))?
        }
        made => made.map_err(|error| failure(&new, OPERATION, error))?,
    };
    if exists(at)? {
        // Somebody else made one between our first look and our lock. Theirs is the store.
        drop(database);
        return match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unavailable(OPERATION, error)),
            _ => Ok(()),
        };
    }
    write_beginning(&database).map_err(|error| failure(&new, OPERATION, error))?;
    let moved = fs::rename(&new, at).and_then(|()| sync_directory_of(at));
    moved.map_err(|source| unavailable(OPERATION, source))
}

/// Empties what an attempt that was cut short left behind.
fn clear_leftover(new: &Path, at: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(new)?;
    // It is emptied under a lock and never removed: this file may have been completed and moved
    // to its place since we looked, and then it must not be touched.
    file.try_lock()?;
    if at.try_exists()? { Ok(()) } else { file.set_len(0) }
}

/// A new name is durable when its directory is.
fn sync_directory_of(at: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and the file system sees to it.
    #[cfg(unix)]
    if let Some(directory) = at.parent() {
        let named = !directory.as_os_str().is_empty();
        File::open(if named { directory } else { Path::new(".") })?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = at;
    Ok(())
}

pub(super) fn write_beginning(database: &Database) -> Result<(), Error> {
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, u64::from(RedbStore::FORMAT))?;
        // What another attempt wrote before it was cut short is the same.
        meta.insert(META_REVISION, 0)?;
        write.open_table(ENTRIES)?;
    }
    write.commit()?;
    Ok(())
}

/// Why an undamaged file is not opened.
enum Refused {
    Newer(u32),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Checks that the file is a store of a known format, and reads its revision.
fn check(at: &Path, database: &Database) -> Result<Revision, Refused> {
    let read = database.begin_read()?;
    let format = {
        let meta = read.open_table(META)?;
        meta.get(META_FORMAT)?.map(|format| format.value())
    };
    let supported = u64::from(RedbStore::FORMAT);
    match format {
        Some(found) if found > supported => {
            return Err(Refused::Newer(u32::try_from(found).unwrap_or(u32::MAX)));
        }
        Some(1..) => {}
        _ => return Err(Error::Corrupted(format!("{} names no format", at.display())).into()),
    }
    // So that every later read finds the table, and no other program's file passes as a store.
    read.open_table(ENTRIES)?;
    Ok(revision_of(&read)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Prefix, Scan, Store as _};

    /// What a directory whose store file has these bytes opens to.
    fn check(bytes: &[u8]) -> Result<(), StoreError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(RedbStore::FILE_NAME), bytes).unwrap();
        RedbStore::open(directory.path()).map(drop)
    }

    /// The bytes of a redb file of which `write` wrote the tables.
    fn foreign(write: impl FnOnce(&redb::WriteTransaction)) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let database = Database::create(file.path()).unwrap();
        let transaction = database.begin_write().unwrap();
        write(&transaction);
        transaction.commit().unwrap();
        drop(database);
        fs::read(file.path()).unwrap()
    }

    fn with_format(format: u64) -> Vec<u8> {
        foreign(|write| {
            write.open_table(META).unwrap().insert(META_FORMAT, format).unwrap();
        })
    }

    #[test]
    fn a_file_of_a_newer_format_is_left_alone() {
        let supported = RedbStore::FORMAT;
        for (format, expected) in [(2, 2), (1 << 40, u32::MAX)] {
            match check(&with_format(format)) {
                Err(StoreError::NewerFormat { at, found, supported: known }) => {
                    assert!(at.ends_with(RedbStore::FILE_NAME), "{at}");
                    assert_eq!((found, known), (expected, supported));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_no_store_is_corrupt() {
        let other_types = foreign(|write| {
            let table = redb::TableDefinition::<u64, u64>::new("meta");
            write.open_table(table).unwrap().insert(1, 1).unwrap();
        });
        let long_text = b"no database\n".repeat(10_000);
        let files: [&[u8]; 7] = [
            b"",
            b"no database",
            &long_text,
            &foreign(|_| ()),
            &with_format(0),
            &with_format(1),
            &other_types,
        ];
        for (at, bytes) in files.into_iter().enumerate() {
            let opened = check(bytes);
            assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "file {at}: {opened:?}");
        }
    }

    #[test]
    fn a_store_that_is_open_is_not_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = RedbStore::open(directory.path()).unwrap();
        for path in [directory.path(), store.path()] {
            let Err(StoreError::Unavailable { source, .. }) = RedbStore::open(path) else {
                panic!("opened twice");
            };
            assert!(source.to_string().contains("in use by another store"), "{source}");
        }
        drop(store);
        RedbStore::open(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_missing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a").join("b");
        let store = RedbStore::open(&deep).unwrap();
        assert_eq!(store.path(), deep.join(RedbStore::FILE_NAME));
        drop(store);
        let names = fs::read_dir(&deep).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [RedbStore::FILE_NAME]);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_unavailable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = RedbStore::open(file.path().join("below-a-file"));
        assert!(matches!(opened, Err(StoreError::Unavailable { .. })), "{opened:?}");
    }

    #[tokio::test]
    async fn a_beginning_that_was_cut_short_is_begun_again() {
        // Nothing, rubbish, a redb file without tables, and a complete one that was not moved.
        let complete = {
            let directory = tempfile::tempdir().unwrap();
            fs::read(RedbStore::open(directory.path()).unwrap().path()).unwrap()
        };
        for leftover in [vec![], vec![7; 100_000], foreign(|_| ()), complete] {
            let directory = tempfile::tempdir().unwrap();
            let new = format!("{}.new", RedbStore::FILE_NAME);
            fs::write(directory.path().join(&new), &leftover).unwrap();
            let store = RedbStore::open(directory.path()).unwrap();
            let page = store.scan(Scan::new(Prefix::all())).await.unwrap();
            assert_eq!((page.entries.len(), page.revision), (0, Revision::default()));
            assert!(!directory.path().join(new).exists());
        }
    }
}
