//! The phases of a migration as they cross the wire: the third form of them, with named parameters.

use async_trait::async_trait;

use super::procedures as ask;
use super::xdr::{Reader, Writer};
use super::{PROGRAM, Rpc, of};
use crate::libvirt::LibvirtError;
use crate::libvirt::daemon::{Copied, DomainId, Migrations};

/// How: `VIR_MIGRATE_*`.
mod how {
    /// The domain goes on while it is copied.
    pub(super) const LIVE: u32 = 1 << 0;
    /// It is frozen at its destination.
    pub(super) const PAUSED: u32 = 1 << 5;
    /// Of its disks, what they add to what lies below them is copied.
    pub(super) const COPY_TOP: u32 = 1 << 7;
    /// Whether hosts share what is not copied is for those to say who set them up.
    pub(super) const TRUST_STORAGE: u32 = 1 << 9;
    /// One that changes faster than it is copied is slowed down.
    pub(super) const CONVERGE: u32 = 1 << 13;
}

/// The kind of a parameter that is a text.
const TEXT: i32 = 7;

fn flags(copied: &Copied) -> u32 {
    let copy = if copied.0.is_some() { how::COPY_TOP } else { 0 };
    how::LIVE | how::PAUSED | how::TRUST_STORAGE | how::CONVERGE | copy
}

/// Named parameters, and the targets of the disks that are copied.
fn parameters(to: Writer, named: &[(&str, &str)], copied: &Copied) -> Writer {
    let targets = copied.0.iter().flatten().map(|target| ("migrate_disks", target.as_str()));
    let all: Vec<(&str, &str)> = named.iter().copied().chain(targets).collect();
    // Fewer than a guest has disks, and a few.
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    all.into_iter().fold(to.u32(count), |to, (name, value)| to.text(name).i32(TEXT).text(value))
}

#[async_trait]
impl Migrations for Rpc {
    async fn begin(
        &self,
        domain: DomainId,
        copied: &Copied,
    ) -> Result<(Vec<u8>, String), LibvirtError> {
        let body = parameters(of(domain), &[], copied).u32(flags(copied));
        let answer = self.call(ask::MIGRATE_BEGIN, body).await?;
        let mut answer = Reader::new(&answer);
        Ok((answer.bytes()?.to_vec(), answer.text()?))
    }

    async fn prepare(
        &self,
        xml: &str,
        at: &str,
        cookie: &[u8],
        copied: &Copied,
    ) -> Result<(Vec<u8>, String), LibvirtError> {
        let named = [("destination_xml", xml), ("migrate_uri", at)];
        let body = parameters(Writer::default(), &named, copied).bytes(cookie).u32(flags(copied));
        let answer = self.call(ask::MIGRATE_PREPARE, body).await?;
        let mut answer = Reader::new(&answer);
        let cookie = answer.bytes()?.to_vec();
        Ok((cookie, answer.maybe_text()?.unwrap_or_else(|| at.to_owned())))
    }

    async fn perform(
        &self,
        domain: DomainId,
        at: &str,
        cookie: &[u8],
        copied: &Copied,
    ) -> Result<Vec<u8>, LibvirtError> {
        // Not from daemon to daemon: they do not know each other.
        let body = parameters(of(domain).maybe_text(None), &[("migrate_uri", at)], copied);
        let body = body.bytes(cookie).u32(flags(copied));
        // It takes as long as it takes, and no place from those that end soon.
        let _waiting = self.meter.get().map(nova_core::clock::Meter::wait);
        let answer = self.link().await?.call(PROGRAM, ask::MIGRATE_PERFORM, body).await?;
        Ok(Reader::new(&answer).bytes()?.to_vec())
    }

    async fn finish(&self, name: &str, cookie: &[u8], copied: &Copied) -> Result<(), LibvirtError> {
        let named = [("destination_name", name)];
        // The disks were copied by now, and are not named again.
        let body = parameters(Writer::default(), &named, &Copied(None));
        let body = body.bytes(cookie).u32(flags(copied)).i32(0);
        self.call(ask::MIGRATE_FINISH, body).await.map(drop)
    }

    async fn take_back(&self, domain: DomainId, copied: &Copied) -> Result<(), LibvirtError> {
        let body = parameters(of(domain), &[], &Copied(None));
        let body = body.bytes(&[]).u32(flags(copied)).i32(1);
        self.call(ask::MIGRATE_CONFIRM, body).await.map(drop)
    }

    async fn abort(&self, domain: DomainId) -> Result<(), LibvirtError> {
        self.call(ask::ABORT_JOB, of(domain)).await.map(drop)
    }
}
