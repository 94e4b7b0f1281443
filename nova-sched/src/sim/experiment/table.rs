//! Reports as tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::bench::Outcome;
use crate::sim::{Report, Sample};

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
    let swept: BTreeSet<&String> = outcomes.iter().flat_map(|o| o.run.swept.keys()).collect();
    let mut csv = String::from("id,trace,cluster,policy,seed");
    for set in &swept {
        let _ = write!(csv, ",{}", field(set));
    }
    for metric in Metric::ALL {
        let _ = write!(csv, ",{}", metric.name);
    }
    csv.push('\n');
    for Outcome { id, run, report } in outcomes {
        let names = [&run.trace.name, &run.cluster.name, &run.policy.name].map(|name| field(name));
        let _ = write!(csv, "{id},{},{}", names.join(","), run.seed);
        for set in &swept {
            let _ = write!(csv, ",{}", run.swept.get(*set).map(|v| field(v)).unwrap_or_default());
        }
        for metric in Metric::ALL {
            match metric.of(report) {
                Some(value) => _ = write!(csv, ",{value}"),
                None => csv.push(','),
            }
        }
        csv.push('\n');
    }
    csv
}

/// What was sampled in a run, a row for each moment.
pub fn series_csv(report: &Report) -> String {
    let mut csv = String::from(
        "at_s,vms,waiting,hosts_up,hosts_in_use,hosts_needed,vcpus,memory_mib,disk_gib,moving,\
         fragmentation,stranded_vcpus,stranded_memory,n_plus_one,spare_vcpus,watts,cpus_wanted,hosts_overloaded\n",
    );
    for sample in &report.series {
        let Sample { at_s, vms, waiting, hosts_up, hosts_in_use, hosts_needed, .. } = sample;
        let Sample { vcpus, memory_mib, disk_gib, moving, fragmentation, .. } = sample;
        let watts = sample.watts.map(|watts| watts.to_string()).unwrap_or_default();
        let wanted = sample.cpus_wanted.map(|cpus| cpus.to_string()).unwrap_or_default();
        let overloaded = sample.hosts_overloaded.map(|hosts| hosts.to_string()).unwrap_or_default();
        let _ = writeln!(
            csv,
            "{at_s},{vms},{waiting},{hosts_up},{hosts_in_use},{hosts_needed},{vcpus},{memory_mib},\
             {disk_gib},{moving},{fragmentation},{},{},{},{},{watts},\
             {wanted},{overloaded}",
            sample.stranded.vcpus,
            sample.stranded.memory,
            u8::from(sample.n_plus_one.holds),
            sample.n_plus_one.spare_vcpus,
        );
    }
    csv
}

/// A field of CSV, quoted where it has to be.
pub(super) fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
