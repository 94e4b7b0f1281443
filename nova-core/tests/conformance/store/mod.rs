//! The store suite on every store of this crate, and on its wrappers.

mod damage;
mod model;

use std::path::Path;

use async_trait::async_trait;
use nova_core::store::{
    Entry, Key, Page, Prefix, RedbStore, Revision, Scan, Store, StoreError, Txn, Watch,
};

mod in_memory {
    nova_core::store_laws!(async { nova_core::store::MemoryStore::new() });
}

mod on_disk {
    nova_core::store_laws!(async { super::Temporary::new() });
}

mod in_an_arc {
    nova_core::store_laws!(async { std::sync::Arc::new(nova_core::store::MemoryStore::new()) });
}

mod in_a_box {
    nova_core::store_laws!(async {
        let store: Box<dyn nova_core::store::Store> = Box::new(super::Temporary::new());
        store
    });
}

/// A store on disk whose directory goes when it does.
#[derive(Debug)]
struct Temporary {
    // Before the directory, so that the file is closed when that is removed.
    store: RedbStore,
    _directory: tempfile::TempDir,
}

impl Temporary {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { store: open(directory.path()), _directory: directory }
    }
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path).unwrap()
}

impl std::fmt::Display for Temporary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "temporary {}", self.store)
    }
}

#[async_trait]
impl Store for Temporary {
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
        self.store.watch(prefix, after).await
    }
}
