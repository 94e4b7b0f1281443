//! Models of the writer that commits in groups; see `store/races.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::scheduler::RandomScheduler;
use shuttle::thread::spawn;
use shuttle::{Config, Runner};

use super::{RedbStore, Shared, file, writer};
use crate::store::races::{commits_are_seen_once_and_in_order, put};
use crate::store::sync::mpsc::sync_channel;
use crate::store::sync::thread::Builder;
use crate::store::{Feed, Key, Prefix, Revision, Store as _, StoreError};

/// A commit takes longer here than a thread's turn; so there are fewer orders.
const ORDERS: usize = 300;

/// What redb needs of a thread's stack, with room to spare.
const STACK_BYTES: usize = 1 << 20;

fn check(model: impl Fn() + Send + Sync + 'static, orders: usize) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    Runner::new(RandomScheduler::new(orders), config).run(model);
}

/// A store on a disk in memory, with its writer.
fn store() -> RedbStore {
    let disk = redb::backends::InMemoryBackend::new();
    let database = redb::Database::builder().create_with_backend(disk).unwrap();
    file::write_beginning(&database).unwrap();
    let feed = Feed::new(Revision::default());
    let shared = Arc::new(Shared { at: PathBuf::from("disk"), database, feed });
    let (queue, jobs) = sync_channel(8);
    let writer = {
        let shared = Arc::clone(&shared);
        Builder::new().spawn(move || writer::run(&shared, &jobs)).unwrap()
    };
    RedbStore { shared, queue: Some(queue), writer: Some(writer) }
}

#[test]
fn a_store_that_commits_in_groups_shows_every_commit_once_and_in_order() {
    check(|| commits_are_seen_once_and_in_order(Arc::new(store()), 2), ORDERS);
}

#[test]
fn whoever_commits_while_the_store_is_dropped_is_answered_and_the_watches_end() {
    let model = || {
        let store = Arc::new(store());
        let mut watch = block_on(store.watch(&Prefix::all(), Revision(0))).unwrap();
        let threads: Vec<_> = ["a", "b"]
            .map(|name| {
                let store = Arc::clone(&store);
                spawn(move || {
                    // Whoever is last drops the store, while the writer may be at work.
                    let done = block_on(store.commit(put(name)));
                    assert!(done.is_ok(), "{done:?}");
                })
            })
            .into_iter()
            .collect();
        drop(store);
        let mut heard = 0;
        block_on(async {
            while watch.next().await.is_some() {
                heard += 1;
            }
        });
        assert_eq!(heard, 2, "all was told before the end");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    };
    check(model, ORDERS);
}

#[test]
fn a_writer_that_ends_early_leaves_nobody_waiting() {
    let model = || {
        let mut store = store();
        // The queue is gone and the writer done: the store is closed under those who have it.
        drop(store.queue.take());
        store.writer.take().unwrap().join().unwrap();
        let refused = block_on(store.commit(put("a")));
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        assert!(block_on(store.get(&Key::new(["a"]))).unwrap().is_none());
    };
    check(model, 20);
}
