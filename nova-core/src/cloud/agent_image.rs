//! What the agent of a host does with images of its guests.

use std::time::Duration;

use crate::class::Class;
use crate::clock::ClockExt as _;
use crate::cloud::agent::{Hand, unable};
use crate::cloud::error::chain;
use crate::cloud::order::Report;
use crate::domain::{Image, ImageFormat, ImageId, ImageState, InstanceId, PowerState};
use crate::port::VirtError;
use crate::store::StoreExt as _;
use crate::store::record::keys;

/// How often a host tries to take back what it stored too late: nobody asks it again.
const TAKEN_BACK_MAX: u32 = 10;
const TAKE_BACK_PAUSE: Duration = Duration::from_secs(1);

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
        let images = &*self.ports.images;
        let stored = self.in_time(snapshots.snapshot(instance, image, format, images)).await;
        // Bytes may be there whatever it said, and whether or not it was given the time to say it.
        let mut given_up = self.take_back(image).await;
        for _ in 1..TAKEN_BACK_MAX {
            if given_up.is_ok() {
                break;
            }
            self.ports.clock.sleep(TAKE_BACK_PAUSE).await;
            given_up = self.take_back(image).await;
        }
        match (given_up, stored) {
            (Err(reason), _) => Report::Unknown { reason },
            (Ok(true), _) => Report::NotDone {
                reason: "out of date: the image was given up".to_owned(),
                retry: true,
            },
            (Ok(false), Ok(Ok(content))) => Report::Stored(content),
            (Ok(false), Ok(Err(error))) => {
                let retry = error.class() == Class::Retry;
                Report::NotDone { reason: chain(&error), retry }
            }
            (Ok(false), Err(late)) => late,
        }
    }

    /// Removes the bytes of an image that nobody wants any more, and tells whether that is so.
    async fn take_back(&self, image: ImageId) -> Result<bool, String> {
        let record = self.ports.store.read::<Image>(&keys::image(image)).await;
        match record.map_err(|error| chain(&error))? {
            Some(record) if record.value.state != ImageState::Discarded => Ok(false),
            _ => {
                let removed = self.ports.images.remove(image).await;
                removed.map(|()| true).map_err(|error| chain(&error))
            }
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
