//! Reports as tables.

use std::collections::BTreeSet;

use super::bench::Outcome;
use crate::sim::Report;
use crate::sim::columns::Columns;

/// One number of a report.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, as the column is called.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// Whether more is better; none where that depends on what is wanted.
    pub more_is_better: Option<bool>,
    of: fn(&Report) -> Option<f64>,
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Metric {
    /// The number; none where the report has none.
    pub fn of(&self, report: &Report) -> Option<f64> {
        (self.of)(report)
    }

    /// Every metric, in the order of the columns.
    pub const ALL: &'static [Self] = &[
        metric("requests", "VMs that came", None, |r| Some(r.requests as f64)),
        metric("accepted", "share that got a host", Some(true), |r| {
            (r.requests > 0).then(|| r.placed as f64 / r.requests as f64)
        }),
        metric("rejected", "VMs that got none", Some(false), |r| Some(r.rejected as f64)),
        metric("hosts_in_use", "hosts in use, mean", Some(false), |r| Some(r.mean_hosts_in_use)),
        metric("hosts_in_use_peak", "hosts in use, peak", Some(false), |r| {
            Some(r.peak_hosts_in_use as f64)
        }),
        metric("hosts_needed", "hosts needed at least, mean", None, |r| Some(r.mean_hosts_needed)),
        metric("hosts_over_bound", "hosts in use by hosts needed", Some(false), |r| {
            (r.mean_hosts_needed > 0.0).then(|| r.mean_hosts_in_use / r.mean_hosts_needed)
        }),
        metric("empty_hosts", "empty hosts, mean", Some(true), |r| Some(r.mean_empty_hosts)),
        metric("packing_density", "vCPUs taken of hosts in use", Some(true), |r| {
            Some(r.packing_density)
        }),
        metric("vcpus_used", "vCPUs taken of all, mean", Some(true), |r| Some(r.vcpus.mean_share)),
        metric("memory_used", "memory taken of all, mean", Some(true), |r| {
            Some(r.memory_mib.mean_share)
        }),
        metric("fragmentation", "free vCPUs out of reach", Some(false), |r| {
            Some(r.fragmentation.mean)
        }),
        metric("stranded_vcpus", "free vCPUs stranded", Some(false), |r| Some(r.stranded.vcpus)),
        metric("stranded_memory", "free memory stranded", Some(false), |r| Some(r.stranded.memory)),
        metric("n_plus_one", "time in which a host may fail", Some(true), |r| {
            Some(r.n_plus_one_share)
        }),
        metric("wait_ms_mean", "wait for a host, mean, ms", Some(false), |r| Some(r.wait_ms.mean)),
        metric("wait_ms_p99", "wait for a host, 99 %, ms", Some(false), |r| {
            Some(r.wait_ms.p99 as f64)
        }),
        metric("lost", "VMs put off and lost", Some(false), |r| Some(r.lost as f64)),
        metric("preemptions", "preemptions", None, |r| Some(r.preemptions as f64)),
        metric("host_failures", "hosts that failed", None, |r| Some(r.host_failures as f64)),
        metric("resized", "VMs resized", None, |r| Some(r.resized as f64)),
        metric("resizes_refused", "resizes refused", Some(false), |r| {
            Some(r.resizes_refused as f64)
        }),
        metric("migrations", "live migrations", Some(false), |r| Some(r.migrations as f64)),
        metric("conflicts", "conflicts of schedulers", Some(false), |r| Some(r.conflicts as f64)),
        metric("energy_kwh", "energy, kWh", Some(false), |r| r.energy_kwh),
        metric("cpu_of_hosts_in_use", "CPU used of hosts in use", Some(true), |r| {
            Some(r.cpu_use?.of_hosts_in_use)
        }),
        metric("cpu_unserved", "CPU wanted and not there", Some(false), |r| {
            Some(r.cpu_use?.unserved_share)
        }),
        metric("overloaded_share", "time overloaded (SLATAH)", Some(false), |r| {
            Some(r.cpu_use?.overloaded_share)
        }),
        metric("lost_in_moves", "CPU lost in migrations (PDM)", Some(false), |r| {
            Some(r.cpu_use?.lost_in_moves)
        }),
        metric("sla_violation", "their product (SLAV)", Some(false), |r| {
            Some(r.cpu_use?.sla_violation)
        }),
    ];

    /// The metric of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|metric| metric.name == name)
    }
}

