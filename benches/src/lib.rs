//! Clouds to measure on, drawn from a fixed seed, so that two runs measure the same; and what ours
//! is measured against.

pub mod contest;
pub mod grid;
pub mod packed;
pub mod stream;

use std::sync::Arc;

use nova_core::domain::{
    Flavor, FlavorName, GiB, HostId, HostName, HostState, HostTable, InstanceId, Invalid,
    Inventory, MiB, ProjectId, RequestSpec, Resources, Vcpus, ZoneName,
};
use nova_core::seed::Seed;

/// So many hosts of 64 vCPU and 256 GiB, each with a share of servers on it.
///
/// # Errors
/// [`Invalid`] never, in fact: the names are good.
pub fn busy_hosts(count: u32) -> Result<HostTable, Invalid> {
    let total = Resources { vcpus: Vcpus(64), memory: MiB(262_144), disk: GiB(2000) };
    let zone = ZoneName::new("bench")?;
    let mut rows = Vec::new();
    for number in 1..=count {
        let name = HostName::new(format!("host-{number}"))?;
        let id = HostId::from_u128(number.into());
        let mut host = HostState::new(id, name, zone.clone(), Inventory::new(total));
        let mut chance = Seed::new(1).child_of("host", number.into()).chance();
        for nth in 0..chance.below(30) {
            let size = [1, 1, 1, 2, 2, 4][chance.index(6)];
            let memory = MiB(u64::from(size) * 1792);
            let amount = Resources { vcpus: Vcpus(size), memory, disk: GiB(20) };
            let instance = u128::from(number) << 32 | u128::from(nth);
            host.claim(InstanceId::from_u128(instance), amount);
        }
        rows.push(host);
    }
    Ok(HostTable::new(rows))
}

/// A request for one server of 2 vCPU and 3584 MiB.
///
/// # Errors
/// [`Invalid`] never, in fact: the values are good.
pub fn small_request() -> Result<RequestSpec, Invalid> {
    let flavor = Flavor::new(FlavorName::new("small")?, Vcpus(2), MiB(3584))?;
    let flavor = Arc::new(flavor.with_root_disk(GiB(20))?);
    Ok(RequestSpec::new(InstanceId::from_u128(1), ProjectId::new("bench")?, flavor))
}

/// The virtual CPUs of every host of a contest.
pub const VCPUS: u32 = 64;
/// Its memory.
const MEMORY_MIB: u32 = 262_144;

/// The memory of a host in quanta.
pub const fn quanta() -> u32 {
    MEMORY_MIB / stream::QUANTUM_MIB
}

/// What the references know of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Fewest free vCPUs.
    BestFit,
    /// Most free vCPUs.
    WorstFit,
    /// Nova's default weighers, which spread.
    Nova,
}

impl Rule {
    /// That of a policy.
    pub fn of(policy: &str) -> Option<Self> {
        match policy {
            "best-fit" => Some(Self::BestFit),
            "worst-fit" => Some(Self::WorstFit),
            "nova" | "nova-custom" => Some(Self::Nova),
            _ => None,
        }
    }

    /// The sum of normalised memory, vCPUs and disk, of which all have the same; added up as the
    /// policy does.
    pub fn nova_score(vcpus: f32, quanta: f32, most_vcpus: f32, most_quanta: f32) -> f64 {
        let mib = f64::from(stream::QUANTUM_MIB);
        let memory = f64::from(quanta) * mib / (f64::from(most_quanta) * mib);
        let memory = if most_quanta == 0.0 { 0.0 } else { memory };
        let cpu = f64::from(vcpus) / f64::from(most_vcpus);
        let cpu = if most_vcpus == 0.0 { 0.0 } else { cpu };
        memory + cpu + 1.0
    }
}

/// So many empty hosts of a contest.
///
/// # Errors
/// [`Invalid`] never, in fact: the names are good.
pub fn empty_hosts(count: usize) -> Result<HostTable, Invalid> {
    let memory = MiB(MEMORY_MIB.into());
    let total = Resources { vcpus: Vcpus(VCPUS), memory, disk: GiB(2000) };
    let zone = ZoneName::new("bench")?;
    let mut rows = Vec::with_capacity(count);
    for number in 1..=count {
        let name = HostName::new(format!("host-{number}"))?;
        let id = HostId::from_u128(number as u128);
        rows.push(HostState::new(id, name, zone.clone(), Inventory::new(total)));
    }
    Ok(HostTable::new(rows))
}
