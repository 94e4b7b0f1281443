//! The laws of [`Store`]. Each takes a fresh, empty store.

mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use self::words::{
    NOTHING, absent, changed, changes, commit, conflict, follow, key, listing, put, read, remove,
    scan, text, value, watch,
};
use crate::store::{
    Entry, Event, Feed, Guard, Key, Prefix, Revision, Scan, Store, StoreError, Txn, Write,
};

/// One test for each law of [`Store`](crate::store::Store); the expression makes a fresh store.
///
/// ```
/// nova_core::store_laws!(async { nova_core::store::MemoryStore::new() });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! store_laws {
    ($make:expr) => {
        $crate::laws!(
            store,
            $make,
            [
                a_key_that_was_never_written_is_absent,
                a_commit_that_returned_is_read,
                values_are_kept_byte_for_byte,
                keys_are_kept_as_they_are,
                an_entry_bears_the_revision_that_wrote_it,
                every_change_has_a_higher_revision,
                a_commit_does_all_or_nothing,
                a_conflict_names_the_first_guard_that_failed,
                absent_holds_only_where_nothing_is,
                unchanged_holds_only_for_the_last_write,
                guards_look_before_the_writes,
                a_transaction_without_writes_answers_the_present_revision,
                removing_what_is_absent_changes_nothing,
                writing_a_key_twice_is_refused,
                a_scan_is_sorted_and_covers_whole_parts_only,
                a_scan_goes_on_where_the_page_ended,
                a_page_never_exceeds_its_limit,
                a_page_shows_one_moment,
                a_watch_tells_every_change_once_and_in_order,
                a_watch_tells_only_what_lies_below_its_prefix,
                a_watch_begins_just_after_its_revision,
                a_watch_opened_between_commits_misses_nothing,
                a_watch_that_fell_behind_never_skips_silently,
                exactly_one_of_many_racing_creators_wins,
                racing_updates_are_never_lost,
            ]
        );
    };
}

/// Reading it is no error.
pub async fn a_key_that_was_never_written_is_absent(store: impl Store) {
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
    let page = store.scan(Scan::new(Prefix::all())).await.unwrap();
    assert_eq!((page.entries, page.more), (vec![], false));
}

/// By `get`, and by `scan` with a revision that says so.
pub async fn a_commit_that_returned_is_read(store: impl Store) {
    for round in 0..20 {
        let value = round.to_string();
        let revision = put(&store, "a/b", &value).await;
        assert_eq!(read(&store, "a/b").await, Some(value.clone()));
        let page = scan(&store, &["a"]).await;
        assert!(page.revision >= revision, "{page:?}");
        assert_eq!(listing(&page), [format!("a/b={value}")]);
    }
    remove(&store, "a/b").await;
    assert_eq!(read(&store, "a/b").await, None);
    assert!(scan(&store, &["a"]).await.entries.is_empty());
}

/// Empty ones, binary ones, long ones.
pub async fn values_are_kept_byte_for_byte(store: impl Store) {
    let long: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
    for value in [vec![], vec![0], (0..=255).collect(), long] {
        let mut txn = Txn::new();
        txn.write(Write::Put(key("a"), value.as_slice().into()));
        store.commit(txn).await.unwrap();
        let entry = store.get(&key("a")).await.unwrap().unwrap();
        assert_eq!(&*entry.value, value);
    }
}

/// Whatever characters their parts are made of.
pub async fn keys_are_kept_as_they_are(store: impl Store) {
    let mut keys = vec![
        Key::new(["a b", "ü", "日本"]),
        Key::new(["a/b", "%", "\n"]),
        Key::new(["a", "", "b"]),
        Key::new(["x".repeat(400)]),
    ];
    for key in &keys {
        let mut txn = Txn::new();
        txn.write(Write::Put(key.clone(), value("1")));
        store.commit(txn).await.unwrap();
        assert_eq!(store.get(key).await.unwrap().map(|entry| entry.key), Some(key.clone()));
    }
    keys.sort();
    let page = store.scan(Scan::new(Prefix::all())).await.unwrap();
    assert!(page.entries.into_iter().map(|entry| entry.key).eq(keys));
}

