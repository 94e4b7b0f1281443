//! Quantities over virtual time.

/// A quantity that changes at points in time: what it is, was at most, and was on average.
///
/// Sums are whole numbers, so that their order does not matter.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Meter {
    now: u64,
    peak: u64,
    /// The quantity times the seconds for which it had that value.
    sum: u128,
}

impl Meter {
    /// Lets `seconds` pass.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.sum += u128::from(self.now) * u128::from(seconds);
    }

    /// Changes the quantity.
    pub(crate) fn set(&mut self, now: u64) {
        self.now = now;
        self.peak = self.peak.max(now);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// The mean over `seconds` in all; over none it is what the quantity is now.
    pub(crate) fn mean(&self, seconds: u64) -> f64 {
        if seconds == 0 { self.now as f64 } else { self.sum as f64 / seconds as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_weighs_by_time() {
        let mut meter = Meter::default();
        meter.set(10);
        meter.pass(1);
        meter.set(2);
        meter.pass(3);
        assert_eq!((meter.mean(4), meter.peak(), meter.now()), (4.0, 10, 2));
    }
}
