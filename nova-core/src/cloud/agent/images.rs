//! Which images the host has.

use std::sync::Arc;

use super::Hand;
use crate::cloud::error::chain;
use crate::domain::Host;
use crate::port::CACHED_IMAGES_MAX;
use crate::store::record::{HostImages, keys};
use crate::store::{StoreError, StoreExt as _, Txn};

impl Hand {
    /// Writes down which images the host has, when they are not those that are written down. It is
    /// only a hint: nothing waits for it, and nothing fails without it.
    ///
    /// # Errors
    /// Why it could not be told.
    pub(crate) async fn tell_images(&self) -> Result<(), String> {
        let Some(caching) = self.driver.caching() else { return Ok(()) };
        let found = match self.in_time(caching.cached_images()).await {
            Ok(found) => found.map_err(|error| chain(&error))?,
            Err(late) => return Err(late.reason().to_owned()),
        };
        // The first are those that were used last.
        let images = Arc::new(found.into_iter().take(CACHED_IMAGES_MAX).collect());
        self.write_images(HostImages { host: self.host, images }).await.map_err(|e| chain(&e))
    }

    async fn write_images(&self, images: HostImages) -> Result<(), StoreError> {
        let store = &self.ports.store;
        let known = store.read::<HostImages>(&keys::host_images(self.host)).await?;
        let same = known.map_or(images.images.is_empty(), |known| known.value == images);
        // A host that is not registered any more leaves nothing behind.
        let Some(host) = store.read::<Host>(&keys::host(self.host)).await?.filter(|_| !same) else {
            return Ok(());
        };
        let mut txn = Txn::new();
        txn.unchanged(&host).put(&images);
        store.commit(txn).await.map(drop)
    }
}
