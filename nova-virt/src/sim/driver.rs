//! A simulated host as a driver: how a call goes from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::ClockExt as _;
use nova_core::domain::{HostFacts, Image, ImageContent, InstanceId, Reboot, VolumeId};
use nova_core::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestSpec, ImageError, ImageStore, LiveMigrate,
    MeasureGuests, MoveGuests, OpenConsoles, Parcel, PauseGuests, PlugInterfaces, ReadConsoles,
    RescueGuests, SnapshotGuests, SuspendGuests, TellChanges, VirtDriver, VirtError, VolumeLink,
};

use super::options::{Fate, Verb};
use super::snapshot::written_on;
use super::state::State;
use super::{SimFailure, SimHost};
use crate::digest;

#[async_trait]
impl VirtDriver for SimHost {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        let facts = HostFacts {
            total: self.total,
            guest_kinds: self.options.guest_kinds.clone(),
            hypervisor: self.options.hypervisor.clone(),
            hypervisor_version: self.options.hypervisor_version,
            traits: self.options.traits.clone(),
            classes: self.options.classes.clone(),
            numa: self.options.numa.clone(),
            pci: self.options.pci.clone(),
        };
        self.call(Verb::Facts, |_| Ok(facts)).await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        self.call(Verb::Guests, |state| Ok(state.guests())).await
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        self.call(Verb::Guest, move |state| Ok(state.guest(instance))).await
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        let (total, capacity) = (self.total, self.options.capacity);
        let call = self.begin(Verb::Create).await?;
        let wanted = spec.clone();
        let exists = self.commit(&call, move |state| {
            // Before the download: what cannot fit is not worth fetching an image for.
            state.has_room(&wanted, &total, capacity)?;
            Ok(state.guests.contains_key(&wanted.instance))
        });
        if !exists.await? {
            if spec.root.is_none() {
                self.fetch(&call, spec.instance, &spec.image, images).await?;
            }
            let wanted = spec.clone();
            self.commit(&call, move |state| state.create(wanted, &total, capacity)).await?;
        }
        self.end(&call).await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Remove, move |state| {
            state.guests.remove(&instance);
            Ok(())
        })
        .await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Start, move |state| state.start(instance)).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Stop, move |state| state.stop(instance)).await
    }

    async fn reboot(&self, instance: InstanceId, _: Reboot, boot: u64) -> Result<(), VirtError> {
        self.call(Verb::Reboot, move |state| state.reboot(instance, boot)).await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        Some(self)
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        Some(self)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        Some(self)
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        Some(self)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        Some(self)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        Some(self)
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        Some(self)
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        Some(self)
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        Some(self)
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        Some(self)
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        Some(self)
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        Some(self)
    }
}

#[async_trait]
impl MoveGuests for SimHost {
    async fn pack(&self, instance: InstanceId) -> Result<Parcel, VirtError> {
        self.call(Verb::Pack, move |state| state.pack(instance)).await
    }

    async fn unpack(
        &self,
        spec: &GuestSpec,
        parcel: &Parcel,
        _: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let (total, capacity) = (self.total, self.options.capacity);
        let (spec, parcel) = (spec.clone(), parcel.clone());
        let work = move |state: &mut State| state.unpack(spec, parcel, &total, capacity);
        self.call(Verb::Unpack, work).await
    }
}

#[async_trait]
impl PauseGuests for SimHost {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Pause, move |state| state.turn(instance, Verb::Pause)).await
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.call(Verb::Unpause, move |state| state.turn(instance, Verb::Unpause)).await
    }
}

#[async_trait]
impl AttachVolumes for SimHost {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        let link = link.clone();
        self.call(Verb::Attach, move |state| state.attach(instance, link)).await
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        self.call(Verb::Detach, move |state| state.detach(instance, volume)).await
    }
}

/// A call under way.
pub(super) struct Call {
    verb: Verb,
    outages: u64,
    fate: Fate,
}

