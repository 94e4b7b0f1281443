//! What a replay found out.

/// The result of a replay.
///
/// Peaks and means are over the time from the first arrival to the last. What leaves after that
/// still leaves, but an emptying cloud says nothing about a policy and is not measured. Means are
/// weighted by time; when all VMs arrive in one second they are the values after the last.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Report {
    /// How many hosts there were.
    pub hosts: u64,
    /// VMs that asked for a host.
    pub requests: u64,
    /// Those that found one.
    pub placed: u64,
    /// Those that found none.
    pub rejected: u64,
    /// What refused them, sorted by filter and reason.
    pub rejected_for: Vec<RejectedFor>,
    /// VMs that left, all that ever will.
    pub departed: u64,
    /// VMs that never leave.
    pub remaining: u64,
    /// When the first VM came, in seconds of the trace; none without one.
    pub first_arrival_s: Option<u64>,
    /// When the last VM came.
    pub last_arrival_s: Option<u64>,
    /// The most hosts with at least one VM at the same time.
    pub peak_hosts_in_use: u64,
    /// How many hosts had at least one VM on average.
    pub mean_hosts_in_use: f64,
    /// The most VMs at the same time.
    pub peak_vms: u64,
    /// How many VMs there were on average.
    pub mean_vms: f64,
    /// Virtual CPUs in use.
    pub vcpus: Use,
    /// Memory in use, in mebibytes.
    pub memory_mib: Use,
    /// How much of what was free could not be used.
    pub fragmentation: Fragmentation,
    /// Rows that were skipped because they make no sense.
    pub bad_rows_skipped: u64,
    /// The first of them, at most [`SkippedRow::NAMED_MAX`].
    pub bad_rows: Vec<SkippedRow>,
}

/// How much of one resource was in use.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Use {
    /// What all hosts together may promise.
    pub capacity: f64,
    /// The most at any time.
    pub peak: u64,
    /// The mean.
    pub mean: f64,
    /// The peak as a share of the capacity, 0 to 1.
    pub peak_share: f64,
    /// The mean as a share of the capacity, 0 to 1.
    pub mean_share: f64,
}

/// The share of all free vCPUs that lies on hosts which could not take the next VM, 0 to 1.
///
/// The next VM is drawn from the shapes that came so far, each as likely as it was frequent: the
/// share is computed for every shape and averaged by frequency. A host that has free vCPUs but
/// lacks the memory, or has fewer than the shape needs, counts with all its free vCPUs. Without
/// any free vCPU the share is 0. This is the statistical measure of Weng et al., "Beware of
/// Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent" (USENIX
/// ATC 2023), applied to vCPUs and divided by what is free.
///
/// It is looked at on the first arrival and then on the first arrival of every hour of virtual
/// time, before that arrival is placed.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Fragmentation {
    /// The mean of the hourly values.
    pub mean: f64,
    /// The largest of them.
    pub peak: f64,
    /// After the last arrival.
    pub at_end: f64,
}

/// One reason for which VMs found no host.
///
/// A rejected VM was refused by every host, by each for one reason, so a VM can count under
/// several reasons and the counts of hosts add up to rejected VMs times hosts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RejectedFor {
    /// The filter that refused.
    pub filter: String,
    /// The reason it gave.
    pub reason: String,
    /// Rejected VMs that at least one host refused for this reason.
    pub vms: u64,
    /// How many hosts refused for this reason, over all rejected VMs.
    pub hosts: u64,
}

/// A row that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SkippedRow {
    /// Its line in the file, counted from 1 with the header.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

impl SkippedRow {
    /// A report names no more rows than this; the others are counted.
    pub const NAMED_MAX: usize = 20;
}
