//! Images of guests: their root disks, copied while they go on. The file systems of one whose agent
//! answers are at rest for the moment that the copy shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::ClockExt as _;
use nova_core::domain::{ImageContent, ImageFormat, ImageId, InstanceId};
use nova_core::port::{ImageError, ImageStore, ImageStoreExt as _, SnapshotGuests, VirtError};

use super::daemon::{DomainState, Job, told};
use super::disks::{self, word};
use super::host::{Inner, LibvirtHost, domain_of, host, no_room, to_its_end};
use super::xml::Element;
use crate::domain::{Disk, DiskFormat, DiskRole, DomainSpec};
use crate::files::FileError;
use crate::inspect::{Format, inspect};

/// How long copying a disk may take.
const COPY_MAX: Duration = Duration::from_secs(6 * 3600);

/// How often a copy is looked at while nobody tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[async_trait]
impl SnapshotGuests for LibvirtHost {
    async fn snapshot(
        &self,
        instance: InstanceId,
        image: ImageId,
        format: ImageFormat,
        images: &dyn ImageStore,
    ) -> Result<ImageContent, VirtError> {
        let operation = "take an image of a guest";
        let wrong = |source| VirtError::Image { instance, source };
        let turn = self.turn(instance).await;
        let inner = Arc::clone(&self.inner);
        let (state, record) = inner.own(instance, operation).await?;
        if let Some(volume) = record.spec.root {
            return Err(VirtError::OnVolume { instance, volume, operation });
        }
        if let Some(stored) = images.content(image).await.map_err(wrong)? {
            return Ok(stored);
        }
        let wanted = match format {
            ImageFormat::Raw => DiskFormat::Raw,
            ImageFormat::Qcow2 => DiskFormat::Qcow2,
            _ => return Err(host(operation)(format!("no disk is stored as {format:?}"))),
        };
        let domain = inner.domain(&record)?;
        let copy = Copy(inner.records.home(instance).join("snapshot"));
        let path = copy.0.clone();
        let work = Arc::clone(&inner);
        let copied = to_its_end(Arc::clone(&turn), operation, async move {
            work.copy_root(instance, state, &domain, path, wanted).await
        });
        copied.await.map_err(|error| no_room(instance, error))?;
        let path = copy.0.clone();
        let refused = inner.files(operation, move |_| {
            let failed = || FileError::io(&path, "read it");
            let mut file = std::fs::File::open(&path).map_err(failed())?;
            // What a guest wrote may look like anything.
            let declared = Format::of(format).unwrap_or(Format::Raw);
            Ok(inspect(&mut file, declared, None).err())
        });
        if let Some(refusal) = refused.await? {
            let source = Box::new(refusal);
            return Err(wrong(ImageError::Refused { image, source }));
        }
        let file = tokio::fs::File::open(&copy.0).await.map_err(host(operation))?;
        let stored = images.ensure(image, Box::new(file)).await;
        drop(turn);
        stored.map_err(wrong)
    }
}

/// A copy, removed when it is not needed any more.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed now is overwritten by the next one, or goes with the guest.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Inner {
    async fn copy_root(
        self: &Arc<Self>,
        guest: InstanceId,
        state: DomainState,
        domain: &DomainSpec,
        into: PathBuf,
        format: DiskFormat,
    ) -> Result<(), VirtError> {
        let operation = "copy a guest's disk";
        let root = domain.disks().iter().find(|disk| disk.role == DiskRole::Root).cloned();
        let root = root.ok_or_else(|| host(operation)("it has none"))?;
        let (old, path) = (into.clone(), into.clone());
        let failed = move |path: &Path| FileError::io(path, "copy a disk");
        self.files(operation, move |_| crate::files::remove(&old).map_err(failed(&old))).await?;
        if state.is_down() {
            return self
                .files(operation, move |inner| {
                    disks::copy(&inner.tools, &root, &path, format).map_err(failed(&path))
                })
                .await;
        }
        let others: Vec<&Disk> = domain.disks().iter().filter(|disk| **disk != root).collect();
        let record = self.record(guest).await?;
        let volumes = record.iter().flat_map(|record| record.volumes.values());
        let others = others.into_iter().map(|disk| &disk.target);
        let others = others.chain(volumes.map(|plugged| &plugged.target));
        let left_out =
            others.map(|target| Element::new("disk").attr("name", target).attr("backup", "no"));
        let copied = Element::new("disk")
            .attr("name", &root.target)
            .attr("backup", "yes")
            .attr("type", "file")
            .with(Element::new("driver").attr("type", word(format)))
            .with(Element::new("target").attr("file", into.display()));
        let xml = Element::new("domainbackup")
            .attr("mode", "push")
            .with(Element::new("disks").with(copied).with_all(left_out));
        let xml = xml.write().map_err(host(operation))?;
        let mut changes = self.daemon().changes();
        let copying = self.daemon().copying();
        let copying = copying.ok_or_else(|| host(operation)("this connection copies no disks"))?;
        let rest = self.put_to_rest(guest, state, domain, record).await?;
        // What the copy shows is fixed when this returns.
        let begun = copying.begin_backup(domain_of(guest), &xml).await;
        if let Some(record) = rest {
            self.let_go_on(record).await;
        }
        begun.map_err(host(operation))?;
        let end = self.clock.now().after(COPY_MAX);
        loop {
            match copying.job(domain_of(guest)).await.map_err(host(operation))? {
                Job::Completed => return Ok(()),
                Job::Failed => return Err(host(operation)("the copy was cut short")),
                Job::UnderWay if self.clock.now() >= end => {
                    return Err(host(operation)("it takes too long"));
                }
                Job::UnderWay => {}
            }
            let _ = self.clock.within(LOOK_AGAIN, told(&mut changes, domain_of(guest))).await;
        }
    }
}
