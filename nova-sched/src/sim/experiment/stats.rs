//! Means over seeds, how sure they are, and whether two policies differ by more than chance.
//!
//! - The interval is the percentile bootstrap: Efron and Tibshirani, "An Introduction to the
//!   Bootstrap" (1993), sections 13.3 and 12.5 (which of the ordered resamples are its ends).
//! - The test flips signs of paired differences: Fisher, "The Design of Experiments" (1935), section
//!   21. Of drawn flips the share counts the observed one too, as Phipson and Smyth, "Permutation
//!   P-values Should Never Be Zero" (2010), say.
//! - Several comparisons are corrected by Holm, "A Simple Sequentially Rejective Multiple Test
//!   Procedure" (1979).
//!
//! All of it is repeatable: chance has a fixed seed, so the same numbers have the same interval.

use nova_core::seed::Seed;

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 10_000;

/// The share of intervals that hold the true mean, if there are many seeds.
pub const CONFIDENCE: f64 = 0.95;

/// Up to so many pairs every flip of signs is tried; of more, flips are drawn.
pub const PAIRS_EXACT_MAX: usize = 16;

/// Flips that are drawn where there are too many to try all.
pub const FLIPS_DRAWN: u64 = 100_000;

/// The ends of an interval, both of them within it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
// Exhaustive on purpose: an interval is two numbers.
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The mean; none of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    let sum = values.iter().fold(0.0, |sum, value| sum + value);
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// The interval of the mean at [`CONFIDENCE`], by the percentile bootstrap; none of fewer than two
/// values, since one says nothing about how much they differ.
///
/// ```
/// use nova_sched::sim::experiment::stats::bootstrap;
///
/// let interval = bootstrap(&[10.0, 12.0, 11.0, 13.0, 9.0]).unwrap();
/// assert!(9.0 < interval.low && interval.low < 11.0 && 11.0 < interval.high);
/// assert_eq!(bootstrap(&[10.0]), None);
/// ```
pub fn bootstrap(values: &[f64]) -> Option<Interval> {
    if values.len() < 2 {
        return None;
    }
    // Every resample of the same numbers is the same, and many metrics are 0 for all seeds.
    if values.iter().all(|value| value.to_bits() == values[0].to_bits()) {
        return mean(values).map(|mean| Interval { low: mean, high: mean });
    }
    // The same chance for every metric: a further metric moves no other.
    let mut chance = Seed::new(0).child_of("bootstrap", values.len() as u128).chance();
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let draws = (0..values.len()).map(|_| values[chance.index(values.len())]);
            draws.fold(0.0, |sum, value| sum + value) / values.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    // The k-th smallest and the k-th largest, where k is the share below the interval.
    let below = ((RESAMPLES + 1) as f64 * (1.0 - CONFIDENCE) / 2.0) as usize;
    let low = means.get(below - 1)?;
    let high = means.get(RESAMPLES - below)?;
    Some(Interval { low: *low, high: *high })
}

/// How likely a mean difference is that is at least as far from 0, if the sign of each difference
/// were chance; two-sided. None without a difference that is not 0: there is nothing to test.
///
/// With up to [`PAIRS_EXACT_MAX`] pairs it is exact, and never below 2 to the power of one less
/// than the number of pairs, inverted: four seeds cannot show more than 0.125.
///
/// ```
/// use nova_sched::sim::experiment::stats::sign_flip;
///
/// assert_eq!(sign_flip(&[1.0, 2.0, 3.0]), Some(0.25));
/// assert_eq!(sign_flip(&[0.0, 0.0]), None);
/// ```
pub fn sign_flip(differences: &[f64]) -> Option<f64> {
    let flipped: Vec<f64> = differences.iter().copied().filter(|diff| *diff != 0.0).collect();
    if flipped.is_empty() || !flipped.iter().all(|diff| diff.is_finite()) {
        return None;
    }
    let observed = flipped.iter().fold(0.0, |sum, diff| sum + diff).abs();
    let size = flipped.iter().fold(0.0, |sum, diff| sum + diff.abs());
    // Sums of the same numbers in another order of signs round differently.
    let far = observed - size * 1e-12;
    let is_far = |signs: &mut dyn FnMut(usize) -> bool| {
        let signed = flipped.iter().enumerate();
        let sum =
            signed.fold(0.0, |sum, (at, diff)| if signs(at) { sum + diff } else { sum - diff });
        sum.abs() >= far
    };
    if flipped.len() <= PAIRS_EXACT_MAX {
        let all = 1_u32 << flipped.len();
        let hits = (0..all).filter(|signs| is_far(&mut |at| signs >> at & 1 == 1)).count();
        return Some(hits as f64 / f64::from(all));
    }
    let mut chance = Seed::new(0).child_of("flips", flipped.len() as u128).chance();
    let mut bits = 0;
    let hits = (0..FLIPS_DRAWN).filter(|_| {
        is_far(&mut |at| {
            if at % 64 == 0 {
                bits = chance.next_u64();
            }
            bits >> (at % 64) & 1 == 1
        })
    });
    Some((hits.count() + 1) as f64 / (FLIPS_DRAWN + 1) as f64)
}

