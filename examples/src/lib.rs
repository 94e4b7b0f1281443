//! What the examples share: measuring themselves, saying what went wrong, examining what a process
//! has left, and what `private_cloud` and `kill` tell, so that tests can tell it too.

pub mod cold;
pub mod compare;
pub mod convert;
pub mod decisions;
pub mod kill;
#[cfg(feature = "libvirt")]
pub mod libvirt_host;
pub mod private_cloud;
pub mod race;
pub mod sites;

use std::error::Error;
use std::time::Duration;

use nova_core::clock::{Clock as _, SystemClock, Timestamp};

/// The README, so that its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Measures how long something took, and how much memory the process needed at most.
#[derive(Debug)]
pub struct Stopwatch {
    clock: SystemClock,
    started: Timestamp,
}

/// What a [`Stopwatch`] measured. It is the one part of an example's output that differs between
/// two runs.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Timing {
    /// Seconds of wall time.
    pub wall_s: f64,
    /// Placements per second of wall time.
    pub placements_per_s: f64,
    /// The most memory that was resident, in mebibytes; none where the system does not tell.
    pub peak_rss_mib: Option<f64>,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        let clock = SystemClock::new();
        let started = clock.now();
        Self { clock, started }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    /// What `placements` placements took.
    pub fn timing(&self, placements: u64) -> Timing {
        let wall_s = self.elapsed().as_secs_f64();
        let placements_per_s = if wall_s > 0.0 { placements as f64 / wall_s } else { 0.0 };
        Timing { wall_s, placements_per_s, peak_rss_mib: peak_rss_mib() }
    }
}

/// The most memory that this process had resident, in mebibytes; none where `/proc` does not tell.
pub fn peak_rss_mib() -> Option<f64> {
    status_mib("VmHWM:")
}

/// The memory that this process has resident now, in mebibytes; none where `/proc` does not tell.
pub fn rss_mib() -> Option<f64> {
    status_mib("VmRSS:")
}

fn status_mib(word: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(word))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// An error with its causes on one line. A cause that the line ends with already is not repeated.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line.replace('\n', " ")
}
