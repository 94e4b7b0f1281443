//! The reference store: a sorted map in memory. It forgets everything when it is dropped.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::PoisonError;

use async_trait::async_trait;

use crate::store::sync::{Mutex, MutexGuard};
use crate::store::{
    Change, Entry, Feed, Guard, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Value,
    Watch, Write,
};

/// A store in memory: the model in tests, the default for trying things out and for simulation.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<Key, (Value, Revision)>,
    revision: Revision,
    feed: Feed,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let revision = Revision::default();
        let feed = Feed::new(revision);
        Self { state: Mutex::new(State { entries: BTreeMap::new(), revision, feed }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A transaction is applied in one go after all checks; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory store")
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.lock().entries.get(key).map(|(value, revision)| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        }))
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        let state = self.lock();
        let start = match scan.after {
            Some(after) if after.as_str() >= scan.prefix.as_str() => Bound::Excluded(after),
            _ => Bound::Included(Key::from_stored(scan.prefix.as_str())),
        };
        let mut below = state
            .entries
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| scan.prefix.covers(key));
        let entries = below
            .by_ref()
            .take(scan.limit.clamp(1, Scan::LIMIT_MAX))
            .map(|(key, (value, revision))| Entry {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect();
        Ok(Page { entries, revision: state.revision, more: below.next().is_some() })
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        if let Some(key) = txn.written_twice() {
            return Err(StoreError::Malformed { key: key.clone(), reason: "is written twice" });
        }
        let mut state = self.lock();
        for guard in txn.guards() {
            let known = state.entries.get(guard.key()).map(|(_, revision)| *revision);
            let holds = match guard {
                Guard::Absent(_) => known.is_none(),
                Guard::Unchanged(_, revision) => known == Some(*revision),
            };
            if !holds {
                return Err(StoreError::Conflict { key: guard.key().clone() });
            }
        }
        let revision = Revision(state.revision.0 + 1);
        let mut changes = Vec::with_capacity(txn.writes().len());
        for write in txn.writes() {
            match write {
                Write::Put(key, value) => {
                    state.entries.insert(key.clone(), (value.clone(), revision));
                    changes.push(Change { key: key.clone(), value: Some(value.clone()), revision });
                }
                Write::Remove(key) => {
                    if state.entries.remove(key).is_some() {
                        changes.push(Change { key: key.clone(), value: None, revision });
                    }
                }
            }
        }
        if changes.is_empty() {
            return Ok(state.revision);
        }
        state.revision = revision;
        state.feed.publish(changes);
        Ok(revision)
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        Ok(self.lock().feed.watch(prefix, after))
    }
}
