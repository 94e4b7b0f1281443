//! A libvirt host as a driver: one verb after the other.

use async_trait::async_trait;
use nova_core::domain::{HostFacts, InstanceId, Reboot};
use nova_core::port::{
    AskAgents, AttachVolumes, CacheImages, Guest, GuestSpec, ImageStore, LiveMigrate,
    MeasureGuests, MoveGuests, OpenConsoles, PauseGuests, PlugInterfaces, ReadConsoles,
    RescueGuests, SnapshotGuests, SuspendGuests, TellChanges, VirtDriver, VirtError,
};

use super::daemon::{DomainId, DomainState};
use super::host::{LibvirtHost, domain_of, guest_of, host, power, to_its_end};
use super::record::Record;
use crate::domain::DomainSpec;

#[async_trait]
impl VirtDriver for LibvirtHost {
    async fn facts(&self) -> Result<HostFacts, VirtError> {
        self.inner.facts().await
    }

    async fn guests(&self) -> Result<Vec<Guest>, VirtError> {
        let inner = &self.inner;
        let domains = inner.daemon().domains().await.map_err(host("list the guests"))?;
        let kept = inner.files("list what is kept", |inner| {
            let guests = inner.records.guests()?;
            for guest in &guests {
                super::console::bound(&inner.records.home(*guest));
            }
            Ok(guests)
        });
        let kept = kept.await?;
        // Of the host's other domains nobody here knows anything.
        let ours = |(domain, name): (DomainId, String)| {
            let guest = guest_of(domain);
            (name == DomainSpec::name_of(guest)).then_some(guest)
        };
        let domains = domains.into_iter().filter_map(ours);
        let all: std::collections::BTreeSet<InstanceId> = domains.chain(kept).collect();
        let mut guests = Vec::new();
        for guest in all {
            guests.extend(inner.describe(guest).await?);
        }
        Ok(guests)
    }

    async fn guest(&self, instance: InstanceId) -> Result<Option<Guest>, VirtError> {
        self.inner.describe(instance).await
    }

    async fn create(&self, spec: &GuestSpec, images: &dyn ImageStore) -> Result<(), VirtError> {
        let turn = self.turn(spec.instance).await;
        let inner = std::sync::Arc::clone(&self.inner);
        if let Some(volume) = spec.root.filter(|_| !inner.has_disks()) {
            return Err(VirtError::NoBootVolumes { instance: spec.instance, volume });
        }
        let Some(half) = inner.is_to_be_made(spec.instance).await? else { return Ok(()) };
        let size_max = (spec.root_disk.0 > 0).then(|| spec.root_disk.to_bytes());
        let bases = inner.fetch(spec, size_max, images).await?;
        let config = inner.config(spec).await?;
        let record = Record::new(spec.clone());
        to_its_end(turn, "make a guest", async move {
            if half {
                inner.scrub(record.spec.instance).await?;
            }
            inner.make(record, bases, config).await
        })
        .await
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.alone(instance, "remove a guest", |inner| async move { inner.scrub(instance).await })
            .await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.alone(instance, "start a guest", |inner| async move {
            match inner.arrived(instance, "start a guest").await? {
                (DomainState::Running | DomainState::Paused | DomainState::Saved, _) => Ok(()),
                (DomainState::Off, Some(mut record)) => inner.begin(&mut record).await,
                (DomainState::Off, None) => {
                    let started = inner.daemon().start(domain_of(instance)).await;
                    started.map_err(host("start a guest"))
                }
            }
        })
        .await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.alone(instance, "stop a guest", |inner| async move {
            let (state, record) = inner.existing(instance).await?;
            let coming = record.and_then(|record| record.coming.map(|coming| (record, coming)));
            match (state, coming) {
                (DomainState::Off, _) => Ok(()),
                (DomainState::Saved, _) => inner.forget_memory(instance).await,
                (_, Some((record, coming))) => inner.lose(record, coming).await,
                // It hears nothing.
                (DomainState::Paused, None) => inner.end(instance).await,
                (DomainState::Running, None) => inner.shut_down(instance).await,
            }
        })
        .await
    }

