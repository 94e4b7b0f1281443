//! The statistics of what chance makes, with fixed seeds.

use nova_core::domain::*;
use nova_core::seed::Seed;
use nova_sched::sim::trace::TraceRow;
use nova_sched::sim::trace::synthetic::{Arrivals, Lifetimes, Recipe, Shape, Synthetic};

const BURSTY: Arrivals = Arrivals::Bursty {
    calm_per_hour: 60.0,
    burst_per_hour: 6000.0,
    calm_s: 9000.0,
    burst_s: 1000.0,
};

fn made(recipe: Recipe, seed: u64) -> Vec<TraceRow> {
    Synthetic::new(recipe, Seed::new(seed)).unwrap().collect()
}

/// The mean of the arrivals in each minute, and their variance as a multiple of it.
fn minutes(rows: &[TraceRow]) -> (f64, f64) {
    let last = rows.last().unwrap().arrival_s / 60;
    let mut counts = vec![0.0; last as usize];
    for row in rows {
        if let Some(count) = counts.get_mut((row.arrival_s / 60) as usize) {
            *count += 1.0;
        }
    }
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let squares: f64 = counts.iter().map(|count| (count - mean) * (count - mean)).sum();
    (mean, squares / counts.len() as f64 / mean)
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found / expected - 1.0).abs() < tolerance, "{found} is not about {expected}");
}

#[test]
fn poisson_arrivals_are_independent_at_their_rate() {
    let arrivals = Arrivals::Poisson { per_hour: 1200.0 };
    let (mean, dispersion) = minutes(&made(Recipe::default().with_arrivals(arrivals), 1));
    near(mean, 20.0, 0.02);
    near(dispersion, 1.0, 0.05);
}

#[test]
fn bursts_come_at_their_rate_and_crowd() {
    let (mean, dispersion) = minutes(&made(many().with_arrivals(BURSTY), 2));
    // A tenth of the time 100 a minute, else 1.
    near(mean, 10.9, 0.1);
    assert!(dispersion > 40.0, "{dispersion}");
}

/// So many that what is rare is there.
fn many() -> Recipe {
    Recipe::default().with_rows(1_000_000)
}

/// The sorted lifetimes of many VMs.
fn lifetimes(lifetimes: Lifetimes) -> Vec<f64> {
    let rows = made(many().with_lifetimes(lifetimes), 3);
    let one = |row: &TraceRow| (row.end_s.unwrap() - row.arrival_s) as f64;
    let mut all: Vec<f64> = rows.iter().map(one).collect();
    all.sort_by(f64::total_cmp);
    all
}

fn share_above(lifetimes: &[f64], seconds: f64) -> f64 {
    let above = lifetimes.len() - lifetimes.partition_point(|lifetime| *lifetime <= seconds);
    above as f64 / lifetimes.len() as f64
}

#[test]
fn exponential_lifetimes_have_their_mean() {
    let all = lifetimes(Lifetimes::Exponential { mean_s: 5000.0 });
    near(all.iter().sum::<f64>() / all.len() as f64, 5000.0, 0.02);
    near(share_above(&all, 10_000.0), (-2.0_f64).exp(), 0.03);
}

#[test]
fn pareto_lifetimes_have_a_heavy_tail_within_their_ends() {
    let (min, max, alpha) = (100.0_f64, 1e6_f64, 1.1_f64);
    let all = lifetimes(Lifetimes::Pareto { min_s: min, alpha, max_s: max });
    assert!(all[0] >= min && all[all.len() - 1] <= max);
    let cut = (min / max).powf(alpha);
    for seconds in [200.0_f64, 1000.0, 10_000.0] {
        let expected = ((min / seconds).powf(alpha) - cut) / (1.0 - cut);
        near(share_above(&all, seconds), expected, 0.04);
    }
    // The longest tenth takes most of the time.
    let longest: f64 = all[all.len() * 9 / 10..].iter().sum();
    assert!(longest > 0.6 * all.iter().sum::<f64>());
}

#[test]
fn log_normal_lifetimes_have_their_median_and_spread() {
    let all = lifetimes(Lifetimes::LogNormal { median_s: 3600.0, sigma: 1.0 });
    near(all[all.len() / 2], 3600.0, 0.02);
    near(share_above(&all, 3600.0 * std::f64::consts::E), 0.1587, 0.03);
    assert!(
        made(Recipe::default().with_lifetimes(Lifetimes::Endless).with_rows(99), 1)
            .iter()
            .all(|row| row.end_s.is_none())
    );
}

