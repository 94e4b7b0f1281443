//! The durable store for one process: a redb file.
//!
//! Reads look at the file's last commit themselves. Writes go through one thread, which does all
//! transactions that wait together in one commit of the file ([`writer`]), so that many callers
//! share one wait for the disk. How a file is found, made and checked is in [`file`].

mod file;
#[cfg(all(test, shuttle))]
mod races;
mod writer;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use redb::{ReadTransaction, ReadableDatabase as _, TableDefinition};
use tokio::sync::oneshot;

use crate::domain::MiB;
use crate::store::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use crate::store::sync::thread::{Builder, JoinHandle};
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
#[derive(Debug)]
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
            Builder::new()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::store::sync::mpsc::Receiver;
    use crate::store::{Guard, Write};

    /// A disk that can be told to fail when it is to keep something.
    #[derive(Debug, Default)]
    struct Disk {
        bytes: redb::backends::InMemoryBackend,
        full: Arc<AtomicBool>,
    }

    impl redb::StorageBackend for Disk {
        fn len(&self) -> std::io::Result<u64> {
            self.bytes.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.bytes.read(offset, out)
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.bytes.set_len(len)
        }

        fn sync_data(&self) -> std::io::Result<()> {
            if self.full.load(Ordering::Relaxed) {
                return Err(std::io::Error::other("the disk is full"));
            }
            self.bytes.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.bytes.write(offset, data)
        }
    }

    /// A store on such a disk whose writer does nothing until it is told to.
    fn idle(waiting: usize) -> (RedbStore, Receiver<Job>, Arc<AtomicBool>) {
        let disk = Disk::default();
        let full = Arc::clone(&disk.full);
        let database = redb::Database::builder().create_with_backend(disk).unwrap();
        file::write_beginning(&database).unwrap();
        let feed = Feed::new(Revision::default());
        let shared = Arc::new(Shared { at: "disk".into(), database, feed });
        let (queue, jobs) = sync_channel(waiting);
        (RedbStore { shared, queue: Some(queue), writer: None }, jobs, full)
    }

    fn txn(guards: &[&str], puts: &[&str]) -> Txn {
        let mut txn = Txn::new();
        for name in guards {
            txn.guard(Guard::Absent(Key::new([name])));
        }
        for name in puts {
            txn.write(Write::Put(Key::new([name]), Value::default()));
        }
        txn
    }

    /// Commits `txns` as one group; who waits for it is polled before the writer is.
    async fn commit_together(
        store: &RedbStore,
        jobs: &Receiver<Job>,
        txns: [Txn; 3],
    ) -> [Result<Revision, StoreError>; 3] {
        let [a, b, c] = txns;
        let writer = async { writer::step(&store.shared, jobs.try_recv().unwrap(), jobs) };
        let (a, b, c, ()) =
            tokio::join!(biased; store.commit(a), store.commit(b), store.commit(c), writer);
        [a, b, c]
    }

    #[tokio::test]
    async fn a_group_answers_each_by_its_own_guards() {
        let (store, jobs, _) = idle(3);
        let txns = [txn(&["x"], &["x"]), txn(&["x"], &["y"]), txn(&["y"], &["z", "a"])];
        let [first, second, third] = commit_together(&store, &jobs, txns).await;
        assert_eq!((first.unwrap(), third.unwrap()), (Revision(1), Revision(2)));
        assert!(matches!(second, Err(StoreError::Conflict { key }) if key == Key::new(["x"])));
        let page = store.scan(Scan::new(Prefix::all())).await.unwrap();
        let found = page.entries.iter().map(|entry| (entry.key.as_str(), entry.revision.0));
        assert!(found.eq([("a", 2), ("x", 1), ("z", 2)]), "{page:?}");
    }

    #[tokio::test]
    async fn a_commit_that_the_disk_fails_is_unknown_and_nobody_is_told_of_it() {
        let (store, jobs, full) = idle(3);
        let mut watch = store.watch(&Prefix::all(), Revision::default()).await.unwrap();
        full.store(true, Ordering::Relaxed);
        let txns = [txn(&[], &["x"]), txn(&["x"], &["y"]), txn(&[], &[])];
        let [changing, refused, empty] = commit_together(&store, &jobs, txns).await;
        assert!(matches!(changing, Err(StoreError::Unknown { .. })), "{changing:?}");
        for certain in [refused, empty] {
            assert!(matches!(certain, Err(StoreError::Unavailable { .. })), "{certain:?}");
        }
        assert_eq!(watch.try_next(), None);
        full.store(false, Ordering::Relaxed);
        let again = || txn(&[], &["x"]);
        for later in commit_together(&store, &jobs, [again(), again(), again()]).await {
            assert!(matches!(later, Err(StoreError::Unavailable { .. })), "{later:?}");
        }
    }

    #[tokio::test]
    async fn a_queue_that_is_full_or_gone_refuses() {
        let (store, jobs, _) = idle(1);
        let refused = |result: Result<_, _>, why: &str| {
            let Err(StoreError::Unavailable { source, .. }) = result else { panic!("{result:?}") };
            assert!(source.to_string().contains(why), "{source}");
        };
        let (waiting, ()) = tokio::join!(biased; store.commit(txn(&[], &["x"])), async {
            refused(store.commit(txn(&[], &["y"])).await, "wait already");
            drop(jobs);
        });
        assert!(matches!(waiting, Err(StoreError::Unknown { .. })), "{waiting:?}");
        refused(store.commit(txn(&[], &["y"])).await, "open the store again");
    }

    #[tokio::test]
    async fn what_still_waits_when_the_store_is_dropped_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(RedbStore::open(directory.path()).unwrap());
        let last = Arc::clone(&store);
        let mut commit = Box::pin(async move { last.commit(txn(&[], &["x"])).await });
        // Once, so that the transaction is in the queue; then nobody waits for it any more.
        tokio::select! { biased; _ = &mut commit => {}, () = async {} => {} }
        drop((commit, store));
        let store = RedbStore::open(directory.path()).unwrap();
        assert!(store.get(&Key::new(["x"])).await.unwrap().is_some());
    }
}
