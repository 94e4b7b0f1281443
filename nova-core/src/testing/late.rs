//! A store on which everything takes its time: commits, their answers, and what watchers hear.

use std::collections::VecDeque;
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock as _, Timestamp};
use crate::memory::VirtualClock;
use crate::seed::{Chance, Seed};
use crate::store::{
    Entry, Event, Feed, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Watch,
};

/// The longest way to the store, and back from it.
const WAY_MAX: Duration = Duration::from_millis(20);

/// How late watchers hear of a change.
const LAG: Duration = Duration::from_millis(200);

/// One process's end of a store that takes its time: up to 20 ms to the store for a commit, and as
/// long for the answer; 200 ms until watchers hear of it. Nothing fails.
#[derive(Debug)]
pub struct LateStore {
    store: Arc<dyn Store>,
    clock: Arc<VirtualClock>,
    feed: Feed,
    /// What it has to tell comes after this.
    since: Revision,
    /// How long each way takes.
    ways: Mutex<Chance>,
    way_max: Duration,
    lag: Duration,
}

impl LateStore {
    /// One process's way to `store`. Its watchers hear late from now on, while somebody polls
    /// [`tell`](Self::tell).
    ///
    /// # Errors
    /// Those of `store`.
    pub async fn new(
        store: &Arc<dyn Store>,
        clock: &Arc<VirtualClock>,
        seed: Seed,
    ) -> Result<Self, StoreError> {
        let since = store.scan(Scan::new(Prefix::all()).with_limit(1)).await?.revision;
        let (store, clock) = (Arc::clone(store), Arc::clone(clock));
        let ways = Mutex::new(seed.child("ways").chance());
        let feed = Feed::new(since);
        Ok(Self { store, clock, feed, since, ways, way_max: WAY_MAX, lag: LAG })
    }

    /// A commit takes up to so long to reach the store, and its answer as long to come back.
    #[must_use]
    pub fn with_way(self, way_max: Duration) -> Self {
        Self { way_max, ..self }
    }

    /// Watchers hear of a change so late.
    #[must_use]
    pub fn with_lag(self, lag: Duration) -> Self {
        Self { lag, ..self }
    }

    /// Tells what happened, late, for as long as it is polled.
    pub async fn tell(self: Arc<Self>) {
        let Ok(mut watch) = self.store.watch(&Prefix::all(), self.since).await else { return };
        let mut news = VecDeque::new();
        loop {
            let due: Option<Timestamp> = news.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                event = watch.next() => match event {
                    Some(Event::Changed(change)) => {
                        news.push_back((self.clock.now().after(self.lag), change));
                    }
                    Some(Event::Resync) => {
                        news.clear();
                        self.feed.lose_place();
                    }
                    None => return,
                },
                () = async {
                    match due {
                        Some(due) => self.clock.sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let now = self.clock.now();
                    // A commit is told as a whole.
                    let due = news.iter().take_while(|(due, _)| *due <= now).count();
                    self.feed.publish(news.drain(..due).map(|(_, change)| change));
                }
            }
        }
    }

    async fn way(&self) {
        let time = {
            let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
            let longest = u64::try_from(self.way_max.as_micros()).unwrap_or(u64::MAX);
            Duration::from_micros(ways.below(longest))
        };
        self.clock.sleep_until(self.clock.now().after(time)).await;
    }
}

impl Display for LateStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("late store")
    }
}

#[async_trait]
impl Store for LateStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.store.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.way().await;
        let done = self.store.commit(txn).await;
        self.way().await;
        done
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        Ok(self.feed.watch(prefix, after))
    }
}
