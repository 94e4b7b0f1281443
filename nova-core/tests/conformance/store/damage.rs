//! A file that was cut off by a crash holds what was acknowledged; one that was damaged holds it
//! too or says so.

use std::fs;
use std::path::PathBuf;

use nova_core::seed::Seed;
use nova_core::store::{
    Entry, Key, Prefix, RedbStore, Revision, Scan, Store as _, StoreError, Txn, Value, Write,
};

/// What a store holds.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    entries: Vec<Entry>,
    revision: Revision,
}

impl Content {
    async fn of(store: &RedbStore) -> Self {
        let page = store.scan(Scan::new(Prefix::all())).await.unwrap();
        Self { entries: page.entries, revision: page.revision }
    }
}

/// A store after some commits of which the last two are known, and copies of its file: one as a
/// process that is killed leaves it, one as an orderly end does.
struct Sample {
    directory: tempfile::TempDir,
    before: Content,
    last: Content,
    killed: Vec<u8>,
    closed: Vec<u8>,
}

impl Sample {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = super::open(directory.path());
        for round in 0..30 {
            commit(&store, round).await;
        }
        let before = Content::of(&store).await;
        commit(&store, 30).await;
        let last = Content::of(&store).await;
        let file = store.path().to_owned();
        let killed = fs::read(&file).unwrap();
        drop(store);
        let closed = fs::read(&file).unwrap();
        Self { directory, before, last, killed, closed }
    }

    /// A file beside the store with these bytes.
    fn file(&self, bytes: &[u8]) -> PathBuf {
        let at = self.directory.path().join("damaged.redb");
        fs::write(&at, bytes).unwrap();
        at
    }

    /// What a file with these bytes opens to; none when it says that it is corrupt.
    async fn opened(&self, bytes: &[u8]) -> Option<Content> {
        match RedbStore::open(self.file(bytes)) {
            Ok(store) => Some(Content::of(&store).await),
            Err(StoreError::Corrupt { at, .. }) => {
                assert!(at.ends_with("damaged.redb"), "{at}");
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn commit(store: &RedbStore, round: u32) {
    let mut txn = Txn::new();
    let value: Value = vec![round as u8; 300].into();
    for at in 0..6 {
        let key = Key::new(["k", &((round * 7 + at * 5) % 40).to_string()]);
        txn.write(if at == 5 { Write::Remove(key) } else { Write::Put(key, value.clone()) });
    }
    store.commit(txn).await.unwrap();
}

#[tokio::test]
async fn a_copy_taken_after_an_acknowledged_commit_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = super::open(directory.path());
    for round in 0..10 {
        commit(&store, round).await;
        let copy = directory.path().join("copy.redb");
        fs::copy(store.path(), &copy).unwrap();
        assert_eq!(Content::of(&super::open(&copy)).await, Content::of(&store).await);
    }
}

#[tokio::test]
async fn a_store_that_was_closed_opens_as_it_was() {
    let sample = Sample::new().await;
    let store = super::open(sample.directory.path());
    assert_eq!(Content::of(&store).await, sample.last);
    commit(&store, 31).await;
    assert_eq!(Content::of(&store).await.revision, Revision(sample.last.revision.0 + 1));
}

#[tokio::test]
async fn a_truncated_file_is_whole_or_corrupt() {
    let sample = Sample::new().await;
    for bytes in [&sample.killed, &sample.closed] {
        let pages = (0..bytes.len()).step_by(4096);
        let around = pages.flat_map(|at| [at, at + 1, at + 321]);
        for len in around.filter(|len| *len < bytes.len()) {
            if let Some(content) = sample.opened(&bytes[..len]).await {
                assert_eq!(content, sample.last, "cut off at {len} of {}", bytes.len());
            }
        }
    }
}

#[tokio::test]
async fn a_file_with_a_flipped_bit_is_whole_or_corrupt() {
    let sample = Sample::new().await;
    // Every byte that steers how the rest is read, and a fair choice of all others.
    let mut chance = Seed::new(11).child("bits").chance();
    for bytes in [&sample.killed, &sample.closed] {
        let mut step_backs = Vec::new();
        let header = (0..320).map(|byte| (byte, byte % 8));
        let everywhere = (0..60).map(|_| (chance.index(bytes.len()), chance.index(8)));
        for (byte, bit) in header.chain([(9, 0)]).chain(everywhere) {
            let mut damaged = bytes.clone();
            damaged[byte] ^= 1 << bit;
            match sample.opened(&damaged).await {
                None => {}
                Some(content) if content == sample.last => {}
                Some(content) if content == sample.before => step_backs.push((byte, bit)),
                Some(content) => panic!("{content:?} after bit {bit} of byte {byte}"),
            }
        }
        // The bit without a second copy that `RedbStore` tells about; after an orderly end even
        // that one does no harm.
        let known: &[(usize, usize)] = if bytes == &sample.killed { &[(9, 0)] } else { &[] };
        assert_eq!(step_backs, known);
    }
}

#[tokio::test]
async fn a_file_with_a_lost_page_is_whole_or_corrupt() {
    let sample = Sample::new().await;
    for bytes in [&sample.killed, &sample.closed] {
        for page in bytes.chunks(4096).enumerate().map(|(page, _)| page * 4096) {
            let mut damaged = bytes.clone();
            let end = damaged.len().min(page + 4096);
            damaged[page..end].fill(0);
            if let Some(content) = sample.opened(&damaged).await {
                assert_eq!(content, sample.last, "without the page at {page}");
            }
        }
    }
}
