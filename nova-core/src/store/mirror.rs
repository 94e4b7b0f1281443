//! A copy of part of the store that follows it.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Keys that changed and that nobody was told about, because an error came in between.
    untold: BTreeSet<Key>,
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
        let mut mirror = Self {
            store,
            prefix,
            watch,
            records: BTreeMap::new(),
            read_at: revision,
            stale: true,
            untold: BTreeSet::new(),
        };
        mirror.catch_up().await?;
        Ok(mirror)
    }

    /// Applies every change that has arrived, and tells which keys changed, sorted; all keys
    /// there are and were when everything had to be read again.
    ///
    /// # Errors
    /// As for [`new`](Self::new). What was applied before the error stays, and the next call tells
    /// about it.
    pub async fn catch_up(&mut self) -> Result<Vec<Key>, StoreError> {
        if self.watch.has_ended() {
            self.watch_anew().await?;
        }
        loop {
            if self.stale {
                self.untold.extend(self.records.keys().cloned());
                self.reload().await?;
                self.untold.extend(self.records.keys().cloned());
            }
            match self.watch.try_next() {
                Some(event) => {
                    let changed = self.take(event)?;
                    self.untold.extend(changed);
                }
                None => break,
            }
        }
        Ok(std::mem::take(&mut self.untold).into_iter().collect())
    }

    /// Waits for the next change below the prefix and applies it. When the watch has ended,
    /// everything is read again.
    ///
    /// Giving up while it waits loses nothing.
    ///
    /// # Errors
    /// As for [`catch_up`](Self::catch_up).
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        if !self.stale {
            match self.watch.next().await {
                Some(event) => drop(self.take(event)?),
                None => self.watch_anew().await?,
            }
        }
        if self.stale {
            self.reload().await?;
        }
        Ok(())
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

    /// Applies an event, and tells which key it changed.
    fn take(&mut self, event: Event) -> Result<Option<Key>, StoreError> {
        let Event::Changed(Change { key, value, revision }) = event else {
            self.stale = true;
            return Ok(None);
        };
        // What the last full reading showed already must not be undone: its watch was open
        // before it began, and may still tell of what came in between.
        let known = self.records.get(&key).map(|known| known.revision);
        if known.max(Some(self.read_at)) >= Some(revision) {
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

    /// Opens another watch in place of one that has ended. Only a reading can show what that one
    /// did not tell any more.
    async fn watch_anew(&mut self) -> Result<(), StoreError> {
        self.stale = true;
        let newest = Scan::new(self.prefix.clone()).with_limit(1);
        let revision = self.store.scan(newest).await?.revision;
        self.watch = self.store.watch(&self.prefix, revision).await?;
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::store::{Feed, MemoryStore, Page, Txn, Value, Write, record::Ledger};

    /// A memory store whose scans can be made to fail.
    #[derive(Debug, Default)]
    struct Moody {
        store: MemoryStore,
        sulks: AtomicBool,
    }

    impl std::fmt::Display for Moody {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("moody store")
        }
    }

    #[async_trait]
    impl Store for Moody {
        async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
            self.store.get(key).await
        }

        async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
            if self.sulks.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable { operation: "read", source: "mood".into() });
            }
            self.store.scan(scan).await
        }

        async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
            self.store.commit(txn).await
        }

        async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
            self.store.watch(prefix, after).await
        }
    }

    async fn mirror() -> (Arc<Moody>, Mirror<Ledger>) {
        let store = Arc::new(Moody::default());
        let mirror = Mirror::new(Arc::<Moody>::clone(&store)).await.unwrap();
        (store, mirror)
    }

    fn key(name: &str) -> Key {
        Ledger::for_project(name.parse().unwrap()).key()
    }

    /// Commits each word by itself: `name` is written, `-name` removed, `!name` made unreadable.
    async fn commit(store: &Moody, words: &str) {
        for word in words.split_terminator(' ') {
            let name = word.trim_start_matches(['-', '!']);
            let mut txn = Txn::new();
            match word.as_bytes()[0] {
                b'-' => txn.write(Write::Remove(key(name))),
                b'!' => txn.write(Write::Put(key(name), Value::from(b"{".as_slice()))),
                _ => txn.put(&Ledger::for_project(name.parse().unwrap())),
            };
            store.commit(txn).await.unwrap();
        }
    }

    /// Makes a mirror forget where it was, as a store does that remembers too little.
    async fn overtake(store: &Moody) {
        let mut txn = Txn::new();
        for at in 0..=Feed::CHANGES_MAX {
            txn.write(Write::Put(Key::new(["other", &at.to_string()]), Value::default()));
        }
        store.commit(txn).await.unwrap();
    }

    /// Catches up, and looks at which keys are told and which are there.
    async fn check(mirror: &mut Mirror<Ledger>, told: &str, there: &str) {
        let keys = |names: &str| names.split_terminator(' ').map(key).collect::<Vec<_>>();
        assert_eq!(mirror.catch_up().await.unwrap(), keys(told));
        assert_eq!(mirror.iter().map(|record| record.value.key()).collect::<Vec<_>>(), keys(there));
    }

    #[tokio::test]
    async fn catching_up_tells_the_keys_that_changed() {
        let (store, mut mirror) = mirror().await;
        check(&mut mirror, "", "").await;
        commit(&store, "b a b").await;
        check(&mut mirror, "a b", "a b").await;
        check(&mut mirror, "", "a b").await;
        commit(&store, "-a c -c").await;
        check(&mut mirror, "a c", "b").await;
    }

    #[tokio::test]
    async fn a_mirror_holds_the_revisions_that_guards_need() {
        let (store, mut mirror) = mirror().await;
        commit(&store, "a").await;
        mirror.catch_up().await.unwrap();
        let read = mirror.get(&key("a")).unwrap().clone();
        let mut txn = Txn::new();
        txn.replace(&read, &read.value);
        store.commit(txn.clone()).await.unwrap();
        assert!(matches!(store.commit(txn).await, Err(StoreError::Conflict { .. })));
    }

    #[tokio::test]
    async fn a_mirror_that_was_overtaken_tells_all_keys_there_are_and_were() {
        let (store, mut mirror) = mirror().await;
        commit(&store, "a b").await;
        mirror.catch_up().await.unwrap();
        commit(&store, "-a c").await;
        overtake(&store).await;
        check(&mut mirror, "a b c", "b c").await;
        commit(&store, "d").await;
        check(&mut mirror, "d", "b c d").await;
    }

    #[tokio::test]
    async fn a_reading_that_failed_is_made_up_for() {
        let (store, mut mirror) = mirror().await;
        commit(&store, "a").await;
        mirror.catch_up().await.unwrap();
        commit(&store, "b").await;
        overtake(&store).await;
        store.sulks.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            assert!(matches!(mirror.catch_up().await, Err(StoreError::Unavailable { .. })));
            assert!(matches!(mirror.changed().await, Err(StoreError::Unavailable { .. })));
        }
        store.sulks.store(false, Ordering::Relaxed);
        check(&mut mirror, "a b", "a b").await;
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error_until_it_can() {
        let (store, mut mirror) = mirror().await;
        commit(&store, "a b").await;
        mirror.catch_up().await.unwrap();
        commit(&store, "-a !b").await;
        for _ in 0..2 {
            assert!(matches!(mirror.catch_up().await, Err(StoreError::Corrupt { .. })));
        }
        commit(&store, "b").await;
        check(&mut mirror, "a b", "b").await;
    }

    #[tokio::test]
    async fn a_change_that_the_last_reading_showed_is_not_told_again() {
        let (store, mut mirror) = mirror().await;
        commit(&store, "!b c -c").await;
        assert!(mirror.catch_up().await.is_err());
        commit(&store, "b").await;
        check(&mut mirror, "b", "b").await;
    }

    #[tokio::test]
    async fn a_watch_that_ended_is_opened_anew_and_what_it_missed_is_read() {
        let (store, mut mirror) = mirror().await;
        commit(&store, "a b").await;
        mirror.changed().await.unwrap();
        assert_eq!(mirror.len(), 1);
        check(&mut mirror, "b", "a b").await;
        // A mirror keeps its store alive, so the end can only come through the watch.
        mirror.watch = Feed::new(Revision(0)).watch(&Prefix::all(), Revision(0));
        commit(&store, "-a c").await;
        check(&mut mirror, "a b c", "b c").await;
        mirror.watch = Feed::new(Revision(0)).watch(&Prefix::all(), Revision(0));
        commit(&store, "d").await;
        mirror.changed().await.unwrap();
        assert_eq!(mirror.len(), 3);
        commit(&store, "e").await;
        mirror.changed().await.unwrap();
        check(&mut mirror, "", "b c d e").await;
    }
}
