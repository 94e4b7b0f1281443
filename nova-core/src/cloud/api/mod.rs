//! The way in: everything that a user or an operator may ask for.
//!
//! [`Project`] is what a project may do, [`Admin`] what an operator may do. Both read from the
//! same view and write through the same door: a write is planned on the view, carries the
//! caller's request id, and is accepted in one transaction. What takes longer than that
//! transaction goes on as an operation, which [`Project::wait`] waits for.

/// Accepts a write: plans it, commits the plan, and plans anew while others are faster.
///
/// The view that it is planned on may be behind. A plan that relied on what is over conflicts, and
/// is made again when the view has seen what it conflicted with. A refusal conflicts with nothing:
/// it is told only when it was decided on a view that has seen everything there was when the
/// question came.
///
/// A macro and not a function with a closure, because the future of such a function cannot be
/// sent to another thread (the compiler cannot see that it may), and users spawn these calls.
macro_rules! accept {
    ($handle:expr, $request:expr, $what:literal, $content:expr, $plan:block) => {
        accept!($handle, $handle.door.write($handle.scope(), $request, $what, $content)?, $plan)
    };
    ($handle:expr, $write:expr, $plan:block) => {{
        let mut write = $write;
        loop {
            write.see().await?;
            // Most writes meet nobody. Those that did stand in line, so that many who write at
            // once do not conflict with each other again and again.
            let _turn = match write.conflicted() {
                true => Some($handle.door.turn.lock().await),
                false => None,
            };
            if let Some(answer) = write.known().await? {
                break Ok(answer);
            }
            // Its own block, so that a refusal in the middle of it comes here too.
            let plan: Result<Plan<_>, ApiError> = async { $plan }.await;
            let plan = match plan {
                Ok(plan) => plan,
                Err(refused) if write.is_final(&refused) => break Err(refused),
                Err(_) => continue,
            };
            if let Some(answer) = write.commit(plan).await? {
                break Ok(answer);
            }
        }
    }};
}

mod admin;
mod doctor;
mod drain;
mod images;
mod live;
mod look;
pub(crate) mod moves;
mod networks;
mod operations;
mod project;
mod rescue;
mod security;
mod servers;
mod shelf;
mod specs;
mod upload;
mod views;
mod volumes;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

pub use admin::Admin;
pub use project::Project;
pub use specs::{
    AggregateSpec, BootSource, FlavorSpec, GroupSpec, ImageSpec, ServerSpec, UnknownKeys,
    VolumeSpec,
};
pub use views::{Accepted, Census, HostStatus, NetworkUse, PoolUse, Server};

use crate::class::Class;
use crate::clock::Timestamp;
use crate::cloud::accept;
use crate::cloud::error::{ApiError, Overload};
use crate::cloud::options::CloudOptions;
use crate::cloud::order::Wake;
use crate::cloud::ports::Ports;
use crate::cloud::view::{SEEN_WITHIN, View, newest, reach};
use crate::domain::{OpId, OpKind, Operation, ProjectId, RequestId};
use crate::plant::{Bug, planted};
use crate::port::{MessageBusExt as _, Topic};
use crate::seed::Chance;
use crate::store::record::{Request, keys};
use crate::store::{Key, Prefix, StoreError, StoreExt as _, Txn};

/// Conflicts at one write before the caller is told to come back. More than this mean that the
/// store is overloaded, not that somebody was lucky.
const ACCEPT_ATTEMPTS_MAX: u32 = 32;

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) ports: Ports,
    pub(crate) options: CloudOptions,
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) ids: std::sync::Mutex<Chance>,
    /// Writes that conflicted once go one after the other.
    pub(crate) turn: Mutex<()>,
    /// How many more writes it takes into its hands.
    pub(crate) writes: Semaphore,
}

/// A write as it was planned.
pub(crate) struct Plan<T> {
    pub(crate) answer: T,
    pub(crate) txn: Txn,
    pub(crate) wake: Option<OpId>,
}

impl<T> Plan<T> {
    /// A write that is over when it is committed.
    pub(crate) fn now(answer: T, txn: Txn) -> Self {
        Self { answer, txn, wake: None }
    }
}

impl Door {
    pub(crate) fn new(ports: Ports, options: CloudOptions, view: Arc<Mutex<View>>) -> Self {
        let ids = std::sync::Mutex::new(ports.seed.child("ids").chance());
        let (turn, writes) = (Mutex::new(()), Semaphore::new(options.writes_max));
        Self { ports, options, view, ids, turn, writes }
    }

    /// Draws a new id.
    pub(crate) fn draw<T>(&self, id: impl FnOnce(&mut Chance) -> T) -> T {
        id(&mut self.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The view, caught up.
    pub(crate) async fn fresh(&self) -> Result<MutexGuard<'_, View>, ApiError> {
        let mut view = self.view.lock().await;
        view.catch_up(self.now()).await?;
        Ok(view)
    }

    /// The view as soon as it has seen everything that there is now.
    pub(crate) async fn caught_up(&self) -> Result<MutexGuard<'_, View>, ApiError> {
        let newest = newest(&*self.ports.store).await?;
        let view = reach(&self.view, newest, &*self.ports.clock, SEEN_WITHIN).await?;
        view.ok_or(ApiError::Behind { waited: SEEN_WITHIN })
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Begins a write, which is accepted once for its request id. One too many is refused at once:
    /// it would only wait, and keep what it waits with.
    pub(crate) fn write<T>(
        &self,
        scope: &str,
        id: RequestId,
        what: &'static str,
        content: &impl Serialize,
    ) -> Result<Acceptance<'_, T>, ApiError> {
        let limit = self.options.writes_max;
        let place = self.writes.try_acquire().map_err(|_| Overload::Writes { limit })?;
        let key = keys::request(scope, &id);
        Ok(Acceptance {
            door: self,
            _place: place,
            request: Request {
                scope: scope.to_owned(),
                id,
                digest: digest(what, content),
                answer: serde_json::Value::Null,
                at: self.now(),
            },
            last: key.clone(),
            key,
            attempts: 0,
            behind: false,
            refused: false,
            answer: PhantomData,
        })
    }

