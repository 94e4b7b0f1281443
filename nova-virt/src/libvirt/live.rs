//! Guests that go to other hosts while they run.
//!
//! The guest's own daemon copies it, in phases of which each is asked for by itself; so the driver
//! has the word between them. At its destination a guest is expected by this driver first, and
//! made by the daemon when its source says how it is made ([`incoming`](super::incoming)); it is
//! sent by a task of the source's ([`sending`](super::sending)).

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::InstanceId;
use nova_core::port::{
    GuestSpec, ImageStore, Invitation, LiveMigrate, Parcel, Transfer, VirtError, VolumeLink,
};

use super::bases::Bases;
use super::daemon::DomainState;
use super::host::{Inner, LibvirtHost, host, power, to_its_end};
use super::record::{Coming, Plugged, Record};
use super::seal::from_hex;
use super::sending::Address;
use crate::files::{FORMAT, FileError};

/// How a host takes in guests that run.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Where their memory comes.
    pub(super) address: IpAddr,
    /// Where the images come from that they were made of.
    pub(super) images: Arc<dyn ImageStore>,
}

#[async_trait]
impl LiveMigrate for LibvirtHost {
    async fn expect(
        &self,
        spec: &GuestSpec,
        links: &[VolumeLink],
    ) -> Result<Invitation, VirtError> {
        let operation = "expect a guest";
        let turn = self.turn(spec.instance).await;
        let inner = Arc::clone(&self.inner);
        let Some(incoming) = &inner.incoming else {
            return Err(host(operation)("no running guest is taken in here"));
        };
        if let Some(half) = inner.is_to_be_made(spec.instance).await? {
            let bases = inner.fetch(spec, None, &*incoming.images).await?;
            let (inner, links) = (Arc::clone(&inner), links.to_vec());
            let record = Record::new(spec.clone());
            to_its_end(turn, operation, async move {
                let guest = record.spec.instance;
                if half {
                    inner.scrub(guest).await?;
                }
                let expected = inner.expect(record, links, bases).await;
                if expected.is_err() {
                    // The first error is the one to tell.
                    let _ = inner.scrub(guest).await;
                }
                expected
            })
            .await?;
        }
        inner.invitation(spec.instance).await
    }

    async fn send(&self, instance: InstanceId, to: &Invitation) -> Result<Transfer, VirtError> {
        self.send_live(instance, to).await
    }

    async fn receive(&self, instance: InstanceId, parcel: &Parcel) -> Result<(), VirtError> {
        let operation = "receive a guest";
        let (boot, cookie) = (parcel.boot, from_hex(&parcel.disks));
        self.alone(instance, operation, move |inner| async move {
            let (state, record) = inner.existing(instance).await?;
            let Some((record, coming)) = record.and_then(|record| {
                let coming = record.coming?;
                Some((record, coming))
            }) else {
                return Ok(());
            };
            if state == DomainState::Off {
                let power = power(state);
                return Err(VirtError::WrongPower { instance, power, operation });
            }
            if !coming.prepared {
                return Err(host(operation)("nothing was sent"));
            }
            let cookie = cookie.ok_or_else(|| host(operation)("the parcel does not read"))?;
            inner.complete(record, coming, boot, &cookie).await
        })
        .await
    }

    async fn is_complete(&self, instance: InstanceId) -> Result<bool, VirtError> {
        match self.inner.record(instance).await? {
            Some(record) => Ok(record.whole && record.coming.is_none()),
            None => Ok(self.inner.state(instance).await?.is_some()),
        }
    }

    async fn recall(&self, instance: InstanceId) -> Result<(), VirtError> {
        self.take_back(instance).await
    }
}

impl Inner {
    /// Whether guests that run can be sent and taken in.
    pub(super) fn sends_guests(&self) -> bool {
        let speaks = self.daemon().migrations().is_some();
        self.has_disks() && speaks && self.offers.is_some() && self.incoming.is_some()
    }

    async fn expect(
        self: &Arc<Self>,
        mut record: Record,
        links: Vec<VolumeLink>,
        bases: Bases,
    ) -> Result<(), VirtError> {
        let operation = "expect a guest";
        let guest = record.spec.instance;
        record.kernel = bases.kernel();
        let shared = self.files(operation, move |inner| {
            bases.keep(&inner.cache, guest)?;
            let Some(storage) = &inner.storage else { return Ok(None) };
            let failed = || FileError::io(storage.directory(), "look for a guest's disks");
            let there = storage.latest(guest).map_err(failed())?;
            let claimed = |number: &u32| storage.is_claimed(guest, *number).unwrap_or(false);
            let there = there.filter(claimed);
            if let Some(number) = there {
                storage.join(guest, number).map_err(failed())?;
            }
            Ok(there)
        });
        let shared = shared.await?;
        record.place = match shared {
            Some(number) => Some(number),
            None => self.place(guest).await?,
        };
        let spec = self.domain(&record)?;
        let mut taken = Vec::new();
        for VolumeLink { volume, connection } in links {
            // Until its source says which it has.
            let full = || host(operation)("the guest's bus is full");
            let target = match record.spec.root {
                Some(root) if root == volume => spec.root_target(),
                _ => spec.free_target(&taken),
            };
            let target = target.ok_or_else(full)?;
            taken.push(target.clone());
            record.volumes.insert(volume, Plugged { connection, target });
        }
        record.coming = Some(Coming { copied: shared.is_none(), ..Coming::default() });
        record.whole = true;
        self.save(&record).await
    }

    /// What the source has to know; as good for a guest that is here already.
    async fn invitation(self: &Arc<Self>, guest: InstanceId) -> Result<Invitation, VirtError> {
        let operation = "expect a guest";
        let ask = self.offering().await?;
        let ask = ask.ok_or_else(|| host(operation)("this host has no address"))?;
        let record = self.record(guest).await?;
        let place = record.filter(|record| record.coming.is_some_and(|coming| !coming.copied));
        let shared = self.storage.as_ref().zip(place.and_then(|record| record.place));
        let shared = shared.map(|(storage, number)| (storage.directory().to_owned(), number));
        let secret = self.invitation_of(guest).to_hex();
        let address = Address { format: FORMAT, ask, secret, shared };
        let address = serde_json::to_string(&address).map_err(host(operation))?;
        Ok(Invitation { instance: guest, address })
    }
}
