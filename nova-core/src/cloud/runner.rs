//! Runs one operation to its end: attempt, record, go on or go back.
//!
//! What a step does is in [`attempt`](super::attempt); here is only the journal. Each record is
//! committed together with what the step changes in the store, guarded by the operation's own
//! record, so that of two runners of one operation only one ever gets ahead.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::class::Class;
use crate::clock::ClockExt as _;
use crate::cloud::attempt::Attempt;
use crate::cloud::attempt_move::renew;
use crate::cloud::guard::{Panicked, caught};
use crate::cloud::options::CloudOptions;
use crate::cloud::places::{Lines, Place};
use crate::cloud::ports::Ports;
use crate::cloud::rivals::Rivals;
use crate::cloud::steps::{
    CONFLICTS_MAX, Doing, FORWARD_ATTEMPTS_MAX, Moment, STUBBORN_ATTEMPTS_MAX, Step, goes_back,
    steps,
};
use crate::cloud::view::{View, newest};
use crate::domain::{Fault, Fence, OpId, OpState, Operation, StepOutcome, StepRecord};
use crate::plant::{Bug, planted, reach, refused};
use crate::store::record::keys;
use crate::store::{Revision, Store as _, StoreError, StoreExt as _, Txn, Versioned, Write};

/// Everything an operation needs to run.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    pub(crate) ports: Ports,
    pub(crate) options: CloudOptions,
    pub(crate) view: Arc<Mutex<View>>,
    /// The place of the attempt that is made; nobody holds one while waiting for a host or to try
    /// again.
    pub(crate) place: Arc<Place>,
    /// Who may give an order to which host.
    pub(crate) lines: Arc<Lines>,
    /// Placements go one after the other, each knowing those before it: decided side by side
    /// they would want the same host.
    pub(crate) turn: Arc<Mutex<()>>,
    /// What is known of other conductors that place servers.
    pub(crate) rivals: Arc<Rivals>,
    /// What calls to the volume driver carry: how far the store was when the record was written
    /// that the attempt begins with. All runners of one record carry the same, so that nobody's
    /// repetition is refused. The operation's next record has a higher one, and so has every
    /// record of whoever gets the volume afterwards, since that is accepted after this operation's
    /// last record, or takes its server over: from that commit on nobody can begin an attempt of
    /// this one.
    pub(crate) fence: Fence,
}

/// The first pause before a step is tried again; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What came of trying to get ahead.
#[derive(Debug)]
enum Progress {
    /// The record is a step further.
    Recorded,
    /// Somebody else changed something first: read again, decide again.
    Conflicted,
    /// Nothing to do before this has passed.
    Wait(Duration),
}

impl Runner {
    /// Runs `id` until it is final, or until the store gives up.
    ///
    /// # Errors
    /// Those of the store. The operation stays where its record says, and whoever runs it next
    /// goes on from there.
    pub(crate) async fn run(&self, id: OpId) -> Result<(), StoreError> {
        let ended = self.drive(id).await;
        self.rivals.forget(id);
        ended
    }

    async fn drive(&self, id: OpId) -> Result<(), StoreError> {
        let mut conflicts = 0;
        // What the view has to have seen, because of the last conflict.
        let mut wanted = Revision(0);
        loop {
            let key = keys::operation(id);
            let Some(op) = self.ports.store.read::<Operation>(&key).await? else { return Ok(()) };
            if op.value.state.is_final() {
                return Ok(());
            }
            let places = places(&op.value);
            let progress = {
                // In this order: those that stand in line hold no place.
                let _turn = match places {
                    true => Some(self.turn.lock().await),
                    false => None,
                };
                let Some(place) = self.place.take().await else { return Ok(()) };
                let runner = Self { place: Arc::new(place), ..self.clone() };
                match self.see(op.revision.max(wanted)).await? {
                    // While it waited for its turn another conductor may have placed it.
                    true if places && self.moved(&op).await? => continue,
                    true => Some(runner.advance(&op).await?),
                    false => None,
                }
            };
            let Some(progress) = progress else {
                self.ports.clock.sleep(PAUSE_MIN).await;
                continue;
            };
            if matches!(progress, Progress::Conflicted) {
                conflicts += 1;
                wanted = self.newest().await?;
            } else {
                conflicts = 0;
            }
            match progress {
                Progress::Conflicted if places => self.rivals.lose(id),
                Progress::Recorded if places => self.rivals.settle(id),
                _ => {}
            }
            match progress {
                Progress::Recorded => {}
                Progress::Conflicted if conflicts < CONFLICTS_MAX => {}
                Progress::Conflicted => self.ports.clock.sleep(PAUSE_MAX).await,
                Progress::Wait(pause) => self.ports.clock.sleep(pause).await,
            }
        }
    }

    /// Whether the operation's record is not as it was read.
    async fn moved(&self, op: &Versioned<Operation>) -> Result<bool, StoreError> {
        let now = self.ports.store.get(&keys::operation(op.value.id)).await?;
        Ok(now.is_none_or(|entry| entry.revision != op.revision))
    }