/// In `get` and in `scan`; all keys of one commit bear the same.
pub async fn an_entry_bears_the_revision_that_wrote_it(store: impl Store) {
    let first = commit(&store, &[], &["a=1", "b=1"]).await.unwrap();
    let second = commit(&store, &[], &["b=2", "c=2"]).await.unwrap();
    for (at, revision) in [("a", first), ("b", second), ("c", second)] {
        assert_eq!(store.get(&key(at)).await.unwrap().unwrap().revision, revision);
    }
    let entries = scan(&store, &[]).await.entries;
    assert!(entries.iter().map(|entry| entry.revision).eq([first, second, second]));
}

/// Also one that writes the same value again, or removes.
pub async fn every_change_has_a_higher_revision(store: impl Store) {
    let mut revisions = vec![scan(&store, &[]).await.revision];
    for writes in [&["a=1"][..], &["a=1"], &["b=1"], &["-a"], &["-b", "c=1"]] {
        revisions.push(commit(&store, &[], writes).await.unwrap());
    }
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    assert_eq!(scan(&store, &[]).await.revision, revisions[5]);
}

/// One guard that does not hold keeps back every write, and the revision.
pub async fn a_commit_does_all_or_nothing(store: impl Store) {
    let revision = put(&store, "a", "1").await;
    let guards = [absent("x"), absent("a"), absent("y")];
    conflict(&store, &guards, &["b=2", "-a", "c=2"], "a").await;
    let page = scan(&store, &[]).await;
    assert_eq!((listing(&page), page.revision), (vec!["a=1".to_owned()], revision));
    commit(&store, &[absent("x")], &["a=3", "b=3"]).await.unwrap();
    assert_eq!(listing(&scan(&store, &[]).await), ["a=3", "b=3"]);
}

/// In the order given, not in the order of keys.
pub async fn a_conflict_names_the_first_guard_that_failed(store: impl Store) {
    commit(&store, &[], &["a=1", "b=1", "c=1"]).await.unwrap();
    conflict(&store, &[absent("x"), absent("c"), absent("a")], &["d=1"], "c").await;
    let gone = Guard::Unchanged(key("z"), Revision(1));
    conflict(&store, &[gone, absent("a")], &["d=1"], "z").await;
}

/// Before the first write and after a removal.
pub async fn absent_holds_only_where_nothing_is(store: impl Store) {
    commit(&store, &[absent("a")], &["a=1"]).await.unwrap();
    conflict(&store, &[absent("a")], &["a=2"], "a").await;
    remove(&store, "a").await;
    commit(&store, &[absent("a")], &["a=3"]).await.unwrap();
    assert_eq!(read(&store, "a").await.as_deref(), Some("3"));
}

/// Not after a rewrite, be it with the same value; not after a removal, nor when something is
/// there again; not for a revision that never wrote it.
pub async fn unchanged_holds_only_for_the_last_write(store: impl Store) {
    let unchanged = |revision| [Guard::Unchanged(key("a"), revision)];
    conflict(&store, &unchanged(Revision::default()), &["b=1"], "a").await;
    let first = put(&store, "a", "1").await;
    let other = put(&store, "other", "1").await;
    conflict(&store, &unchanged(other), &["b=1"], "a").await;
    commit(&store, &unchanged(first), &["b=1"]).await.unwrap();
    let second = put(&store, "a", "1").await;
    conflict(&store, &unchanged(first), &["b=2"], "a").await;
    commit(&store, &unchanged(second), &["b=2"]).await.unwrap();
    let removed = remove(&store, "a").await;
    for revision in [second, removed, Revision::default()] {
        conflict(&store, &unchanged(revision), &["b=3"], "a").await;
    }
    let third = put(&store, "a", "1").await;
    conflict(&store, &unchanged(second), &["b=3"], "a").await;
    commit(&store, &unchanged(third), &["b=4"]).await.unwrap();
    assert_eq!(read(&store, "b").await.as_deref(), Some("4"));
}

/// A transaction's own writes do not break its guards.
pub async fn guards_look_before_the_writes(store: impl Store) {
    let revision = commit(&store, &[absent("a"), absent("a")], &["a=1"]).await.unwrap();
    let unchanged = Guard::Unchanged(key("a"), revision);
    commit(&store, &[unchanged.clone(), unchanged], &["-a"]).await.unwrap();
    assert_eq!(read(&store, "a").await, None);
}

