//! Quantiles of many numbers in little memory.

/// Numbers by size, each known to a sixteenth of itself or better.
///
/// Buckets grow with the numbers, sixteen to each power of two, as in HdrHistogram.
#[derive(Debug, Default, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

/// Numbers that are about as large as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// The most that they can be: less than a sixteenth above the least.
    pub up_to: u64,
    /// How many there are.
    pub count: u64,
}

/// Bits of a number that are kept.
const BITS: u32 = 4;

impl Histogram {
    /// Counts one number.
    pub fn add(&mut self, number: u64) {
        let bucket = bucket_of(number);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(number);
        self.max = self.max.max(number);
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The largest; 0 of none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many numbers there are in each bucket that has any, smallest first.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        let buckets = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        buckets.map(|(bucket, count)| Step { up_to: end_of(bucket).min(self.max), count: *count })
    }

    /// The least number such that this share of all is not larger, rounded up by less than a
    /// sixteenth; 0 of none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return end_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(number: u64) -> usize {
    let shift = (u64::BITS - number.leading_zeros()).saturating_sub(BITS + 1);
    // The first bits of the number below its power of two, which the shift counts.
    (u64::from(shift) << BITS).saturating_add(number >> shift) as usize
}

/// The largest number of a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> BITS).saturating_sub(1);
    let first = bucket - (shift << BITS);
    ((first + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_at_most_a_sixteenth_larger(number in any::<u64>(), shift in 0_u32..64) {
            let number = number >> shift;
            let end = end_of(bucket_of(number));
            prop_assert!(end >= number && end - number <= number / 16, "{} {}", number, end);
            prop_assert_eq!(bucket_of(end), bucket_of(number));
            if let Some(next) = end.checked_add(1) {
                prop_assert_eq!(bucket_of(next), bucket_of(number) + 1);
            }
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_numbers(
            mut numbers in prop::collection::vec(0_u64..1_000_000, 1..200),
            share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::default();
            numbers.iter().for_each(|number| histogram.add(*number));
            numbers.sort_unstable();
            let at = ((share * numbers.len() as f64).ceil() as usize).max(1) - 1;
            let quantile = histogram.quantile(share);
            prop_assert!(quantile >= numbers[at] && quantile - numbers[at] <= numbers[at] / 16);
            let mut seen = 0;
            for Step { up_to, count } in histogram.steps() {
                seen += count;
                let within = numbers.iter().filter(|number| **number <= up_to).count();
                prop_assert_eq!(seen, within as u64);
            }
            prop_assert_eq!(seen, numbers.len() as u64);
        }
    }
}
