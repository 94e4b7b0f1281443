//! What happens in a simulation besides the trace, and by which rules.

use nova_core::domain::Invalid;

use super::cost::MoveCost;
use super::range::within;
use super::{CpuUse, OnBadRow, TraceRow};

/// The rules of a simulation. The default is the trace and nothing else: who finds no host is
/// refused, no host fails, one scheduler decides at once on what is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Scenario {
    /// What to do with a row of the trace that makes no sense.
    pub on_bad_row: OnBadRow,
    /// Whether those that find no host wait for one.
    pub waiting: Option<Waiting>,
    /// Whether one that is more important may put others off their hosts. With
    /// [several](Self::schedulers), one for which its scheduler saw no host puts others off hosts
    /// as they are when that is decided.
    pub preemption: Option<Preemption>,
    /// Whether schedulers are told when VMs are expected to leave.
    pub foresight: Option<Foresight>,
    /// Several schedulers at once, each on its own old view.
    pub schedulers: Option<Several>,
    /// Hosts that fail by chance.
    pub failures: Option<Failures>,
    /// VMs that are resized by chance.
    pub resizes: Option<Resizes>,
    /// Windows in which hosts are maintained.
    pub maintenance: Vec<Maintenance>,
    /// What a live migration costs.
    pub moves: MoveCost,
    /// How a planner is asked that moves VMs.
    pub planning: Planning,
    /// Whether it is measured what VMs use of their vCPUs.
    pub cpu_use: Option<CpuUse>,
    /// Whether hosts without VMs take no power.
    pub switch_off_empty_hosts: bool,
    /// Seconds between two samples of what is not measured at every change; 1 to a year.
    pub sample_every_s: u64,
    /// What is measured over time is measured up to the last arrival, or up to this second of the
    /// trace where that is later: for traces in which all arrive at once. At most 10^12.
    pub measure_until_s: Option<u64>,
    /// So many refusals are explained, which takes as long as asking every host; the others are
    /// counted only.
    pub explain_refusals: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            on_bad_row: OnBadRow::default(),
            waiting: None,
            preemption: None,
            foresight: None,
            schedulers: None,
            failures: None,
            resizes: None,
            maintenance: Vec::new(),
            moves: MoveCost::default(),
            planning: Planning::default(),
            cpu_use: None,
            switch_off_empty_hosts: false,
            sample_every_s: 3600,
            measure_until_s: None,
            explain_refusals: 10_000,
        }
    }
}

/// How long a VM waits for a host, and who may overtake it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Waiting {
    /// Seconds that it is willing to wait; 1 to 10^9.
    pub patience_s: u64,
    /// Whenever something becomes free, the most important are tried first, of those the ones that
    /// came first. When one does not fit, so many behind it are tried nevertheless; 0 to 10000.
    pub backfill: usize,
}

impl Default for Waiting {
    /// An hour, and the next hundred are tried.
    fn default() -> Self {
        Self { patience_s: 3600, backfill: 100 }
    }
}

/// Which VMs may be put off for one that is more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preemption {
    /// Only those whose priority is lower by so much; at least 1.
    pub priority_gap: u8,
    /// Of the hosts on which the fewest would have to go, so many are tried; 1 to 1000.
    pub hosts_tried: usize,
}

impl Default for Preemption {
    fn default() -> Self {
        Self { priority_gap: 1, hosts_tried: 16 }
    }
}

/// What is known of the ends of VMs when they come: the trace's, made uncertain.
///
/// A request carries its expected end as the custom hint
/// [`EXPECTED_END_S`](super::EXPECTED_END_S), and a host has the last of its VMs' in its report's
/// metrics under the same name.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Foresight {
    /// The expected lifetime is the true one times e to the power of a normal draw with this
    /// standard deviation: 0 knows it exactly, 1 is off by a factor of 2.7 in a third of cases. 0
    /// to 10.
    pub noise: f64,
}

/// Several schedulers that share the requests, each deciding on a view of its own that is as old
/// as its last synchronisation. Who comes late finds the room taken: that is a conflict, and the
/// request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Several {
    /// How many there are; 1 to 1024.
    pub count: usize,
    /// Milliseconds that each decision takes; 0 to a day.
    pub decision_ms: u64,
    /// Milliseconds between two synchronisations of a view; 1 to a day.
    pub sync_ms: u64,
    /// How often a request is tried again after a conflict.
    pub retries: u32,
}

impl Default for Several {
    fn default() -> Self {
        Self { count: 2, decision_ms: 10, sync_ms: 1000, retries: 3 }
    }
}

/// Hosts that fail by chance: the time until the next failure is exponential.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Failures {
    /// Hours between two failures of one host on average; above 0.
    pub mtbf_h: f64,
    /// Hours that a repair takes on average; above 0.
    pub mttr_h: f64,
    /// Whether VMs of a host that failed ask for another one at once; otherwise they are lost.
    pub restart: bool,
    /// Whether failures hit a whole rack, where hosts have racks.
    pub by_rack: bool,
}