/// It still checks its guards.
pub async fn a_transaction_without_writes_answers_the_present_revision(store: impl Store) {
    let start = scan(&store, &[]).await.revision;
    assert_eq!(store.commit(Txn::new()).await.unwrap(), start);
    let revision = put(&store, "a", "1").await;
    assert_eq!(store.commit(Txn::new()).await.unwrap(), revision);
    assert_eq!(commit(&store, &[absent("b")], NOTHING).await.unwrap(), revision);
    conflict(&store, &[absent("a")], &[], "a").await;
    assert_eq!(scan(&store, &[]).await.revision, revision);
}

/// Neither the revision nor a watch moves; next to a real change it is no part of it.
pub async fn removing_what_is_absent_changes_nothing(store: impl Store) {
    let revision = put(&store, "a", "1").await;
    let mut watch = watch(&store, &[], revision).await;
    assert_eq!(remove(&store, "b").await, revision);
    assert_eq!(scan(&store, &[]).await.revision, revision);
    let next = commit(&store, &[], &["-b", "c=1"]).await.unwrap();
    assert!(next > revision);
    assert_eq!(changes(&mut watch, 1).await, [changed("c=1", next)]);
}

/// And nothing of such a transaction is done.
pub async fn writing_a_key_twice_is_refused(store: impl Store) {
    for writes in [["a=1", "b=1", "a=2"], ["a=1", "b=1", "-a"], ["-a", "b=1", "-a"]] {
        let refused = commit(&store, &[], &writes).await;
        let named =
            matches!(&refused, Err(StoreError::Malformed { key: at, .. }) if *at == key("a"));
        assert!(named, "{refused:?} for {writes:?}");
    }
    assert!(scan(&store, &[]).await.entries.is_empty());
}

/// `a/b` lies below `a`; `ab` and `a` itself do not.
pub async fn a_scan_is_sorted_and_covers_whole_parts_only(store: impl Store) {
    let writes = ["b/1=", "a/2=", "ab/1=", "a=", "a/10=", "a/1/x=", "A/1=", "a!/1=", "a0/1="];
    commit(&store, &[], &writes).await.unwrap();
    assert_eq!(listing(&scan(&store, &["a"]).await), ["a/1/x=", "a/10=", "a/2="]);
    assert_eq!(listing(&scan(&store, &["a", "1"]).await), ["a/1/x="]);
    assert!(scan(&store, &["c"]).await.entries.is_empty());
    let mut all = writes.map(|path| key(path.trim_end_matches('=')));
    all.sort();
    let entries = scan(&store, &[]).await.entries;
    assert!(entries.iter().map(|entry| &entry.key).eq(&all), "{entries:?}");
}

/// Whatever the limit, wherever it goes on: also after a key that is not there.
pub async fn a_scan_goes_on_where_the_page_ended(store: impl Store) {
    let writes: Vec<String> = (0..25).map(|at| format!("k/{at:02}=")).collect();
    commit(&store, &[], &writes).await.unwrap();
    commit(&store, &[], &["a/1=", "kk=", "z/1="]).await.unwrap();
    for limit in [1, 4, 5, 24, 25, 26] {
        let mut found = Vec::new();
        let mut next = Scan::new(Prefix::new(["k"])).with_limit(limit);
        loop {
            let page = store.scan(next.clone()).await.unwrap();
            assert!(page.entries.len() == limit || !page.more, "limit {limit}: {page:?}");
            found.extend(listing(&page));
            match page.entries.last() {
                Some(last) if page.more => next = next.with_after(last.key.clone()),
                _ => break,
            }
        }
        assert_eq!(found, writes, "limit {limit}");
    }
    let after = |at: &str| Scan::new(Prefix::new(["k"])).with_after(key(at));
    for (at, expected) in [("k/22x", 2), ("a/1", 25), ("k", 25), ("kk", 0), ("k/24", 0)] {
        let page = store.scan(after(at)).await.unwrap();
        assert_eq!((page.entries.len(), page.more), (expected, false), "after {at}");
    }
}

