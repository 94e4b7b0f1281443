//! Whether what clients saw could have come from one thing that does one call after the other.
//!
//! A history is a list of [`Call`]s: when each began, when it was answered, and what was asked
//! and answered. It is linearizable if every call can be given one moment between its beginning
//! and its answer so that a [`Model`], doing the calls in the order of these moments, allows every
//! answer. A call whose client never heard an answer may have its moment at any time after its
//! beginning, or never.
//!
//! The search is Wing and Gong's with Lowe's memory of where it has been: it takes exponential
//! time where very many calls overlap, which is what [`STEPS_MAX`] is for. It knows nothing of
//! clouds.
//!
//! ```
//! # use nova_core::testing::{Call, Model, Verdict, linearize};
//! /// A number that is set and read.
//! struct Register;
//! enum Op { Set(u8), Read(u8) }
//! impl Model for Register {
//!     type State = u8;
//!     type Op = Op;
//!     fn after(&self, state: &u8, call: &Call<Op>) -> Vec<u8> {
//!         match call.op {
//!             Op::Set(value) => vec![value],
//!             Op::Read(seen) if seen == *state => vec![seen],
//!             Op::Read(_) => vec![],
//!         }
//!     }
//! }
//! let set = Call { begun: 0, answered: Some(2), op: Op::Set(1) };
//! let old = Call { begun: 3, answered: Some(4), op: Op::Read(0) };
//! assert!(matches!(linearize(&Register, 0, &[set, old]), Verdict::Refuted { .. }));
//! ```

use std::collections::BTreeSet;

/// One call of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // a call is exactly this
pub struct Call<Op> {
    /// When it was made, on a clock that all clients share.
    pub begun: u64,
    /// When its answer arrived; none when the client died before.
    pub answered: Option<u64>,
    /// What was asked, and what was answered if anything was.
    pub op: Op,
}

/// What a thing that does one call after the other would answer.
pub trait Model {
    /// What it remembers.
    type State: Clone + Ord;
    /// A call with its answer.
    type Op;

    /// The states that `call` may leave, made in `state` and answered as it was: none when it may
    /// not be answered so, several when the answer does not say what happened.
    fn after(&self, state: &Self::State, call: &Call<Self::Op>) -> Vec<Self::State>;
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// An order in which every answer is right: indexes into the history.
    Linearizable {
        /// The order. Calls that were never answered and did not happen are absent.
        order: Vec<usize>,
    },
    /// There is none.
    Refuted {
        /// The longest order that was found.
        longest: Vec<usize>,
        /// The calls of which one should have come next, and none may.
        stuck: Vec<usize>,
    },
    /// Too many calls overlap to say.
    TooHard,
}

/// States that one search may visit.
pub const STEPS_MAX: usize = 2_000_000;

/// Searches for an order of `history` that `model` allows, beginning in `state`.
pub fn linearize<M: Model>(model: &M, state: M::State, history: &[Call<M::Op>]) -> Verdict {
    let answered = history.iter().filter(|call| call.answered.is_some()).count();
    let mut search = Search { model, history, done: vec![false; history.len()] };
    let mut seen: BTreeSet<(Vec<bool>, M::State)> = BTreeSet::new();
    // What was chosen, and how many answered calls that makes.
    let mut path: Vec<usize> = Vec::new();
    let mut reached = 0;
    let mut choices = vec![search.choices(&state).into_iter()];
    let mut longest = (0, Vec::new(), search.next());
    if answered == 0 {
        return Verdict::Linearizable { order: path };
    }
    while let Some(choice) = choices.last_mut() {
        let Some((at, after)) = choice.next() else {
            choices.pop();
            if let Some(at) = path.pop() {
                search.done[at] = false;
                reached -= usize::from(history[at].answered.is_some());
            }
            continue;
        };
        search.done[at] = true;
        if !seen.insert((search.done.clone(), after.clone())) {
            search.done[at] = false;
            continue;
        }
        if seen.len() > STEPS_MAX {
            return Verdict::TooHard;
        }
        path.push(at);
        reached += usize::from(history[at].answered.is_some());
        if reached == answered {
            return Verdict::Linearizable { order: path };
        }
        if reached > longest.0 {
            longest = (reached, path.clone(), search.next());
        }
        choices.push(search.choices(&after).into_iter());
    }
    Verdict::Refuted { longest: longest.1, stuck: longest.2 }
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Call<M::Op>],
    done: Vec<bool>,
}

