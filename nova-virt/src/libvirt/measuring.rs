//! What guests use, as the daemon counts it.

use async_trait::async_trait;
use nova_core::domain::{InstanceId, Mac};
use nova_core::port::{DiskUse, GuestUse, MeasureGuests, NicUse, VirtError};

use super::daemon::{DomainId, LibvirtError, Traffic, Which};
use super::host::{Inner, LibvirtHost, domain_of, host};
use super::xml::Element;

#[async_trait]
impl MeasureGuests for LibvirtHost {
    async fn use_of(&self, instance: InstanceId) -> Result<GuestUse, VirtError> {
        let (state, _) = self.inner.existing(instance).await?;
        if state.is_down() {
            return Ok(GuestUse::default());
        }
        match self.inner.measure(domain_of(instance)).await {
            // It ended meanwhile.
            Err(error) if error.is_wrong_state() || error.is_no_domain() => Ok(GuestUse::default()),
            used => used.map_err(host("measure a guest")),
        }
    }
}

impl Inner {
    async fn measure(&self, domain: DomainId) -> Result<GuestUse, LibvirtError> {
        let daemon = self.daemon();
        let now = daemon.description(domain, Which::Current).await?;
        let tree = Element::read(&now);
        let tree = tree.ok_or(LibvirtError::Message { reason: "a description does not read" })?;
        let cpu_time = known(daemon.cpu_time(domain).await)?;
        let memory_bytes = known(daemon.memory(domain).await)?.flatten();
        let mut used = GuestUse { cpu_time, memory_bytes, ..GuestUse::default() };
        let devices = tree.at(&["devices"]).into_iter();
        for device in devices.flat_map(Element::children) {
            let Some(target) = device.at(&["target"]).and_then(|target| target.get("dev")) else {
                continue;
            };
            match device.name() {
                "disk" => {
                    let moved = known(daemon.disk_traffic(domain, target).await)?;
                    used.disks.extend(moved.map(|moved| disk_use(target, moved)));
                }
                "interface" => {
                    let moved = known(daemon.card_traffic(domain, target).await)?;
                    let mac = mac_of(device).zip(moved);
                    used.nics.extend(mac.map(|(mac, moved)| nic_use(mac, moved)));
                }
                _ => {}
            }
        }
        used.disks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(used)
    }
}

/// An answer, unless the daemon refuses one: not every driver counts everything.
fn known<T>(answer: Result<T, LibvirtError>) -> Result<Option<T>, LibvirtError> {
    match answer {
        Err(error) if error.is_wrong_state() || error.is_no_domain() => Err(error),
        Err(LibvirtError::Refused { .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

/// The Ethernet address of an interface in a description.
pub(super) fn mac_of(interface: &Element) -> Option<Mac> {
    interface.at(&["mac"])?.get("address")?.parse().ok()
}

fn disk_use(name: &str, moved: Traffic) -> DiskUse {
    DiskUse {
        name: name.to_owned(),
        read_bytes: moved.bytes_in,
        reads: moved.count_in,
        written_bytes: moved.bytes_out,
        writes: moved.count_out,
    }
}

fn nic_use(mac: Mac, moved: Traffic) -> NicUse {
    NicUse {
        mac,
        received_bytes: moved.bytes_in,
        received_packets: moved.count_in,
        sent_bytes: moved.bytes_out,
        sent_packets: moved.count_out,
    }
}
