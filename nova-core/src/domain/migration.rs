//! A server between two hosts.

use crate::domain::{Flavor, HostId, ImageId, Instance, Resources, VmState};

/// Where a server comes from and where it goes, from the moment that its move was accepted until
/// the move is confirmed, reverted or undone. For as long both ends may hold a claim for it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Migration {
    /// The host that it leaves.
    pub from: HostId,
    /// The host that it goes to, as soon as one is chosen.
    pub to: Option<HostId>,
    /// Its flavor on the host that it leaves.
    pub old_flavor: Flavor,
    /// Its flavor on the host that it goes to.
    pub new_flavor: Flavor,
    /// The state that it was in.
    pub was: VmState,
}

impl Migration {
    /// Whether `host` is one of the two ends.
    pub fn names(&self, host: HostId) -> bool {
        self.from == host || self.to == Some(host)
    }
}

impl Instance {
    /// The image that its guest is made from now.
    pub fn source(&self) -> ImageId {
        self.shelf.unwrap_or(self.image)
    }

    /// Whether it is on no host and never was: nothing that it was given is used.
    pub fn never_began(&self) -> bool {
        self.host.is_none() && self.launched_at.is_none()
    }

    /// Its flavor on `host`; none on a host that is not its own and not an end of its move.
    pub fn flavor_on(&self, host: HostId) -> Option<&Flavor> {
        match &self.migration {
            Some(moving) if moving.from == host => Some(&moving.old_flavor),
            Some(moving) if moving.to == Some(host) => Some(&moving.new_flavor),
            _ => (self.host == Some(host)).then_some(&self.flavor),
        }
    }

    /// What it counts against the quota: while it moves, of each resource the larger amount.
    pub fn usage(&self) -> Resources {
        let Some(moving) = &self.migration else { return self.flavor.resources() };
        let (old, new) = (moving.old_flavor.resources(), moving.new_flavor.resources());
        Resources {
            vcpus: old.vcpus.max(new.vcpus),
            memory: old.memory.max(new.memory),
            disk: old.disk.max(new.disk),
        }
    }

    /// Every host that may have a guest or a claim of it, its own first.
    pub fn hosts(&self) -> Vec<HostId> {
        let ends = self.migration.iter().flat_map(|moving| [Some(moving.from), moving.to]);
        let mut hosts: Vec<HostId> = Vec::new();
        for host in [self.host].into_iter().chain(ends).flatten() {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }
}
