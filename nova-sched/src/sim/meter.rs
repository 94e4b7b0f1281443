//! Quantities over virtual time.

use super::Moment;

/// A quantity that changes at points in time: what it is, was at most, and was on average.
///
/// Sums are whole numbers, so that their order does not matter.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Meter {
    now: u64,
    peak: u64,
    /// Since when it has that value.
    since: Moment,
    /// The quantity times the milliseconds for which it had that value, up to then.
    sum: u128,
}

impl Meter {
    /// Forgets what was before `at`; what it is now stays.
    pub(crate) fn start(&mut self, at: Moment) {
        *self = Self { now: self.now, peak: self.now, since: at, sum: 0 };
    }

    /// Changes the quantity.
    pub(crate) fn set(&mut self, at: Moment, now: u64) {
        self.sum += u128::from(self.now) * u128::from(at.millis_since(self.since));
        self.since = self.since.max(at);
        self.now = now;
        self.peak = self.peak.max(now);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// The quantity times milliseconds, up to `at`.
    pub(crate) fn sum(&self, at: Moment) -> u128 {
        self.sum + u128::from(self.now) * u128::from(at.millis_since(self.since))
    }

    /// The mean over `millis` in all, up to `at`; over none it is what the quantity is now.
    pub(crate) fn mean(&self, at: Moment, millis: u64) -> f64 {
        if millis == 0 { self.now as f64 } else { self.sum(at) as f64 / millis as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_weighs_by_time() {
        let at = Moment::of_seconds;
        let mut meter = Meter::default();
        meter.set(at(5), 10);
        meter.start(at(6));
        meter.set(at(7), 2);
        assert_eq!((meter.mean(at(10), 4000), meter.peak(), meter.now()), (4.0, 10, 2));
        assert_eq!(meter.mean(at(6), 0), 2.0);
    }
}
