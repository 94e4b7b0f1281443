//! Volumes that are made of images.
//!
//! An image is fetched, measured and inspected before anybody waits for the directory; under its
//! lock only the disk is copied.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use nova_core::domain::{Fence, Image, ImageFormat, VolumeId, VolumeSize};
use nova_core::port::{FillVolumes, ImageError, ImageStore, VolumeError};

use super::ledger::{Description, Failure, Ledger, Part};
use crate::cache::{Base, ImageCache};
use crate::inspect::Disk;
use crate::inspect::Format;
use crate::tools;

/// An archive of files was to be a volume.
#[derive(Debug, thiserror::Error)]
#[error("an archive of files is no disk")]
struct NoDisk;

impl Ledger {
    /// Making volumes of images, where there is a place for those.
    pub(crate) fn filling(&self) -> Option<&dyn FillVolumes> {
        self.images.is_some().then_some(self as &dyn FillVolumes)
    }

    /// Whether a volume is there that was made of this image.
    fn is_filled(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        sha256: &str,
        fence: Fence,
    ) -> Result<bool, Failure> {
        let Some(description) = self.load_for(volume, fence)? else { return Ok(false) };
        if description.size != size || description.image.as_deref() != Some(sha256) {
            return Err(VolumeError::Exists { volume }.into());
        }
        self.change(volume, &description, &description.seen(fence))?;
        Ok(true)
    }

    fn make_of(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        (sha256, base, format): (String, &Base, Format),
        fence: Fence,
    ) -> Result<(), Failure> {
        // Somebody else may have been faster, or later.
        if self.is_filled(volume, size, &sha256, fence)? {
            return Ok(());
        }
        self.has_room_for(size.get())?;
        let part = Part::all_of(volume);
        if let Err(error) = self.parts.fill(part, size, base.path(), format) {
            // The first error is the one to tell; a leftover is removed later.
            let _ = self.parts.remove(&[part]);
            return Err(error.into());
        }
        let mut made = Description::new(size, fence);
        made.image = Some(sha256);
        Ok(self.save(volume, &made)?)
    }

    /// The image on this host, when it holds a disk that the volume has room for.
    async fn disk_of(
        &self,
        images: (&ImageCache, &dyn ImageStore),
        (volume, size): (VolumeId, VolumeSize),
        image: &Image,
    ) -> Result<(Base, Disk), VolumeError> {
        let (cache, store) = images;
        let large = |bytes| VolumeError::TooSmall { volume, size, bytes };
        let bytes = image.content.size_bytes;
        if image.format == ImageFormat::Raw && bytes > size.get().to_bytes() {
            return Err(large(bytes));
        }
        let wrong = |source| VolumeError::Image { volume, source };
        let base = cache.base(image, None, store).await.map_err(wrong)?;
        let no_disk = || ImageError::Refused { image: image.id, source: Box::new(NoDisk) };
        let disk = base.disk().ok_or_else(|| wrong(no_disk()))?;
        if disk.virtual_size > size.get().to_bytes() {
            return Err(large(disk.virtual_size));
        }
        Ok((base, disk))
    }
}

#[async_trait]
impl FillVolumes for Ledger {
    async fn fill(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        image: &Image,
        images: &dyn ImageStore,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        let operation = "make it of an image";
        let sha256 = image.content.sha256.clone();
        let known = sha256.clone();
        let filled =
            self.alone(volume, operation, move |l| l.is_filled(volume, size, &known, fence));
        if filled.await? {
            return Ok(());
        }
        let Some(cache) = &self.images else {
            let source = io::ErrorKind::Unsupported.into();
            return Err(VolumeError::Io { volume, operation, source });
        };
        let (base, disk) = self.disk_of((cache, images), (volume, size), image).await?;
        let fill =
            move |ledger: &Self| ledger.make_of(volume, size, (sha256, &base, disk.format), fence);
        self.alone(volume, operation, fill).await
    }
}

/// Writes the disk in a file, of which is known that it names no other, into one that is there and
/// reads as zeros.
pub(crate) fn convert(disk: &Path, format: Format, into: &Path) -> io::Result<()> {
    let file = serde_json::json!({ "driver": "file", "filename": disk });
    let mut source = serde_json::json!({ "driver": format.name(), "file": file });
    if format == Format::Qcow2 {
        // Nothing is looked up in the file.
        source["backing"] = serde_json::Value::Null;
    }
    // Reading a whole disk takes as long as it takes: only memory is limited.
    let mut tool = tools::limited("qemu-img", &[tools::MEMORY]);
    tool.args(["convert", "-q", "-O", "raw"]);
    if !into.metadata()?.is_file() {
        tool.args(["-n", "--target-is-zero"]);
    }
    tool.arg(format!("json:{source}")).arg(into);
    tools::run(tool)
}
