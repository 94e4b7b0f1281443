//! Images of simulated guests: a mark, and what is written on the disk.

use async_trait::async_trait;
use nova_core::domain::{Image, ImageContent, ImageFormat, ImageId, InstanceId};
use nova_core::port::{ImageError, ImageStore, ImageStoreExt as _, SnapshotGuests, VirtError};
use tokio::io::AsyncReadExt as _;

use super::SimHost;
use super::options::Verb;

/// What the image of a simulated guest begins with.
const WRITTEN: &[u8] = b"written on a simulated disk:";

/// Of an image that somebody made otherwise, more than this is not looked at.
const WRITTEN_BYTES_MAX: u64 = 1 << 20;

#[async_trait]
impl SnapshotGuests for SimHost {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        _: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        let call = self.begin(Verb::Snapshot).await?;
        let disk = move |state: &mut super::State| {
            let guest = state.existing(instance)?;
            match guest.root() {
                Some(volume) => {
                    let operation = Verb::Snapshot.name();
                    Err(VirtError::OnVolume { instance, volume, operation })
                }
                None => Ok(guest.disk.clone()),
            }
        };
        let disk = self.commit(&call, disk).await?;
        let bytes = std::io::Cursor::new([WRITTEN, disk.as_bytes()].concat());
        let stored = images.ensure(image, Box::new(bytes)).await;
        let stored = stored.map_err(|source| VirtError::Image { instance, source })?;
        self.end(&call).await?;
        Ok(stored)
    }
}

/// What is written on the disk that an image holds, if it was taken of a guest.
pub(super) async fn written_on(
    image: &Image,
    images: &dyn ImageStore,
) -> Result<Option<String>, ImageError> {
    if image.server.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut stream = images.open(image.id).await?.take(WRITTEN_BYTES_MAX);
    let read = stream.read_to_end(&mut bytes).await;
    read.map_err(|source| ImageError::Io { image: image.id, operation: "fetch it", source })?;
    let written = bytes.strip_prefix(WRITTEN);
    Ok(written.map(|text| String::from_utf8_lossy(text).into_owned()))
}
