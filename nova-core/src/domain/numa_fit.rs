//! Whether and where the cells of a guest fit into the NUMA cells of a host.
//!
//! Every guest cell needs a host cell of its own. Hosts prefer their emptier cells, and of all
//! assignments that fit the first in that order is the answer. Which cells fit which is decided
//! cell by cell, so without PCI devices the answer is that of a bipartite matching: for `g` guest
//! and `h` host cells at most `g · h` matchings of at most `g² · h` looks each. Devices depend on
//! the whole choice. What failed once is not tried again, cells that are alike count as one, and
//! after [`NumaTopology::WAYS_MAX`] failures the search gives up.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    AllocationRatio, CpuThreadPolicy, GuestCell, GuestTopology, MemoryPages, Near, NumaCell,
    NumaTopology, PageSize, PciNumaPolicy, PciPools, PciRequest,
};

/// Where the cells of a guest go, in the order of the guest's cells.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NumaFit {
    /// One for each cell of the guest.
    pub cells: Vec<CellFit>,
}

/// Where one cell of a guest goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CellFit {
    /// The id of the host's cell.
    pub host_cell: u32,
    /// The size of its memory's pages in KiB; none when the host tells of no pages.
    pub page_size_kb: Option<u64>,
    /// The host CPU of each virtual CPU that has one for itself.
    pub pins: BTreeMap<u32, u32>,
}

impl NumaFit {
    /// The ids of the host's cells.
    pub fn host_cells(&self) -> Vec<u32> {
        self.cells.iter().map(|cell| cell.host_cell).collect()
    }
}

/// How much of a host's shared CPUs and of its memory may be promised.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Overcommit {
    /// Of shared CPUs.
    pub cpus: AllocationRatio,
    /// Of memory, for guests that share CPUs.
    pub memory: AllocationRatio,
}

/// Why the cells of a guest do not fit into those of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumaMisfit {
    /// There are more cells than anybody looks at.
    #[error("{cells} NUMA cells are more than {max}")]
    TooManyCells {
        /// How many there are.
        cells: usize,
        /// How many there may be.
        max: usize,
    },
    /// The host has fewer cells than the guest.
    #[error("{host} NUMA cells are too few for a guest with {guest}")]
    TooFewCells {
        /// Those of the host.
        host: usize,
        /// Those of the guest.
        guest: usize,
    },
    /// A cell of the guest fits into none of the host.
    #[error("guest cell {cell} fits into no NUMA cell")]
    Cell {
        /// Its number.
        cell: u32,
    },
    /// Every cell of the guest fits somewhere, but not all at the same time.
    #[error("the guest's cells do not fit into different NUMA cells")]
    Together,
    /// The cells fit, but not together with the PCI devices.
    #[error("too few PCI devices are near NUMA cells into which the guest fits")]
    Devices,
    /// The search was given up.
    #[error(
        "more than {} ways to place the guest's cells near PCI devices failed",
        NumaTopology::WAYS_MAX
    )]
    TooManyWays,
}

impl NumaTopology {
    /// No host has more cells.
    pub const CELLS_MAX: usize = 64;
    /// So many choices of host cells may fail for want of devices before the search gives up:
    /// all there are with 16 cells that have devices.
    pub const WAYS_MAX: usize = 1 << 16;

