//! What the agent of a host does with images of its guests.

use crate::class::Class;
use crate::cloud::agent::{Hand, unable};
use crate::cloud::error::chain;
use crate::cloud::order::Report;
use crate::domain::{Image, ImageFormat, ImageId, ImageState, InstanceId};
use crate::store::StoreExt as _;
use crate::store::record::keys;

impl Hand {
    /// Lets the driver store what is on a guest's root disk.
    ///
    /// Storing may take long, and the operation may have been given up meanwhile, and its image
    /// removed. Then what came too late is removed here: the record was marked before the bytes
    /// were removed, so that either that removal or this one comes last.
    pub(super) async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
    ) -> Report {
        let Some(snapshots) = self.driver.snapshots() else {
            let reason = chain(&unable("take an image of a guest"));
            return Report::NotDone { reason, retry: false };
        };
        let images = &self.ports.images;
        let content =
            match self.in_time(snapshots.snapshot(instance, image, format, &**images)).await {
                Ok(Ok(content)) => content,
                Ok(Err(error)) => {
                    let retry = error.class() == Class::Retry;
                    return Report::NotDone { reason: chain(&error), retry };
                }
                Err(late) => return late,
            };
        match self.ports.store.read::<Image>(&keys::image(image)).await {
            Ok(Some(record)) if record.value.state != ImageState::Discarded => {
                Report::Stored(content)
            }
            Err(error) => Report::Unknown { reason: chain(&error) },
            Ok(_) => match images.remove(image).await {
                Ok(()) => Report::NotDone {
                    reason: "out of date: the image was given up".to_owned(),
                    retry: true,
                },
                Err(error) => Report::Unknown { reason: chain(&error) },
            },
        }
    }
}
