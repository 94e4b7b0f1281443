//! The laws of [`FillVolumes`](crate::port::FillVolumes).

use std::io::Cursor;

use super::content::{MIDDLE, end_of, fill, holds};
use super::{EARLIER, HERE, LATER, NOW, V, W, done, facts, overtaken, size};
use crate::domain::{
    GiB, Image, ImageContent, ImageFormat, ImageId, ImageProperties, ImageState, Label, MiB,
};
use crate::memory::MemoryImages;
use crate::port::{ImageError, ImageStore, VolumeDriver, VolumeError};

/// A store with an image in it: a disk of two blocks, of which the first is full of the one byte
/// and the second of the other.
async fn disk(bytes: [u8; 2]) -> (MemoryImages, Image) {
    let images = MemoryImages::new();
    let id = ImageId::from_u128(u128::from(bytes[0]) << 8 | u128::from(bytes[1]));
    let disk: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; 4096]).collect();
    let content = images.put(id, Box::new(Cursor::new(disk))).await;
    let content = content.unwrap_or_else(|error| panic!("{error:?}"));
    let name = Label::new("disk").unwrap_or_else(|error| panic!("{error}"));
    let image = Image {
        id,
        name,
        owner: None,
        format: ImageFormat::Raw,
        content,
        min_memory: MiB::ZERO,
        min_disk: GiB::ZERO,
        properties: ImageProperties::default(),
        state: ImageState::Active,
        server: None,
    };
    (images, image)
}

/// Filling again is success while the volume is there, though its image is gone and a host has
/// it; with another image or size, or what was never filled, it is refused.
pub async fn filling_is_repeatable(driver: impl VolumeDriver) {
    let Some(filling) = driver.filling() else { return };
    let (images, image) = disk([7, 9]).await;
    done(filling.fill(V, size(1), &image, &images, NOW).await);
    done(driver.connect(V, HERE, NOW).await);
    if let Err(error) = images.remove(image.id).await {
        panic!("{error:?}");
    }
    done(filling.fill(V, size(1), &image, &images, NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE))]);
    let (others, other) = disk([7, 8]).await;
    done(driver.create(W, size(1), NOW).await);
    for (volume, gib, image) in [(V, 1, &other), (V, 2, &image), (W, 1, &other)] {
        let refused = filling.fill(volume, size(gib), image, &others, NOW).await;
        let told = matches!(refused, Err(VolumeError::Exists { volume: named }) if named == volume);
        assert!(told, "{driver}: {refused:?}");
    }
    assert_eq!(done(driver.list().await), [facts(V, 1, Some(HERE)), facts(W, 1, None)]);
}

/// The disk is at its beginning, and behind it are zeros, whatever lay there before.
pub async fn a_filled_volume_holds_the_disk_of_its_image(driver: impl VolumeDriver) {
    let Some(filling) = driver.filling() else { return };
    let (images, image) = disk([7, 9]).await;
    let behind = [8192, MIDDLE, end_of(1)];
    for volume in [V, W] {
        done(driver.create(volume, size(1), NOW).await);
        fill(&driver, volume, &behind, 0xA5).await;
    }
    for volume in [V, W] {
        done(driver.remove(volume, NOW).await);
    }
    for volume in [V, W] {
        done(filling.fill(volume, size(1), &image, &images, NOW).await);
        holds(&driver, volume, &[0], 7).await;
        holds(&driver, volume, &[4096], 9).await;
        holds(&driver, volume, &behind, 0).await;
    }
    // Each is its own.
    fill(&driver, V, &[0], 1).await;
    holds(&driver, W, &[0], 7).await;
}

/// Of bytes that are missing, or that are not those that were registered, nothing is made.
pub async fn of_a_wrong_image_no_volume_is_made(driver: impl VolumeDriver) {
    let Some(filling) = driver.filling() else { return };
    let (images, image) = disk([7, 9]).await;
    let with = |content| Image { content, ..image.clone() };
    let ImageContent { size_bytes, sha256 } = image.content.clone();
    let missing = Image { id: ImageId::from_u128(1), ..with(content(size_bytes, &"0".repeat(64))) };
    let longer = with(content(size_bytes + 1, &sha256));
    let other = with(content(size_bytes, &"0".repeat(64)));
    for wrong in [&missing, &longer, &other] {
        let refused = filling.fill(V, size(1), wrong, &images, NOW).await;
        let told = match &refused {
            Err(VolumeError::Image { volume: V, source }) => match source {
                ImageError::NoSuchImage { image } => wrong == &missing && *image == missing.id,
                ImageError::Mismatch { image, .. } => wrong != &missing && *image == wrong.id,
                _ => false,
            },
            _ => false,
        };
        assert!(told, "{driver}: {refused:?}");
        assert_eq!(done(driver.list().await), []);
    }
    done(filling.fill(V, size(1), &image, &images, NOW).await);
    assert_eq!(done(driver.list().await), [facts(V, 1, None)]);
}

fn content(size_bytes: u64, sha256: &str) -> ImageContent {
    ImageContent { size_bytes, sha256: sha256.to_owned() }
}

/// One that is larger is named with its size, before anybody asks for its bytes.
pub async fn an_image_has_to_fit_into_its_volume(driver: impl VolumeDriver) {
    let Some(filling) = driver.filling() else { return };
    let (images, image) = disk([7, 9]).await;
    let long = GiB(1).to_bytes() + 1;
    let large = Image { content: content(long, &image.content.sha256), ..image };
    let refused = filling.fill(V, size(1), &large, &images, NOW).await;
    let told = matches!(
        refused,
        Err(VolumeError::TooSmall { volume: V, size: had, bytes }) if had == size(1) && bytes == long
    );
    assert!(told, "{driver}: {refused:?}");
    assert_eq!(done(driver.list().await), []);
}

/// A volume that was removed is not made again of an image by a late call.
pub async fn a_filling_that_was_overtaken_makes_nothing(driver: impl VolumeDriver) {
    let Some(filling) = driver.filling() else { return };
    let (images, image) = disk([7, 9]).await;
    done(driver.remove(V, NOW).await);
    overtaken(filling.fill(V, size(1), &image, &images, EARLIER).await, NOW);
    assert_eq!(done(driver.list().await), []);
    done(filling.fill(V, size(1), &image, &images, NOW).await);
    // Also when it was there already.
    done(filling.fill(V, size(1), &image, &images, LATER).await);
    overtaken(driver.connect(V, HERE, NOW).await, LATER);
    overtaken(filling.fill(V, size(1), &image, &images, NOW).await, LATER);
}
