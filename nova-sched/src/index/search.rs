//! The best host of a tree, found without asking all.
//!
//! A node is looked into only when some host below may be better than the best so far: its lanes,
//! weighed as a host would be, bound the score of every host below. The bound is exact, because
//! each step of a score (the difference, the quotient, the product, each sum) rounds in one
//! direction when its operand grows in one direction.

use smallvec::SmallVec;

use super::forest::{FANOUT, Forest};
use super::sync::{FREE_LANES, Index};

/// What is sought: the host of which this is the greatest.
pub(super) trait Goal {
    /// What bounds are told in.
    type Bound: Bound;

    /// What the hosts of each entry of a node score at most.
    fn bounds(&self, forest: &Forest, node: u32) -> [Self::Bound; FANOUT];

    /// The score of a host.
    fn score(&self, index: &Index, slot: u32) -> f64;
}

/// A number that bounds scores.
pub(super) trait Bound: Copy + PartialOrd + Into<f64> {
    /// Less than that of any host.
    const NOTHING: Self;
}

impl Bound for f32 {
    const NOTHING: Self = Self::NEG_INFINITY;
}

impl Bound for f64 {
    const NOTHING: Self = Self::NEG_INFINITY;
}

/// The weight itself, or its opposite: where nothing else counts, that is the order of scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) column: usize,
    pub(super) positive: bool,
}

impl Goal for Weight {
    type Bound = f32;

    fn bounds(&self, forest: &Forest, node: u32) -> [f32; FANOUT] {
        // The lane of the opposite weight is the opposite already.
        *forest.lane(node, FREE_LANES + 2 * self.column + usize::from(!self.positive))
    }

    fn score(&self, index: &Index, slot: u32) -> f64 {
        let raw = index.raw(slot, self.column);
        if self.positive { raw } else { -raw }
    }
}

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

/// What all weighers add up to.
#[derive(Debug)]
pub(super) struct Sum<'a> {
    pub(super) terms: &'a [Term],
    /// What bounds scores besides, where several columns count.
    pub(super) blend: Option<Blend>,
}

impl Goal for Sum<'_> {
    type Bound = f64;

    fn bounds(&self, forest: &Forest, node: u32) -> [f64; FANOUT] {
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
        if let Some(blend) = &self.blend {
            let mut most = forest.lane(node, blend.lane).map(f64::from);
            for (column, beyond) in &blend.beyond {
                let positive = *beyond > 0.0;
                let lane = forest.lane(node, FREE_LANES + 2 * column + usize::from(!positive));
                let factor = beyond.abs();
                for at in 0..FANOUT {
                    most[at] += factor * f64::from(lane[at]);
                }
            }
            for at in 0..FANOUT {
                let most = most[at] + blend.offset;
                bounds[at] = if most < bounds[at] { most } else { bounds[at] };
            }
        }
        bounds
    }

    /// As it is computed row by row.
    fn score(&self, index: &Index, slot: u32) -> f64 {
        let mut score = 0.0;
        for term in self.terms {
            score += match *term {
                Term::Constant(part) => part,
                Term::Column { column, multiplier, low, span } => {
                    multiplier * ((index.raw(slot, column) - low) / span)
                }
            };
        }
        score
    }
}

/// The best host so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best {
    pub(super) score: f64,
    pub(super) rank: u64,
    pub(super) slot: u32,
}

impl Best {
    /// Worse than any host.
    pub(super) fn nobody() -> Self {
        Self { score: f64::NEG_INFINITY, rank: u64::MAX, slot: u32::MAX }
    }

    /// Whether a host of this score and rank is better: of equal ones the least rank is the best.
    fn is_beaten_by(&self, score: f64, rank: u64) -> bool {
        score > self.score || score == self.score && rank < self.rank
    }
}

/// A search through trees.
pub(super) struct Search<'a, G, F> {
    pub(super) index: &'a Index,
    pub(super) goal: &'a G,
    /// What a host must have free, by lane.
    pub(super) wanted: &'a [(usize, f32)],
    /// Whether a host may be taken, asked last.
    pub(super) accept: F,
    /// Nodes that may still be looked into before it is given up.
    pub(super) patience: usize,
}

/// A bound of scores: the blend of each host, and by how much its score may be above it.
///
/// Hosts with one score may differ in every weight, so that the greatest of each weight together
/// say little about a node; the greatest blend says nearly all.
#[derive(Debug, Default)]
pub(super) struct Blend {
    pub(super) lane: usize,
    /// What a unit of each column adds to the score beyond what it adds to the blend.
    pub(super) beyond: SmallVec<[(usize, f64); 4]>,
    /// What all hosts have in common, and more than is lost to rounding.
    pub(super) offset: f64,
}

/// It was given up: asking all is quicker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp;

impl<G: Goal, F: FnMut(u32) -> bool> Search<'_, G, F> {
    /// Makes `best` the best host of the tree below `node`, if one is better.
    pub(super) fn run(&mut self, node: u32, best: &mut Best) -> Result<(), GivenUp> {
        self.patience = self.patience.checked_sub(1).ok_or(GivenUp)?;
        let forest = &self.index.forest;
        let mut bounds = self.bounds(node);
        let ranks = forest.ranks(node);
        let is_leaf = forest.is_leaf(node);
        loop {
            let most = greatest(&bounds);
            if most.into() < best.score || most == G::Bound::NOTHING {
                return Ok(());
            }
            let (mut at, mut rank) = (0, u64::MAX);
            for (nth, bound) in bounds.iter().enumerate() {
                if *bound == most && ranks[nth] < rank {
                    (at, rank) = (nth, ranks[nth]);
                }
            }
            bounds[at] = G::Bound::NOTHING;
            if !best.is_beaten_by(most.into(), rank) {
                // The others of this bound have greater ranks still.
                return Ok(());
            }
            let link = forest.link(node, at);
            if !is_leaf {
                self.run(link, best)?;
                continue;
            }
            let score = self.goal.score(self.index, link);
            if best.is_beaten_by(score, rank) && (self.accept)(link) {
                *best = Best { score, rank, slot: link };
            }
        }
    }

    /// What the hosts of each entry score at most; less than any number where none can do.
    fn bounds(&self, node: u32) -> [G::Bound; FANOUT] {
        let forest = &self.index.forest;
        // All bits where there is room.
        let mut room = [u32::MAX; FANOUT];
        for (lane, wanted) in self.wanted {
            let free = forest.lane(node, *lane);
            for at in 0..FANOUT {
                room[at] &= u32::from(free[at] >= *wanted).wrapping_neg();
            }
        }
        let mut bounds = self.goal.bounds(forest, node);
        for at in 0..FANOUT {
            bounds[at] = if room[at] == 0 { G::Bound::NOTHING } else { bounds[at] };
        }
        if self.wanted.is_empty() {
            bounds[forest.len(node)..].fill(G::Bound::NOTHING);
        }
        bounds
    }
}

/// The greatest of all, four at a time, as processors like it. What is no number is none.
fn greatest<B: Bound>(bounds: &[B; FANOUT]) -> B {
    let greater = |a: B, b: B| if b > a { b } else { a };
    let mut most = [B::NOTHING; 4];
    for four in bounds.chunks_exact(4) {
        for (most, bound) in most.iter_mut().zip(four) {
            *most = greater(*most, *bound);
        }
    }
    greater(greater(most[0], most[1]), greater(most[2], most[3]))
}
