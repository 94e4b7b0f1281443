//! Traces made of chance: arrivals, lifetimes and shapes from a seed.
//!
//! ```
//! use nova_core::seed::Seed;
//! use nova_sched::sim::trace::synthetic::{Arrivals, Lifetimes, Recipe, Synthetic};
//!
//! let recipe = Recipe::default()
//!     .with_arrivals(Arrivals::Poisson { per_hour: 600.0 })
//!     .with_lifetimes(Lifetimes::Pareto { min_s: 60.0, alpha: 1.2, max_s: 1e6 })
//!     .with_rows(1000);
//! let trace = Synthetic::new(recipe, Seed::new(7))?;
//! assert_eq!(trace.count(), 1000);
//! # Ok::<(), nova_core::domain::Invalid>(())
//! ```
//!
//! The same recipe and seed give the same rows on every platform: logarithms and powers are
//! computed by software, not by what the platform has. Arrivals, lifetimes, shapes and use are
//! drawn from seeds of their own, so that changing one of them leaves the others as they are.

use nova_core::domain::{GiB, Invalid, MiB, Vcpus};
use nova_core::seed::{Chance, Seed};

use super::{BadRow, Rows, TraceRow};
use crate::sim::range::within;

/// When VMs come.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Arrivals {
    /// Independent of each other, at one rate.
    Poisson {
        /// VMs an hour, 0.001 to 10^9.
        per_hour: f64,
    },
    /// At two rates in turn, each for a time that is drawn from an exponential distribution: a
    /// Poisson process that a Markov chain of two states modulates. It begins calm.
    Bursty {
        /// VMs an hour while it is calm, 0 to 10^9.
        calm_per_hour: f64,
        /// VMs an hour in a burst, 0.001 to 10^9.
        burst_per_hour: f64,
        /// Mean length of a calm, 1 to 10^9 seconds.
        calm_s: f64,
        /// Mean length of a burst, 1 to 10^9 seconds.
        burst_s: f64,
    },
}

/// How long VMs stay.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Lifetimes {
    /// For ever.
    Endless,
    /// An exponential distribution.
    Exponential {
        /// The mean, 1 to 10^9 seconds.
        mean_s: f64,
    },
    /// A Pareto distribution that is cut at both ends: most are short, and few take most of the
    /// time.
    Pareto {
        /// The shortest, 1 to 10^9 seconds.
        min_s: f64,
        /// How fast longer ones get rarer, 0.1 to 10; below 2 is a heavy tail.
        alpha: f64,
        /// The longest, above `min_s`, up to 10^10 seconds.
        max_s: f64,
    },
    /// A normal distribution of logarithms.
    LogNormal {
        /// Half are shorter, 1 to 10^9 seconds.
        median_s: f64,
        /// The standard deviation of the natural logarithm, 0 to 5.
        sigma: f64,
    },
}

/// One shape of a mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
// Exhaustive on purpose: mixes are written down by hand.
pub struct Shape {
    /// Virtual CPUs.
    pub vcpus: Vcpus,
    /// Memory.
    pub memory: MiB,
    /// Disk.
    #[serde(default)]
    pub disk: GiB,
    /// Importance.
    #[serde(default)]
    pub priority: u8,
    /// How many VMs of this shape there are, in relation to the others; 0 is none.
    pub weight: u32,
}

/// What a trace is made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Recipe {
    /// When VMs come.
    pub arrivals: Arrivals,
    /// How long they stay.
    pub lifetimes: Lifetimes,
    /// What they are, 1 to 1024 shapes.
    pub shapes: Vec<Shape>,
    /// The least and the most of its vCPUs that a VM uses on average, in thousandths, with all
    /// between as likely; none is not told.
    pub cpu_permille: Option<(u16, u16)>,
    /// So many rows at most.
    pub rows: u64,
    /// No row arrives after this second.
    pub until_s: u64,
}

impl Default for Recipe {
    /// 100 000 VMs, 1000 an hour, half of them gone after half an hour and few staying for months,
    /// in five shapes from 1 vCPU and 2 GiB to 16 vCPUs and 64 GiB.
    fn default() -> Self {
        let shape = |vcpus, gib: u64, weight| Shape {
            vcpus: Vcpus(vcpus),
            memory: MiB(gib << 10),
            disk: GiB(0),
            priority: 0,
            weight,
        };
        Self {
            arrivals: Arrivals::Poisson { per_hour: 1000.0 },
            lifetimes: Lifetimes::LogNormal { median_s: 1800.0, sigma: 2.5 },
            shapes: vec![
                shape(1, 2, 45),
                shape(2, 4, 30),
                shape(4, 8, 15),
                shape(8, 32, 8),
                shape(16, 64, 2),
            ],
            cpu_permille: None,
            rows: 100_000,
            until_s: TraceRow::SECONDS_MAX,
        }
    }
}

