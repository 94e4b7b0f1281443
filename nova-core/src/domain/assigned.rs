//! What a server gets of a host beyond amounts: NUMA cells, CPUs of its own, PCI devices.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    GuestTopology, HostState, Invalid, Near, NumaFit, NumaMisfit, NumaTopology, PciAddress,
    PciPool, PciPools, PciShort, RequestSpec,
};

/// A PCI device of a host that a guest may have for itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciDevice {
    /// Where it is, unique on its host.
    pub address: PciAddress,
    /// The vendor: four hexadecimal digits.
    pub vendor_id: String,
    /// The product: four hexadecimal digits.
    pub product_id: String,
    /// The NUMA cell it is next to; none when the host does not tell.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// What kind of device: `type-PCI`, `type-PF`, `type-VF`, `vdpa`.
    #[serde(default)]
    pub dev_type: Option<String>,
    /// What else an operator says of it.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl PciDevice {
    /// A device of this vendor and product, each four hexadecimal digits, near no cell in
    /// particular.
    pub fn new(address: PciAddress, vendor_id: &str, product_id: &str) -> Self {
        Self {
            address,
            vendor_id: vendor_id.to_owned(),
            product_id: product_id.to_owned(),
            numa_node: None,
            dev_type: None,
            tags: BTreeMap::new(),
        }
    }

    /// Whether it is one of this pool.
    fn is_of(&self, pool: &PciPool) -> bool {
        self.vendor_id == pool.vendor_id
            && self.product_id == pool.product_id
            && self.numa_node == pool.numa_node
            && self.dev_type == pool.dev_type
            && self.tags == pool.tags
    }
}

impl PciPools {
    /// Pools of equal devices, in the order in which the first of each comes.
    pub fn of<'a>(devices: impl IntoIterator<Item = &'a PciDevice>) -> Self {
        let mut pools: Vec<PciPool> = Vec::new();
        for device in devices {
            match pools.iter_mut().find(|pool| device.is_of(pool)) {
                Some(pool) => pool.count += 1,
                None => pools.push(PciPool {
                    vendor_id: device.vendor_id.clone(),
                    product_id: device.product_id.clone(),
                    numa_node: device.numa_node,
                    dev_type: device.dev_type.clone(),
                    count: 1,
                    tags: device.tags.clone(),
                }),
            }
        }
        Self { pools }
    }
}

/// What one server has of its host beyond amounts.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Assigned {
    /// Its NUMA cells, and the cells of the host that they are on; none for a guest without.
    pub cells: Option<AssignedCells>,
    /// Its PCI devices.
    pub devices: Vec<PciAddress>,
}

/// The NUMA cells of a guest, and where they are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AssignedCells {
    /// The guest's cells.
    pub guest: GuestTopology,
    /// Where each of them is on the host, with its CPUs and the size of its pages.
    pub fit: NumaFit,
}