#[test]
fn shapes_and_use_have_their_shares() {
    let shape = |vcpus, weight| Shape {
        vcpus: Vcpus(vcpus),
        memory: MiB(512),
        disk: GiB(7),
        priority: 3,
        weight,
    };
    let shapes = vec![shape(1, 70), shape(2, 0), shape(4, 30)];
    let rows = made(Recipe::default().with_shapes(shapes).with_cpu_permille(100, 300), 4);
    let share = |vcpus| {
        let count = rows.iter().filter(|row| row.vcpus == Vcpus(vcpus)).count();
        count as f64 / rows.len() as f64
    };
    near(share(1), 0.7, 0.02);
    assert_eq!((share(2), rows[0].disk, rows[0].priority), (0.0, GiB(7), 3));
    let uses: Vec<f64> = rows.iter().map(|row| row.cpu_permille.unwrap().into()).collect();
    near(uses.iter().sum::<f64>() / uses.len() as f64, 200.0, 0.01);
    assert!(uses.iter().all(|used| (100.0..=300.0).contains(used)));
    assert!(uses.contains(&100.0) && uses.contains(&300.0));
}

#[test]
fn the_same_seed_makes_the_same_and_parts_do_not_move_each_other() {
    let recipe = || Recipe::default().with_rows(500);
    assert_eq!(made(recipe(), 1), made(recipe(), 1));
    assert_ne!(made(recipe(), 1), made(recipe(), 2));
    let arrivals = |rows: &[TraceRow]| rows.iter().map(|row| row.arrival_s).collect::<Vec<_>>();
    let other = recipe().with_lifetimes(Lifetimes::Exponential { mean_s: 9.0 });
    let other = made(other.with_cpu_permille(0, 9), 1);
    assert_eq!(arrivals(&made(recipe(), 1)), arrivals(&other));
}

#[test]
fn the_rows_of_a_seed_never_change_between_releases() {
    let recipe = Recipe::default().with_rows(3).with_arrivals(BURSTY);
    let rows: Vec<String> = made(recipe, 42).iter().map(super::shown).collect();
    assert_eq!(rows, PINNED);
}
const PINNED: [&str; 3] =
    ["1: vm 1 24-99837 2x4096", "2: vm 2 39-6705 1x2048", "3: vm 3 44-210 1x2048"];

#[test]
fn it_ends_in_time() {
    let rows = made(Recipe::default().with_until_s(3600), 5);
    assert!(rows.len() > 800 && rows.len() < 1200, "{}", rows.len());
    assert!(rows.last().unwrap().arrival_s <= 3600);
}

#[test]
fn values_out_of_range_are_named() {
    let field = |recipe: Recipe| {
        Synthetic::new(recipe, Seed::new(1)).map(|_| ()).map_err(|invalid| invalid.field)
    };
    let recipe = Recipe::default;
    let poisson = |per_hour| recipe().with_arrivals(Arrivals::Poisson { per_hour });
    let pareto =
        |min_s, alpha, max_s| recipe().with_lifetimes(Lifetimes::Pareto { min_s, alpha, max_s });
    assert_eq!(field(recipe()), Ok(()));
    for per_hour in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
        assert_eq!(field(poisson(per_hour)), Err("per_hour"));
    }
    assert_eq!(field(pareto(0.0, 1.0, 9.0)), Err("min_s"));
    assert_eq!(field(pareto(1.0, f64::NAN, 9.0)), Err("alpha"));
    assert_eq!(field(pareto(10.0, 1.0, 9.0)), Err("max_s"));
    let normal =
        |median_s, sigma| recipe().with_lifetimes(Lifetimes::LogNormal { median_s, sigma });
    assert_eq!(field(normal(1.0, 6.0)), Err("sigma"));
    assert_eq!(field(recipe().with_shapes(Vec::new())), Err("shapes"));
    let shape = Shape { vcpus: Vcpus(1), memory: MiB(1), disk: GiB(0), priority: 0, weight: 0 };
    assert_eq!(field(recipe().with_shapes(vec![shape])), Err("shapes"));
    let none = Shape { vcpus: Vcpus(0), weight: 1, ..shape };
    assert_eq!(field(recipe().with_shapes(vec![none])), Err("vcpu"));
    assert_eq!(field(recipe().with_cpu_permille(9, 8)), Err("cpu_permille"));
    assert_eq!(field(recipe().with_cpu_permille(0, 1001)), Err("cpu_permille"));
    assert_eq!(field(recipe().with_until_s(u64::MAX)), Err("until_s"));
}