/// At least one entry, at most [`Scan::LIMIT_MAX`], and `more` is exact.
pub async fn a_page_never_exceeds_its_limit(store: impl Store) {
    let total = Scan::LIMIT_MAX + 1;
    for part in (0..total).collect::<Vec<_>>().chunks(100) {
        let writes: Vec<String> = part.iter().map(|at| format!("k/{at:05}=")).collect();
        commit(&store, &[], &writes).await.unwrap();
    }
    let limits = [(0, 1), (1, 1), (7, 7), (total - 1, total - 1), (usize::MAX, total - 1)];
    for (limit, expected) in limits {
        let mut scan = Scan::new(Prefix::all());
        scan.limit = limit;
        let page = store.scan(scan).await.unwrap();
        assert_eq!((page.entries.len(), page.more), (expected, true), "limit {limit}");
    }
    remove(&store, "k/00000").await;
    assert!(!store.scan(Scan::new(Prefix::all())).await.unwrap().more);
}

/// Two keys that every commit writes together are never seen apart, and nothing in a page is
/// newer than the page.
pub async fn a_page_shows_one_moment(store: impl Store) {
    const COMMITS: u32 = 100;
    let store = Arc::new(store);
    commit(&*store, &[], &["a=0", "b=0"]).await.unwrap();
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for round in 1..=COMMITS {
                let writes = [format!("a={round}"), format!("b={round}")];
                commit(&*store, &[], &writes).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let mut last = Revision::default();
    loop {
        let ended = writer.is_finished();
        let page = scan(&*store, &[]).await;
        let [a, b] = page.entries.as_slice() else { panic!("{page:?}") };
        assert_eq!((&a.value, a.revision), (&b.value, b.revision));
        assert!(a.revision <= page.revision && last <= page.revision, "{page:?}");
        last = page.revision;
        if ended {
            assert_eq!(*a.value, *value(&COMMITS.to_string()));
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

/// With the values and the revisions they were written with.
pub async fn a_watch_tells_every_change_once_and_in_order(store: impl Store) {
    let start = put(&store, "a", "0").await;
    let mut watch = watch(&store, &[], start).await;
    let first = put(&store, "a", "1").await;
    let second = commit(&store, &[], &["b=1", "-a"]).await.unwrap();
    let third = put(&store, "a", "2").await;
    let mut told = changes(&mut watch, 4).await;
    // Within one commit the order is the store's own affair.
    told[1..3].sort_by(|a, b| a.key.cmp(&b.key));
    let expected = [
        changed("a=1", first),
        changed("-a", second),
        changed("b=1", second),
        changed("a=2", third),
    ];
    assert_eq!(told, expected);
    let last = put(&store, "end", "").await;
    assert_eq!(changes(&mut watch, 1).await, [changed("end=", last)]);
}

/// Whole parts only, as for `scan`.
pub async fn a_watch_tells_only_what_lies_below_its_prefix(store: impl Store) {
    let mut watch = watch(&store, &["a"], Revision::default()).await;
    commit(&store, &[], &["a=1", "ab/1=1", "b/1=1"]).await.unwrap();
    let revision = commit(&store, &[], &["b/2=1", "a/1=1", "ab=1"]).await.unwrap();
    put(&store, "b/3", "1").await;
    let removed = commit(&store, &[], &["-a/1", "-b/2"]).await.unwrap();
    let expected = [changed("a/1=1", revision), changed("-a/1", removed)];
    assert_eq!(changes(&mut watch, 2).await, expected);
}

/// Of the past it tells what it remembers, and says so if that is not all.
pub async fn a_watch_begins_just_after_its_revision(store: impl Store) {
    let mut revisions = Vec::new();
    for round in 0..5 {
        revisions.push(put(&store, "a", &round.to_string()).await);
    }
    let mut watches = Vec::new();
    for revision in &revisions {
        watches.push(watch(&store, &[], *revision).await);
    }
    revisions.push(put(&store, "a", "5").await);
    for (at, watch) in watches.iter_mut().enumerate() {
        for next in at + 1..=5 {
            match watch.next().await {
                Some(Event::Resync) => break,
                event => {
                    let change = changed(&format!("a={next}"), revisions[next]);
                    assert_eq!(event, Some(Event::Changed(change)), "after {}", revisions[at]);
                }
            }
        }
    }
}

/// While others commit without pause, a reading and a watch from its revision on come to the
/// same as the store.
pub async fn a_watch_opened_between_commits_misses_nothing(store: impl Store) {
    const COMMITS: usize = 60;
    let store = Arc::new(store);
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for round in 0..COMMITS {
                let at = format!("k/{writer}/{}", round % 7);
                let write = if round % 5 == 4 { format!("-{at}") } else { format!("{at}={round}") };
                commit(&*store, &[], &[write]).await.unwrap();
            }
        });
    }
    let mut followers = Vec::new();
    while let Some(ended) = {
        let page = scan(&*store, &["k"]).await;
        let watch = watch(&*store, &["k"], page.revision).await;
        followers.push((page, watch));
        writers.join_next().await
    } {
        ended.unwrap();
    }
    let last = put(&*store, "k/end", "").await;
    let expected = scan(&*store, &["k"]).await.entries;
    for (page, mut watch) in followers {
        let mut copy: BTreeMap<Key, Entry> =
            page.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let mut seen = page.revision;
        while seen < last {
            let [change] = changes(&mut watch, 1).await.try_into().unwrap();
            assert!(change.revision > seen, "{change:?} after {seen}");
            seen = change.revision;
            follow(&mut copy, change);
        }
        assert_eq!(copy.into_values().collect::<Vec<_>>(), expected);
    }
}

/// A watch that nobody read for long tells everything, or says that it lost some; and from then
/// on it tells everything again.
pub async fn a_watch_that_fell_behind_never_skips_silently(store: impl Store) {
    const WRITES: usize = 100;
    let commits = Feed::CHANGES_MAX / WRITES + 2;
    let mut watch = watch(&store, &["k"], Revision::default()).await;
    for round in 0..commits {
        let writes: Vec<String> = (0..WRITES).map(|at| format!("k/{at:02}={round}")).collect();
        commit(&store, &[], &writes).await.unwrap();
    }
    let last = put(&store, "k/end", "").await;
    let mut told = 0;
    let resynced = loop {
        match watch.next().await {
            // Whoever is told to read again finds the rest by reading.
            Some(Event::Resync) => break true,
            Some(Event::Changed(change)) if change == changed("k/end=", last) => break false,
            Some(Event::Changed(_)) => told += 1,
            None => panic!("the store is there"),
        }
    };
    assert!(resynced || told == commits * WRITES, "{told} changes and no word of the others");
    let next = put(&store, "k/next", "").await;
    loop {
        match watch.next().await {
            Some(Event::Changed(change)) if change == changed("k/next=", next) => break,
            Some(Event::Changed(change)) => assert!(change.revision <= last, "{change:?}"),
            Some(Event::Resync) => {}
            None => panic!("the store is there"),
        }
    }
}

/// All others conflict on the key they raced for.
pub async fn exactly_one_of_many_racing_creators_wins(store: impl Store) {
    const CREATORS: usize = 64;
    let store = Arc::new(store);
    for round in 0..5 {
        let mut creators = JoinSet::new();
        for creator in 0..CREATORS {
            let store = Arc::clone(&store);
            creators.spawn(async move {
                let writes = [format!("a/{round}={creator}"), format!("by/{round}/{creator}=")];
                commit(&*store, &[absent(&format!("a/{round}"))], &writes).await
            });
        }
        let mut won = Vec::new();
        while let Some(result) = creators.join_next().await {
            match result.unwrap() {
                Ok(revision) => won.push(revision),
                Err(StoreError::Conflict { key: at }) => assert_eq!(at, key(&format!("a/{round}"))),
                Err(error) => panic!("{error}"),
            }
        }
        let page = scan(&*store, &["by", &round.to_string()]).await;
        assert_eq!((won.len(), page.entries.len()), (1, 1));
        assert_eq!(page.entries[0].revision, won[0]);
    }
}

/// Many that read, add one and try again on conflict come to their number, and each commit has a
/// revision of its own.
pub async fn racing_updates_are_never_lost(store: impl Store) {
    const UPDATERS: usize = 12;
    let store = Arc::new(store);
    put(&*store, "count", "0").await;
    let mut updaters = JoinSet::new();
    for _ in 0..UPDATERS {
        let store = Arc::clone(&store);
        updaters.spawn(async move {
            loop {
                let entry = store.get(&key("count")).await.unwrap().unwrap();
                let next = text(&entry.value).parse::<usize>().unwrap() + 1;
                let guard = Guard::Unchanged(entry.key, entry.revision);
                match commit(&*store, &[guard], &[format!("count={next}")]).await {
                    Ok(revision) => return revision,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let mut revisions = updaters.join_all().await;
    assert_eq!(read(&*store, "count").await, Some(UPDATERS.to_string()));
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), UPDATERS);
}
