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
        let mut mirror = Self { store, prefix, watch, records: BTreeMap::new() };
        mirror.reload().await?;
        mirror.catch_up().await?;
        Ok(mirror)
    }

    /// Applies every change that has arrived, and tells which keys changed, sorted; all keys
    /// there are and were when everything had to be read again.
    ///
    /// # Errors
    /// As for [`new`](Self::new); what was applied before the error stays.
    pub async fn catch_up(&mut self) -> Result<Vec<Key>, StoreError> {
        let mut changed = Vec::new();
        while let Some(event) = self.watch.try_next() {
            match event {
                Event::Changed(change) => {
                    changed.push(change.key.clone());
                    self.apply(change)?;
                }
                Event::Resync => {
                    changed.extend(self.records.keys().cloned());
                    self.reload().await?;
                    changed.extend(self.records.keys().cloned());
                }
            }
        }
        changed.sort_unstable();
        changed.dedup();
        Ok(changed)
    }

    /// Waits for the next change below the prefix and applies it; false when the store is gone.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub async fn changed(&mut self) -> Result<bool, StoreError> {
        match self.watch.next().await {
            None => Ok(false),
            Some(Event::Resync) => {
                self.reload().await?;
                Ok(true)
            }
            Some(Event::Changed(change)) => {
                self.apply(change)?;
                Ok(true)
            }
        }
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
    pub fn range<'a>(
        &'a self,
        prefix: &Prefix,
    ) -> impl Iterator<Item = &'a Versioned<R>> + use<'a, R> {
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

    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        // A page read after the watch began may already show what the watch is about to tell.
        let known = self.records.get(&change.key);
        if known.is_some_and(|known| known.revision >= change.revision) {
            return Ok(());
        }
        match change.value {
            Some(value) => {
                let value = R::decode(&change.key, &value)?;
                self.records.insert(change.key, Versioned { value, revision: change.revision });
            }
            None => drop(self.records.remove(&change.key)),
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), StoreError> {
        let mut records = BTreeMap::new();
        let mut scan = Scan::new(self.prefix.clone());
        loop {
            let page = self.store.scan(scan.clone()).await?;
            for entry in &page.entries {
                records.insert(entry.key.clone(), Versioned::decode(entry)?);
            }
            match page.entries.last() {
                Some(last) if page.more => scan = scan.with_after(last.key.clone()),
                _ => break,
            }
        }
        self.records = records;
        Ok(())
    }
}