impl Recipe {
    /// With arrivals like this.
    #[must_use]
    pub fn with_arrivals(mut self, arrivals: Arrivals) -> Self {
        self.arrivals = arrivals;
        self
    }

    /// With lifetimes like this.
    #[must_use]
    pub fn with_lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// With these shapes.
    #[must_use]
    pub fn with_shapes(mut self, shapes: Vec<Shape>) -> Self {
        self.shapes = shapes;
        self
    }

    /// With a mean use between these, in thousandths.
    #[must_use]
    pub fn with_cpu_permille(mut self, least: u16, most: u16) -> Self {
        self.cpu_permille = Some((least, most));
        self
    }

    /// With so many rows at most.
    #[must_use]
    pub fn with_rows(mut self, rows: u64) -> Self {
        self.rows = rows;
        self
    }

    /// With no arrival after this second.
    #[must_use]
    pub fn with_until_s(mut self, second: u64) -> Self {
        self.until_s = second;
        self
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`Invalid`] names the first that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        const RATE: &str = "0.001 to 10^9 an hour";
        const MEAN: &str = "1 to 10^9 seconds";
        match self.arrivals {
            Arrivals::Poisson { per_hour } => within("per_hour", per_hour, 1e-3..=1e9, RATE)?,
            Arrivals::Bursty { calm_per_hour, burst_per_hour, calm_s, burst_s } => {
                within("calm_per_hour", calm_per_hour, 0.0..=1e9, "0 to 10^9 an hour")?;
                within("burst_per_hour", burst_per_hour, 1e-3..=1e9, RATE)?;
                within("calm_s", calm_s, 1.0..=1e9, MEAN)?;
                within("burst_s", burst_s, 1.0..=1e9, MEAN)?;
            }
        }
        match self.lifetimes {
            Lifetimes::Endless => {}
            Lifetimes::Exponential { mean_s } => within("mean_s", mean_s, 1.0..=1e9, MEAN)?,
            Lifetimes::Pareto { min_s, alpha, max_s } => {
                within("min_s", min_s, 1.0..=1e9, MEAN)?;
                within("alpha", alpha, 0.1..=10.0, "0.1 to 10")?;
                within("max_s", max_s, min_s..=1e10, "min_s to 10^10 seconds")?;
            }
            Lifetimes::LogNormal { median_s, sigma } => {
                within("median_s", median_s, 1.0..=1e9, MEAN)?;
                within("sigma", sigma, 0.0..=5.0, "0 to 5")?;
            }
        }
        if !(1..=1024).contains(&self.shapes.len()) {
            return Err(Invalid::new("shapes", self.shapes.len(), "1 to 1024 shapes"));
        }
        let weights: u64 = self.shapes.iter().map(|shape| u64::from(shape.weight)).sum();
        if weights == 0 {
            return Err(Invalid::new("shapes", "weights of 0", "a weight above 0"));
        }
        for shape in &self.shapes {
            match row(0, 0, None, shape, None).check() {
                Ok(()) => {}
                Err(BadRow::Value(invalid)) => return Err(invalid),
                Err(other) => return Err(Invalid::new("shapes", other, "what a VM can be")),
            }
        }
        if let Some((least, most)) = self.cpu_permille
            && (least > most || most > TraceRow::PERMILLE_MAX)
        {
            let range = format!("{least} to {most}");
            return Err(Invalid::new("cpu_permille", range, "a range within 0 to 1000"));
        }
        if self.until_s > TraceRow::SECONDS_MAX {
            return Err(Invalid::new("until_s", self.until_s, super::lines::SECONDS));
        }
        Ok(())
    }
}

/// The rows of a recipe, in the order of arrival, numbered from 1.
#[derive(Debug, Clone)]
pub struct Synthetic {
    recipe: Recipe,
    weights: u64,
    made: u64,
    now_s: f64,
    /// In a burst until this second, or calm.
    state: State,
    arrivals: Chance,
    lifetimes: Chance,
    shapes: Chance,
    uses: Chance,
}

#[derive(Debug, Clone, Copy)]
struct State {
    burst: bool,
    until_s: f64,
}

impl Synthetic {
    /// Starts at second 0.
    ///
    /// # Errors
    /// [`Invalid`] as of [`Recipe::check`].
    pub fn new(recipe: Recipe, seed: Seed) -> Result<Self, Invalid> {
        recipe.check()?;
        let seed = seed.child("synthetic trace");
        let mut arrivals = seed.child("arrivals").chance();
        let until_s = match recipe.arrivals {
            Arrivals::Poisson { .. } => f64::INFINITY,
            Arrivals::Bursty { calm_s, .. } => exponential(&mut arrivals, calm_s),
        };
        Ok(Self {
            weights: recipe.shapes.iter().map(|shape| u64::from(shape.weight)).sum(),
            recipe,
            made: 0,
            now_s: 0.0,
            state: State { burst: false, until_s },
            arrivals,
            lifetimes: seed.child("lifetimes").chance(),
            shapes: seed.child("shapes").chance(),
            uses: seed.child("use").chance(),
        })
    }

