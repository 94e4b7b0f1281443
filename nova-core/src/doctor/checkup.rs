//! What somebody who examined a whole cloud has to say.

use std::collections::BTreeMap;

use crate::doctor::{Finding, Snapshot, Strictness, examine};
use crate::domain::{Host, HostId, HostName};

/// The result of examining a cloud: what is wrong, and how much of it was looked at.
///
/// A checkup without findings is worth as much as what was asked for it: see
/// [`unasked`](Self::unasked), [`volumes_unasked`](Self::volumes_unasked) and
/// [`images_unasked`](Self::images_unasked).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Checkup {
    /// What must not be; empty when everything is as it should be.
    pub findings: Vec<Finding>,
    /// How strictly it was looked at: idle when no operation was open.
    pub strictness: Strictness,
    /// Operations that had not ended.
    pub operations_open: usize,
    /// Servers that there are records of.
    pub servers: usize,
    /// Guests that were seen on the hosts that answered.
    pub guests: usize,
    /// The hosts that said what runs on them, sorted.
    pub asked: Vec<HostName>,
    /// The hosts that could not be asked, and why, sorted. Nothing is known of their guests.
    pub unasked: BTreeMap<HostName, String>,
    /// Why the volume driver could not be asked, when it could not.
    pub volumes_unasked: Option<String>,
    /// Why the image store could not be asked, when it could not.
    pub images_unasked: Option<String>,
}

impl Checkup {
    /// Examines a snapshot: as idle when it holds no open operation. Hosts whose guests are in
    /// the snapshot count as asked; `unasked` says why the others are not.
    pub fn of(snapshot: &Snapshot, unasked: &BTreeMap<HostId, String>) -> Self {
        let strictness = if snapshot.open.is_empty() { Strictness::Idle } else { Strictness::Busy };
        let was_asked = |host: &&Host| snapshot.guests.contains_key(&host.id);
        let (asked, others): (Vec<&Host>, Vec<&Host>) = snapshot.hosts.iter().partition(was_asked);
        let mut asked: Vec<HostName> = asked.into_iter().map(|host| host.name.clone()).collect();
        asked.sort_unstable();
        let reason = |host: &Host| unasked.get(&host.id).cloned().unwrap_or("not tried".to_owned());
        Self {
            findings: examine(snapshot, strictness),
            strictness,
            operations_open: snapshot.open.len(),
            servers: snapshot.instances.len(),
            guests: snapshot.guests.values().map(Vec::len).sum(),
            asked,
            unasked: others.into_iter().map(|host| (host.name.clone(), reason(host))).collect(),
            images_unasked: snapshot.real_images.is_none().then(|| "not tried".to_owned()),
            volumes_unasked: snapshot.real_volumes.is_none().then(|| "not tried".to_owned()),
        }
    }

    /// Whether nothing was found.
    pub const fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }
}
