//! What a host's power costs, and how long a move takes.

use nova_core::domain::{Invalid, MiB};

use super::range::within;

/// The power that a host takes by the share of its CPUs in use: points that are joined by lines.
///
/// SPECpower results are such points, 10 % apart; two points are the usual linear model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct PowerCurve {
    /// Watts at equally distant shares from 0 to 1; at least two.
    watts: Vec<f64>,
}

impl PowerCurve {
    /// Watts at equally distant shares of CPU use, the first idle and the last busy.
    ///
    /// # Errors
    /// [`Invalid`] for fewer than 2 or more than 1001 points, or one that is not a number from 0
    /// to 1000000.
    pub fn new(watts: Vec<f64>) -> Result<Self, Invalid> {
        if !(2..=1001).contains(&watts.len()) {
            return Err(Invalid::new("power_watts", watts.len(), "2 to 1001 points"));
        }
        match watts.iter().find(|watts| !(0.0..=1e6).contains(*watts)) {
            Some(watts) => Err(Invalid::new("power_watts", watts, "numbers from 0 to 1000000")),
            None => Ok(Self { watts }),
        }
    }

    /// Milliwatts at a share of CPU use, which counts as the nearest of 0 to 1; rounded, so that
    /// sums do not depend on their order.
    pub fn milliwatts(&self, share: f64) -> u64 {
        let last = self.watts.len() - 1;
        let at = share.clamp(0.0, 1.0) * last as f64;
        let left = (at as usize).min(last - 1);
        let (low, high) = (self.watts[left], self.watts[left + 1]);
        ((low + (high - low) * (at - left as f64)) * 1000.0).round() as u64
    }
}

impl TryFrom<Vec<f64>> for PowerCurve {
    type Error = Invalid;

    fn try_from(watts: Vec<f64>) -> Result<Self, Invalid> {
        Self::new(watts)
    }
}

impl From<PowerCurve> for Vec<f64> {
    fn from(curve: PowerCurve) -> Self {
        curve.watts
    }
}

/// What a live migration costs: the memory goes over the network, what is written meanwhile goes
/// once more, and until it has ended both hosts have claimed the VM.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoveCost {
    /// MiB a second between two hosts; 0.001 to 10^9.
    pub bandwidth_mib_s: f64,
    /// How much more than its memory is sent, as a share of it; 0 to 100.
    pub dirty_share: f64,
    /// Milliseconds that every migration takes besides; at most a day.
    pub overhead_ms: u64,
}

impl Default for MoveCost {
    /// 10 Gbit/s (1192 MiB/s), a fifth sent twice, half a second besides.
    fn default() -> Self {
        Self { bandwidth_mib_s: 1192.0, dirty_share: 0.2, overhead_ms: 500 }
    }
}

impl MoveCost {
    /// Whether it can be reckoned with.
    ///
    /// # Errors
    /// [`Invalid`] names what is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        let (bandwidth, overhead) = (self.bandwidth_mib_s, self.overhead_ms);
        within("moves.bandwidth_mib_s", bandwidth, 1e-3..=1e9, "0.001 to 1000000000")?;
        within("moves.dirty_share", self.dirty_share, 0.0..=100.0, "0 to 100")?;
        within("moves.overhead_ms", overhead, 0..=86_400_000, "at most 86400000, a day")
    }

    /// Milliseconds for a VM of so much memory.
    pub fn millis(&self, memory: MiB) -> u64 {
        let seconds = memory.get() as f64 * (1.0 + self.dirty_share) / self.bandwidth_mib_s;
        ((seconds * 1000.0).ceil() as u64).saturating_add(self.overhead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_lies_on_the_lines_between_the_points() {
        let curve = PowerCurve::new(vec![100.0, 150.0, 300.0]).unwrap();
        let expected = [(0.0, 100), (0.25, 125), (0.5, 150), (0.75, 225), (1.0, 300), (7.0, 300)];
        for (share, watts) in expected {
            assert_eq!(curve.milliwatts(share), watts * 1000, "{share}");
        }
        assert!(PowerCurve::new(vec![1.0]).is_err());
        assert!(PowerCurve::new(vec![1.0, f64::NAN]).is_err());
    }

    #[test]
    fn a_move_takes_as_long_as_its_memory_takes_to_send() {
        let cost = MoveCost { bandwidth_mib_s: 1000.0, dirty_share: 0.5, overhead_ms: 7 };
        assert_eq!(cost.millis(MiB(2000)), 3007);
        assert!(MoveCost { bandwidth_mib_s: 0.0, ..cost }.check().is_err());
        assert!(MoveCost { dirty_share: f64::NAN, ..cost }.check().is_err());
    }
}
