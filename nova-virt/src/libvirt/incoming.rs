//! Guests that are expected from elsewhere while they run: how they are made here.
//!
//! The source says how its guest is made, as its hypervisor describes it. Of that only is taken what
//! makes the two alike and what nobody here can know: the machine and the processor, where each
//! device is plugged in, and which volume is which. Everything else, above all every file, is this
//! host's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use nova_core::domain::{InstanceId, VolumeId};
use nova_core::port::VirtError;

use super::daemon::Copied;
use super::definition::definition;
use super::disks;
use super::host::{Inner, domain_of, host};
use super::record::{Coming, Record};
use super::seal::{from_hex, to_hex};
use super::xml::Element;
use crate::domain::DomainSpec;
use crate::files::FileError;

/// What a source says of its guest.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Said {
    pub(super) cookie: String,
    pub(super) xml: String,
}

/// Where the destination waits for its memory.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Room {
    pub(super) cookie: String,
    pub(super) at: String,
}

impl Inner {
    /// Makes room for a guest whose source says how it is made; the answer, or why not.
    pub(super) async fn room(self: &Arc<Self>, guest: InstanceId, said: &[u8]) -> Vec<u8> {
        // Nobody else works on it, and it is done to the end, whoever waits for it.
        let turn = self.turns.take(guest).await;
        let made = match serde_json::from_slice(said) {
            Ok(said) => {
                let inner = Arc::clone(self);
                let work = async move { inner.make_room(guest, said).await };
                super::host::to_its_end(turn, "make room for a guest", work).await
            }
            Err(error) => Err(host("make room for a guest")(error)),
        };
        let told = made.map_err(|error| why(&error));
        serde_json::to_vec(&told).unwrap_or_default()
    }

    async fn make_room(self: &Arc<Self>, guest: InstanceId, said: Said) -> Result<Room, VirtError> {
        let operation = "make room for a guest";
        let record = self.record(guest).await?;
        let coming = record.as_ref().and_then(|record| record.coming).filter(|how| !how.lost);
        let (Some(mut record), Some(coming)) = (record, coming) else {
            return Err(host(operation)("it is not expected here"));
        };
        let (Some(migrations), Some(incoming)) = (self.daemon().migrations(), &self.incoming)
        else {
            return Err(host(operation)("no running guest is taken in here"));
        };
        let cookie = from_hex(&said.cookie).ok_or_else(|| host(operation)("no cookie"))?;
        let source = Element::read(&said.xml);
        let source = source.ok_or_else(|| host(operation)("the description does not read"))?;
        // What came of an earlier attempt.
        self.end(guest).await?;
        adopt(&mut record, &source).map_err(host(operation))?;
        let domain = self.domain(&record)?;
        let extras = self.extras(&record, &domain).await?;
        let mut tree = definition(&domain, &extras).map_err(host(operation))?;
        plug_alike(&mut tree, &source);
        let xml = tree.write().map_err(host(operation))?;
        record.coming = Some(Coming { prepared: true, finishing: false, ..coming });
        self.save(&record).await?;
        let copied = self.copied(&domain, coming.copied);
        if coming.copied {
            let made = self.files("make a guest's disks", move |inner| {
                domain.disks().iter().try_for_each(|disk| {
                    let path = std::path::Path::new(&disk.path);
                    disks::make(&inner.tools, disk).map_err(FileError::io(path, "make a disk"))
                })
            });
            made.await.map_err(|error| super::host::no_room(guest, error))?;
        }
        let at = match incoming.address {
            std::net::IpAddr::V4(address) => format!("tcp://{address}"),
            std::net::IpAddr::V6(address) => format!("tcp://[{address}]"),
        };
        match migrations.prepare(&xml, &at, &cookie, &copied).await {
            Ok((cookie, at)) => Ok(Room { cookie: to_hex(&cookie), at }),
            Err(error) => {
                // Nothing has come yet: it is expected as before.
                record.coming = Some(Coming { prepared: false, ..coming });
                self.save(&record).await?;
                Err(host(operation)(error))
            }
        }
    }

    /// The disks of a guest that come with its memory.
    pub(super) fn copied(&self, domain: &DomainSpec, copied: bool) -> Copied {
        let targets = || domain.disks().iter().map(|disk| disk.target.clone()).collect();
        // Where none is named the daemon would copy all of them, the volumes as well.
        Copied((copied && !domain.disks().is_empty()).then(targets))
    }

    /// Completes a guest whose memory has come.
    pub(super) async fn complete(
        self: &Arc<Self>,
        mut record: Record,
        coming: Coming,
        boot: u64,
        cookie: &[u8],
    ) -> Result<(), VirtError> {
        let operation = "receive a guest";
        let guest = record.spec.instance;
        let Some(migrations) = self.daemon().migrations() else {
            return Err(host(operation)("no running guest is taken in here"));
        };
        record.coming = Some(Coming { finishing: true, ..coming });
        self.save(&record).await?;
        let domain = self.domain(&record)?;
        let copied = self.copied(&domain, coming.copied);
        match migrations.finish(&domain.name(), cookie, &copied).await {
            Ok(()) => {}
            // It was completed before, and only not noted: what is not complete would be gone.
            Err(super::LibvirtError::Refused { .. })
                if coming.finishing && self.state(guest).await?.is_some() => {}
            Err(error) => return Err(host(operation)(error)),
        }
        (record.boot, record.coming) = (boot, None);
        self.save(&record).await
    }

