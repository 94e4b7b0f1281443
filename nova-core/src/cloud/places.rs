//! How many attempts are made at the same time, and how many orders are out at one host.
//!
//! An attempt that waits for a host gives its place back meanwhile: a host that hangs is waited
//! for by as many operations as like, and keeps nobody else from working. What waits there holds
//! nothing but its journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cloud::options::CloudOptions;
use crate::domain::HostId;

/// One attempt's place among those that one conductor makes at the same time.
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    /// Nobody's place, from which others are taken.
    pub(crate) fn none(options: &CloudOptions) -> Self {
        Self { all: Arc::new(Semaphore::new(options.operations_max)), held: Mutex::default() }
    }

    /// Takes a place as soon as there is one. None when nobody works any more.
    pub(crate) async fn take(&self) -> Option<Self> {
        let held = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Self { all: Arc::clone(&self.all), held: Mutex::new(Some(held)) })
    }

    /// Waits for `work` without the place, and takes one again before it goes on.
    pub(crate) async fn without<T>(&self, work: impl Future<Output = T>) -> T {
        let held = lock(&self.held).take();
        let had = held.is_some();
        drop(held);
        let value = work.await;
        if had {
            let again = Arc::clone(&self.all).acquire_owned().await.ok();
            *lock(&self.held) = again;
        }
        value
    }
}

/// The lines before the hosts: who gives a host an order stands in its line first.
#[derive(Debug)]
pub(crate) struct Lines {
    orders_max: usize,
    hosts: Mutex<BTreeMap<HostId, Arc<Semaphore>>>,
}

/// One order that is out at a host, until this is dropped.
#[derive(Debug)]
pub(crate) struct Out {
    /// Whether there were too many before it, so that what was known of the host may be old.
    pub(crate) waited: bool,
    _order: Option<OwnedSemaphorePermit>,
}

impl Lines {
    pub(crate) fn new(options: &CloudOptions) -> Self {
        Self { orders_max: options.orders_per_host_max, hosts: Mutex::default() }
    }

    /// Waits until one more order may be out at a host.
    pub(crate) async fn stand(&self, host: HostId) -> Out {
        let line = self.line(host);
        match Arc::clone(&line).try_acquire_owned() {
            Ok(order) => Out { waited: false, _order: Some(order) },
            Err(_) => Out { waited: true, _order: line.acquire_owned().await.ok() },
        }
    }

    fn line(&self, host: HostId) -> Arc<Semaphore> {
        let mut hosts = lock(&self.hosts);
        if !hosts.contains_key(&host) {
            // Whoever stands in a line or has an order out holds a copy of it.
            hosts.retain(|_, line| Arc::strong_count(line) > 1);
        }
        let line = hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.orders_max)));
        Arc::clone(line)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only plain moves happen under these locks; a panic elsewhere leaves them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