    /// These rows as those of a reader, to stand where one does.
    pub fn rows(self) -> Rows {
        Box::new(self.map(Ok))
    }

    /// Moves on to the next arrival; false when none comes in time.
    fn advance(&mut self) -> bool {
        let last_s = self.recipe.until_s as f64 + 1.0;
        while self.now_s < last_s {
            let per_hour = match (self.recipe.arrivals, self.state.burst) {
                (Arrivals::Poisson { per_hour }, _) => per_hour,
                (Arrivals::Bursty { calm_per_hour, .. }, false) => calm_per_hour,
                (Arrivals::Bursty { burst_per_hour, .. }, true) => burst_per_hour,
            };
            // Nothing ever comes at a rate of 0.
            let next_s = self.now_s + exponential(&mut self.arrivals, 3600.0 / per_hour);
            if next_s <= self.state.until_s {
                self.now_s = next_s;
                return next_s < last_s;
            }
            // What has not come when the rate changes is drawn anew: the process has no memory.
            self.now_s = self.state.until_s;
            if let Arrivals::Bursty { calm_s, burst_s, .. } = self.recipe.arrivals {
                let mean_s = if self.state.burst { calm_s } else { burst_s };
                self.state.burst = !self.state.burst;
                self.state.until_s = self.now_s + exponential(&mut self.arrivals, mean_s);
            }
        }
        false
    }

    fn lifetime_s(&mut self) -> Option<f64> {
        let chance = &mut self.lifetimes;
        match self.recipe.lifetimes {
            Lifetimes::Endless => None,
            Lifetimes::Exponential { mean_s } => Some(exponential(chance, mean_s)),
            Lifetimes::Pareto { min_s, alpha, max_s } => {
                // The share of VMs that the cut leaves out is left out of the draw.
                let cut = libm::pow(min_s / max_s, alpha);
                let drawn = 1.0 - chance.unit() * (1.0 - cut);
                Some((min_s * libm::pow(drawn, -1.0 / alpha)).min(max_s))
            }
            Lifetimes::LogNormal { median_s, sigma } => {
                Some(median_s * libm::exp(sigma * normal(chance)))
            }
        }
    }

    fn shape(&mut self) -> Shape {
        let mut drawn = self.shapes.below(self.weights);
        for shape in &self.recipe.shapes {
            let weight = u64::from(shape.weight);
            if drawn < weight {
                return *shape;
            }
            drawn -= weight;
        }
        // Not reached: what is drawn is below the sum of the weights.
        self.recipe.shapes[0]
    }
}

impl Iterator for Synthetic {
    type Item = TraceRow;

    fn next(&mut self) -> Option<TraceRow> {
        if self.made == self.recipe.rows || !self.advance() {
            return None;
        }
        self.made += 1;
        let arrival_s = self.now_s as u64;
        let end_s = self.lifetime_s().map(|lifetime_s| {
            // As whole seconds, so that nothing is shorter than its lifetime by rounding.
            let lifetime_s = lifetime_s.round() as u64;
            arrival_s.saturating_add(lifetime_s).min(TraceRow::SECONDS_MAX)
        });
        let shape = self.shape();
        let permille = self.recipe.cpu_permille.map(|(least, most)| {
            let width = u64::from(most - least) + 1;
            least + self.uses.below(width) as u16
        });
        Some(row(self.made, arrival_s, end_s, &shape, permille))
    }
}

fn row(
    number: u64,
    arrival_s: u64,
    end_s: Option<u64>,
    shape: &Shape,
    cpu_permille: Option<u16>,
) -> TraceRow {
    TraceRow {
        line: number,
        vm: number,
        arrival_s,
        end_s,
        vcpus: shape.vcpus,
        memory: shape.memory,
        disk: shape.disk,
        priority: shape.priority,
        gang: None,
        cpu_permille,
    }
}

/// A number of an exponential distribution; infinite for an infinite mean.
fn exponential(chance: &mut Chance, mean: f64) -> f64 {
    // What is drawn is never 1, so the logarithm is never that of 0.
    let drawn = -libm::log(1.0 - chance.unit());
    if mean.is_infinite() { mean } else { mean * drawn }
}

/// A number of the normal distribution around 0 with a deviation of 1 (Box and Muller's).
fn normal(chance: &mut Chance) -> f64 {
    let radius = libm::sqrt(2.0 * exponential(chance, 1.0));
    radius * libm::cos(std::f64::consts::TAU * chance.unit())
}