    /// Whether one more operation may begin. Those that other writes may be about to begin here
    /// count as if they had.
    async fn admit(&self) -> Result<(), ApiError> {
        let limit = self.options.operations_open_max;
        let begun = self.fresh().await?.open_operations.len();
        let writes = self.options.writes_max.saturating_sub(self.writes.available_permits());
        match begun + writes > limit {
            true => Err(Overload::Operations { limit }.into()),
            false => Ok(()),
        }
    }

    /// The record of a new operation, put into `txn`.
    pub(crate) fn begin(
        &self,
        project: Option<&ProjectId>,
        kind: OpKind,
        (generation, after): (u64, Option<OpId>),
        txn: &mut Txn,
    ) -> OpId {
        let id = self.draw(OpId::draw);
        accept::begin(id, project, kind, (generation, after), self.now(), txn);
        id
    }

    /// Waits until an operation has ended, however it ended.
    pub(crate) async fn wait(&self, id: OpId) -> Result<Operation, ApiError> {
        let key: Key = keys::operation(id);
        let store = &self.ports.store;
        let missing = || ApiError::not_found("operation", id);
        let mut op = store.read::<Operation>(&key).await?.ok_or_else(missing)?;
        let mut watch = store.watch(&Prefix::of_key(&key), op.revision).await?;
        while !op.value.state.is_final() {
            if watch.next().await.is_none() {
                watch = store.watch(&Prefix::of_key(&key), op.revision).await?;
            }
            op = store.read::<Operation>(&key).await?.ok_or_else(missing)?;
        }
        Ok(op.value)
    }
}

/// A write on its way to being accepted; [`accept!`] drives it.
pub(crate) struct Acceptance<'d, T> {
    door: &'d Door,
    _place: SemaphorePermit<'d>,
    request: Request,
    key: Key,
    last: Key,
    attempts: u32,
    /// The last plan was made on a view that may be behind.
    behind: bool,
    /// It was refused once, on such a view.
    refused: bool,
    answer: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Acceptance<'_, T> {
    /// The answer, if this write was accepted before: a caller who lost it gets it again.
    pub(crate) async fn known(&self) -> Result<Option<T>, ApiError> {
        let Some(known) = self.door.ports.store.read::<Request>(&self.key).await? else {
            return Ok(None);
        };
        let reused = || ApiError::RequestIdReused { id: self.request.id.to_string() };
        if known.value.digest != self.request.digest {
            return Err(reused());
        }
        if planted(Bug::AnswerAnew) {
            self.door.ports.store.commit(forget(&known)).await?;
            return Ok(None);
        }
        serde_json::from_value(known.value.answer).map(Some).map_err(|_| reused())
    }

    /// Waits for the view, after a plan that may have failed because the view was behind.
    pub(crate) async fn see(&mut self) -> Result<(), ApiError> {
        if std::mem::take(&mut self.behind) {
            drop(self.door.caught_up().await?);
        }
        Ok(())
    }

    /// Whether a refusal is to be told. The first one is not: the view may have been behind.
    pub(crate) fn is_final(&mut self, refused: &ApiError) -> bool {
        let doubtful = !self.refused && refused.class() == Class::Permanent;
        (self.behind, self.refused) = (doubtful, true);
        !doubtful
    }

    /// Whether somebody else was faster already.
    pub(crate) const fn conflicted(&self) -> bool {
        self.attempts > 0
    }

    /// Commits the plan, the request id and the answer together. None means that somebody else
    /// was faster, and that it has to be planned anew.
    pub(crate) async fn commit(&mut self, plan: Plan<T>) -> Result<Option<T>, ApiError> {
        let Plan { answer, mut txn, wake } = plan;
        self.request.answer = serde_json::to_value(&answer).unwrap_or_default();
        if planted(Bug::AnswerFirst) && self.attempts == 0 {
            return Ok(Some(answer));
        }
        if !planted(Bug::ForgetRequest) {
            txn.create(&self.request);
        }
        if wake.is_some() {
            self.door.admit().await?;
        }
        let ports = &self.door.ports;
        match ports.store.commit(txn).await {
            Ok(_) => {
                if let Some(operation) = wake {
                    // A wake-up that is lost delays the work until the next sweep.
                    drop(ports.bus.tell(&Topic::conductor(), &Wake { operation }).await);
                }
                return Ok(Some(answer));
            }
            Err(StoreError::Conflict { key }) => (self.last, self.behind) = (key, true),
            // Whether an unknown commit was done shows when the request is read again.
            Err(error) => match error.class() {
                Class::Retry if ports.store.get(&self.key).await?.is_some() => {}
                _ => return Err(error.into()),
            },
        }
        self.attempts += 1;
        if self.attempts < ACCEPT_ATTEMPTS_MAX {
            Ok(None)
        } else {
            Err(Overload::Conflicts { attempts: self.attempts, key: self.last.to_string() }.into())
        }
    }
}

/// Only for a planted mistake.
fn forget(known: &crate::store::Versioned<Request>) -> Txn {
    let mut txn = Txn::new();
    txn.remove(known);
    txn
}

/// What a write asks for, as a number: equal content has equal digests.
fn digest(what: &str, content: &impl Serialize) -> String {
    let content = serde_json::to_vec(content).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(what.as_bytes());
    hash.update([0]);
    hash.update(&content);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
