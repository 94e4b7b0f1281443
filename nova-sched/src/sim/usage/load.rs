//! What one VM uses, and what is wanted of one host.

use nova_core::domain::Slot;

use super::Course;
use crate::sim::{Moment, Vm};

/// A VM that has been on a host.
#[derive(Debug)]
pub(super) struct Guest {
    /// Tells it from others that had its key.
    pub(super) born: u32,
    pub(super) arrived: Moment,
    pub(super) course: Course,
    pub(super) vcpus: u32,
    pub(super) permille: u16,
    pub(super) on: Option<Slot>,
    pub(super) moves: bool,
    since: Moment,
    /// Thousandths of a CPU times milliseconds: all that it wanted, and that while it moved.
    wanted: u128,
    wanted_moving: u128,
}

impl Guest {
    pub(super) fn new(vm: &Vm, course: Course) -> Self {
        Self {
            born: vm.born,
            arrived: vm.arrived,
            course,
            vcpus: 0,
            permille: 0,
            on: None,
            moves: false,
            since: Moment::ZERO,
            wanted: 0,
            wanted_moving: 0,
        }
    }

    /// What it wants now, in thousandths of a CPU.
    pub(super) fn wants(&self) -> u64 {
        u64::from(self.vcpus) * u64::from(self.permille)
    }

    /// Time goes on.
    pub(super) fn pass(&mut self, now: Moment) {
        if self.on.is_some() {
            let wanted = u128::from(self.wants()) * u128::from(now.millis_since(self.since));
            self.wanted += wanted;
            self.wanted_moving += if self.moves { wanted } else { 0 };
        }
        self.since = self.since.max(now);
    }

    /// The share of what it wanted that migrations cost it, each so much of what it wanted then;
    /// none where it wanted nothing.
    pub(super) fn lost_in_moves(&self, lost: f64) -> Option<f64> {
        (self.wanted > 0).then(|| lost * self.wanted_moving as f64 / self.wanted as f64)
    }
}

/// What is wanted of a host.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Load {
    /// Thousandths of CPUs.
    has: u64,
    pub(super) wanted: u64,
    vms: u32,
    since: Moment,
    in_use_ms: u64,
    overloaded_ms: u64,
}

impl Load {
    pub(super) fn new(cpus: u32) -> Self {
        Self { has: u64::from(cpus) * 1000, ..Self::default() }
    }

    /// Forgets what was before `at`.
    pub(super) fn start(&mut self, at: Moment) {
        (self.since, self.in_use_ms, self.overloaded_ms) = (at, 0, 0);
    }

    pub(super) fn join(&mut self, wanted: u64) {
        self.vms += 1;
        self.wanted += wanted;
    }

    pub(super) fn leave(&mut self, wanted: u64) {
        self.vms = self.vms.saturating_sub(1);
        self.wanted = self.wanted.saturating_sub(wanted);
    }

    /// Time goes on.
    pub(super) fn pass(&mut self, now: Moment) {
        let millis = now.millis_since(self.since);
        self.in_use_ms += if self.vms > 0 { millis } else { 0 };
        self.overloaded_ms += if self.is_overloaded() { millis } else { 0 };
        self.since = self.since.max(now);
    }

    /// Whether more is wanted than there is.
    pub(super) fn is_overloaded(&self) -> bool {
        self.wanted > self.has
    }

    pub(super) fn served(&self) -> u64 {
        self.wanted.min(self.has)
    }

    /// What it has, where it is in use.
    pub(super) fn in_use(&self) -> u64 {
        if self.vms > 0 { self.has } else { 0 }
    }

    /// The share of its time in use for which it was overloaded; none of one that never was in use.
    pub(super) fn overloaded_share(&self) -> Option<f64> {
        (self.in_use_ms > 0).then(|| self.overloaded_ms as f64 / self.in_use_ms as f64)
    }
}