    /// The cells for `guest`, and where `pci` asks for devices, the first cells that have enough
    /// of `pools` near. A guest without cells fits everywhere.
    ///
    /// # Errors
    /// [`NumaMisfit`] says why there are none.
    pub fn fit(
        &self,
        guest: &GuestTopology,
        overcommit: Overcommit,
        pools: &PciPools,
        pci: &[PciRequest],
    ) -> Result<NumaFit, NumaMisfit> {
        let (host, wanted) = (self.cells.len(), guest.cells.len());
        for (cells, max) in [(host, Self::CELLS_MAX), (wanted, GuestTopology::CELLS_MAX)] {
            if cells > max {
                return Err(NumaMisfit::TooManyCells { cells, max });
            }
        }
        if host < wanted {
            return Err(NumaMisfit::TooFewCells { host, guest: wanted });
        }
        let cells = self.in_order(guest, pools, pci);
        let mut fits = Vec::with_capacity(wanted);
        for guest in &guest.cells {
            let fit = |at: &usize| cells[*at].fit(guest, overcommit).is_some();
            let fitting = bits_of((0..host).filter(fit));
            if fitting == 0 {
                return Err(NumaMisfit::Cell { cell: guest.id });
            }
            fits.push(fitting);
        }
        let near = |chosen: &[usize]| {
            let ids: Vec<u32> = chosen.iter().map(|at| cells[*at].id).collect();
            pci.is_empty() || pools.check(pci, Some(Near { host: self, cells: &ids })).is_ok()
        };
        let alike = alike(&cells, &fits, pools, pci);
        let search = Search { fits, alike, near, chosen: Vec::new(), failed: BTreeSet::new() };
        let chosen = search.run()?;
        let chosen = guest.cells.iter().zip(&chosen).map(|(guest, at)| {
            cells[*at].fit(guest, overcommit).ok_or(NumaMisfit::Cell { cell: guest.id })
        });
        Ok(NumaFit { cells: chosen.collect::<Result<_, _>>()? })
    }

    /// The cells in the order in which they are tried: where there is a choice, those that are
    /// emptier before others, and those with PCI devices first for who wants some, last for others.
    fn in_order(
        &self,
        guest: &GuestTopology,
        pools: &PciPools,
        pci: &[PciRequest],
    ) -> Vec<&NumaCell> {
        let mut cells: Vec<&NumaCell> = self.cells.iter().collect();
        if cells.len() == guest.cells.len() {
            return cells;
        }
        let pinned = guest.cells.first().is_some_and(GuestCell::is_pinned);
        cells.sort_by_cached_key(|cell| {
            let near = pools.pools.iter().filter(|pool| pool.numa_node == Some(cell.id));
            let devices: i64 = near.map(|pool| i64::from(pool.count)).sum();
            let devices = if pci.is_empty() { devices } else { -devices };
            let free = i64::try_from(cell.free_cpus().len()).unwrap_or(i64::MAX);
            let cpus = if pinned { -free } else { cell.shared_cpu_usage.into() };
            let memory = i128::from(cell.memory_used) - i128::from(cell.memory);
            (devices, cpus, memory)
        });
        cells
    }
}

impl NumaCell {
    /// What `guest` gets of this cell; none when it does not fit.
    fn fit(&self, guest: &GuestCell, overcommit: Overcommit) -> Option<CellFit> {
        let page_size_kb = self.page_size(guest)?;
        if guest.is_shared() {
            let (cpus, shared) = (self.shared_cpus.len(), guest.shared_vcpus.len());
            let usage = f64::from(self.shared_cpu_usage) + shared as f64;
            let memory = self.memory_used.saturating_add(guest.memory) as f64;
            if shared > cpus
                || usage > cpus as f64 * overcommit.cpus.get()
                || memory > self.memory as f64 * overcommit.memory.get()
            {
                return None;
            }
        }
        let pins = if guest.is_pinned() { self.pins(guest)? } else { BTreeMap::new() };
        Some(CellFit { host_cell: self.id, page_size_kb, pins })
    }

    /// The size of the pages that the guest's memory gets, or that this cell tells of none; none
    /// when it has too little memory. Pages that are asked for, and the memory of guests with CPUs
    /// of their own, are never promised twice.
    fn page_size(&self, guest: &GuestCell) -> Option<Option<u64>> {
        let smallest = self.pages.iter().map(|pages| pages.size_kb).min();
        let holds = |pages: &&MemoryPages| pages.hold(guest.memory, Free::Only);
        let largest = |sizes: &dyn Fn(u64) -> bool| {
            let some = self.pages.iter().filter(|pages| sizes(pages.size_kb)).filter(holds);
            some.map(|pages| pages.size_kb).max().map(Some)
        };
        match guest.page_size {
            Some(PageSize::Small) => largest(&|size| Some(size) == smallest),
            Some(PageSize::Large) => largest(&|size| Some(size) != smallest),
            Some(PageSize::Any) => largest(&|_| true),
            Some(PageSize::Kib(wanted)) => largest(&|size| size == wanted),
            None if smallest.is_some() => {
                let free = if guest.is_pinned() { Free::Only } else { Free::OrUsed };
                let mut pages = self.pages.iter().filter(|pages| Some(pages.size_kb) == smallest);
                pages.any(|pages| pages.hold(guest.memory, free)).then_some(smallest)
            }
            None => {
                let used = if guest.is_pinned() { self.memory_used } else { 0 };
                (used.saturating_add(guest.memory) <= self.memory).then_some(None)
            }
        }
    }

