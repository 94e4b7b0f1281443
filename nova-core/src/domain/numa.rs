//! NUMA cells: of what a host's processors, memory and devices are near to each other.

use std::collections::BTreeSet;

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