    async fn reboot(&self, instance: InstanceId, how: Reboot, boot: u64) -> Result<(), VirtError> {
        self.alone(instance, "reboot a guest", move |inner| async move {
            let (state, record) = inner.own(instance, "reboot a guest").await?;
            if record.boot >= boot {
                return Ok(());
            }
            record.has_root()?;
            inner.reboot(record, state, boot, how == Reboot::Soft).await
        })
        .await
    }

    fn pausing(&self) -> Option<&dyn PauseGuests> {
        Some(self)
    }

    fn suspending(&self) -> Option<&dyn SuspendGuests> {
        // What a container has in memory cannot be put on disk.
        self.inner.has_disks().then_some(self as &dyn SuspendGuests)
    }

    fn volumes(&self) -> Option<&dyn AttachVolumes> {
        self.inner.has_disks().then_some(self as &dyn AttachVolumes)
    }

    fn moving(&self) -> Option<&dyn MoveGuests> {
        self.inner.reaches_others().then_some(self as &dyn MoveGuests)
    }

    fn live(&self) -> Option<&dyn LiveMigrate> {
        self.inner.sends_guests().then_some(self as &dyn LiveMigrate)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotGuests> {
        let can = self.inner.has_disks() && self.inner.daemon().copying().is_some();
        can.then_some(self as &dyn SnapshotGuests)
    }

    fn rescuing(&self) -> Option<&dyn RescueGuests> {
        self.inner.has_disks().then_some(self as &dyn RescueGuests)
    }

    fn telling(&self) -> Option<&dyn TellChanges> {
        self.inner.daemon().is_told().then_some(self as &dyn TellChanges)
    }

    fn reading(&self) -> Option<&dyn ReadConsoles> {
        // The daemon writes down what a machine says, and not what a container does.
        self.inner.has_disks().then_some(self as &dyn ReadConsoles)
    }

    fn talking(&self) -> Option<&dyn OpenConsoles> {
        self.inner.is_real().then_some(self as &dyn OpenConsoles)
    }

    fn measuring(&self) -> Option<&dyn MeasureGuests> {
        Some(self)
    }

    fn interfaces(&self) -> Option<&dyn PlugInterfaces> {
        self.inner.is_real().then_some(self as &dyn PlugInterfaces)
    }

    fn caching(&self) -> Option<&dyn CacheImages> {
        Some(self)
    }

    fn agents(&self) -> Option<&dyn AskAgents> {
        let can = self.inner.has_disks() && self.inner.daemon().agents().is_some();
        can.then_some(self as &dyn AskAgents)
    }
}

#[async_trait]
impl PauseGuests for LibvirtHost {
    async fn pause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.turn_power(instance, DomainState::Paused, "pause a guest").await
    }

    async fn unpause(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.turn_power(instance, DomainState::Running, "unpause a guest").await
    }
}

impl LibvirtHost {
    async fn turn_power(
        &self,
        instance: InstanceId,
        wanted: DomainState,
        operation: &'static str,
    ) -> Result<(), VirtError> {
        // Whoever says how it is to be from now on has no other plans for it.
        self.take_back(instance).await?;
        self.alone(instance, operation, move |inner| async move {
            let (state, record) = inner.arrived(instance, operation).await?;
            let domain = domain_of(instance);
            let done = match (state, wanted) {
                (DomainState::Off | DomainState::Saved, _) => {
                    let power = power(state);
                    return Err(VirtError::WrongPower { instance, power, operation });
                }
                (is, wanted) if is == wanted => Ok(()),
                (_, DomainState::Paused) => inner.daemon().suspend(domain).await,
                (_, _) => inner.daemon().resume(domain).await,
            };
            done.map_err(host(operation))?;
            match record {
                Some(mut record) if wanted == DomainState::Running && record.stiff.is_some() => {
                    record.stiff = None;
                    inner.save(&record).await
                }
                _ => Ok(()),
            }
        })
        .await
    }
}

impl std::fmt::Display for LibvirtHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} guests of {}", self.inner.options.hypervisor().name(), self.inner.libvirtd)
    }
}
