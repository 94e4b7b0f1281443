//! What must be true of the CPUs and devices that servers have for themselves.

use std::collections::BTreeSet;

use crate::doctor::Snapshot;

/// No CPU and no device has two owners, and no host gives what it does not have. Here too, what
/// was there when the host came to offer less stays.
pub(super) fn devices_have_one_owner(s: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut cpus, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for claim in &s.claims {
        let (at, assigned) = (claim.host, &claim.assigned);
        let Some(host) = s.hosts.iter().find(|host| host.id == at) else { continue };
        let name = &host.name;
        for cpu in assigned.pinned().filter(|cpu| !cpus.insert((at, *cpu))) {
            wrong.push(format!("CPU {cpu} of host {name} has two owners"));
        }
        for device in assigned.devices.iter().filter(|device| !devices.insert((at, *device))) {
            wrong.push(format!("PCI device {device} of host {name} has two owners"));
        }
        let missing = assigned.missing(host.numa.as_ref(), &host.pci).filter(|_| !claim.kept);
        if let Some(what) = missing {
            wrong.push(format!("{} has {what} of host {name}, which has none", claim.instance));
        }
    }
    wrong
}