    /// Whether the view has seen the operation's last record, with everything that was committed
    /// beside it: a server that has not been heard of yet would look as if it were gone. After a
    /// conflict it has to have seen whatever there was, or it would only decide the same again. A
    /// store may tell its watchers late; whoever waits for it holds neither the view nor a place.
    async fn see(&self, wanted: Revision) -> Result<bool, StoreError> {
        Ok(self.fresh().await?.has_seen(wanted))
    }

    /// The revision of the store now.
    pub(crate) async fn newest(&self) -> Result<Revision, StoreError> {
        newest(&*self.ports.store).await
    }

    /// Makes one attempt and records it.
    async fn advance(&self, op: &Versioned<Operation>) -> Result<Progress, StoreError> {
        if let Some(before) = op.value.after {
            let before = self.ports.store.read::<Operation>(&keys::operation(before)).await?;
            if before.is_some_and(|before| !before.value.state.is_final()) {
                return Ok(Progress::Wait(PAUSE_MIN));
            }
        }
        let list = steps(&op.value.kind);
        let doing = match (&op.value.state, op.value.step.checked_sub(1)) {
            (OpState::Undoing(_), Some(at)) => list.get(at).copied().map(Doing::Undo),
            (OpState::Undoing(_), None) => Some(Doing::GiveUp),
            _ => list.get(op.value.step).copied().map(Doing::Step),
        };
        let Some(doing) = doing else { return self.unknown_list(op).await };
        reach(op.value.id, doing, Moment::Begins).await;
        let mut next = op.value.clone();
        let (next, attempt) = match caught(self.since(op.revision).take(doing, &mut next)).await {
            Ok(attempt) => (next, attempt?),
            // Nothing that it noted counts; whether it had an effect shows when it is repeated.
            Err(Panicked(words)) => {
                let reason = format!("a part of the cloud panicked: {words}");
                (op.value.clone(), Attempt::Unknown { reason })
            }
        };
        let done = matches!(attempt, Attempt::Done(_));
        if done {
            reach(op.value.id, doing, Moment::Done).await;
        }
        let attempt = match done && refused(op.value.id, doing) {
            true => self.hopeless("refused on purpose"),
            false => attempt,
        };
        let progress = self.settle(op, next, doing.name(), attempt).await?;
        if done && matches!(progress, Progress::Recorded) {
            reach(op.value.id, doing, Moment::Recorded).await;
        }
        Ok(progress)
    }

    /// The runner of one attempt, which begins with the record written at `revision`.
    fn since(&self, revision: Revision) -> Self {
        let fence = if planted(Bug::NoFence) { Fence::default() } else { Fence(revision.0) };
        Self { fence, ..self.clone() }
    }

    async fn take(&self, doing: Doing, next: &mut Operation) -> Result<Attempt, StoreError> {
        match doing {
            Doing::Step(step) => self.attempt(step, next).await,
            Doing::Undo(step) => self.undo(step, next).await,
            Doing::GiveUp => self.give_up(next).await,
        }
    }

    /// An operation whose step this release does not know was written by another one.
    async fn unknown_list(&self, op: &Versioned<Operation>) -> Result<Progress, StoreError> {
        let mut next = op.value.clone();
        let message = format!("step {} of version {}", op.value.step, op.value.steps_version);
        next.state = OpState::NeedsOperator(self.fault(format!("{message} is not known here")));
        self.record(op, next, Txn::new()).await
    }

    /// Turns what came of an attempt into the operation's next record.
    async fn settle(
        &self,
        op: &Versioned<Operation>,
        mut next: Operation,
        name: String,
        attempt: Attempt,
    ) -> Result<Progress, StoreError> {
        let undoing = matches!(op.value.state, OpState::Undoing(_));
        match attempt {
            Attempt::Done(txn) => {
                self.note(&mut next, name, StepOutcome::Done);
                next.attempts = 0;
                if undoing {
                    match (next.step.checked_sub(1), &op.value.state) {
                        (Some(step), _) => next.step = step,
                        (None, OpState::Undoing(fault)) => {
                            next.state = OpState::Failed(fault.clone());
                        }
                        (None, _) => {}
                    }
                } else {
                    next.step += 1;
                    if next.step == steps(&next.kind).len() {
                        next.state = OpState::Done;
                    }
                }
                self.record(op, next, txn).await
            }
            Attempt::Again { txn, reason } => {
                self.note(&mut next, name, StepOutcome::NotDone { reason });
                next.attempts = 0;
                self.record(op, next, txn).await
            }
            Attempt::Absent => Ok(Progress::Wait(PAUSE_MIN)),
            Attempt::UnderWay(pause) => Ok(Progress::Wait(pause.max(PAUSE_MIN))),
            Attempt::Superseded => {
                let fault = self.fault("another operation took over".to_owned());
                next.state = OpState::Failed(fault);
                self.record(op, next, Txn::new()).await
            }
            Attempt::NotDone { fault, retry } => {
                let outcome = StepOutcome::NotDone { reason: fault.message.clone() };
                self.failed(op, next, name, outcome, fault, retry).await
            }
            Attempt::Back(fault) => {
                self.note(&mut next, name, StepOutcome::NotDone { reason: fault.message.clone() });
                self.turn_back(op, next, fault).await
            }
            Attempt::Unknown { reason } => {
                let fault = self.fault(format!("{name}: {reason}"));
                let outcome = StepOutcome::Unknown { reason };
                self.failed(op, next, name, outcome, fault, true).await
            }
        }
    }

