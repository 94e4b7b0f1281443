//! The port itself, with its laws and errors.

use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;

use crate::class::Class;
use crate::store::{Key, Prefix, Record, Txn, Versioned, Watch};

/// A count of commits. Each commit that changed something has a revision of its own, higher than
/// all before; what was read can be told from what came later by comparing them.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Bytes under a key. Cheap to copy.
pub type Value = Arc<[u8]>;

/// A key with its value and the revision that last wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub key: Key,
    /// What.
    pub value: Value,
    /// Since when.
    pub revision: Revision,
}

/// Which entries to read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scan {
    /// Keys below this.
    pub prefix: Prefix,
    /// Only keys after this one.
    pub after: Option<Key>,
    /// At most so many entries, at least one.
    pub limit: usize,
}

impl Scan {
    /// The most entries of one page, whatever is asked for.
    pub const LIMIT_MAX: usize = 1000;

    /// The first page of everything below `prefix`.
    pub fn new(prefix: Prefix) -> Self {
        Self { prefix, after: None, limit: Self::LIMIT_MAX }
    }

    /// Goes on after `key`.
    #[must_use]
    pub fn with_after(self, key: Key) -> Self {
        Self { after: Some(key), ..self }
    }

    /// Reads at most `limit` entries: 1 to [`LIMIT_MAX`](Self::LIMIT_MAX), the nearest of which
    /// is taken.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit: limit.clamp(1, Self::LIMIT_MAX), ..self }
    }
}

/// One answer to a [`Scan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Entries, sorted by key.
    pub entries: Vec<Entry>,
    /// The store's revision when the page was read: everything up to it is in the page.
    pub revision: Revision,
    /// Whether there are more keys after the last entry.
    pub more: bool,
}

/// Keeps values under keys and changes them only by guarded transactions.
///
/// Laws:
/// - reading: `a_key_that_was_never_written_is_absent`, `a_commit_that_returned_is_read`,
///   `values_are_kept_byte_for_byte`, `keys_are_kept_as_they_are`,
///   `an_entry_bears_the_revision_that_wrote_it`;
/// - committing: `every_change_has_a_higher_revision`, `a_commit_does_all_or_nothing`,
///   `a_conflict_names_the_first_guard_that_failed`, `absent_holds_only_where_nothing_is`,
///   `unchanged_holds_only_for_the_last_write`, `guards_look_before_the_writes`,
///   `a_transaction_without_writes_answers_the_present_revision`,
///   `removing_what_is_absent_changes_nothing`, `writing_a_key_twice_is_refused`;
/// - scanning: `a_scan_is_sorted_and_covers_whole_parts_only`,
///   `a_scan_goes_on_where_the_page_ended`, `a_page_never_exceeds_its_limit`,
///   `a_page_shows_one_moment`;
/// - watching: `a_watch_tells_every_change_once_and_in_order`,
///   `a_watch_tells_only_what_lies_below_its_prefix`, `a_watch_begins_just_after_its_revision`,
///   `a_watch_opened_between_commits_misses_nothing`,
///   `a_watch_that_fell_behind_never_skips_silently`;
/// - racing: `exactly_one_of_many_racing_creators_wins`, `racing_updates_are_never_lost`.
#[async_trait]
pub trait Store: Display + Debug + Send + Sync + 'static {
    /// Reads one key.
    ///
    /// A commit that has returned is seen by every `get` that begins later.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Reads a page of keys, sorted; the page shows one moment.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    async fn scan(&self, scan: Scan) -> Result<Page, StoreError>;

    /// Does all writes of `txn` at one new revision, if all its guards hold; otherwise nothing.
    ///
    /// A transaction without writes checks its guards and answers the present revision. Removing
    /// a key that is not there changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] names the first guard that did not hold, in the order given;
    /// [`StoreError::Malformed`] when it writes a key twice; [`StoreError::Unavailable`] when it
    /// was certainly not done; [`StoreError::Unknown`] when nobody can say whether it was; then
    /// read again.
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError>;

    /// Follows the keys below `prefix` from just after revision `after`.
    ///
    /// Every later change arrives once, in the order of revisions. What is no longer remembered
    /// is never skipped silently: [`Event::Resync`](crate::store::Event::Resync) says that
    /// everything has to be read again. When a commit has returned, its changes are on their way
    /// to every watch that was open before. A watch may end
    /// ([`Watch::has_ended`](crate::store::Watch::has_ended)); whoever follows then opens another
    /// and reads everything again.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError>;
}

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A guard did not hold: somebody else was faster.
    #[error("conflict on {key}")]
    Conflict {
        /// The key of the first guard that failed.
        key: Key,
    },
    /// The store did not answer; the transaction was certainly not done.
    #[error("store cannot {operation}")]
    Unavailable {
        /// What was to be done.
        operation: &'static str,
        /// Why it was not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store did not answer; the transaction may or may not have been done.
    #[error("store cannot say whether {operation} was done")]
    Unknown {
        /// What was to be done.
        operation: &'static str,
        /// Why nobody knows.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored cannot be understood.
    #[error("corrupt value at {at}: {reason}")]
    Corrupt {
        /// The key or the file.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What is stored was written by a newer release.
    #[error("{at} has format {found}; this release reads up to {supported}")]
    NewerFormat {
        /// The file or directory.
        at: String,
        /// The format that was found.
        found: u32,
        /// The newest format that can be read.
        supported: u32,
    },
    /// The transaction makes no sense: it writes one key twice.
    #[error("malformed transaction: {key} {reason}")]
    Malformed {
        /// The key.
        key: Key,
        /// What is wrong.
        reason: &'static str,
    },
}

impl StoreError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Conflict { .. } => Class::Conflict,
            Self::Unavailable { .. } | Self::Unknown { .. } => Class::Retry,
            Self::Corrupt { .. } | Self::NewerFormat { .. } => Class::Permanent,
            Self::Malformed { .. } => Class::Bug,
        }
    }
}

/// Typed reading, for every store.
#[async_trait]
pub trait StoreExt: Store {
    /// Reads one record.
    ///
    /// # Errors
    /// As for [`Store::get`]; [`StoreError::Corrupt`] when the value is no such record.
    async fn read<R: Record>(&self, key: &Key) -> Result<Option<Versioned<R>>, StoreError> {
        self.get(key).await?.map(|entry| Versioned::decode(&entry)).transpose()
    }

    /// Reads every record below `prefix`, sorted by key, page by page.
    ///
    /// The pages may show different moments. A decision that must not be built on a mixture
    /// guards the records it used.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    async fn read_all<R: Record>(&self, prefix: &Prefix) -> Result<Vec<Versioned<R>>, StoreError> {
        let mut records = Vec::new();
        let mut scan = Scan::new(prefix.clone());
        loop {
            let page = self.scan(scan.clone()).await?;
            for entry in &page.entries {
                records.push(Versioned::decode(entry)?);
            }
            match page.entries.last() {
                Some(last) if page.more => scan = scan.with_after(last.key.clone()),
                _ => return Ok(records),
            }
        }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

macro_rules! forward {
    ($($pointer:ty),+) => {$(
        #[async_trait]
        impl<S: Store + ?Sized> Store for $pointer {
            async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
                (**self).get(key).await
            }

            async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
                (**self).scan(scan).await
            }

            async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
                (**self).commit(txn).await
            }

            async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
                (**self).watch(prefix, after).await
            }
        }
    )+};
}

forward!(Arc<S>, Box<S>);

const _: fn(Box<dyn Store>) = |store| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(store);
};
