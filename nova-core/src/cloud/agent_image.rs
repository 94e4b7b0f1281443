//! What the agent of a host does with images of its guests.

use crate::class::Class;
use crate::cloud::agent::{Hand, unable};
use crate::cloud::error::chain;
use crate::cloud::order::Report;
use crate::domain::{Image, ImageFormat, ImageId, ImageState, InstanceId, PowerState};
use crate::port::VirtError;
use crate::store::record::{LateImage, keys};
use crate::store::{StoreError, StoreExt as _, Txn};

impl Hand {
    /// Lets the driver store what is on a guest's root disk.
    ///
    /// Storing may take long, and the operation may have been given up meanwhile, and its image
    /// removed. Then what came too late is removed here: the record was marked before the bytes
    /// were removed, so that either that removal or this one comes last. Where this host dies
    /// before it can, a sweep does it (`drop_late_images`).
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
        // What was given up before it was begun is not begun: a sweep may have looked already.
        match self.is_wanted(image).await {
            Ok(true) => {}
            Ok(false) => return given_up(),
            Err(reason) => return Report::Unknown { reason },
        }
        let stored = self.in_time(snapshots.snapshot(instance, image, format, images)).await;
        // Bytes may be there whatever it said, and whether or not it was given the time to say it.
        match (self.is_wanted(image).await, stored) {
            (Err(reason), _) => Report::Unknown { reason },
            (Ok(false), _) => match self.ports.images.remove(image).await {
                Ok(()) => given_up(),
                Err(error) => Report::Unknown { reason: chain(&error) },
            },
            (Ok(true), Ok(Ok(content))) => Report::Stored(content),
            (Ok(true), Ok(Err(error))) => {
                let retry = error.class() == Class::Retry;
                Report::NotDone { reason: chain(&error), retry }
            }
            (Ok(true), Err(late)) => late,
        }
    }

    /// Whether somebody waits for an image.
    async fn is_wanted(&self, image: ImageId) -> Result<bool, String> {
        let record = self.ports.store.read::<Image>(&keys::image(image)).await;
        let record = record.map_err(|error| chain(&error))?;
        Ok(record.is_some_and(|record| record.value.state != ImageState::Discarded))
    }

    /// Removes what this host may have stored too late, and then what was written down about it.
    /// Storing keeps its guest's orders waiting, so that nothing is being stored any more when it
    /// is their turn here. What cannot be removed now is removed by the next sweep.
    pub(super) async fn drop_late_images(&self) -> Result<(), StoreError> {
        let late = keys::late_images_of(self.host);
        for row in self.ports.store.read_all::<LateImage>(&late).await? {
            let work = async {
                if self.ports.images.remove(row.value.image).await.is_ok() {
                    let mut txn = Txn::new();
                    txn.remove(&row);
                    self.ports.store.commit(txn).await?;
                }
                Ok(())
            };
            self.alone(row.value.instance, work).await?;
        }
        Ok(())
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

fn given_up() -> Report {
    Report::NotDone { reason: "out of date: the image was given up".to_owned(), retry: true }
}