    /// Ends an expected guest: what has come of it is gone.
    pub(super) async fn lose(
        self: &Arc<Self>,
        mut record: Record,
        coming: Coming,
    ) -> Result<(), VirtError> {
        record.coming = Some(Coming { lost: true, ..coming });
        self.save(&record).await?;
        match self.daemon().destroy(domain_of(record.spec.instance)).await {
            Err(error) if error.is_no_domain() || error.is_wrong_state() => Ok(()),
            other => other.map_err(host("end a guest")),
        }
    }
}

/// An error with everything that led to it, for the other host.
pub(super) fn why(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        said = format!("{said}: {error}");
        source = error.source();
    }
    said
}

/// Takes over what a guest is at its source and nobody here can know.
fn adopt(record: &mut Record, source: &Element) -> Result<(), &'static str> {
    let id = source.at(&["uuid"]).map(|id| id.text_of().trim().parse::<InstanceId>());
    if id != Some(Ok(record.spec.instance)) {
        return Err("it is another guest");
    }
    let machine = source.at(&["os", "type"]).and_then(|kind| kind.get("machine"));
    record.machine = machine.map(ToOwned::to_owned);
    let devices = source.at(&["devices"]).ok_or("it has no devices")?;
    // The only disk of a guest's own that it cannot write to.
    record.config_drive = devices.all("disk").any(|disk| disk.at(&["readonly"]).is_some());
    let serials: BTreeMap<VolumeId, &str> = devices
        .all("disk")
        .filter_map(|disk| {
            let volume = disk.at(&["serial"])?.text_of().trim().parse().ok()?;
            Some((volume, disk.at(&["target"])?.get("dev")?))
        })
        .collect();
    if !serials.keys().eq(record.volumes.keys()) {
        return Err("other volumes are plugged in than were said");
    }
    for (plugged, target) in record.volumes.values_mut().zip(serials.values()) {
        plugged.target = (*target).to_owned();
    }
    Ok(())
}

/// Plugs every device in where it is at the source: with the same processor and controllers, so
/// that what one hypervisor saves the other can load.
fn plug_alike(tree: &mut Element, source: &Element) {
    if let Some(processor) = source.at(&["cpu"]) {
        tree.children_mut().retain(|element| element.name() != "cpu");
        tree.children_mut().push(processor.clone());
    }
    let Some(theirs) = source.at(&["devices"]) else { return };
    let ours = tree.children_mut().iter_mut().find(|element| element.name() == "devices");
    let Some(ours) = ours else { return };
    ours.children_mut().retain(|device| device.name() != "controller");
    ours.children_mut().extend(theirs.all("controller").cloned());
    for device in ours.children_mut().iter_mut().filter(|device| device.name() != "controller") {
        let same = |other: &&Element| key(other) == key(device);
        let address = theirs.all(device.name()).find(same).and_then(|other| other.at(&["address"]));
        if let Some(address) = address.filter(|address| address.get("type") == Some("pci")) {
            let address = address.clone();
            device.children_mut().retain(|part| part.name() != "address");
            device.children_mut().push(address);
        }
    }
}

/// What tells a device from others of its kind.
fn key(device: &Element) -> Option<&str> {
    match device.name() {
        "disk" => device.at(&["target"])?.get("dev"),
        "interface" => device.at(&["mac"])?.get("address"),
        // One of each.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_plugged_in_where_they_are_at_the_source_and_nothing_else_is_taken() {
        let source = "<domain><cpu mode='custom'/><devices>
            <emulator>/tmp/evil</emulator>
            <disk><source file='/etc/shadow'/><target dev='vda'/>
              <address type='pci' slot='0x07'/></disk>
            <disk><source file='/b'/><target dev='vdc'/><address type='pci' slot='0x08'/></disk>
            <controller type='pci' index='0' model='pci-root'/>
            <hostdev><address type='pci'/></hostdev>
            <interface><mac address='a'/><source bridge='br1'/><address type='pci' slot='0x03'/>
            </interface></devices></domain>";
        let ours = "<domain><cpu mode='host-model'/><devices>
            <disk><source file='/ours'/><target dev='vda'/></disk>
            <controller type='usb' model='none'/>
            <interface><mac address='a'/><source bridge='br2'/></interface></devices></domain>";
        let expected = "<domain><devices>
            <disk><source file='/ours'/><target dev='vda'/><address type='pci' slot='0x07'/></disk>
            <interface><mac address='a'/><source bridge='br2'/>
              <address type='pci' slot='0x03'/></interface>
            <controller type='pci' index='0' model='pci-root'/>
            </devices><cpu mode='custom'/></domain>";
        let [source, mut ours, expected] =
            [source, ours, expected].map(|text| Element::read(text).unwrap());
        plug_alike(&mut ours, &source);
        assert_eq!(ours, expected);
    }
}