impl SimHost {
    /// One call from its beginning to its end.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        verb: Verb,
        work: impl FnOnce(&mut State) -> Result<T, VirtError> + Send + 'static,
    ) -> Result<T, VirtError> {
        let call = self.begin(verb).await?;
        let answer = self.commit(&call, work).await?;
        self.end(&call).await?;
        Ok(answer)
    }

    /// Sleeps and fails as chance says, before anything was done.
    pub(super) async fn begin(&self, verb: Verb) -> Result<Call, VirtError> {
        let outages = self.machine.state().outages;
        let (latency, fate) = self.dice().roll(verb, &self.options);
        if latency > Duration::ZERO {
            self.clock.sleep(latency).await;
        }
        match fate {
            Fate::Refused => Err(SimFailure::Refused.of(verb)),
            Fate::Hang => {
                self.clock.sleep(self.options.hang_limit).await;
                Err(SimFailure::NoAnswer.of(verb))
            }
            Fate::Well | Fate::AnswerLost | Fate::DoneThenHang => Ok(Call { verb, outages, fate }),
        }
    }

    /// Does the work, unless the power went away since the call began.
    ///
    /// A host in a file works on a thread that may wait for the disk; the work goes on to its end
    /// there when the caller gives up, so that memory and file never part.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce(&mut State) -> Result<T, VirtError> + Send + 'static,
    ) -> Result<T, VirtError> {
        let (verb, outages) = (call.verb, call.outages);
        let machine = Arc::clone(&self.machine);
        let work = move || {
            machine.change(|state| {
                if !state.powered || state.outages != outages {
                    return Err(SimFailure::NoPower.of(verb));
                }
                work(state)
            })
        };
        let result = if self.machine.file.is_some() {
            let worked = tokio::task::spawn_blocking(work).await;
            worked.map_err(|_| SimFailure::Cancelled.of(verb))?
        } else {
            work()
        };
        result.map_err(|error| SimFailure::File(error).of(verb))?
    }

    /// Fails as chance says, after the work was done.
    pub(super) async fn end(&self, call: &Call) -> Result<(), VirtError> {
        match call.fate {
            Fate::AnswerLost => Err(SimFailure::AnswerLost.of(call.verb)),
            Fate::DoneThenHang => {
                self.clock.sleep(self.options.hang_limit).await;
                Err(SimFailure::NoAnswer.of(call.verb))
            }
            Fate::Well | Fate::Refused | Fate::Hang => Ok(()),
        }
    }

    /// Sees to it that the host has the image, and that it is the right one.
    pub(super) async fn fetch(
        &self,
        call: &Call,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<(), VirtError> {
        let _alone = self.fetching.lock().await;
        let image = image.clone();
        let id = image.id;
        let cached = self.commit(call, move |state| Ok(state.images.get(&id).cloned())).await?;
        if let Some(content) = cached {
            return check(&image, &content).map_err(|source| VirtError::Image { instance, source });
        }
        let content = download(&image, images).await;
        let content = content.map_err(|source| VirtError::Image { instance, source })?;
        let written = written_on(&image, images).await;
        let written = written.map_err(|source| VirtError::Image { instance, source })?;
        let remember = move |state: &mut State| {
            state.image_downloads += 1;
            let right = check(&image, &content);
            right.map_err(|source| VirtError::Image { instance, source })?;
            state.images.insert(id, content);
            state.written.extend(written.map(|text| (id, text)));
            Ok(())
        };
        self.commit(call, remember).await
    }
}

async fn download(image: &Image, images: &dyn ImageStore) -> Result<ImageContent, ImageError> {
    let mut bytes = images.open(image.id).await?;
    let measured = digest::measure(&mut bytes, image.content.size_bytes).await;
    let operation = "fetch it";
    measured.map_err(|source| ImageError::Io { image: image.id, operation, source })
}

fn check(image: &Image, found: &ImageContent) -> Result<(), ImageError> {
    let wanted = &image.content;
    let mismatch = |expected: String, found: String| {
        Err(ImageError::Mismatch { image: image.id, expected, found })
    };
    if found.size_bytes != wanted.size_bytes {
        let show = |bytes: u64| format!("{bytes} bytes");
        return mismatch(show(wanted.size_bytes), show(found.size_bytes));
    }
    if found.sha256 != wanted.sha256 {
        let show = |sha256: &str| format!("SHA-256 {sha256}");
        return mismatch(show(&wanted.sha256), show(&found.sha256));
    }
    Ok(())
}
