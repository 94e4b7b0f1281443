//! The hosts as they would be.

use nova_core::domain::{
    Admission, AllocationRatio, HostId, HostState, HostTable, Invalid, Inventory, Liveness,
    ResourceKind,
};

/// Something that could happen to the hosts of a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HostChange {
    /// One more host.
    Add(Box<HostState>),
    /// A host is not there any more, nor are its servers.
    Remove(HostId),
    /// A host does not answer. What is claimed on it stays claimed.
    Fail(HostId),
    /// A host takes no new servers.
    Disable(HostId),
    /// Another allocation ratio of one resource, on one host or on all.
    Ratio {
        /// The host; all of them without.
        host: Option<HostId>,
        /// The resource.
        resource: ResourceKind,
        /// How much is promised of each that is there.
        ratio: AllocationRatio,
    },
    /// Another reserve of one resource, on one host or on all.
    Reserve {
        /// The host; all of them without.
        host: Option<HostId>,
        /// The resource.
        resource: ResourceKind,
        /// How much is kept for the host itself, in the resource's unit.
        amount: u64,
    },
}

/// A change cannot happen to this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhatIfError {
    /// It names a host that is not there.
    #[error("host {0} is not in the table")]
    NoSuchHost(HostId),
    /// It adds a host that is there already.
    #[error("host {0} is in the table already")]
    Exists(HostId),
    /// It sets what no host may have.
    #[error("host {host}")]
    Invalid {
        /// The host.
        host: HostId,
        /// What is wrong.
        source: Invalid,
    },
}

/// The table as it would be after these changes, one after the other. The table itself stays as it
/// is; what would be can be asked like any other table.
///
/// ```
/// # use std::sync::Arc;
/// # use nova_core::domain::*;
/// use nova_core::port::Scheduler;
/// use nova_core::seed::Seed;
/// use nova_sched::FilterScheduler;
/// use nova_sched::explain::{HostChange, what_if};
///
/// # let total = Resources { vcpus: Vcpus(1), memory: MiB(4096), disk: GiB(10) };
/// # let (name, zone) = (HostName::new("host-1")?, ZoneName::new("z")?);
/// # let host = HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total));
/// # let flavor = Arc::new(Flavor::new(FlavorName::new("small")?, Vcpus(1), MiB(512))?);
/// # let request = RequestSpec::new(InstanceId::from_u128(9), ProjectId::new("p")?, flavor);
/// let mut hosts = HostTable::new([host]);
/// hosts.update(HostId::from_u128(1), |row| {
///     row.claim(InstanceId::from_u128(1), Resources { vcpus: Vcpus(1), ..Resources::ZERO });
/// });
/// let policy = FilterScheduler::nova();
/// assert!(policy.find(&hosts, &request, Seed::new(1)).is_none());
/// let ratio = AllocationRatio::new(2.0)?;
/// let change = HostChange::Ratio { host: None, resource: ResourceKind::Vcpus, ratio };
/// assert!(policy.find(&what_if(&hosts, &[change])?, &request, Seed::new(1)).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`WhatIfError`] names the host that a change cannot happen to.
pub fn what_if(hosts: &HostTable, changes: &[HostChange]) -> Result<HostTable, WhatIfError> {
    let mut hosts = hosts.clone();
    for change in changes {
        match change {
            HostChange::Add(host) if hosts.get(host.id).is_some() => {
                return Err(WhatIfError::Exists(host.id));
            }
            HostChange::Add(host) => hosts.put((**host).clone()),
            HostChange::Remove(id) => {
                hosts.remove(*id).ok_or(WhatIfError::NoSuchHost(*id))?;
            }
            HostChange::Fail(id) => update(&mut hosts, *id, |row| row.liveness = Liveness::Down)?,
            HostChange::Disable(id) => {
                update(&mut hosts, *id, |row| row.admission = Admission::Disabled)?;
            }
            HostChange::Ratio { host, resource, ratio } => {
                each(&mut hosts, *host, |inventory| Ok(inventory.with_ratio(*resource, *ratio)))?;
            }
            HostChange::Reserve { host, resource, amount } => {
                each(&mut hosts, *host, |inventory| inventory.with_reserved(*resource, *amount))?;
            }
        }
    }
    Ok(hosts)
}

fn update(
    hosts: &mut HostTable,
    id: HostId,
    change: impl FnOnce(&mut HostState),
) -> Result<(), WhatIfError> {
    if hosts.update(id, change) { Ok(()) } else { Err(WhatIfError::NoSuchHost(id)) }
}

/// Changes the inventory of one host, or of all.
fn each(
    hosts: &mut HostTable,
    host: Option<HostId>,
    change: impl Fn(Inventory) -> Result<Inventory, Invalid>,
) -> Result<(), WhatIfError> {
    let ids: Vec<HostId> = match host {
        Some(host) => vec![host],
        None => hosts.rows().map(|row| row.id).collect(),
    };
    for id in ids {
        let row = hosts.get(id).ok_or(WhatIfError::NoSuchHost(id))?;
        let changed = change(row.inventory);
        let inventory = changed.map_err(|source| WhatIfError::Invalid { host: id, source })?;
        update(hosts, id, |row| row.inventory = inventory)?;
    }
    Ok(())
}