impl Default for Failures {
    /// Twice a year, four hours.
    fn default() -> Self {
        Self { mtbf_h: 4380.0, mttr_h: 4.0, restart: true, by_rack: false }
    }
}

/// VMs that are resized by chance while they run.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resizes {
    /// How often a VM is resized a day, on average; 0 to 1000.
    pub per_vm_day: f64,
    /// What its vCPUs and memory are multiplied with, each as likely; the result is rounded, at
    /// least 1. Each above 0, at most 100.
    pub factors: Vec<f64>,
}

impl Default for Resizes {
    fn default() -> Self {
        Self { per_vm_day: 0.01, factors: vec![0.5, 2.0] }
    }
}

/// A window in which hosts are maintained: VMs are moved away before it, those that are left are
/// put off when it begins, and none comes until it ends.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Which hosts: by name, or all of a rack or zone with `rack:NAME` or `zone:NAME`.
    pub hosts: String,
    /// When it begins, in seconds of the trace; at most 10^12.
    pub from_s: u64,
    /// When it ends; later, at most 10^12.
    pub until_s: u64,
    /// So many seconds before it the hosts are closed and VMs begin to move away.
    #[serde(default = "an_hour")]
    pub notice_s: u64,
}

fn an_hour() -> u64 {
    3600
}

/// How a planner is asked that moves VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Planning {
    /// Seconds between two questions; 1 to a year.
    pub every_s: u64,
    /// It may move so many VMs each time.
    pub moves_max: usize,
}

impl Default for Planning {
    fn default() -> Self {
        Self { every_s: 3600, moves_max: 100 }
    }
}

const DAY_MS: u64 = 86_400_000;
const YEAR_S: u64 = 31_536_000;

impl Scenario {
    /// Whether every number is in its range.
    ///
    /// # Errors
    /// [`Invalid`] names the first that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        self.moves.check()?;
        let year = "1 to 31536000";
        within("sample_every_s", self.sample_every_s, 1..=YEAR_S, year)?;
        within("planning.every_s", self.planning.every_s, 1..=YEAR_S, year)?;
        if let Some(cpu_use) = &self.cpu_use {
            cpu_use.check()?;
        }
        if let Some(waiting) = &self.waiting {
            let patience = waiting.patience_s;
            within("waiting.patience_s", patience, 1..=1_000_000_000, "1 to 1000000000")?;
            within("waiting.backfill", waiting.backfill, 0..=10_000, "0 to 10000")?;
        }
        if let Some(preemption) = &self.preemption {
            within("preemption.priority_gap", preemption.priority_gap, 1..=255, "1 to 255")?;
            within("preemption.hosts_tried", preemption.hosts_tried, 1..=1000, "1 to 1000")?;
        }
        if let Some(foresight) = &self.foresight {
            within("foresight.noise", foresight.noise, 0.0..=10.0, "0 to 10")?;
        }
        if let Some(several) = &self.schedulers {
            within("schedulers.count", several.count, 1..=1024, "1 to 1024")?;
            within("schedulers.decision_ms", several.decision_ms, 0..=DAY_MS, "0 to 86400000")?;
            within("schedulers.sync_ms", several.sync_ms, 1..=DAY_MS, "1 to 86400000")?;
        }
        if let Some(failures) = &self.failures {
            within("failures.mtbf_h", failures.mtbf_h, 1e-3..=1e9, "0.001 to 1e9")?;
            within("failures.mttr_h", failures.mttr_h, 1e-3..=1e9, "0.001 to 1e9")?;
        }
        if let Some(resizes) = &self.resizes {
            within("resizes.per_vm_day", resizes.per_vm_day, 0.0..=1000.0, "0 to 1000")?;
            if resizes.factors.is_empty() {
                return Err(Invalid::new("resizes.factors", "none", "at least one"));
            }
            for factor in &resizes.factors {
                within("resizes.factors", *factor, 1e-3..=100.0, "0.001 to 100")?;
            }
        }
        let times = 0..=TraceRow::SECONDS_MAX;
        if let Some(until_s) = self.measure_until_s {
            within("measure_until_s", until_s, times.clone(), "whole seconds from 0 to 10^12")?;
        }
        for window in &self.maintenance {
            let seconds = "whole seconds from 0 to 10^12";
            within("maintenance.from_s", window.from_s, times.clone(), seconds)?;
            within("maintenance.until_s", window.until_s, times.clone(), seconds)?;
            if window.until_s <= window.from_s {
                let allowed = "later than from_s";
                return Err(Invalid::new("maintenance.until_s", window.until_s, allowed));
            }
        }
        Ok(())
    }
}
