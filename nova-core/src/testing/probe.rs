//! Stops a runner at a moment of its choice, so that somebody can die exactly there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::cloud::steps::{Doing, Moment, Step};
use crate::domain::OpId;

/// What a runner was doing, and where in it it was.
pub(crate) type Point = (Doing, Moment);

/// Follows one operation: the first that any runner takes up after [`arm`](Self::arm).
#[derive(Debug, Default)]
pub(crate) struct Probe {
    state: Mutex<State>,
    struck: watch::Sender<usize>,
    healed: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    armed: bool,
    /// Operations from before; their last moments may come after the probe was armed.
    before: BTreeSet<OpId>,
    operation: Option<OpId>,
    wanted: VecDeque<Point>,
    refuse: Option<Step>,
    /// How many points had been reached at each strike.
    struck: Vec<usize>,
    reached: Vec<Point>,
}

impl Probe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the next operation is followed. It is stopped at each of these points, in this
    /// order, and what `refuse` does counts as refused.
    pub(crate) fn arm(&self, wanted: impl IntoIterator<Item = Point>, refuse: Option<Step>) {
        let wanted = wanted.into_iter().collect();
        let state = &mut *self.lock();
        let before = std::mem::take(&mut state.before);
        *state = State { armed: true, before, wanted, refuse, ..State::default() };
    }

    /// Waits here if this is the point that is waited for.
    pub(crate) async fn reach(&self, op: OpId, doing: Doing, moment: Moment) {
        let strike = {
            let state = &mut *self.lock();
            if !state.armed {
                state.before.insert(op);
            }
            if state.before.contains(&op) || *state.operation.get_or_insert(op) != op {
                return;
            }
            state.reached.push((doing, moment));
            if state.wanted.front() != Some(&(doing, moment)) {
                return;
            }
            state.wanted.pop_front();
            state.struck.push(state.reached.len());
            state.struck.len()
        };
        self.struck.send_replace(strike);
        // The probe itself keeps the channel open.
        drop(self.healed.subscribe().wait_for(|healed| *healed >= strike).await);
    }

    /// Whether what was done here counts as refused.
    pub(crate) fn refuses(&self, op: OpId, doing: Doing) -> bool {
        let state = self.lock();
        let refused = matches!(doing, Doing::Step(step) if state.refuse == Some(step));
        refused && state.operation == Some(op)
    }

    /// Until the runner has been stopped `strike` times.
    pub(crate) async fn strikes(&self, strike: usize) {
        drop(self.struck.subscribe().wait_for(|struck| *struck >= strike).await);
    }

    /// Lets whoever waits at this strike go on, if it still lives.
    pub(crate) fn heal(&self, strike: usize) {
        self.healed.send_replace(strike);
    }

    /// The points that were reached after the first strike, each once.
    pub(crate) fn recovery(&self) -> Vec<Point> {
        let state = self.lock();
        let first = state.struck.first().copied().unwrap_or(state.reached.len());
        let mut points: Vec<Point> = Vec::new();
        for point in &state.reached[first..] {
            if !points.contains(point) {
                points.push(*point);
            }
        }
        points
    }
}
