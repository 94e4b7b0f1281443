//! The reference image store: bytes in a map.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::domain::{Image, ImageContent, ImageId};
use crate::port::{ImageBytes, ImageError, ImageStore};

/// Keeps images in memory, for as long as the process lives.
///
/// It holds every byte and has no limit: it is for tests and small images.
#[derive(Default)]
pub struct MemoryImages {
    images: Mutex<BTreeMap<ImageId, Stored>>,
}

struct Stored {
    bytes: Arc<[u8]>,
    content: ImageContent,
}

impl MemoryImages {
    /// A store without images.
    pub fn new() -> Self {
        Self::default()
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<ImageId, Stored>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for MemoryImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("images in memory")
    }
}

impl std::fmt::Debug for MemoryImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The sizes and checksums, not megabytes of bytes.
        let images = self.images();
        f.debug_map().entries(images.iter().map(|(id, stored)| (id, &stored.content))).finish()
    }
}

#[async_trait]
impl ImageStore for MemoryImages {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        if self.images().contains_key(&image) {
            return Err(ImageError::Exists { image });
        }
        let bytes = read_all(image, bytes).await?;
        let content = measure(&bytes);
        match self.images().entry(image) {
            // Somebody else was faster while the bytes were read.
            Entry::Occupied(_) => Err(ImageError::Exists { image }),
            Entry::Vacant(place) => {
                place.insert(Stored { bytes: bytes.into(), content: content.clone() });
                Ok(content)
            }
        }
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        Ok(self.images().get(&image).map(|stored| stored.content.clone()))
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        let images = self.images();
        let stored = images.get(&image).ok_or(ImageError::NoSuchImage { image })?;
        Ok(Box::new(std::io::Cursor::new(Arc::clone(&stored.bytes))))
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.images().remove(&image);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        Ok(self.images().keys().copied().collect())
    }
}

/// Reads a stream to its end.
pub(super) async fn read_all(image: ImageId, mut bytes: ImageBytes) -> Result<Vec<u8>, ImageError> {
    let mut all = Vec::new();
    let read = bytes.read_to_end(&mut all).await;
    read.map_err(|source| ImageError::Io { image, operation: "read its bytes", source })?;
    Ok(all)
}

/// Size and checksum of `bytes`.
pub(super) fn measure(bytes: &[u8]) -> ImageContent {
    let mut sha256 = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing into a string cannot fail.
        let _ = write!(sha256, "{byte:02x}");
    }
    ImageContent { size_bytes: bytes.len() as u64, sha256 }
}

/// Reads all of an image, and compares it with what was registered.
pub(super) async fn fetch(image: &Image, images: &dyn ImageStore) -> Result<Vec<u8>, ImageError> {
    let (image, content) = (image.id, &image.content);
    let bytes = read_all(image, images.open(image).await?).await?;
    let found = measure(&bytes);
    if found == *content {
        return Ok(bytes);
    }
    let show = |content: &ImageContent| {
        format!("{} bytes with SHA-256 {}", content.size_bytes, content.sha256)
    };
    Err(ImageError::Mismatch { image, expected: show(content), found: show(&found) })
}