    /// A free CPU for each of the guest's dedicated virtual CPUs, as its thread policy wants them;
    /// none when there are too few.
    fn pins(&self, guest: &GuestCell) -> Option<BTreeMap<u32, u32>> {
        let wanted = guest.dedicated_vcpus.len();
        let free = self.free_cpus();
        if wanted > free.len() {
            return None;
        }
        // The free threads of each core. Where no cores are told of, every CPU is one.
        let own = |cpu: &u32| vec![*cpu];
        let cores: Vec<Vec<u32>> = if self.thread_siblings.is_empty() {
            free.iter().map(own).collect()
        } else {
            let cores = self.thread_siblings.iter();
            cores.map(|core| core.intersection(&free).copied().collect()).collect()
        };
        // So many threads of every core that has as many free: enough, or none.
        let threads = |count: usize| -> Option<Vec<u32>> {
            let cores = cores.iter().filter(|core| core.len() >= count);
            let cpus: Vec<u32> = cores.flat_map(|core| &core[..count]).copied().collect();
            (!cpus.is_empty() && cpus.len() >= wanted).then_some(cpus)
        };
        let most = self.threads_per_core();
        let cpus = match guest.cpu_thread_policy {
            // One thread of every core that is wholly free. Where the dedicated CPUs are not the
            // shared ones too, Nova counts threads and not cores, and gives no core away.
            Some(CpuThreadPolicy::Isolate)
                if most == 1 || self.dedicated_cpus == self.shared_cpus =>
            {
                let whole = cores.iter().filter(|core| core.len() == most);
                let one_each: Vec<u32> = whole.filter_map(|core| core.first().copied()).collect();
                Some(one_each).filter(|cpus| wanted > 0 && cpus.len() >= wanted)?
            }
            Some(CpuThreadPolicy::Isolate) => return None,
            Some(CpuThreadPolicy::Require) => (2..=most).rev().find_map(threads)?,
            Some(CpuThreadPolicy::Prefer) | None => {
                let spread = (1..=most).rev().find_map(threads);
                let any = || cores.iter().flatten().copied().collect::<Vec<u32>>();
                Some(spread.unwrap_or_else(any)).filter(|cpus| cpus.len() >= wanted)?
            }
        };
        Some(guest.dedicated_vcpus.iter().copied().zip(cpus).collect())
    }
}

/// Which pages count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Free {
    /// Those that nobody has.
    Only,
    /// Those too that guests have or the host keeps.
    OrUsed,
}

impl MemoryPages {
    /// Whether `memory` MiB are whole pages of this size, and there are as many.
    fn hold(&self, memory: u64, free: Free) -> bool {
        let wanted = u128::from(memory) * 1024;
        let (size, total) = (u128::from(self.size_kb), u128::from(self.total));
        let taken = u128::from(self.used) + u128::from(self.reserved);
        let taken = if free == Free::Only { taken } else { 0 };
        // More may be taken than there is: then not even nothing fits.
        size > 0 && wanted.is_multiple_of(size) && taken + wanted / size <= total
    }
}

/// For every host cell, all those that differ from it in nothing that guests or devices ask for.
fn alike(cells: &[&NumaCell], fits: &[u64], pools: &PciPools, pci: &[PciRequest]) -> Vec<u64> {
    let wanted = |node: u32| {
        let mut near = pools.pools.iter().filter(|pool| pool.numa_node == Some(node));
        near.any(|pool| pci.iter().any(|request| request.suits(pool)))
    };
    let sockets = pci.iter().any(|request| request.numa_policy == PciNumaPolicy::Socket);
    let kind = |at: usize| {
        let fitting: Vec<bool> = fits.iter().map(|fits| fits >> at & 1 == 1).collect();
        let node = Some(cells[at].id).filter(|id| wanted(*id));
        (fitting, node, cells[at].socket.filter(|_| sockets))
    };
    let kinds: Vec<_> = (0..cells.len()).map(kind).collect();
    let like = |at: usize| bits_of((0..kinds.len()).filter(|other| kinds[*other] == kinds[at]));
    (0..kinds.len()).map(like).collect()
}

