//! A copy of part of the store that follows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::{
    Change, Entry, Event, Key, Prefix, Record, Revision, Scan, Store, StoreError, Watch,
};

/// A record with the revision that last wrote it: what a guard needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<R> {
    /// The record.
    pub value: R,
    /// Since when it is so.
    pub revision: Revision,
}

impl<R: Record> Versioned<R> {
    /// Reads a record out of an entry.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the value is no such record.
    pub fn decode(entry: &Entry) -> Result<Self, StoreError> {
        Ok(Self { value: R::decode(&entry.key, &entry.value)?, revision: entry.revision })
    }
}

/// All records of one kind below a prefix, kept in memory and caught up on demand.
///
/// Reading a mirror costs no store access. It may be behind the store; a decision made on it is
/// safe because the transaction guards what it relied on, and after a conflict
/// [`catch_up`](Self::catch_up) brings what was missing.
#[derive(Debug)]
pub struct Mirror<R> {
    store: Arc<dyn Store>,
    prefix: Prefix,
    watch: Watch,
    records: BTreeMap<Key, Versioned<R>>,
    /// Changes up to and including this revision were in the last full reading.
    read_at: Revision,
    /// Everything has to be read again: changes were lost, or one could not be applied. It is
    /// remembered here because a reading can fail, or be given up by whoever waits for it.
    stale: bool,
}

impl<R: Record> Mirror<R> {
    /// A mirror of all records of this kind.
    ///
    /// # Errors
    /// Those of the store, or [`StoreError::Corrupt`] for a record that cannot be read.
    pub async fn new(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        Self::below(store, R::all()).await
    }

    /// A mirror of the records of this kind below `prefix`.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub async fn below(store: Arc<dyn Store>, prefix: Prefix) -> Result<Self, StoreError> {
        let revision = store.scan(Scan::new(prefix.clone()).with_limit(1)).await?.revision;
        let watch = store.watch(&prefix, revision).await?;
        let records = BTreeMap::new();
        let mut mirror = Self { store, prefix, watch, records, read_at: revision, stale: true };
        mirror.catch_up().await?;
        Ok(mirror)
    }

    /// Applies every change that has arrived, and tells which keys changed, sorted; all keys
    /// there are and were when everything had to be read again.
    ///
    /// # Errors
    /// As for [`new`](Self::new). The records stay as they were or get newer, and the next call
    /// reads everything again.
    pub async fn catch_up(&mut self) -> Result<Vec<Key>, StoreError> {
        let mut changed = Vec::new();
        loop {
            if self.stale {
                changed.extend(self.records.keys().cloned());
                self.reload().await?;
                changed.extend(self.records.keys().cloned());
            }
            match self.watch.try_next() {
                Some(event) => changed.extend(self.take(event)?),
                None => break,
            }
        }
        changed.sort_unstable();
        changed.dedup();
        Ok(changed)
    }

    /// Waits for the next change below the prefix and applies it; false when the store is gone.
    ///
    /// Giving up while it waits loses nothing.
    ///
    /// # Errors
    /// As for [`catch_up`](Self::catch_up).
    pub async fn changed(&mut self) -> Result<bool, StoreError> {
        if !self.stale {
            match self.watch.next().await {
                Some(event) => drop(self.take(event)?),
                None => return Ok(false),
            }
        }
        if self.stale {
            self.reload().await?;
        }
        Ok(true)
    }

    /// One record.
    pub fn get(&self, key: &Key) -> Option<&Versioned<R>> {
        self.records.get(key)
    }

    /// All records, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = &Versioned<R>> {
        self.records.values()
    }

    /// The records below a longer prefix, sorted by key.
    pub fn range(&self, prefix: &Prefix) -> impl Iterator<Item = &Versioned<R>> {
        let start = Key::from_stored(prefix.as_str());
        let prefix = prefix.clone();
        self.records
            .range(start..)
            .take_while(move |(key, _)| prefix.covers(key))
            .map(|(_, record)| record)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Applies an event, and tells which key it changed.
    fn take(&mut self, event: Event) -> Result<Option<Key>, StoreError> {
        let Event::Changed(Change { key, value, revision }) = event else {
            self.stale = true;
            return Ok(None);
        };
        // What the last full reading showed already must not be undone: its watch was open
        // before it began, and may still tell of what came in between.
        let known = self.records.get(&key).map_or(self.read_at, |known| known.revision);
        if known.max(self.read_at) >= revision {
            return Ok(None);
        }
        match value.map(|value| R::decode(&key, &value)).transpose() {
            Ok(Some(value)) => {
                drop(self.records.insert(key.clone(), Versioned { value, revision }))
            }
            Ok(None) => drop(self.records.remove(&key)),
            Err(error) => {
                self.stale = true;
                return Err(error);
            }
        }
        Ok(Some(key))
    }

    async fn reload(&mut self) -> Result<(), StoreError> {
        let mut records = BTreeMap::new();
        let mut scan = Scan::new(self.prefix.clone());
        let mut read_at = None;
        loop {
            let page = self.store.scan(scan.clone()).await?;
            // Later pages may show later moments; only the first one's is in all of them.
            read_at = read_at.or(Some(page.revision));
            for entry in &page.entries {
                records.insert(entry.key.clone(), Versioned::decode(entry)?);
            }
            match page.entries.last() {
                Some(last) if page.more => scan = scan.with_after(last.key.clone()),
                _ => break,
            }
        }
        self.records = records;
        self.read_at = read_at.unwrap_or(self.read_at);
        self.stale = false;
        Ok(())
    }
}
