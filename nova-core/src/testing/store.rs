//! A store that conflicts for nothing, forgets to answer, is gone for a while, and tells its
//! watchers late or not at all.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::ClockExt as _;
use crate::store::{
    Entry, Event, Feed, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Watch, Write,
};
use crate::testing::fate::Fault;
use crate::testing::process::Process;

/// One process's end of a store that fails in every way a store may.
#[derive(Debug)]
pub struct ChaosStore<S: ?Sized> {
    store: Arc<S>,
    process: Arc<Process>,
}

impl<S: Store + ?Sized> ChaosStore<S> {
    /// The end of `store` that `process` holds.
    pub fn new(store: Arc<S>, process: Arc<Process>) -> Self {
        Self { store, process }
    }

    /// What happens on the way to the store.
    async fn reach(&self, operation: &'static str) -> Result<(), StoreError> {
        self.process.latency().await;
        let fate = self.process.fate();
        if let Some(mut strike) = fate.strikes(Fault::StoreSlow) {
            let slow = strike.time(Duration::from_millis(5), Duration::from_secs(2));
            self.process.world().sleep(slow).await;
            self.process.pass().await;
        }
        if self.process.is_storeless() {
            let source = "no space left on device".into();
            return Err(StoreError::Unavailable { operation, source });
        }
        Ok(())
    }

    fn note(&self, txn: &Txn, came_of_it: &str) {
        let keys: Vec<String> = txn
            .writes()
            .iter()
            .map(|write| match write {
                Write::Put(key, _) => key.to_string(),
                Write::Remove(key) => format!("-{key}"),
            })
            .collect();
        self.process.note(format_args!("commit {came_of_it}: {}", keys.join(" ")));
    }
}

impl<S: Store + ?Sized> std::fmt::Display for ChaosStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreliable {}", self.store)
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for ChaosStore<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.reach("read").await?;
        self.store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.reach("scan").await?;
        self.store.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.reach("commit").await?;
        let fate = self.process.fate();
        let guarded = txn.guards().first().map(|guard| guard.key().clone());
        if let Some(key) = guarded
            && fate.strikes(Fault::FalseConflict).is_some()
        {
            self.note(&txn, "conflicts for nothing");
            return Err(StoreError::Conflict { key });
        }
        let unknown =
            || StoreError::Unknown { operation: "commit", source: "connection reset".into() };
        if fate.strikes(Fault::UnknownLost).is_some() {
            self.note(&txn, "is lost");
            return Err(unknown());
        }
        let done = self.store.commit(txn.clone()).await;
        match &done {
            Ok(revision) => self.note(&txn, &revision.to_string()),
            Err(error) => self.note(&txn, &error.to_string()),
        }
        if fate.strikes(Fault::UnknownDone).is_some() {
            return Err(unknown());
        }
        self.process.latency().await;
        done
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        self.reach("watch").await?;
        let watch = self.store.watch(prefix, after).await?;
        let fate = self.process.fate();
        if !fate.draws(Fault::WatchLag) && !fate.draws(Fault::WatchLost) {
            return Ok(watch);
        }
        let feed = Feed::new(after);
        let told = feed.watch(prefix, after);
        tokio::spawn(tell(watch, feed, Arc::clone(&self.process)));
        Ok(told)
    }
}

/// How late a watch tells: later than most decisions take, and sooner than a host counts as down.
const LAG_MIN: Duration = Duration::from_millis(5);
const LAG_MAX: Duration = Duration::from_secs(3);

/// Tells `process` what `watch` tells, for as long as it listens: late now and then, and until
/// its place in the watch is lost.
async fn tell(mut watch: Watch, feed: Feed, process: Arc<Process>) {
    let mut news = Vec::new();
    while let Some(event) = watch.next().await {
        if !feed.is_watched() {
            return;
        }
        if let Some(mut strike) = process.fate().strikes(Fault::WatchLag) {
            process.note("hears late of the store");
            process.world().sleep(strike.time(LAG_MIN, LAG_MAX)).await;
        }
        // A commit is told as a whole.
        news.push(event);
        news.extend(std::iter::from_fn(|| watch.try_next()));
        if let Some(mut strike) = process.fate().strikes(Fault::WatchLost) {
            if strike.unit() < 0.5 {
                process.note("its watch ends");
                return;
            }
            process.note("its watch loses its place");
            news.clear();
            feed.lose_place();
        }
        if news.contains(&Event::Resync) {
            feed.lose_place();
        }
        feed.publish(news.drain(..).filter_map(|event| match event {
            Event::Changed(change) => Some(change),
            Event::Resync => None,
        }));
    }
}
