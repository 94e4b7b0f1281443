//! NUMA cells: of what a host's processors, memory and devices are near to each other.
//!
//! Whether and where the cells of a guest fit into those of a host is in [`NumaTopology::fit`].

use std::collections::BTreeSet;

use crate::domain::{CellFit, NumaFit};

/// The NUMA cells of a host, and what is used of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NumaTopology {
    /// The cells.
    pub cells: Vec<NumaCell>,
}

/// One NUMA cell of a host.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NumaCell {
    /// Its number.
    pub id: u32,
    /// The CPUs that guests share.
    pub shared_cpus: BTreeSet<u32>,
    /// The CPUs that guests may have for themselves.
    pub dedicated_cpus: BTreeSet<u32>,
    /// Those of them that a guest has.
    pub pinned_cpus: BTreeSet<u32>,
    /// Virtual CPUs on the shared ones.
    pub shared_cpu_usage: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// Memory that guests have, in MiB.
    pub memory_used: u64,
    /// The CPUs that are threads of one core, for each core.
    pub thread_siblings: Vec<BTreeSet<u32>>,
    /// The socket it is in; none when the host does not tell.
    pub socket: Option<u32>,
    /// The memory pages there are, by size.
    pub pages: Vec<MemoryPages>,
}

/// The memory pages of one size in one NUMA cell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct MemoryPages {
    /// The size of one page in KiB.
    pub size_kb: u64,
    /// How many there are.
    pub total: u64,
    /// How many guests have.
    pub used: u64,
    /// How many the host keeps.
    pub reserved: u64,
}

impl NumaTopology {
    /// Whether some core has several threads.
    pub fn has_threads(&self) -> bool {
        self.cells.iter().any(|cell| cell.threads_per_core() > 1)
    }

    /// Counts what a guest gets of the cells that `fit` chose for it.
    ///
    /// This records a decision and checks nothing. A guest whose fit was made for other cells
    /// takes what it can name here.
    pub fn claim(&mut self, guest: &GuestTopology, fit: &NumaFit) {
        for (guest, chosen) in guest.cells.iter().zip(&fit.cells) {
            let cell = self.cells.iter_mut().find(|cell| cell.id == chosen.host_cell);
            if let Some(cell) = cell {
                cell.claim(guest, chosen);
            }
        }
    }
}

impl NumaCell {
    /// Threads of its largest core; 1 when it tells of no cores.
    pub fn threads_per_core(&self) -> usize {
        self.thread_siblings.iter().map(BTreeSet::len).max().unwrap_or(1).max(1)
    }

    /// The dedicated CPUs that no guest has.
    pub fn free_cpus(&self) -> BTreeSet<u32> {
        self.dedicated_cpus.difference(&self.pinned_cpus).copied().collect()
    }

    fn claim(&mut self, guest: &GuestCell, chosen: &CellFit) {
        self.memory_used = self.memory_used.saturating_add(guest.memory);
        let shared = u32::try_from(guest.shared_vcpus.len()).unwrap_or(u32::MAX);
        self.shared_cpu_usage = self.shared_cpu_usage.saturating_add(shared);
        for pages in &mut self.pages {
            if Some(pages.size_kb) == chosen.page_size_kb && pages.size_kb > 0 {
                let taken = guest.memory.saturating_mul(1024) / pages.size_kb;
                pages.used = pages.used.saturating_add(taken);
            }
        }
        let pins = chosen.pins.values().copied();
        if guest.cpu_thread_policy == Some(CpuThreadPolicy::Isolate) {
            let pins: BTreeSet<u32> = pins.collect();
            let cores = self.thread_siblings.iter().filter(|core| !core.is_disjoint(&pins));
            self.pinned_cpus.extend(cores.flatten());
            self.pinned_cpus.extend(pins);
        } else {
            self.pinned_cpus.extend(pins);
        }
    }
}

/// The NUMA cells that a guest wants.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestTopology {
    /// The cells.
    pub cells: Vec<GuestCell>,
}

/// One NUMA cell of a guest.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct GuestCell {
    /// Its number.
    pub id: u32,
    /// Memory in MiB.
    pub memory: u64,
    /// The virtual CPUs that share host CPUs with other guests.
    pub shared_vcpus: BTreeSet<u32>,
    /// The virtual CPUs that have a host CPU for themselves.
    pub dedicated_vcpus: BTreeSet<u32>,
    /// Whether its CPUs are shared; none is as [`CpuPolicy::Shared`].
    pub cpu_policy: Option<CpuPolicy>,
    /// What it asks of the threads of a core; none is as [`CpuThreadPolicy::Prefer`].
    pub cpu_thread_policy: Option<CpuThreadPolicy>,
    /// The pages its memory is made of; none leaves it to the host.
    pub page_size: Option<PageSize>,
}

impl GuestTopology {
    /// No guest has more cells.
    pub const CELLS_MAX: usize = 16;
}

impl GuestCell {
    /// Whether some of its virtual CPUs may have host CPUs for themselves.
    pub fn is_pinned(&self) -> bool {
        matches!(self.cpu_policy, Some(CpuPolicy::Dedicated | CpuPolicy::Mixed))
    }

    /// Whether some of its virtual CPUs may share host CPUs with other guests.
    pub fn is_shared(&self) -> bool {
        self.cpu_policy != Some(CpuPolicy::Dedicated)
    }
}

/// Whether a guest's virtual CPUs have host CPUs for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuPolicy {
    /// None has.
    Shared,
    /// All have.
    Dedicated,
    /// Some have.
    Mixed,
}

/// What a guest with CPUs of its own asks of the threads of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuThreadPolicy {
    /// Threads of one core where there are any.
    Prefer,
    /// Threads of one core.
    Require,
    /// No other guest on the core.
    Isolate,
}

/// The size of the pages of a guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageSize {
    /// The smallest that the host has.
    Small,
    /// Any but the smallest.
    Large,
    /// Any.
    Any,
    /// This one, in KiB.
    Kib(u64),
}
