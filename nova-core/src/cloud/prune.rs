//! Forgets what nobody needs any more: old operations, old request ids, discarded images.

use crate::clock::Timestamp;
use crate::cloud::options::CloudOptions;
use crate::cloud::ports::Ports;
use crate::domain::{Image, ImageState, OpState, Operation};
use crate::store::record::{Record, Request};
use crate::store::{Key, Scan, StoreError, Txn, Versioned};

/// Records that are looked at in one go.
const LOOKED_AT_MAX: usize = 500;

/// Walks through the history, a page at each call, so that a long one never holds anybody up.
#[derive(Debug, Default)]
pub(crate) struct Pruner {
    operations: Option<Key>,
    requests: Option<Key>,
    images: Option<Key>,
}

impl Pruner {
    /// Removes final operations and request ids that are older than the options say, and images
    /// that nobody needs any more. What waits for a person is kept.
    pub(crate) async fn prune(
        &mut self,
        ports: &Ports,
        options: &CloudOptions,
    ) -> Result<(), StoreError> {
        let now = ports.clock.now();
        let old = |at: Timestamp| now.since(at) >= options.journal_kept;
        let mut txn = Txn::new();
        for op in page::<Operation>(ports, &mut self.operations).await? {
            let waits = matches!(op.value.state, OpState::NeedsOperator(_));
            if op.value.state.is_final() && !waits && op.value.ended_at.is_some_and(old) {
                txn.remove(&op);
            }
        }
        for request in page::<Request>(ports, &mut self.requests).await? {
            if old(request.value.at) {
                txn.remove(&request);
            }
        }
        if !txn.writes().is_empty() {
            ports.store.commit(txn).await?;
        }
        for image in page::<Image>(ports, &mut self.images).await? {
            let discarded = image.value.state == ImageState::Discarded;
            // Bytes first: while there is a record, they are found again.
            if discarded && ports.images.remove(image.value.id).await.is_ok() {
                let mut txn = Txn::new();
                txn.remove(&image);
                ports.store.commit(txn).await?;
            }
        }
        Ok(())
    }
}

/// The page after `cursor`, which moves on, and back to the first page after the last.
async fn page<R: Record>(
    ports: &Ports,
    cursor: &mut Option<Key>,
) -> Result<Vec<Versioned<R>>, StoreError> {
    let mut scan = Scan::new(R::all()).with_limit(LOOKED_AT_MAX);
    scan.after = cursor.take();
    let page = ports.store.scan(scan).await?;
    if page.more {
        *cursor = page.entries.last().map(|entry| entry.key.clone());
    }
    page.entries.iter().map(Versioned::decode).collect()
}