/// A host cannot give what is asked for beyond amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unassignable {
    /// NUMA cells are wanted and the host tells of none.
    #[error("it tells of no NUMA cells")]
    NoCells,
    /// The cells do not fit.
    #[error(transparent)]
    Cells(#[from] NumaMisfit),
    /// There are too few PCI devices.
    #[error(transparent)]
    Devices(#[from] PciShort),
}

impl Assigned {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        self.cells.is_none() && self.devices.is_empty()
    }

    /// Whether a host could give what `request` asks for.
    pub fn is_possible(host: &HostState, request: &RequestSpec) -> bool {
        choose(host, request).is_ok()
    }

    /// What `request` gets of `host`, of which the devices in `free` are free: of equal devices
    /// those that come first.
    ///
    /// # Errors
    /// [`Unassignable`].
    pub fn choose<'a>(
        host: &HostState,
        free: impl IntoIterator<Item = &'a PciDevice> + Clone,
        request: &RequestSpec,
    ) -> Result<Self, Unassignable> {
        let (fit, taken) = choose(host, request)?;
        let of_pool = |(pool, count): (&PciPool, u32)| {
            let free = free.clone().into_iter().filter(|device| device.is_of(pool));
            let addresses = free.map(|device| device.address.clone());
            addresses.take(count as usize).collect::<Vec<_>>()
        };
        let devices = host.pci.pools.iter().zip(taken).flat_map(of_pool).collect();
        let guest = request.numa.as_deref().cloned();
        let cells = guest.zip(fit).map(|(guest, fit)| AssignedCells { guest, fit });
        Ok(Self { cells, devices })
    }

    /// The host CPUs that the guest has for itself.
    pub fn pinned(&self) -> impl Iterator<Item = u32> {
        let cells = self.cells.iter().flat_map(|cells| &cells.fit.cells);
        cells.flat_map(|cell| cell.pins.values().copied())
    }

    /// The first thing that is assigned and that a host with these cells and devices does not
    /// have, in words; none when it has all.
    pub fn missing(&self, cells: Option<&NumaTopology>, devices: &[PciDevice]) -> Option<String> {
        let has = |address: &&PciAddress| devices.iter().any(|device| device.address == **address);
        if let Some(gone) = self.devices.iter().find(|address| !has(address)) {
            return Some(format!("PCI device {gone}"));
        }
        let known = |id| cells.and_then(|cells| cells.cells.iter().find(|cell| cell.id == id));
        let on = self.cells.iter().flat_map(|cells| &cells.fit.cells);
        on.into_iter().find_map(|fit| {
            let Some(cell) = known(fit.host_cell) else {
                return Some(format!("NUMA cell {}", fit.host_cell));
            };
            let gone = fit.pins.values().find(|cpu| !cell.dedicated_cpus.contains(cpu));
            gone.map(|cpu| format!("CPU {cpu}"))
        })
    }
}

/// Where the cells of a guest go, and how many devices are taken of each pool.
fn choose(
    host: &HostState,
    request: &RequestSpec,
) -> Result<(Option<NumaFit>, Vec<u32>), Unassignable> {
    let wanted = request.numa.as_deref().filter(|guest| !guest.cells.is_empty());
    let Some(guest) = wanted else {
        return Ok((None, host.pci.taken(&request.pci, None)?));
    };
    let cells = host.numa.as_deref().ok_or(Unassignable::NoCells)?;
    let fit = cells.fit(guest, host.overcommit(), &host.pci, &request.pci)?;
    let near = fit.host_cells();
    let taken = host.pci.taken(&request.pci, Some(Near { host: cells, cells: &near }))?;
    Ok((Some(fit), taken))
}

impl NumaTopology {
    /// The same cells, of which nothing is used.
    #[must_use]
    pub fn unused(mut self) -> Self {
        for cell in &mut self.cells {
            cell.pinned_cpus.clear();
            (cell.shared_cpu_usage, cell.memory_used) = (0, 0);
            cell.pages.iter_mut().for_each(|pages| pages.used = 0);
        }
        self
    }
}

/// Whether what a host tells of its cells and devices can be.
///
/// # Errors
/// [`Invalid`] for more than [`NumaTopology::CELLS_MAX`] cells, for a cell or a device that is
/// there twice, and for a CPU that is in two cells.
pub(crate) fn check_facts(
    cells: Option<&NumaTopology>,
    devices: &[PciDevice],
) -> Result<(), Invalid> {
    let mut addresses = BTreeSet::new();
    if let Some(twice) = devices.iter().find(|device| !addresses.insert(&device.address)) {
        return Err(Invalid::new("PCI device", &twice.address, "each address once"));
    }
    let Some(cells) = cells.map(|cells| &cells.cells) else { return Ok(()) };
    if cells.len() > NumaTopology::CELLS_MAX {
        return Err(Invalid::new("NUMA cells", cells.len(), "at most 64"));
    }
    let (mut ids, mut cpus) = (BTreeSet::new(), BTreeSet::new());
    for cell in cells {
        if !ids.insert(cell.id) {
            return Err(Invalid::new("NUMA cell", cell.id, "each cell once"));
        }
        let all: BTreeSet<&u32> = cell.shared_cpus.union(&cell.dedicated_cpus).collect();
        if let Some(cpu) = all.into_iter().find(|cpu| !cpus.insert(**cpu)) {
            return Err(Invalid::new("CPU", cpu, "each CPU in one NUMA cell"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
