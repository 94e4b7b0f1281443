//! A store that conflicts for nothing, forgets to answer, and is gone for a while.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::ClockExt as _;
use crate::store::{
    Entry, Key, Page, Prefix, Revision, Scan, Store, StoreError, Txn, Watch, Write,
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
        self.store.watch(prefix, after).await
    }
}
