//! Volumes that are made of images which are no plain disks.

use std::io::Cursor;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nova_core::domain::{Fence, GiB, HostId, Image, ImageFormat, VolumeId, VolumeSize};
use nova_core::memory::MemoryImages;
use nova_core::port::{Connection, ImageError, ImageStore as _, VolumeDriver as _, VolumeError};
use nova_virt::{FileVolumes, ImageCache};

use crate::inspect::makers::qcow2;
use crate::world::{SkipClock, images};

const VOLUME: VolumeId = VolumeId::from_u128(1);

fn volumes(folder: &Path) -> FileVolumes {
    let images = ImageCache::at(folder.join("images"), Arc::new(SkipClock::default())).unwrap();
    FileVolumes::at(folder.join("volumes")).unwrap().with_images(images)
}

/// An image with these bytes.
async fn image(bytes: Vec<u8>, format: ImageFormat) -> (MemoryImages, Image) {
    let (_, like) = images().await;
    let images = MemoryImages::new();
    let content = images.put(like.id, Box::new(Cursor::new(bytes))).await.unwrap();
    (images, Image { format, content, ..like })
}

async fn filled(
    volumes: &FileVolumes,
    bytes: Vec<u8>,
    format: ImageFormat,
) -> Result<(), VolumeError> {
    let (images, image) = image(bytes, format).await;
    let size = VolumeSize::new(GiB(1)).unwrap();
    volumes.filling().unwrap().fill(VOLUME, size, &image, &images, Fence(1)).await
}

#[tokio::test]
async fn without_a_place_for_images_no_volume_is_made_of_one() {
    let folder = tempfile::tempdir().unwrap();
    assert!(FileVolumes::at(folder.path()).unwrap().filling().is_none());
    assert!(volumes(folder.path()).filling().is_some());
}

#[tokio::test]
async fn what_a_host_must_not_open_becomes_no_volume() {
    // What lies below it is a file of the host.
    let overlay = qcow2(3).be64(8, 112).be32(16, 11).with(112, b"/etc/shadow");
    let folder = tempfile::tempdir().unwrap();
    let volumes = volumes(folder.path());
    for (bytes, format) in [
        (overlay.0.clone(), ImageFormat::Qcow2),
        (overlay.0, ImageFormat::Raw),
        (vec![0; 1024], ImageFormat::Qcow2),
        // An archive that has nothing in it.
        (vec![0; 1024], ImageFormat::RootfsTar),
    ] {
        let refused = filled(&volumes, bytes, format).await;
        let told = matches!(
            &refused,
            Err(VolumeError::Image { volume: VOLUME, source: ImageError::Refused { .. } })
        );
        assert!(told, "{format:?}: {refused:?}");
    }
    assert_eq!(volumes.list().await.unwrap(), []);
    let left = std::fs::read_dir(folder.path().join("volumes")).unwrap();
    let left = left.filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "volume")
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_disk_that_says_it_is_larger_than_the_volume_is_refused() {
    let large = qcow2(3).be64(24, (1 << 30) + 512);
    let folder = tempfile::tempdir().unwrap();
    let volumes = volumes(folder.path());
    let refused = filled(&volumes, large.0, ImageFormat::Qcow2).await;
    let told = matches!(
        refused,
        Err(VolumeError::TooSmall { bytes, .. }) if bytes == (1 << 30) + 512
    );
    // Inspection may have found that its tables are too short for that.
    let short =
        matches!(&refused, Err(VolumeError::Image { source: ImageError::Refused { .. }, .. }));
    assert!(told || short, "{refused:?}");
    assert_eq!(volumes.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_disk_in_qemus_format_is_unpacked_and_goes_on_with_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed"));
    let mut bytes = vec![0; 3 << 20];
    bytes[..4096].fill(7);
    bytes[(2 << 20)..(2 << 20) + 4096].fill(9);
    std::fs::write(&plain, &bytes).unwrap();
    let mut tool = Command::new("qemu-img");
    tool.args(["convert", "-q", "-f", "raw", "-O", "qcow2"]).arg(&plain).arg(&packed);
    match tool.status() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            eprintln!("skipped a_disk_in_qemus_format_is_unpacked: qemu-img: {error}");
            return;
        }
    }
    let volumes = volumes(folder.path());
    let packed = std::fs::read(packed).unwrap();
    assert!(packed.starts_with(b"QFI\xfb"));
    filled(&volumes, packed.clone(), ImageFormat::Qcow2).await.unwrap();
    let connection = volumes.connect(VOLUME, HostId::from_u128(1), Fence(1)).await.unwrap();
    let Connection::File { path } = connection else { panic!("{connection:?}") };
    let held = std::fs::read(path).unwrap();
    assert_eq!(held.len(), 1 << 30);
    assert_eq!(held[..bytes.len()], bytes);
    assert!(held[bytes.len()..].iter().all(|byte| *byte == 0));
    // What was written since stays when it is asked for again.
    filled(&volumes, packed, ImageFormat::Qcow2).await.unwrap();
    assert_eq!(volumes.list().await.unwrap()[0].connected_to, Some(HostId::from_u128(1)));
}
