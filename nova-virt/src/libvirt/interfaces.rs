//! Plugging interfaces into guests, running or not. What is plugged in stands in the record, from
//! which a guest is defined anew before each start.

use async_trait::async_trait;
use nova_core::domain::{InstanceId, Mac};
use nova_core::port::{Nic, PlugInterfaces, VirtError};

use super::daemon::DomainState;
use super::definition::card;
use super::host::{Inner, LibvirtHost, domain_of, host};
use super::measuring::mac_of;
use super::plugging::can_change;
use super::xml::Element;
use crate::domain::DomainSpec;

#[async_trait]
impl PlugInterfaces for LibvirtHost {
    async fn plug(&self, instance: InstanceId, nic: &Nic) -> Result<(), VirtError> {
        let operation = "plug an interface in";
        let nic = nic.clone();
        self.alone(instance, operation, move |inner| async move {
            let (state, mut record) = inner.own(instance, operation).await?;
            if record.spec.nics.iter().all(|other| other.mac != nic.mac) {
                can_change(instance, state, operation)?;
                record.spec.nics.push(nic.clone());
                // One that cannot be is not kept.
                inner.domain(&record)?;
                // Before it is plugged: whoever pulls it out has to know.
                inner.save(&record).await?;
            }
            let seen = inner.device(instance, &card_with(nic.mac)).await;
            if state.is_down() || seen.map_err(host(operation))?.is_some() {
                return Ok(());
            }
            let spec = inner.domain(&record)?;
            let interface = spec.interfaces().iter().find(|interface| interface.mac == nic.mac);
            let interface = interface.ok_or_else(|| host(operation)("it has no such interface"))?;
            let inside = match spec.root_fs() {
                Some(_) => Some(inner.free_name(instance).await?),
                None => None,
            };
            let xml = card(interface, inside).write().map_err(host(operation))?;
            let plugged = inner
                .wait_until(instance, || async {
                    match inner.daemon().plug(domain_of(instance), &xml).await {
                        Err(error) if error.is_too_early() => Ok(false),
                        plugged => plugged.map(|()| true),
                    }
                })
                .await?;
            if plugged { Ok(()) } else { Err(host(operation)("it does not come up")) }
        })
        .await
    }

    async fn unplug(&self, instance: InstanceId, mac: Mac) -> Result<(), VirtError> {
        let operation = "pull an interface out";
        self.alone(instance, operation, move |inner| async move {
            let Some(mut record) = inner.record(instance).await? else { return Ok(()) };
            if record.spec.nics.iter().all(|nic| nic.mac != mac) {
                return Ok(());
            }
            let state = inner.state(instance).await?.unwrap_or(DomainState::Off);
            can_change(instance, state, operation)?;
            if state != DomainState::Off {
                inner.pull_out(instance, &card_with(mac), operation).await?;
            }
            record.spec.nics.retain(|nic| nic.mac != mac);
            inner.save(&record).await
        })
        .await
    }

    async fn plugged(&self, instance: InstanceId) -> Result<Vec<Nic>, VirtError> {
        let (_, record) = self.inner.existing(instance).await?;
        Ok(record.map(|record| record.spec.nics).unwrap_or_default())
    }
}

/// Whether a device is the interface with this address.
fn card_with(mac: Mac) -> impl Fn(&Element) -> bool + Sync {
    move |device| device.name() == "interface" && mac_of(device) == Some(mac)
}

impl Inner {
    /// A name that no interface of a container has.
    async fn free_name(&self, guest: InstanceId) -> Result<String, VirtError> {
        let operation = "plug an interface in";
        for name in (0..=DomainSpec::INTERFACES_MAX).map(|number| format!("eth{number}")) {
            let has_it = |device: &Element| {
                device.at(&["guest"]).and_then(|inside| inside.get("dev")) == Some(&name)
            };
            if self.device(guest, &has_it).await.map_err(host(operation))?.is_none() {
                return Ok(name);
            }
        }
        Err(host(operation)("every name is taken"))
    }
}
