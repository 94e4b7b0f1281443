//! The durable store for one process: a redb file.
//!
//! Reads look at the file's last commit themselves. Writes go through one thread, which does all
//! transactions that wait together in one commit of the file ([`writer`]), so that many callers
//! share one wait for the disk. How a file is found, made and checked is in [`file`].

mod file;
mod writer;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use redb::{ReadTransaction, ReadableDatabase as _, TableDefinition};
use tokio::sync::oneshot;

use crate::domain::MiB;
use crate::store::{
    Entry, Feed, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Value, Watch,
};

/// Format and revision, by name. It keeps its type in every format, so that a file of a newer one
/// can still be recognised.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";

/// Revision and value of each key.
const ENTRIES: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("entries");

/// How a [`RedbStore`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedbOptions {
    /// How much of the file is kept in memory at most.
    pub cache: MiB,
}

impl RedbOptions {
    /// Keeps at most `cache` of the file in memory.
    #[must_use]
    pub fn with_cache(self, cache: MiB) -> Self {
        Self { cache }
    }
}

impl Default for RedbOptions {
    /// A small cache: a cloud of some thousand instances fits, and the operating system keeps
    /// the rest of the file at hand.
    fn default() -> Self {
        Self { cache: MiB(64) }
    }
}

/// A store in one file, for one process at a time.
///
/// When [`commit`](Store::commit) has returned, the transaction is on disk. The file is checked
/// from end to end when it is opened; damage is an error, never a guess.
///
/// The one thing no check can find: which of the file's last two commits is the newer one is a
/// single bit. If the process was killed and then exactly this bit is turned over, the store
/// opens at the last but one.
///
/// ```
/// # use nova_core::store::{Guard, Key, RedbStore, Store, Txn, Write};
/// # let directory = tempfile::tempdir()?;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = RedbStore::open(directory.path())?;
/// let mut txn = Txn::new();
/// txn.guard(Guard::Absent(Key::new(["a"])));
/// txn.write(Write::Put(Key::new(["a"]), b"1".as_slice().into()));
/// store.commit(txn).await?;
/// drop(store);
///
/// let store = RedbStore::open(directory.path())?;
/// assert_eq!(&*store.get(&Key::new(["a"])).await?.unwrap().value, b"1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    /// None only while the store is being dropped.
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

/// What the store and its writer both use.
#[derive(Debug)]
struct Shared {
    at: PathBuf,
    database: redb::Database,
    feed: Feed,
}

/// A transaction that waits for the writer.
struct Job {
    txn: Txn,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

impl RedbStore {
    /// The newest format that this release reads, and the one it writes.
    pub const FORMAT: u32 = 1;

    /// The name of the file in a directory.
    pub const FILE_NAME: &str = "store.redb";

    /// More transactions than this waiting for the disk mean that it cannot keep up; further
    /// ones are refused instead of queued.
    pub const WAITING_MAX: usize = 4096;

    /// Opens the store in a directory, or in a file that is there already. A directory that is
    /// missing or has no store yet gets one.
    ///
    /// It reads the whole file to check it, and blocks meanwhile.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`]; [`StoreError::Corrupt`] when the file is damaged, empty or
    /// no store; [`StoreError::Unavailable`] when it is in use or cannot be read or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, &RedbOptions::default())
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, options: &RedbOptions) -> Result<Self, StoreError> {
        let (at, database, revision) = file::open(path.as_ref(), options)?;
        let shared = Arc::new(Shared { at, database, feed: Feed::new(revision) });
        let (queue, jobs) = sync_channel(Self::WAITING_MAX);
        let writer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("nova-store".to_owned())
                .spawn(move || writer::run(&shared, &jobs))
                .map_err(|source| unavailable("start its writer", source))?
        };
        Ok(Self { shared, queue: Some(queue), writer: Some(writer) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.at
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // The writer ends when it has done what still waits and the queue is gone.
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has been noticed by everybody who waited for it.
            drop(writer.join());
        }
    }
}

impl std::fmt::Display for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "redb store {}", self.shared.at.display())
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.shared.get(key).map_err(|error| file::failure(self.path(), "read", error))
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.shared.scan(&scan).map_err(|error| file::failure(self.path(), "read", error))
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        if let Some(key) = txn.written_twice() {
            return Err(StoreError::Malformed { key: key.clone(), reason: "is written twice" });
        }
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(|| unavailable(COMMIT, Refusal::Ended))?;
        queue.try_send(Job { txn, answer }).map_err(|error| match error {
            TrySendError::Full(_) => unavailable(COMMIT, Refusal::Full(Self::WAITING_MAX)),
            TrySendError::Disconnected(_) => unavailable(COMMIT, Refusal::Ended),
        })?;
        // No answer means that the writer died over this transaction or one before it.
        answered.await.unwrap_or_else(|source| {
            Err(StoreError::Unknown { operation: "the transaction", source: source.into() })
        })
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        Ok(self.shared.feed.watch(prefix, after))
    }
}

impl Shared {
    fn get(&self, key: &Key) -> Result<Option<Entry>, redb::Error> {
        let read = self.database.begin_read()?;
        let entries = read.open_table(ENTRIES)?;
        Ok(entries.get(key.as_str())?.map(|stored| {
            let (revision, value) = stored.value();
            Entry { key: key.clone(), value: Value::from(value), revision: Revision(revision) }
        }))
    }

    fn scan(&self, scan: &Scan) -> Result<Page, redb::Error> {
        let read = self.database.begin_read()?;
        let entries = read.open_table(ENTRIES)?;
        let prefix = scan.prefix.as_str();
        let start = match &scan.after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let limit = scan.limit.clamp(1, Scan::LIMIT_MAX);
        let mut page = Page { entries: Vec::new(), revision: revision_of(&read)?, more: false };
        for stored in entries.range::<&str>((start, Bound::Unbounded))? {
            let (key, stored) = stored?;
            let key = Key::from_stored(key.value());
            if !scan.prefix.covers(&key) {
                break;
            }
            if page.entries.len() == limit {
                page.more = true;
                break;
            }
            let (revision, value) = stored.value();
            let (value, revision) = (Value::from(value), Revision(revision));
            page.entries.push(Entry { key, value, revision });
        }
        Ok(page)
    }
}

/// The revision of the moment that `read` sees.
fn revision_of(read: &ReadTransaction) -> Result<Revision, redb::Error> {
    let meta = read.open_table(META)?;
    let revision = meta.get(META_REVISION)?;
    revision
        .map(|revision| Revision(revision.value()))
        .ok_or_else(|| redb::Error::Corrupted("the revision is missing".to_owned()))
}

/// What is to be done when a transaction is refused.
const COMMIT: &str = "take the transaction";

/// Why the writer does not take a transaction.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0} transactions wait already")]
    Full(usize),
    #[error("the writer has ended; open the store again")]
    Ended,
}

fn unavailable(
    operation: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Unavailable { operation, source: Box::new(source) }
}
