//! Rescuing guests: another disk before their own.

use std::path::Path;

use async_trait::async_trait;
use nova_core::domain::{Image, InstanceId};
use nova_core::port::{ImageStore, RescueGuests, VirtError};

use super::daemon::DomainState;
use super::disks;
use super::host::{LibvirtHost, host, no_room, to_its_end};
use super::record::Rescue;
use crate::domain::{Backing, Disk, DiskFormat, DiskRole, DomainOptions, DomainSpec};
use crate::files::FileError;

/// The guest with its rescue disk first and its own system second; its other disks wait.
pub(super) fn rescued(
    domain: DomainSpec,
    rescue: &Rescue,
    options: &DomainOptions,
    taken: &[String],
) -> DomainSpec {
    match rescue_disk(&domain, rescue, options) {
        Some(first) => domain.behind(first, taken),
        None => domain,
    }
}

fn rescue_disk(domain: &DomainSpec, rescue: &Rescue, options: &DomainOptions) -> Option<Disk> {
    let format = DiskFormat::of(rescue.image.format);
    let path = options.base_of(&rescue.image.content);
    Some(Disk {
        role: DiskRole::Root,
        target: domain.root_target()?,
        bus: domain.bus()?,
        path: domain.beside_root(".rescue"),
        format: DiskFormat::Qcow2,
        size_bytes: None,
        backing: Some(Backing { path, format }),
    })
}

#[async_trait]
impl RescueGuests for LibvirtHost {
    async fn rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let operation = "rescue a guest";
        let turn = self.turn(instance).await;
        let inner = std::sync::Arc::clone(&self.inner);
        let (state, mut record) = inner.own(instance, operation).await?;
        if record.rescue.is_some() {
            return to_its_end(turn, operation, async move {
                if state == DomainState::Off {
                    inner.begin(&mut record).await?;
                }
                Ok(())
            })
            .await;
        }
        let bases = inner.fetch_rescue(instance, image, images).await?;
        let rescue = Rescue { image: image.clone(), kernel: bases.kernel() };
        to_its_end(turn, operation, async move {
            let domain = inner.domain(&record)?;
            let disk = rescue_disk(&domain, &rescue, &inner.options);
            let disk = disk.ok_or_else(|| host(operation)("it has no disk"))?;
            let made = inner.files(operation, move |inner| {
                bases.keep(&inner.cache, instance)?;
                disks::make(&inner.tools, &disk)
                    .map_err(FileError::io(Path::new(&disk.path), "make a disk"))
            });
            made.await.map_err(|error| no_room(instance, error))?;
            inner.end(instance).await?;
            record.rescue = Some(rescue);
            inner.save(&record).await?;
            inner.begin(&mut record).await
        })
        .await
    }

    async fn unrescue(&self, instance: InstanceId) -> Result<(), VirtError> {
        let operation = "end the rescue of a guest";
        self.alone(instance, operation, move |inner| async move {
            let (_, mut record) = inner.own(instance, operation).await?;
            let Some(rescue) = record.rescue.take() else { return Ok(()) };
            record.has_root()?;
            let domain = inner.domain(&record)?;
            let disk = rescue_disk(&domain, &rescue, &inner.options);
            inner.end(instance).await?;
            inner.begin(&mut record).await?;
            // Only now: until it runs from its own disk, it is to be tried again.
            inner.save(&record).await?;
            let Some(Disk { path, .. }) = disk else { return Ok(()) };
            inner
                .files(operation, move |_| {
                    let path = Path::new(&path);
                    crate::files::remove(path).map_err(FileError::io(path, "remove it"))
                })
                .await
        })
        .await
    }

    async fn rescued(&self, instance: InstanceId) -> Result<bool, VirtError> {
        let (_, record) = self.inner.existing(instance).await?;
        Ok(record.is_some_and(|record| record.rescue.is_some()))
    }
}
