//! The best host of a tree, found without asking all.
//!
//! A node is looked into only when some host below may be better than the best so far: its lanes,
//! weighed as a host would be, bound the score of every host below. The bound is exact, because
//! each step of a score (the difference, the quotient, the product, each sum) rounds in one
//! direction when its operand grows in one direction.

use nova_core::domain::HostId;

use super::forest::{FANOUT, Forest};
use super::sync::{FREE_LANES, Index};

/// What one weigher adds to a score.
#[derive(Debug, Clone, Copy)]
pub(super) enum Term {
    /// The same for all hosts.
    Constant(f64),
    /// What a column says.
    Column {
        column: usize,
        multiplier: f64,
        /// What maps to 0, and how far it is from there to 1.
        low: f64,
        span: f64,
    },
}

/// The best host so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best {
    pub(super) score: f64,
    pub(super) id: HostId,
    pub(super) slot: u32,
}

impl Best {
    /// Worse than any host.
    pub(super) fn nobody() -> Self {
        let (score, id) = (f64::NEG_INFINITY, HostId::from_u128(u128::MAX));
        Self { score, id, slot: u32::MAX }
    }

    /// Whether a host of this score and id is better: of equal ones the least id is the best.
    fn is_beaten_by(&self, score: f64, id: HostId) -> bool {
        score > self.score || score == self.score && id < self.id
    }
}

/// A search through trees.
pub(super) struct Search<'a, F> {
    pub(super) index: &'a Index,
    /// What a host must have free of each resource.
    pub(super) wanted: [f32; FREE_LANES],
    pub(super) terms: &'a [Term],
    /// Whether a host may be taken, asked last.
    pub(super) accept: F,
    /// Nodes that may still be looked into before it is given up.
    pub(super) patience: usize,
}

/// It was given up: asking all is quicker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp;

impl<F: FnMut(u32) -> bool> Search<'_, F> {
    /// Makes `best` the best host of the tree below `node`, if one is better.
    pub(super) fn run(&mut self, node: u32, best: &mut Best) -> Result<(), GivenUp> {
        self.patience = self.patience.checked_sub(1).ok_or(GivenUp)?;
        let forest = &self.index.forest;
        let mut bounds = self.bounds(forest, node);
        let ids = forest.ids(node);
        let is_leaf = forest.is_leaf(node);
        loop {
            let mut next: Option<usize> = None;
            for at in 0..FANOUT {
                let better = match next {
                    None => best.is_beaten_by(bounds[at], ids[at]),
                    Some(next) => {
                        bounds[at] > bounds[next]
                            || bounds[at] == bounds[next] && ids[at] < ids[next]
                    }
                };
                if better {
                    next = Some(at);
                }
            }
            let Some(at) = next.filter(|at| bounds[*at] > f64::NEG_INFINITY) else { return Ok(()) };
            bounds[at] = f64::NEG_INFINITY;
            let link = forest.link(node, at);
            if !is_leaf {
                self.run(link, best)?;
                continue;
            }
            let score = self.score(link);
            if best.is_beaten_by(score, ids[at]) && (self.accept)(link) {
                *best = Best { score, id: ids[at], slot: link };
            }
        }
    }

    /// What the hosts of each entry score at most; less than any number where none can do.
    fn bounds(&self, forest: &Forest, node: u32) -> [f64; FANOUT] {
        let mut room = [true; FANOUT];
        for (lane, wanted) in self.wanted.iter().enumerate() {
            let free = forest.lane(node, lane);
            for at in 0..FANOUT {
                room[at] &= free[at] >= *wanted;
            }
        }
        let mut bounds = [0.0; FANOUT];
        for term in self.terms {
            match *term {
                Term::Constant(part) => bounds.iter_mut().for_each(|bound| *bound += part),
                Term::Column { column, multiplier, low, span } => {
                    let positive = multiplier > 0.0;
                    let lane = FREE_LANES + 2 * column + usize::from(!positive);
                    let lane = forest.lane(node, lane);
                    let sign = if positive { 1.0 } else { -1.0 };
                    for at in 0..FANOUT {
                        let raw = sign * f64::from(lane[at]);
                        bounds[at] += multiplier * ((raw - low) / span);
                    }
                }
            }
        }
        for at in 0..FANOUT {
            bounds[at] = if room[at] { bounds[at] } else { f64::NEG_INFINITY };
        }
        let len = forest.len(node);
        bounds[len..].fill(f64::NEG_INFINITY);
        bounds
    }

    /// The score of a host, as it is computed row by row.
    fn score(&self, slot: u32) -> f64 {
        let mut score = 0.0;
        for term in self.terms {
            score += match *term {
                Term::Constant(part) => part,
                Term::Column { column, multiplier, low, span } => {
                    multiplier * ((self.index.raw(slot, column) - low) / span)
                }
            };
        }
        score
    }
}
