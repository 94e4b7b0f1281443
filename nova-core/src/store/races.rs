//! Models of what several threads do to a store at once, run by `shuttle` in thousands of orders.
//!
//! A thread that would wait for ever is a failure of its own: shuttle calls it a deadlock.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread::spawn;

use crate::store::record::Ledger;
use crate::store::{
    Change, Event, Feed, Key, MemoryStore, Mirror, Prefix, Revision, Scan, Store, StoreExt as _,
    Txn, Watch, Write,
};

/// Orders that are tried where there are too many to try all.
const ORDERS: usize = 4000;

fn change(path: &str, revision: u64) -> Change {
    Change { key: Key::new(path.split('/')), value: None, revision: Revision(revision) }
}

pub(super) fn put(path: &str) -> Txn {
    let mut txn = Txn::new();
    txn.write(Write::Put(Key::new(path.split('/')), path.as_bytes().into()));
    txn
}

/// What a watch tells from here on, up to and including `last`: revisions, none for a resync.
pub(super) async fn told(watch: &mut Watch, last: Revision) -> Vec<Option<u64>> {
    let mut told = Vec::new();
    while told.last() != Some(&Some(last.0)) {
        match watch.next().await {
            Some(Event::Changed(change)) => told.push(Some(change.revision.0)),
            Some(Event::Resync) => told.push(None),
            None => break,
        }
    }
    told
}

fn everybody_hears_of_every_change_and_of_the_end() {
    let feed = Feed::new(Revision(0));
    let readers = [("a", 0, vec![Some(1), Some(3)]), ("b", 1, vec![Some(2)])].map(
        |(prefix, after, expected)| {
            let mut watch = feed.watch(&Prefix::new([prefix]), Revision(after));
            spawn(move || assert_eq!(block_on(told(&mut watch, Revision(u64::MAX))), expected))
        },
    );
    feed.publish([change("a/x", 1)]);
    feed.publish([change("b/x", 2), change("a/y", 3)]);
    drop(feed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn a_feed_wakes_whoever_waits() {
    shuttle::check_random(everybody_hears_of_every_change_and_of_the_end, ORDERS);
    shuttle::check_pct(everybody_hears_of_every_change_and_of_the_end, ORDERS, 3);
}

/// One writer and one reader, in every order that there is.
#[test]
fn a_feed_loses_no_wake_up_in_any_order() {
    let model = || {
        let feed = Feed::new(Revision(0));
        let mut watch = feed.watch(&Prefix::all(), Revision(0));
        let writer = spawn(move || {
            feed.publish([change("a", 1)]);
            feed.publish([change("b", 2)]);
        });
        assert_eq!(block_on(told(&mut watch, Revision(u64::MAX))), [Some(1), Some(2)]);
        writer.join().unwrap();
    };
    shuttle::check_dfs(model, None);
}

#[test]
fn a_watch_that_is_given_up_leaves_the_others_what_they_wait_for() {
    let model = || {
        let feed = Feed::new(Revision(0));
        let mut given_up = feed.watch(&Prefix::all(), Revision(0));
        let mut kept = feed.watch(&Prefix::all(), Revision(0));
        let writer = spawn(move || feed.publish([change("a", 1)]));
        let impatient = spawn(move || {
            block_on(async {
                tokio::select! {
                    biased;
                    _ = given_up.next() => {}
                    () = shuttle::future::yield_now() => {}
                }
            });
        });
        assert_eq!(block_on(told(&mut kept, Revision(u64::MAX))), [Some(1)]);
        writer.join().unwrap();
        impatient.join().unwrap();
    };
    shuttle::check_random(model, ORDERS);
}

#[test]
fn what_is_forgotten_while_somebody_reads_is_a_resync_and_never_a_gap() {
    let model = || {
        let feed = Feed::new(Revision(0));
        let mut watch = feed.watch(&Prefix::all(), Revision(0));
        let last = 2 + Feed::CHANGES_MAX as u64;
        let writer = spawn(move || {
            feed.publish([change("a", 1)]);
            feed.publish([change("b", 2)]);
            feed.publish((3..=last).map(|revision| change("c", revision)));
        });
        let heard = block_on(told(&mut watch, Revision(2)));
        // All, or from some moment on nothing but the word that some are lost.
        let whole = [Some(1), Some(2)];
        let lost = heard.iter().position(Option::is_none).unwrap_or(heard.len());
        assert_eq!(heard[..lost], whole[..lost.min(2)], "{heard:?}");
        assert!(heard[..lost] == whole || heard[lost..] == [None], "{heard:?}");
        writer.join().unwrap();
    };
    shuttle::check_random(model, 60);
}

/// What a store promises to those who read and watch while others commit.
pub(super) fn commits_are_seen_once_and_in_order(store: Arc<dyn Store>, writers: u64) {
    let last = Revision(2 * writers);
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(&store);
            spawn(move || {
                for commit in 0..2 {
                    let path = format!("a/{writer}-{commit}");
                    let revision = block_on(store.commit(put(&path))).unwrap();
                    let found = block_on(store.get(&Key::new(path.split('/')))).unwrap().unwrap();
                    assert_eq!(found.revision, revision, "what was acknowledged is read");
                }
            })
        })
        .collect();
    let begun = block_on(store.scan(Scan::new(Prefix::all()))).unwrap();
    let mut watch = block_on(store.watch(&Prefix::new(["a"]), begun.revision)).unwrap();
    if begun.revision < last {
        let expected: Vec<_> = (begun.revision.0 + 1..=last.0).map(Some).collect();
        assert_eq!(block_on(told(&mut watch, last)), expected);
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let end = block_on(store.scan(Scan::new(Prefix::all()))).unwrap();
    assert_eq!((end.revision, end.entries.len() as u64), (last, last.0));
}

#[test]
fn the_store_in_memory_shows_every_commit_once_and_in_order() {
    let model = || commits_are_seen_once_and_in_order(Arc::new(MemoryStore::new()), 2);
    shuttle::check_random(model, ORDERS);
    shuttle::check_pct(model, ORDERS, 3);
}

#[test]
fn a_mirror_that_follows_while_others_write_ends_up_like_its_store() {
    let model = || {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let projects = ["a", "b", "c"];
        let writers: Vec<_> = projects
            .map(|project| {
                let store = Arc::clone(&store);
                spawn(move || {
                    let mut txn = Txn::new();
                    txn.put(&Ledger::for_project(project.parse().unwrap()));
                    block_on(store.commit(txn)).unwrap();
                })
            })
            .into_iter()
            .collect();
        block_on(async {
            let mut mirror = Mirror::<Ledger>::new(Arc::clone(&store)).await.unwrap();
            while mirror.len() < projects.len() {
                mirror.changed().await.unwrap();
            }
            let stored = store.read_all::<Ledger>(&Prefix::all()).await.unwrap();
            assert!(mirror.iter().eq(&stored));
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    };
    shuttle::check_random(model, ORDERS);
}
