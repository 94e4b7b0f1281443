//! Which images a host has.

use std::cmp::Reverse;

use async_trait::async_trait;
use nova_core::port::{CACHED_IMAGES_MAX, CacheImages, VirtError};

use super::host::{LibvirtHost, host};

#[async_trait]
impl CacheImages for LibvirtHost {
    async fn cached_images(&self) -> Result<Vec<String>, VirtError> {
        let mut cached = self.images().images().await.map_err(host("list images"))?;
        // They are sorted by checksum, and stay so where they were used at the same time.
        cached.sort_by_key(|image| Reverse(image.used_at));
        Ok(cached.into_iter().take(CACHED_IMAGES_MAX).map(|image| image.content.sha256).collect())
    }
}
