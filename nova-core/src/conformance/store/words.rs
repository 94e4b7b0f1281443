//! Transactions, pages and changes in few words, for the laws of the store.

use std::collections::BTreeMap;

use crate::store::{
    Change, Entry, Event, Guard, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Value,
    Watch, Write,
};

/// No writes.
pub(super) const NOTHING: &[&str] = &[];

pub(super) fn key(path: &str) -> Key {
    Key::new(path.split('/'))
}

pub(super) fn value(text: &str) -> Value {
    text.as_bytes().into()
}

pub(super) fn text(value: &Value) -> String {
    String::from_utf8_lossy(value).into_owned()
}

pub(super) fn absent(path: &str) -> Guard {
    Guard::Absent(key(path))
}

/// A write in words: `path=value` or `-path`.
pub(super) fn write(words: &str) -> Write {
    match words.strip_prefix('-') {
        Some(path) => Write::Remove(key(path)),
        None => {
            let (path, text) = words.split_once('=').expect("path=value");
            Write::Put(key(path), value(text))
        }
    }
}

/// What a watch tells about a write.
pub(super) fn changed(words: &str, revision: Revision) -> Change {
    match write(words) {
        Write::Put(key, value) => Change { key, value: Some(value), revision },
        Write::Remove(key) => Change { key, value: None, revision },
    }
}

pub(super) async fn commit<W: AsRef<str>>(
    store: &impl Store,
    guards: &[Guard],
    writes: &[W],
) -> Result<Revision, StoreError> {
    let mut txn = Txn::new();
    for guard in guards {
        txn.guard(guard.clone());
    }
    for words in writes {
        txn.write(write(words.as_ref()));
    }
    store.commit(txn).await
}

pub(super) async fn conflict(store: &impl Store, guards: &[Guard], writes: &[&str], at: &str) {
    match commit(store, guards, writes).await {
        Err(StoreError::Conflict { key: named }) => assert_eq!(named, key(at)),
        other => panic!("{other:?} instead of a conflict on {at}"),
    }
}

pub(super) async fn put(store: &impl Store, path: &str, text: &str) -> Revision {
    commit(store, &[], &[format!("{path}={text}")]).await.unwrap()
}

pub(super) async fn remove(store: &impl Store, path: &str) -> Revision {
    commit(store, &[], &[format!("-{path}")]).await.unwrap()
}

pub(super) async fn read(store: &impl Store, path: &str) -> Option<String> {
    store.get(&key(path)).await.unwrap().map(|entry| text(&entry.value))
}

pub(super) async fn scan(store: &impl Store, prefix: &[&str]) -> Page {
    store.scan(Scan::new(Prefix::new(prefix))).await.unwrap()
}

pub(super) fn listing(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| format!("{}={}", entry.key, text(&entry.value))).collect()
}

pub(super) async fn watch(store: &impl Store, prefix: &[&str], after: Revision) -> Watch {
    store.watch(&Prefix::new(prefix), after).await.unwrap()
}

/// The next `count` changes, none of which may be lost.
pub(super) async fn changes(watch: &mut Watch, count: usize) -> Vec<Change> {
    let mut told = Vec::new();
    while told.len() < count {
        match watch.next().await {
            Some(Event::Changed(change)) => told.push(change),
            other => panic!("{other:?} instead of a change"),
        }
    }
    told
}

pub(super) fn follow(copy: &mut BTreeMap<Key, Entry>, change: Change) {
    let Change { key, value, revision } = change;
    match value {
        Some(value) => drop(copy.insert(key.clone(), Entry { key, value, revision })),
        None => drop(copy.remove(&key)),
    }
}
