//! What the agent of a host does with images of its guests.

use crate::class::Class;
use crate::cloud::agent::{Hand, unable};
use crate::cloud::error::chain;
use crate::cloud::order::Report;
use crate::domain::{Image, ImageFormat, ImageId, ImageState, InstanceId, PowerState};
use crate::port::VirtError;
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

    /// Boots a guest from a rescue disk, or from its own disk again, and looks whether it does.
    /// Where there is no guest nothing can be booted, however often it is tried: the report then
    /// says that it is done, and names no guest.
    pub(crate) async fn rescue(&self, instance: InstanceId, image: Option<&Image>) -> Report {
        let Some(rescuing) = self.driver.rescuing() else {
            // Where no guest was ever rescued, each runs from its own disk.
            let reason = chain(&unable("rescue a guest"));
            return match (image, self.in_time(self.driver.guest(instance)).await) {
                (Some(_), _) => Report::NotDone { reason, retry: false },
                (None, Ok(Ok(guest))) => Report::Done { guest },
                (None, Ok(Err(error))) => Report::Unknown { reason: chain(&error) },
                (None, Err(late)) => late,
            };
        };
        let work = async {
            // As when it is started: the network first, and nothing plugged in that is not its.
            drop(self.converge().await);
            self.take_out(instance).await?;
            match image {
                Some(image) => rescuing.rescue(instance, image, &*self.ports.images).await,
                None => rescuing.unrescue(instance).await,
            }
        };
        let done = match self.in_time(work).await {
            Ok(done) => done,
            Err(late) => return late,
        };
        let look = async {
            let guest = self.driver.guest(instance).await?;
            match &guest {
                Some(_) => Ok::<_, VirtError>((rescuing.rescued(instance).await?, guest)),
                None => Ok((false, guest)),
            }
        };
        let (rescued, guest) = match self.in_time(look).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => return Report::Unknown { reason: chain(&error) },
            Err(late) => return late,
        };
        if guest.is_none() {
            return Report::Done { guest };
        }
        let runs = guest.as_ref().is_some_and(|guest| guest.power == PowerState::Running);
        // Leaving what was never entered starts nothing.
        match (rescued == image.is_some() && (runs || image.is_none()), done) {
            (true, _) => Report::Done { guest },
            (false, Err(error)) => {
                Report::NotDone { reason: chain(&error), retry: error.class() == Class::Retry }
            }
            (false, Ok(())) => {
                let reason = format!("{} said yes and did not", self.driver);
                Report::NotDone { reason, retry: true }
            }
        }
    }

    /// Whether a guest runs from a rescue disk.
    ///
    /// # Errors
    /// Why nobody can say.
    pub(crate) async fn is_rescued(&self, instance: InstanceId) -> Result<bool, String> {
        let Some(rescuing) = self.driver.rescuing() else { return Ok(false) };
        match self.in_time(rescuing.rescued(instance)).await {
            Ok(rescued) => rescued.map_err(|error| chain(&error)),
            Err(late) => Err(late.reason().to_owned()),
        }
    }
}