/// What each of several p values is worth when all of them are looked at; those that are absent
/// stay absent and count for nothing.
///
/// ```
/// use nova_sched::sim::experiment::stats::holm;
///
/// assert_eq!(holm(&[Some(0.5), None, Some(0.125)]), [Some(0.5), None, Some(0.25)]);
/// ```
pub fn holm(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> =
        values.iter().enumerate().filter_map(|(at, p)| p.map(|p| (at, p))).collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut corrected = vec![None; values.len()];
    let (mut least, count) = (0.0_f64, order.len());
    for (rank, (at, p)) in order.into_iter().enumerate() {
        least = least.max((p * (count - rank) as f64).min(1.0));
        corrected[at] = Some(least);
    }
    corrected
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flips_are_counted_as_by_hand() {
        // Eight flips of 3, 1, -1: sums 3, 5, 1, 3 and their opposites; six are 3 or more.
        assert_eq!(sign_flip(&[3.0, 1.0, -1.0]), Some(0.75));
        assert_eq!(sign_flip(&[1.0]), Some(1.0));
        assert_eq!(sign_flip(&[0.0, 4.0, 0.0, 4.0]), Some(0.5));
        assert_eq!(sign_flip(&[0.1; 10]), Some(2.0 / 1024.0));
        assert_eq!(sign_flip(&[]), None);
        assert_eq!(sign_flip(&[f64::NAN, 1.0]), None);
    }

    #[test]
    fn drawn_flips_come_near_to_all_flips() {
        // 2^17 flips by another way: the number of ways to reach each sum.
        let numbers: Vec<i64> = (1..=17).map(|n| if n % 3 == 0 { -n } else { n }).collect();
        let mut ways = std::collections::BTreeMap::from([(0_i64, 1_u64)]);
        for number in &numbers {
            let mut next = std::collections::BTreeMap::new();
            for (sum, count) in ways {
                *next.entry(sum + number).or_default() += count;
                *next.entry(sum - number).or_default() += count;
            }
            ways = next;
        }
        let observed: i64 = numbers.iter().sum();
        let far = ways.iter().filter(|(sum, _)| sum.abs() >= observed.abs());
        let exact = far.map(|(_, count)| count).sum::<u64>() as f64 / f64::from(1 << 17);
        let values: Vec<f64> = numbers.iter().map(|number| *number as f64).collect();
        let drawn = sign_flip(&values).unwrap();
        assert!((drawn - exact).abs() < 0.005, "{drawn} {exact}");
        // What never happens is not impossible.
        assert_eq!(sign_flip(&[1.0; 60]), Some(1.0 / (FLIPS_DRAWN + 1) as f64));
    }

    #[test]
    fn the_interval_of_two_values_is_both() {
        // A quarter of the resamples is twice the lower one, a quarter twice the upper one.
        assert_eq!(bootstrap(&[1.0, 3.0]), Some(Interval { low: 1.0, high: 3.0 }));
        assert_eq!(bootstrap(&[0.1; 7]).map(|both| both.low), mean(&[0.1; 7]));
        assert_eq!(bootstrap(&[]), None);
    }

    #[test]
    fn the_interval_of_coins_is_that_of_the_binomial_distribution() {
        // Ten zeros and ten ones: sums of resamples are binomial with 20 and 1/2, whose quantiles
        // at 2.5 % and 97.5 % are 6 and 14.
        let coins: Vec<f64> = (0..20).map(|nth| f64::from(nth % 2)).collect();
        assert_eq!(bootstrap(&coins), Some(Interval { low: 0.3, high: 0.7 }));
    }

    #[test]
    fn holm_is_as_in_his_paper() {
        let given = [0.01, 0.04, 0.03, 0.005].map(Some);
        let corrected = holm(&given);
        let wanted = [0.03, 0.06, 0.06, 0.02];
        for (corrected, wanted) in corrected.iter().zip(wanted) {
            assert!((corrected.unwrap() - wanted).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[Some(0.9), Some(0.8)]), [Some(1.0), Some(1.0)]);
        assert_eq!(holm(&[None]), [None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn an_interval_holds_the_mean_and_moves_with_the_values(
            values in prop::collection::vec(-1000_i32..1000, 2..12),
            later in -1000_i32..1000,
        ) {
            // Whole numbers, whose sums are exact.
            let floats: Vec<f64> = values.iter().copied().map(f64::from).collect();
            let interval = bootstrap(&floats).unwrap();
            let mean = mean(&floats).unwrap();
            prop_assert!(interval.low <= mean && mean <= interval.high, "{:?} {}", interval, mean);
            let (least, most) = (values.iter().min().unwrap(), values.iter().max().unwrap());
            prop_assert!(interval.low >= f64::from(*least) && interval.high <= f64::from(*most));
            let moved: Vec<f64> = floats.iter().map(|value| value + f64::from(later)).collect();
            let moved = bootstrap(&moved).unwrap();
            prop_assert!((moved.low - interval.low - f64::from(later)).abs() < 1e-9);
            prop_assert!((moved.high - interval.high - f64::from(later)).abs() < 1e-9);
        }

        #[test]
        fn a_p_value_is_that_of_the_naive_way(
            values in prop::collection::vec(-5_i64..6, 1..10),
            scale in 1_i32..1000,
        ) {
            // Every flip by recursion over whole numbers.
            fn sums(values: &[i64], sum: i64) -> Vec<i64> {
                match values {
                    [] => vec![sum],
                    [first, rest @ ..] => [sums(rest, sum + first), sums(rest, sum - first)].concat(),
                }
            }
            let all = sums(&values, 0);
            let observed = values.iter().sum::<i64>().abs();
            let far = all.iter().filter(|sum| sum.abs() >= observed).count();
            let naive = values.iter().any(|value| *value != 0).then(|| far as f64 / all.len() as f64);
            // Thirds do not fit into a double: rounding must not matter.
            let floats = |sign: f64| -> Vec<f64> {
                values.iter().map(|value| sign * *value as f64 * f64::from(scale) / 3.0).collect()
            };
            prop_assert_eq!(sign_flip(&floats(1.0)), naive);
            prop_assert_eq!(sign_flip(&floats(-1.0)), naive);
            prop_assert!(naive.is_none_or(|p| p > 0.0 && p <= 1.0));
        }

        #[test]
        fn a_correction_never_lessens_and_keeps_the_order(
            values in prop::collection::vec(prop::option::of(0.0..=1.0_f64), 0..8),
        ) {
            let corrected = holm(&values);
            let known = values.iter().filter(|p| p.is_some()).count() as f64;
            for (p, q) in values.iter().zip(&corrected) {
                prop_assert_eq!(p.is_some(), q.is_some());
                if let (Some(p), Some(q)) = (p, q) {
                    prop_assert!(p <= q && *q <= 1.0 && *q <= p * known + 1e-12);
                }
            }
            for (a, b) in values.iter().zip(&corrected) {
                for (c, d) in values.iter().zip(&corrected) {
                    prop_assert!(a >= c || b <= d);
                }
            }
        }
    }
}