/// The search for host cells, which are numbered in the order in which they are tried; sets of
/// them are bits.
struct Search<N> {
    /// For each guest cell, the host cells into which it fits.
    fits: Vec<u64>,
    /// For each host cell, those that are like it.
    alike: Vec<u64>,
    /// Whether enough devices are near these cells.
    near: N,
    /// The host cells of the first guest cells.
    chosen: Vec<usize>,
    /// Choices for the first guest cells after which there is none for the others. Of cells that
    /// are alike, the first stand for as many others.
    failed: BTreeSet<u64>,
}

impl<N: Fn(&[usize]) -> bool> Search<N> {
    fn run(mut self) -> Result<Vec<usize>, NumaMisfit> {
        if !self.completes(0) {
            return Err(NumaMisfit::Together);
        }
        if self.place(0) {
            Ok(self.chosen)
        } else if self.is_spent() {
            Err(NumaMisfit::TooManyWays)
        } else {
            Err(NumaMisfit::Devices)
        }
    }

    fn is_spent(&self) -> bool {
        self.failed.len() > NumaTopology::WAYS_MAX
    }

    /// Whether the guest cells behind those that are chosen find host cells outside `used`.
    fn place(&mut self, used: u64) -> bool {
        let guest = self.chosen.len();
        if guest == self.fits.len() {
            return (self.near)(&self.chosen);
        }
        let mut tried = 0;
        for at in bits(self.fits[guest] & !used) {
            let bit = 1 << at;
            if tried & bit != 0 {
                continue;
            }
            tried |= self.alike[at];
            self.chosen.push(at);
            let now = used | bit;
            let representative = self.representative(now);
            if self.completes(now) && !self.failed.contains(&representative) {
                if self.place(now) {
                    return true;
                }
                self.failed.insert(representative);
            }
            self.chosen.pop();
            if self.is_spent() {
                return false;
            }
        }
        false
    }

    /// `used` with the first of all cells that are alike in place of others.
    fn representative(&self, used: u64) -> u64 {
        let mut left = used;
        let mut first = 0;
        while left != 0 {
            let kind = self.alike[left.trailing_zeros() as usize];
            bits(kind).take((used & kind).count_ones() as usize).for_each(|at| first |= 1 << at);
            left &= !kind;
        }
        first
    }

    /// Whether the other guest cells find different host cells outside `used`, devices apart.
    fn completes(&self, used: u64) -> bool {
        let mut holders = [None; u64::BITS as usize];
        let others = self.chosen.len()..self.fits.len();
        others.into_iter().all(|guest| self.augment(guest, !used, &mut 0, &mut holders))
    }

    /// Finds a host cell for `guest`, moving others out of the way: one step of Kuhn's matching.
    fn augment(
        &self,
        guest: usize,
        allowed: u64,
        seen: &mut u64,
        holders: &mut [Option<usize>; u64::BITS as usize],
    ) -> bool {
        for at in bits(self.fits[guest] & allowed) {
            if *seen >> at & 1 == 1 {
                continue;
            }
            *seen |= 1 << at;
            let gives_way = match holders[at] {
                Some(holder) => self.augment(holder, allowed, seen, holders),
                None => true,
            };
            if gives_way {
                holders[at] = Some(guest);
                return true;
            }
        }
        false
    }
}

/// The set of these numbers.
fn bits_of(numbers: impl Iterator<Item = usize>) -> u64 {
    numbers.fold(0, |set, at| set | 1 << at)
}

/// The numbers of the bits that are set, from the lowest.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (at < u64::BITS).then_some(at as usize)
    })
}

#[cfg(test)]
mod tests;
