//! The conductor: takes accepted operations and brings them to their end.
//!
//! It is woken by messages and, since messages may be lost, looks for itself now and then. Any
//! number of conductors may work on one store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::clock::Timestamp;
use crate::cloud::agent::until;
use crate::cloud::error::ApiError;
use crate::cloud::options::CloudOptions;
use crate::cloud::order::Wake;
use crate::cloud::places::{Lines, Place};
use crate::cloud::ports::Ports;
use crate::cloud::prune::Pruner;
use crate::cloud::runner::Runner;
use crate::cloud::view::View;
use crate::domain::{Fence, OpId, Operation};
use crate::plant::{Bug, planted};
use crate::port::Topic;
use crate::store::record::{OpenOperation, Record as _, keys};
use crate::store::{Revision, StoreError, StoreExt as _};

/// Operations that one conductor has in its hands, most of them waiting for their turn. What is
/// beyond them stays in the store until there is room.
const OPERATIONS_HELD_MAX: usize = 65_536;

/// Runs operations until it is dropped.
#[derive(Debug)]
pub struct Conductor {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Conductor {
    /// Begins to work, first on everything that was left unfinished.
    ///
    /// # Errors
    /// Those of the store and the bus.
    pub async fn start(ports: Ports, options: CloudOptions) -> Result<Self, ApiError> {
        options.check()?;
        let view =
            Arc::new(Mutex::new(View::open(Arc::clone(&ports.store), ports.clock.now()).await?));
        Self::with_view(ports, options, view).await
    }

    pub(crate) async fn with_view(
        ports: Ports,
        options: CloudOptions,
        view: Arc<Mutex<View>>,
    ) -> Result<Self, ApiError> {
        let place = Arc::new(Place::none(&options));
        let lines = Arc::new(Lines::new(&options));
        let inbox = ports.bus.serve(&Topic::conductor()).await;
        let mut inbox = inbox.map_err(|source| ApiError::Unsuitable {
            what: "conductor".to_owned(),
            reason: source.to_string(),
        })?;
        let desk = Arc::new(Desk {
            runner: Runner {
                ports,
                options,
                view,
                place,
                lines,
                turn: Arc::default(),
                rivals: Arc::default(),
                // No attempt has begun, and what has been called by one is not called without.
                fence: Fence::default(),
            },
            running: PlainMutex::new(BTreeSet::new()),
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(until(stopped.clone(), async move {
            let mut operations = JoinSet::new();
            let mut idle = BTreeMap::new();
            let mut pruner = Pruner::default();
            // What was left unfinished is taken up at once, whoever worked on it before.
            let open = desk.open(&mut idle, true).await.unwrap_or_default();
            open.into_iter().for_each(|id| desk.begin(id, &mut operations));
            let clock = Arc::clone(&desk.runner.ports.clock);
            let mut next_sweep = clock.now().after(desk.runner.options.sweep_interval);
            loop {
                while operations.try_join_next().is_some() {}
                tokio::select! {
                    biased;
                    // First, or an inbox that is never empty would keep it away for ever. It
                    // comes once in an interval, so that it keeps nothing away itself.
                    () = clock.sleep_until(next_sweep) => {
                        let open = desk.open(&mut idle, false).await.unwrap_or_default();
                        open.into_iter().for_each(|id| desk.begin(id, &mut operations));
                        drop(desk.runner.cross_off().await);
                        // What could not be forgotten now is forgotten later.
                        drop(pruner.prune(&desk.runner.ports, &desk.runner.options).await);
                        next_sweep = clock.now().after(desk.runner.options.sweep_interval);
                    }
                    delivery = inbox.next() => {
                        let Some(delivery) = delivery else { return };
                        // What is not a wake-up is not for us.
                        if let Ok(wake) = serde_json::from_slice::<Wake>(&delivery.payload) {
                            desk.begin(wake.operation, &mut operations);
                        }
                    }
                }
            }
        }));
        Ok(Self { stop, tasks })
    }

    /// Stops working. What is unfinished stays in the store for whoever starts next.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// An operation that is running here. However that ends, it is not running here any more then,
/// and the sweep may take it up again.
struct Running {
    desk: Arc<Desk>,
    id: OpId,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.desk.lock().remove(&self.id);
    }
}

/// What the conductor's tasks share.
#[derive(Debug)]
struct Desk {
    runner: Runner,
    running: PlainMutex<BTreeSet<OpId>>,
}

impl Desk {
    /// Runs an operation, unless it is running here already.
    fn begin(self: &Arc<Self>, id: OpId, operations: &mut JoinSet<()>) {
        {
            let mut running = self.lock();
            // What finds no room here waits in the store, and the sweep finds it there.
            if running.len() >= OPERATIONS_HELD_MAX || !running.insert(id) {
                return;
            }
        }
        let running = Running { desk: Arc::clone(self), id };
        operations.spawn(async move {
            // What the store refuses now, the sweep takes up again.
            drop(running.desk.runner.run(id).await);
        });
    }

    /// Operations that nobody seems to work on: all of them, or those that have not moved for
    /// long enough by this process's own clock.
    async fn open(
        &self,
        idle: &mut BTreeMap<OpId, (Revision, Timestamp)>,
        all: bool,
    ) -> Result<Vec<OpId>, StoreError> {
        let ports = &self.runner.ports;
        let now = ports.clock.now();
        let open = ports.store.read_all::<OpenOperation>(&OpenOperation::all()).await?;
        let mut open: Vec<OpId> = open.into_iter().map(|open| open.value.operation).collect();
        // Others may be looking too: whoever begins elsewhere does not meet them at every one.
        ports.seed.child_of("open", now.0.into()).chance().shuffle(&mut open);
        idle.retain(|id, _| open.contains(id));
        let mut found = Vec::new();
        for id in open {
            if self.lock().contains(&id) {
                continue;
            }
            // One that cannot be read, written by a newer release perhaps, must not keep all
            // others from being found.
            let op = ports.store.read::<Operation>(&keys::operation(id)).await;
            let Ok(Some(op)) = op else { continue };
            let (revision, since) = idle.entry(id).or_insert((op.revision, now));
            if *revision != op.revision {
                (*revision, *since) = (op.revision, now);
            }
            let options = &self.runner.options;
            // One that never began was not noticed: its wake-up was lost.
            let patience = match op.value.journal.is_empty() {
                true => options.sweep_interval,
                false => options.takeover_after,
            };
            if (all || now.since(*since) >= patience) && !planted(Bug::NeverSweep) {
                found.push(id);
            }
        }
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<OpId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