impl<M: Model> Search<'_, M> {
    /// What may come next: what began before anything that is still open was answered.
    fn next(&self) -> Vec<usize> {
        let open = || (0..self.history.len()).filter(|at| !self.done[*at]);
        let end = open().filter_map(|at| self.history[at].answered).min().unwrap_or(u64::MAX);
        open().filter(|at| self.history[*at].begun <= end).collect()
    }

    /// The same, with the states that each may leave.
    fn choices(&self, state: &M::State) -> Vec<(usize, M::State)> {
        let after = |at: usize| self.model.after(state, &self.history[at]);
        self.next().into_iter().flat_map(|at| after(at).into_iter().map(move |s| (at, s))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is set and read.
    struct Register;

    #[derive(Debug)]
    enum Op {
        Set(u8),
        Read(u8),
    }

    impl Model for Register {
        type State = u8;
        type Op = Op;
        fn after(&self, state: &u8, call: &Call<Op>) -> Vec<u8> {
            match call.op {
                Op::Set(value) => vec![value],
                Op::Read(seen) if seen == *state => vec![seen],
                Op::Read(_) => Vec::new(),
            }
        }
    }

    /// Each word is a call: `s1@0-2` sets 1 between 0 and 2, `r1@3-4` reads, `s1@0-` never ends.
    fn check(history: &str) -> bool {
        let history: Vec<Call<Op>> = history
            .split_whitespace()
            .map(|word| {
                let (op, times) = word.split_once('@').unwrap();
                let (begun, answered) = times.split_once('-').unwrap();
                let value = op[1..].parse().unwrap();
                let op = if op.starts_with('s') { Op::Set(value) } else { Op::Read(value) };
                Call { begun: begun.parse().unwrap(), answered: answered.parse().ok(), op }
            })
            .collect();
        match linearize(&Register, 0, &history) {
            Verdict::Linearizable { .. } => true,
            Verdict::Refuted { stuck, .. } => {
                assert!(!stuck.is_empty(), "it says what it is stuck at");
                false
            }
            Verdict::TooHard => panic!("too hard"),
        }
    }

    #[test]
    fn one_after_the_other_is_what_it_says() {
        assert!(check("s1@0-1 r1@2-3"));
        assert!(!check("s1@0-1 r0@2-3"));
        assert!(!check("r1@0-1 s1@2-3"), "nothing is read before it was written");
    }

    #[test]
    fn calls_that_overlap_may_have_come_in_either_order() {
        assert!(check("s1@0-9 r0@1-2 r1@3-4"));
        assert!(!check("s1@0-9 r1@1-2 r0@3-4"), "a value that was seen stays seen");
        assert!(check("s1@0-5 s2@0-5 r1@6-7 r1@8-9"));
        assert!(!check("s1@0-5 s2@0-5 r1@6-7 r2@8-9"), "no order of the writes gives both");
    }

    #[test]
    fn a_call_without_answer_happened_at_some_time_or_never() {
        assert!(check("s1@0- r0@1-2 r0@3-4"));
        assert!(check("s1@0- r0@1-2 r1@3-4"));
        assert!(!check("s1@0- r1@1-2 r0@3-4"), "but at most once");
        assert!(!check("r1@0-1 s1@2-"), "and not before it was made");
    }

    #[test]
    fn what_overlaps_without_end_is_searched_with_memory() {
        let word = |n: usize| format!("s{n}@0-99 ");
        let history: String = (1..15).map(word).collect();
        assert!(!check(&format!("{history} r0@100-101")));
    }
}
