//! Views over a store that tells what a test lets it tell.

use async_trait::async_trait;

use super::*;
use crate::store::{Entry, Feed, MemoryStore, Page};

/// A store that tells its watchers what the test tells them.
#[derive(Debug)]
struct Told {
    store: MemoryStore,
    feed: std::sync::Mutex<Feed>,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("told")
    }
}

#[async_trait]
impl Store for Told {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.store.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.store.commit(txn).await
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        Ok(self.feed.lock().unwrap().watch(prefix, after))
    }
}

/// Sets a quota and takes it away, each by a commit, in the order of the words; then does
/// `then` to the feed, tells what came of the commits one by one, and looks whether the quota
/// is ever there that should not be, and whether the next one is seen.
async fn check(then: impl FnOnce(&mut Feed)) {
    let store = Arc::new(Told {
        store: MemoryStore::new(),
        feed: std::sync::Mutex::new(Feed::new(Revision(0))),
    });
    let mut view = View::open(store.clone(), Timestamp(0)).await.unwrap();
    let row = |project: &str| ProjectQuota {
        project: project.parse().unwrap(),
        quota: Quota::default(),
        had: None,
    };
    let mut commits = store.store.watch(&Prefix::all(), Revision(0)).await.unwrap();
    let mut txn = Txn::new();
    txn.put(&row("a"));
    store.commit(txn).await.unwrap();
    let mut txn = Txn::new();
    txn.write(Write::Remove(row("a").key()));
    let gone = store.commit(txn).await.unwrap();
    then(&mut store.feed.lock().unwrap());
    view.catch_up(Timestamp(1)).await.unwrap();
    assert!(view.has_seen(gone) && view.quotas.is_empty());
    while let Some(Event::Changed(change)) = commits.try_next() {
        store.feed.lock().unwrap().publish([change]);
        view.catch_up(Timestamp(2)).await.unwrap();
        assert!(view.quotas.is_empty(), "it came back");
    }
    let mut txn = Txn::new();
    txn.put(&row("b"));
    let made = store.commit(txn).await.unwrap();
    view.catch_up(Timestamp(3)).await.unwrap();
    assert!(!view.has_seen(made), "nobody has told yet");
    let Some(Event::Changed(change)) = commits.try_next() else { panic!("it was committed") };
    store.feed.lock().unwrap().publish([change]);
    view.catch_up(Timestamp(4)).await.unwrap();
    assert!(view.has_seen(made) && view.quotas.len() == 1);
}

#[tokio::test]
async fn what_a_full_reading_did_not_show_any_more_does_not_come_back() {
    check(|feed| feed.lose_place()).await;
}

#[tokio::test]
async fn a_view_whose_watch_has_ended_reads_everything_and_watches_anew() {
    check(|feed| *feed = Feed::new(Revision(0))).await;
}
