//! Which images hosts keep at hand.

use async_trait::async_trait;

use crate::port::VirtError;

/// A host tells of no more images than so many.
pub const CACHED_IMAGES_MAX: usize = 256;

/// Tells which images are on a host, so that a guest of one of them can be made there without
/// fetching it.
#[async_trait]
pub trait CacheImages: Send + Sync {
    /// What the images hold that are here, as SHA-256 in lower-case hex: each once, the one that
    /// was used last first, at most [`CACHED_IMAGES_MAX`]. One that was left out, or goes at the
    /// next moment, costs a download and nothing else.
    ///
    /// # Errors
    /// [`VirtError::Host`].
    async fn cached_images(&self) -> Result<Vec<String>, VirtError>;
}
