//! Images that come from outside: not too large, and no bytes without a record.

use std::io::Cursor;

use nova_core::cloud::{ApiError, CloudOptions, ImageSpec};
use nova_core::domain::{ImageFormat, ImageId};
use nova_core::port::{ImageBytes, ImageError};

use crate::world::{World, run, run_over};

/// Registers an image of so many bytes.
async fn upload(world: &World, request: &str, bytes: usize) -> Result<ImageId, ApiError> {
    let spec = ImageSpec::new("big".parse().unwrap(), ImageFormat::Raw);
    let bytes = Box::new(Cursor::new(vec![7; bytes]));
    world.admin().register_image(request.parse().unwrap(), &spec, bytes).await
}

#[test]
fn an_image_has_at_most_as_many_bytes_as_are_taken() {
    const LIMIT: usize = 100_000;
    let options = CloudOptions::default().with_transfer_limit(LIMIT as u64);
    run_over(
        |ports| ports,
        options,
        async |world: &mut World| {
            let images = &world.cloud.ports().images;
            for bytes in [LIMIT + 1, LIMIT * 10] {
                match upload(world, "large", bytes).await {
                    Err(ApiError::Image { source: ImageError::TooLarge { limit, .. } }) => {
                        assert_eq!(limit, LIMIT as u64);
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(images.list().await.unwrap(), [world.image]);
            }
            // The same request may bring less.
            let id = upload(world, "large", LIMIT).await.unwrap();
            let kept = images.content(id).await.unwrap().unwrap();
            assert_eq!(kept.size_bytes, LIMIT as u64);
            world.healthy().await;
        },
    );
}

#[test]
fn an_upload_that_ends_early_is_not_called_too_large() {
    run(async |world: &mut World| {
        let spec = ImageSpec::new("big".parse().unwrap(), ImageFormat::Raw);
        let admin = world.admin();
        match admin.register_image(admin.new_request(), &spec, broken_stream()).await {
            Err(ApiError::Image { source: ImageError::Io { .. } }) => {}
            other => panic!("{other:?}"),
        }
    });
}

/// A stream that breaks off.
fn broken_stream() -> ImageBytes {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::Error::other("the stream broke off")))
        }
    }
    Box::new(Broken)
}

#[test]
fn bytes_that_are_no_images_are_found() {
    run(async |world: &mut World| {
        assert!(world.admin().doctor().await.unwrap().is_healthy());
        // Whoever brought them died before the record was made.
        let stray = ImageId::from_u128(404);
        let images = &world.cloud.ports().images;
        images.put(stray, Box::new(&b"nobody's"[..])).await.unwrap();
        let found = world.admin().doctor().await.unwrap();
        let said: Vec<_> = found.findings.iter().map(|finding| finding.detail.clone()).collect();
        assert_eq!(said, [format!("the bytes of {stray} are no image's")]);
        images.remove(stray).await.unwrap();
        images.remove(world.image).await.unwrap();
        let found = world.admin().doctor().await.unwrap();
        let said: Vec<_> = found.findings.iter().map(|finding| finding.detail.clone()).collect();
        assert_eq!(said, [format!("image {} has no bytes", world.image)]);
        assert_eq!(found.images_unasked, None);
    });
}