const fn metric(
    name: &'static str,
    title: &'static str,
    more_is_better: Option<bool>,
    of: fn(&Report) -> Option<f64>,
) -> Metric {
    Metric { name, title, more_is_better, of }
}

/// A row for each run: what was run, then every [`Metric`].
pub fn results_csv(outcomes: &[Outcome]) -> String {
    results(outcomes).csv()
}

/// The same as a Parquet file: texts, the seed as a whole number, metrics as real ones, null where
/// there is none.
///
/// # Errors
/// An [`io::Error`](std::io::Error) for what cannot be a table.
#[cfg(feature = "parquet")]
pub fn results_parquet(outcomes: &[Outcome]) -> std::io::Result<Vec<u8>> {
    results(outcomes).parquet()
}

fn results(outcomes: &[Outcome]) -> Columns {
    let all = || outcomes.iter();
    let mut columns = Columns::default()
        .with("id", all().map(|o| o.id.clone()))
        .with("trace", all().map(|o| o.run.trace.name.clone()))
        .with("cluster", all().map(|o| o.run.cluster.name.clone()))
        .with("policy", all().map(|o| o.run.policy.name.clone()))
        .with("seed", all().map(|o| o.run.seed));
    let swept: BTreeSet<&String> = all().flat_map(|o| o.run.swept.keys()).collect();
    for set in swept {
        columns = columns.with(set, all().map(|o| o.run.swept.get(set).cloned()));
    }
    for metric in Metric::ALL {
        columns = columns.with(metric.name, all().map(|o| metric.of(&o.report)));
    }
    columns
}

/// What was sampled in a run, a row for each moment.
pub fn series_csv(report: &Report) -> String {
    series(report).csv()
}

/// The same as a Parquet file: amounts as whole numbers, shares and watts as real ones,
/// `n_plus_one` as yes or no, null where there is none.
///
/// # Errors
/// An [`io::Error`](std::io::Error) for what cannot be a table.
#[cfg(feature = "parquet")]
pub fn series_parquet(report: &Report) -> std::io::Result<Vec<u8>> {
    series(report).parquet()
}

fn series(report: &Report) -> Columns {
    let all = || report.series.iter();
    Columns::default()
        .with("at_s", all().map(|s| s.at_s))
        .with("vms", all().map(|s| s.vms))
        .with("waiting", all().map(|s| s.waiting))
        .with("hosts_up", all().map(|s| s.hosts_up))
        .with("hosts_in_use", all().map(|s| s.hosts_in_use))
        .with("hosts_needed", all().map(|s| s.hosts_needed))
        .with("vcpus", all().map(|s| s.vcpus))
        .with("memory_mib", all().map(|s| s.memory_mib))
        .with("disk_gib", all().map(|s| s.disk_gib))
        .with("moving", all().map(|s| s.moving))
        .with("fragmentation", all().map(|s| s.fragmentation))
        .with("stranded_vcpus", all().map(|s| s.stranded.vcpus))
        .with("stranded_memory", all().map(|s| s.stranded.memory))
        .with("n_plus_one", all().map(|s| s.n_plus_one.holds))
        .with("spare_vcpus", all().map(|s| s.n_plus_one.spare_vcpus))
        .with("watts", all().map(|s| s.watts))
        .with("cpus_wanted", all().map(|s| s.cpus_wanted))
        .with("hosts_overloaded", all().map(|s| s.hosts_overloaded))
}