    /// Decides between trying again, going back and calling for a person.
    async fn failed(
        &self,
        op: &Versioned<Operation>,
        mut next: Operation,
        name: String,
        outcome: StepOutcome,
        fault: Fault,
        retry: bool,
    ) -> Result<Progress, StoreError> {
        let undoing = matches!(op.value.state, OpState::Undoing(_));
        let can_go_back = !undoing && goes_back(&op.value.kind, op.value.step);
        self.note(&mut next, name, outcome);
        next.attempts = op.value.attempts.saturating_add(1);
        let most = if can_go_back { FORWARD_ATTEMPTS_MAX } else { STUBBORN_ATTEMPTS_MAX };
        if retry && next.attempts < most {
            let pause = PAUSE_MIN.saturating_mul(1 << next.attempts.min(16)).min(PAUSE_MAX);
            return Ok(match self.record(op, next, Txn::new()).await? {
                Progress::Recorded => Progress::Wait(pause),
                other => other,
            });
        }
        if can_go_back {
            return self.turn_back(op, next, fault).await;
        }
        next.attempts = 0;
        next.state = OpState::NeedsOperator(fault);
        self.record(op, next, Txn::new()).await
    }

    /// Begins to undo.
    async fn turn_back(
        &self,
        op: &Versioned<Operation>,
        mut next: Operation,
        fault: Fault,
    ) -> Result<Progress, StoreError> {
        next.attempts = 0;
        // The step itself is undone too: that it was not done is what the last attempt believed,
        // and undoing nothing costs nothing.
        next.step = furthest(&next) + 1;
        next.state = OpState::Undoing(fault);
        // What was ordered on the way forward may still be on its way; it must not arrive after
        // its own undo.
        let txn = match self.held(&next).await? {
            Some(server) => renew(&mut next, &server),
            None => Txn::new(),
        };
        self.record(op, next, txn).await
    }

    /// Commits the operation's next record with what the step changes.
    ///
    /// A conflict means that somebody else changed what the step was decided on, or recorded
    /// this operation: either way the caller reads again and goes on from there.
    async fn record(
        &self,
        op: &Versioned<Operation>,
        mut next: Operation,
        mut txn: Txn,
    ) -> Result<Progress, StoreError> {
        if next.state.is_final() {
            next.ended_at = Some(self.ports.clock.now());
            if !planted(Bug::StayOpen) {
                txn.write(Write::Remove(keys::open_operation(next.id)));
            }
        }
        txn.replace(op, &next);
        let news = places(&op.value).then(|| txn.clone());
        match self.ports.store.commit(txn).await {
            Ok(revision) => {
                let removes = |write: &Write| matches!(write, Write::Remove(_));
                if let Some(news) = news.filter(|news| !news.writes().iter().any(removes)) {
                    self.view.lock().await.learn(news, revision, self.ports.clock.now())?;
                }
                Ok(Progress::Recorded)
            }
            Err(error) if error.class() == Class::Conflict => Ok(Progress::Conflicted),
            // Whether it was done shows when the record is read again.
            Err(error) if error.class() == Class::Retry => Ok(Progress::Wait(PAUSE_MAX)),
            Err(error) => Err(error),
        }
    }

    /// Writes a line of the journal; the same line is not written twice in a row.
    fn note(&self, next: &mut Operation, step: String, outcome: StepOutcome) {
        let same = |last: &StepRecord| last.step == step && last.outcome == outcome;
        if !next.journal.last().is_some_and(same) {
            next.journal.push(StepRecord { step, outcome, at: self.ports.clock.now() });
        }
    }

    /// A fault that happened now.
    pub(crate) fn fault(&self, message: String) -> Fault {
        Fault { message, at: self.ports.clock.now(), refusal: None, check: None }
    }
}

/// The last step of the list that an operation ever began: one that went back, to try another
/// host, has later steps to undo than the one that it is at.
fn furthest(op: &Operation) -> usize {
    let begun = |step: &Step| op.journal.iter().any(|record| record.step == step.name());
    let last = steps(&op.kind).iter().rposition(begun).unwrap_or(op.step);
    last.max(op.step)
}

/// Whether the operation is about to choose a host.
fn places(op: &Operation) -> bool {
    let step = steps(&op.kind).get(op.step);
    !matches!(op.state, OpState::Undoing(_)) && matches!(step, Some(Step::Place | Step::ClaimThere))
}
