//! Bringing an image to a host: downloaded, looked at, converted where it has to be, and kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nova_core::domain::{Image, ImageContent, ImageId};
use nova_core::port::{ImageError, ImageStore};

use super::convert::{ConversionError, convert};
use super::shelf::{Converted, Note, Stamp};
use super::{ImageCache, fails};
use crate::digest;
use crate::files::{self, FORMAT, FileError};
use crate::inspect::Format;

impl ImageCache {
    /// Brings an image that is not here; what was made of it, where it was converted.
    pub(super) async fn download(
        &self,
        image: &Image,
        size_max: Option<u64>,
        images: &dyn ImageStore,
    ) -> Result<Option<Converted>, ImageError> {
        let (id, size) = (image.id, image.content.size_bytes);
        let inner = &self.inner;
        let conversion = match (Format::of(image.format), self.conversion) {
            (Some(format), None) if image.format.on_hosts() != image.format => {
                let source = Box::new(ConversionError::Unwanted { format });
                return Err(ImageError::Refused { image: id, source });
            }
            (_, conversion) => conversion.filter(|_| image.format.on_hosts() != image.format),
        };
        self.make_room(id, size).await?;
        let sha256 = &image.content.sha256;
        let bytes = Arc::new(AtomicU64::new(0));
        if let Some(one) = inner.wanted().get_mut(sha256) {
            one.download = Some((id, size, Arc::clone(&bytes)));
        }
        // One that was given up may still be in the hands of a thread.
        let number = inner.downloads.fetch_add(1, Ordering::Relaxed);
        let part = Arc::new(Part(inner.shelf.file(sha256, &format!("{number}.part"))));
        let copied = async {
            let mut stream = images.open(id).await?;
            let mut file =
                tokio::fs::File::create(&part.0).await.map_err(fails(id, "make its file"))?;
            let each = |count| bytes.store(count, Ordering::Relaxed);
            let copied = digest::copy(&mut *stream, &mut file, size, each).await;
            copied.map_err(fails(id, "download it"))
        };
        let copied = copied.await;
        if let Some(one) = inner.wanted().get_mut(sha256) {
            one.download = None;
        }
        let found = copied?;
        if found != image.content {
            let text = |c: &ImageContent| format!("{} bytes with {}", c.size_bytes, c.sha256);
            let (expected, found) = (text(&image.content), text(&found));
            return Err(ImageError::Mismatch { image: id, expected, found });
        }
        let most = match &conversion {
            Some(conversion) => Some(conversion.size_max(size_max)),
            None => size_max,
        };
        let disk = self.look(id, image.format, &part.0, most).await?;
        let (part, converted) = match conversion.zip(disk) {
            None => (part, None),
            Some((limits, disk)) => {
                let into = inner.shelf.file(sha256, &format!("{number}.made.part"));
                let into = Arc::new(Part(into));
                let (room, clock) = (self.room, &*inner.clock);
                let made = convert(id, disk, part, into, room, &limits, clock).await?;
                self.make_room(id, made.content.size_bytes).await?;
                (made.part, Some(Converted { from: image.format, file: made.content }))
            }
        };
        let note = converted.clone();
        let (inner, content) = (Arc::clone(inner), image.content.clone());
        let publish = move || -> Result<(), FileError> {
            let path = inner.shelf.file(&content.sha256, "image");
            let keep = || {
                let file = File::open(&part.0)?;
                file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
                file.sync_all()?;
                std::fs::rename(&part.0, &path)?;
                Stamp::of(&path)
            };
            let measured = keep().map_err(FileError::io(&path, "keep it"))?;
            let beside = inner.shelf.file(&content.sha256, "json");
            let used_at = inner.clock.now();
            files::save(
                &beside,
                &Note { format: FORMAT, content, used_at, measured, converted: note },
            )
        };
        let failed = fails(id, "keep it");
        files::off_thread(move || publish().map_err(|error| failed(error.into_io())), failed)
            .await?;
        Ok(converted)
    }

    /// Sees to it that there is room for so many bytes.
    async fn make_room(&self, id: ImageId, bytes: u64) -> Result<(), ImageError> {
        let Some(room) = self.room else { return Ok(()) };
        let failed = fails(id, "make room for it");
        let full = || failed(io::ErrorKind::StorageFull.into());
        let most = room.checked_sub(bytes).ok_or_else(full)?;
        let left = self.shrink(most).await.map_err(|error| failed(error.into_io()))?;
        if left > most { Err(full()) } else { Ok(()) }
    }
}

/// A download or what is made of one, removed unless it was renamed.
#[derive(Debug)]
pub(super) struct Part(pub(super) PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the cache is opened next.
        let _ = std::fs::remove_file(&self.0);
    }
}
