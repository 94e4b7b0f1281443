//! Plugging volumes into guests, running or not.

use async_trait::async_trait;
use nova_core::domain::{InstanceId, VolumeId};
use nova_core::port::{AttachVolumes, VirtError, VolumeLink};

use super::daemon::{DomainState, LibvirtError, Which};
use super::definition::{VolumeDisk, volume_disk};
use super::host::{Inner, LibvirtHost, domain_of, host, power, source_of};
use super::record::Plugged;
use super::xml::Element;
use crate::domain::DiskBus;

#[async_trait]
impl AttachVolumes for LibvirtHost {
    async fn attach(&self, instance: InstanceId, link: &VolumeLink) -> Result<(), VirtError> {
        let operation = "plug a volume in";
        let VolumeLink { volume, connection } = link.clone();
        self.alone(instance, operation, move |inner| async move {
            let (state, mut record) = inner.own(instance, operation).await?;
            let spec = inner.domain(&record)?;
            let Some(source) = source_of(&connection) else {
                return Err(host(operation)(format!("no host reaches it by {connection:?}")));
            };
            let target = match record.volumes.get(&volume) {
                Some(plugged) => plugged.target.clone(),
                None => {
                    can_change(instance, state, operation)?;
                    let taken = record.volumes.values().map(|plugged| plugged.target.clone());
                    let free = match record.spec.root {
                        Some(root) if root == volume => spec.root_target(),
                        _ => spec.free_target(&taken.collect::<Vec<_>>()),
                    };
                    let target = free.ok_or_else(|| host(operation)("the guest's bus is full"))?;
                    // Before it is plugged: whoever detaches it has to know.
                    let plugged = Plugged { connection, target: target.clone() };
                    record.volumes.insert(volume, plugged);
                    inner.save(&record).await?;
                    target
                }
            };
            if state.is_down() || inner.sees(instance, &target).await? {
                return Ok(());
            }
            let bus = spec.bus().unwrap_or(DiskBus::Virtio);
            let disk = volume_disk(&VolumeDisk { volume, source, target }, bus);
            let disk = disk.write().map_err(host(operation))?;
            let plugged = inner.daemon().plug(domain_of(instance), &disk).await;
            plugged.map_err(host(operation))
        })
        .await
    }

    async fn detach(&self, instance: InstanceId, volume: VolumeId) -> Result<(), VirtError> {
        let operation = "pull a volume out";
        self.alone(instance, operation, move |inner| async move {
            let Some(mut record) = inner.record(instance).await? else { return Ok(()) };
            let Some(Plugged { target, .. }) = record.volumes.get(&volume).cloned() else {
                return Ok(());
            };
            let state = inner.state(instance).await?.unwrap_or(DomainState::Off);
            can_change(instance, state, operation)?;
            if let DomainState::Running | DomainState::Paused = state {
                if record.spec.root == Some(volume) {
                    let power = power(state);
                    return Err(VirtError::WrongPower { instance, power, operation });
                }
                inner.pull_out(instance, &disk_named(&target), operation).await?;
            }
            record.volumes.remove(&volume);
            inner.save(&record).await
        })
        .await
    }
}

impl Inner {
    async fn sees(&self, guest: InstanceId, target: &str) -> Result<bool, VirtError> {
        let disk = self.device(guest, &disk_named(target)).await;
        Ok(disk.map_err(host("ask what is plugged in"))?.is_some())
    }

    /// The first device of an executing guest of which this is true, as the hypervisor describes
    /// it.
    pub(super) async fn device(
        &self,
        guest: InstanceId,
        is_it: &(dyn Fn(&Element) -> bool + Sync),
    ) -> Result<Option<Element>, LibvirtError> {
        let now = match self.daemon().description(domain_of(guest), Which::Current).await {
            Err(error) if error.is_no_domain() => return Ok(None),
            now => now?,
        };
        let tree = Element::read(&now);
        let tree = tree.ok_or(LibvirtError::Message { reason: "a description does not read" })?;
        // One that does not execute has a definition, and no device in it is in use.
        if tree.get("id").is_none() {
            return Ok(None);
        }
        let devices = tree.at(&["devices"]).into_iter().flat_map(Element::children);
        Ok(devices.into_iter().find(|device| is_it(device)).cloned())
    }

    /// Asks a guest to give up a device until it has.
    pub(super) async fn pull_out(
        &self,
        guest: InstanceId,
        is_it: &(dyn Fn(&Element) -> bool + Sync),
        operation: &'static str,
    ) -> Result<(), VirtError> {
        let gone = self
            .wait_until(guest, || async {
                let Some(device) = self.device(guest, is_it).await? else { return Ok(true) };
                // Again and again: one that was still starting has not heard.
                let xml = device.write();
                let xml = xml.map_err(|_| LibvirtError::Message { reason: "a device" })?;
                match self.daemon().unplug(domain_of(guest), &xml).await {
                    Err(error) if error.is_no_device() => Ok(true),
                    Ok(()) | Err(LibvirtError::Refused { .. }) => {
                        Ok(self.device(guest, is_it).await?.is_none())
                    }
                    Err(error) => Err(error),
                }
            })
            .await?;
        if gone { Ok(()) } else { Err(host(operation)("the guest does not give it up")) }
    }
}

/// What a guest has can be changed: its memory, if that is on disk, counts on it.
pub(super) fn can_change(
    instance: InstanceId,
    state: DomainState,
    operation: &'static str,
) -> Result<(), VirtError> {
    match state {
        DomainState::Saved => {
            Err(VirtError::WrongPower { instance, power: power(state), operation })
        }
        _ => Ok(()),
    }
}

/// Whether a device is the disk that a guest has under this name.
fn disk_named(target: &str) -> impl Fn(&Element) -> bool + Sync {
    move |device| {
        let name = device.at(&["target"]).and_then(|element| element.get("dev"));
        device.name() == "disk" && name == Some(target)
    }
}
