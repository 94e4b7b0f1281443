//! Min-max normalisation: how weights on different scales become comparable.

use crate::Ends;

/// The ends of one weigher's scale for one set of hosts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// The scale before any weight was seen: whatever comes becomes both ends, except that fixed
    /// ends stay.
    pub(crate) fn new(ends: &Ends) -> Self {
        Self { low: ends.min.unwrap_or(f64::INFINITY), high: ends.max.unwrap_or(f64::NEG_INFINITY) }
    }

    /// Widens the scale to hold `weight`, which is clamped to the fixed ends already: so a fixed
    /// end never moves.
    pub(crate) fn include(&mut self, weight: f64) {
        if weight < self.low {
            self.low = weight;
        }
        if weight > self.high {
            self.high = weight;
        }
    }

    /// Where `weight` lies between the ends, 0 to 1; 0 when both are the same.
    pub(crate) fn map(&self, weight: f64) -> f64 {
        // Equal ends mean that nobody is better: no host may win or lose by it.
        if self.low == self.high { 0.0 } else { (weight - self.low) / (self.high - self.low) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ends: Ends, raw: &[f64], expected: &[f64]) {
        let mut scale = Scale::new(&ends);
        let weights: Vec<f64> = raw.iter().map(|raw| ends.clamp(*raw)).collect();
        weights.iter().for_each(|weight| scale.include(*weight));
        let mapped: Vec<f64> = weights.iter().map(|weight| scale.map(*weight)).collect();
        assert_eq!(mapped, expected, "{ends:?} {raw:?}");
    }

    #[test]
    fn equal_weights_map_to_zero() {
        check(Ends::FREE, &[5.0, 5.0, 5.0], &[0.0, 0.0, 0.0]);
    }

    #[test]
    fn equal_weights_above_a_fixed_end_map_to_one() {
        check(Ends::at_least(0.0), &[5.0, 5.0, 5.0], &[1.0, 1.0, 1.0]);
    }

    #[test]
    fn one_fixed_end_leaves_the_other_free() {
        check(Ends::at_least(0.0), &[10.0, 20.0], &[0.5, 1.0]);
        check(Ends { min: None, max: Some(30.0) }, &[10.0, 20.0], &[0.0, 0.5]);
    }

    #[test]
    fn weights_beyond_a_fixed_end_count_as_that_end() {
        check(Ends::at_least(0.0), &[-10.0, 10.0], &[0.0, 1.0]);
        check(Ends { min: Some(0.0), max: Some(4.0) }, &[1.0, 9.0], &[0.25, 1.0]);
    }

    #[test]
    fn weights_all_at_the_fixed_end_map_to_zero() {
        check(Ends::at_least(0.0), &[-1.0, -2.0], &[0.0, 0.0]);
    }

    #[test]
    fn what_is_no_finite_number_still_has_a_place_on_the_scale() {
        check(Ends::FREE, &[f64::NAN, f64::INFINITY], &[0.0, 1.0]);
        check(Ends::at_least(0.0), &[f64::NAN, 2.0], &[0.0, 1.0]);
    }
}
