//! What each step does, and what its undo does.
//!
//! A step looks at the view, acts on the outside where it has to, and proposes a transaction; it
//! commits nothing itself. [`runner`](super::runner) commits the proposal together with the
//! journal's record.

use crate::cloud::attempt_attach::volume_of;
use crate::cloud::order::{Errand, Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::steps::Step;
use crate::cloud::sweep::is_lost;
use crate::cloud::view::View;
use crate::domain::{
    Action, Fault, HostId, Instance, InstanceId, Liveness, OpKind, Operation, PowerState, VmState,
    VolumeState,
};
use crate::plant::{Bug, planted};
use crate::port::{BusError, MessageBusExt as _, Topic};
use crate::store::record::keys;
use crate::store::{StoreError, Txn, Versioned};

/// What came of an attempt at a step.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The effect is there; what it means for the records is in the transaction.
    Done(Txn),
    /// Not here, but there is somewhere else to try: the operation goes back to an earlier step.
    Again { txn: Txn, reason: String },
    /// The effect is certainly not there.
    NotDone { fault: Fault, retry: bool },
    /// It must not go on from here: what was done before is undone.
    Back(Fault),
    /// Nobody can say.
    Unknown { reason: String },
    /// The host's agent is not there, and the host does not count as down yet: nothing was tried.
    Absent,
    /// It was begun and goes on by itself; there is nothing to do but to look again.
    UnderWay(std::time::Duration),
    /// The server belongs to a later operation now.
    Superseded,
}

/// What an operation has in its hand while it works on a step.
enum Hold {
    /// Its server, as it was when the step began.
    Server(Box<Versioned<Instance>>),
    /// It needs no server.
    Nothing,
    /// The server belongs to another operation, or is gone.
    Lost,
}

impl Hold {
    /// The attempt, valid only if nobody took the server over since it began: otherwise an
    /// operation could finish on top of the one that interrupted it, and undo its claim.
    fn over(&self, attempt: Attempt) -> Attempt {
        let Self::Server(server) = self else { return attempt };
        match attempt {
            Attempt::Done(mut txn) => {
                txn.unchanged(server);
                Attempt::Done(txn)
            }
            Attempt::Again { mut txn, reason } => {
                txn.unchanged(server);
                Attempt::Again { txn, reason }
            }
            other => other,
        }
    }
}

impl Runner {
    /// Tries one step. `next` is the operation's next record, which the step may add to.
    pub(crate) async fn attempt(
        &self,
        step: Step,
        next: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let held = match self.hold(next).await? {
            Hold::Lost => return Ok(Attempt::Superseded),
            held => held,
        };
        Ok(held.over(self.forward(step, next).await?))
    }

    async fn forward(&self, step: Step, next: &mut Operation) -> Result<Attempt, StoreError> {
        let shelf = matches!(next.kind, OpKind::Shelve { .. } | OpKind::Unshelve { .. });
        match step {
            Step::MoveOff => self.move_off(next).await,
            Step::Capture => self.capture(next).await,
            Step::Spawn if shelf => self.respawn(next).await,
            _ if shelf => self.attempt_shelf(step, next).await,
            Step::Place => self.place(next).await,
            Step::Wire => self.wire(next).await,
            Step::Spawn => self.spawn(next).await,
            Step::Boot => self.boot_up(next).await,
            Step::Power => self.power(next).await,
            Step::RemoveGuest => self.remove_guest(next).await,
            Step::FreeVolumes => self.free_volumes(next).await,
            Step::Release => self.release(next).await,
            Step::FindHosts => self.find_hosts(next).await,
            Step::Settle => self.settle_hosts(next).await,
            Step::Connect => self.connect(next).await,
            Step::Plug => self.plug(next).await,
            Step::Unplug => self.unplug(next).await,
            Step::Disconnect => self.disconnect(next).await,
            Step::MakeVolume => self.make_volume(next).await,
            Step::DestroyVolume => self.destroy_volume(next).await,
            Step::Bind => self.bind(next).await,
            Step::Unbind => self.unbind(next).await,
            Step::Finish => self.finish(next).await,
            Step::FinishSnapshot => self.finish_snapshot(next).await,
            Step::EnterRescue | Step::LeaveRescue | Step::FinishRescue => {
                self.attempt_rescue(step, next).await
            }
            _ if matches!(next.kind, OpKind::Rebuild { .. }) => {
                self.attempt_rebuild(step, next).await
            }
            _ => self.attempt_move(step, next).await,
        }
    }

    /// Undoes one step. Steps without effect of their own have nothing to undo.
    pub(crate) async fn undo(
        &self,
        step: Step,
        next: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let held = match self.hold(next).await? {
            Hold::Lost => return Ok(Attempt::Superseded),
            held => held,
        };
        Ok(held.over(self.backward(step, next).await?))
    }

    async fn backward(&self, step: Step, next: &mut Operation) -> Result<Attempt, StoreError> {
        match step {
            Step::Spawn if planted(Bug::SkipUndo) => Ok(Attempt::Done(Txn::new())),
            Step::Capture => self.uncapture(next).await,
            Step::EnterRescue | Step::LeaveRescue => self.undo_rescue(step, next).await,
            _ if matches!(next.kind, OpKind::Shelve { .. } | OpKind::Unshelve { .. }) => {
                self.undo_shelf(step, next).await
            }
            Step::Place => self.unplace(next).await,
            Step::Spawn | Step::Boot => self.remove_guest(next).await,
            Step::Connect => self.disconnect(next).await,
            // What may run from it is not pulled apart.
            Step::Plug if matches!(next.kind, OpKind::CreateServer { .. }) => {
                self.remove_first(next).await
            }
            Step::Plug => self.unplug(next).await,
            Step::MakeVolume => self.destroy_volume(next).await,
            Step::Bind => self.rebind(next).await,
            _ if matches!(next.kind, OpKind::Rebuild { .. }) => self.undo_rebuild(step, next).await,
            _ => self.undo_move(step, next).await,
        }
    }

    /// Whether the server is still this operation's. A later one, a deletion or a reboot by
    /// force, may have taken it over; then this one stops where it is, and the later one puts
    /// everything right.
    async fn hold(&self, op: &Operation) -> Result<Hold, StoreError> {
        let Some(id) = op.kind.instance() else { return Ok(Hold::Nothing) };
        if matches!(op.kind, OpKind::AssociateFloating { .. }) || planted(Bug::NeverSuperseded) {
            return Ok(Hold::Nothing);
        }
        let view = self.fresh().await?;
        Ok(match view.instances.get(&keys::instance(id)) {
            Some(server) if server.value.operation == Some(op.id) => {
                Hold::Server(Box::new(server.clone()))
            }
            // A deletion outlives its server, and goes on when the server is gone.
            None if matches!(op.kind, OpKind::DeleteServer { .. }) => Hold::Nothing,
            _ => Hold::Lost,
        })
    }

    /// The server of an operation, if it is still this operation's.
    pub(crate) async fn held(
        &self,
        op: &Operation,
    ) -> Result<Option<Versioned<Instance>>, StoreError> {
        Ok(match self.hold(op).await? {
            Hold::Server(server) => Some(*server),
            Hold::Nothing | Hold::Lost => None,
        })
    }

    /// The view, caught up.
    pub(crate) async fn fresh(&self) -> Result<tokio::sync::MutexGuard<'_, View>, StoreError> {
        let mut view = self.view.lock().await;
        view.catch_up(self.ports.clock.now()).await?;
        Ok(view)
    }

    /// Whether a host answers, and whether an operator declared it down.
    pub(crate) async fn liveness(&self, host: HostId) -> Result<(Liveness, bool), StoreError> {
        let mut view = self.fresh().await?;
        let row = view.hosts(self.ports.clock.now(), self.options.down_after).get(host);
        // A host that is not registered any more answers nobody.
        let liveness = row.map_or(Liveness::Down, |row| row.liveness);
        let record = view.hosts.get(&keys::host(host));
        Ok((liveness, record.is_none_or(|record| record.value.forced_down.is_some())))
    }

    /// Gives an order to the agent of a host.
    pub(crate) async fn order(&self, op: &Operation, host: HostId, order: Order) -> Report {
        self.ask(op, host, order).await.unwrap_or_else(|error| unanswered(&error))
    }

    async fn ask(&self, op: &Operation, host: HostId, order: Order) -> Result<Report, BusError> {
        let errand = Errand { generation: op.generation, order };
        let topic = Topic::agent(host);
        let answer = async {
            let out = self.lines.stand(host).await;
            // Whoever stood in line for a host that is down by now learns that at once.
            if out.waited && matches!(self.liveness(host).await, Ok((Liveness::Down, _))) {
                return Err(BusError::NoServer { topic: topic.clone() });
            }
            self.ports.bus.ask(&topic, &errand, self.options.order_limit).await
        };
        self.place.without(answer).await
    }

    /// Gives an order unless the host is known to be down. None when its agent is not there: it
    /// may be on its way, as after a restart of everything, and until the host counts as down
    /// that is no failure of anything.
    pub(crate) async fn order_if_up(
        &self,
        op: &Operation,
        host: HostId,
        order: Order,
    ) -> Result<Option<Report>, StoreError> {
        Ok(match self.liveness(host).await? {
            (Liveness::Up, _) => match self.ask(op, host, order).await {
                Ok(report) => Some(report),
                Err(BusError::NoServer { .. }) => None,
                Err(error) => Some(unanswered(&error)),
            },
            (Liveness::Down, _) => {
                Some(Report::NotDone { reason: format!("host {host} is down"), retry: true })
            }
        })
    }

    /// The attempt that a report amounts to, when nothing else depends on it.
    pub(crate) fn attempt_of(&self, report: Report) -> Attempt {
        match report {
            Report::Done { .. } | Report::Packed(_) | Report::Expected(_) | Report::Stored(_) => {
                Attempt::Done(Txn::new())
            }
            Report::UnderWay => Attempt::UnderWay(std::time::Duration::ZERO),
            Report::NotDone { .. } if planted(Bug::NotDoneIsDone) => Attempt::Done(Txn::new()),
            Report::Unknown { .. } if planted(Bug::UnknownIsDone) => Attempt::Done(Txn::new()),
            Report::NotDone { reason, retry } => {
                Attempt::NotDone { fault: self.fault(reason), retry }
            }
            Report::Unknown { reason } => Attempt::Unknown { reason },
        }
    }

    /// A failure that no repetition will change.
    pub(crate) fn hopeless(&self, message: impl Into<String>) -> Attempt {
        Attempt::NotDone { fault: self.fault(message.into()), retry: false }
    }

    /// The server of an operation with its host, or why there is none.
    pub(crate) async fn server(
        &self,
        id: InstanceId,
    ) -> Result<Option<Versioned<Instance>>, StoreError> {
        Ok(self.fresh().await?.instances.get(&keys::instance(id)).cloned())
    }

    /// Records the result of an operation that went well.
    async fn finish(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let mut txn = Txn::new();
        if let Some(instance) = op.kind.instance().map(keys::instance) {
            let Some(instance) = view.instances.get(&instance) else {
                return Ok(self.hopeless("the server is gone"));
            };
            let mut next = idle(&instance.value);
            if planted(Bug::KeepTask) {
                next.task = instance.value.task;
            }
            match op.kind {
                OpKind::CreateServer { .. } => {
                    next.state = VmState::Active;
                    next.power = Some(PowerState::Running);
                    next.launched_at = Some(self.ports.clock.now());
                }
                OpKind::Power { action, .. } => {
                    next.state = action.result(next.state).unwrap_or(next.state);
                    next.power = Some(match action {
                        Action::Pause => PowerState::Paused,
                        Action::Stop => PowerState::Shutdown,
                        Action::Suspend => PowerState::Suspended,
                        _ => PowerState::Running,
                    });
                    next.boots += u64::from(matches!(action, Action::Reboot(_)));
                }
                _ => {}
            }
            next.fault = None;
            txn.replace(instance, &next);
        }
        if let Some(volume) = volume_of(op) {
            let Some(volume) = view.volumes.get(&keys::volume(volume)) else {
                return Ok(self.hopeless("the volume is gone"));
            };
            let mut next = volume.value.clone();
            next.operation = None;
            match op.kind {
                OpKind::DeleteVolume { .. } => {
                    txn.remove(volume);
                    let project = &volume.value.project;
                    let ledger = crate::store::record::Ledger::for_project(project.clone());
                    txn.touch(view.ledger(&keys::project_ledger(project)), &ledger);
                    return Ok(Attempt::Done(txn));
                }
                OpKind::AttachVolume { .. } | OpKind::CreateServer { .. } => {
                    next.state = VolumeState::InUse;
                }
                _ => (next.state, next.attachment) = (VolumeState::Available, None),
            }
            txn.replace(volume, &next);
        }
        Ok(Attempt::Done(txn))
    }

    /// Leaves the server and the volume as an operation that failed has to leave them.
    pub(crate) async fn give_up(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let held = match self.hold(op).await? {
            Hold::Lost => return Ok(Attempt::Superseded),
            held => held,
        };
        let fault = match &op.state {
            crate::domain::OpState::Undoing(fault) => fault.clone(),
            _ => self.fault("nothing went wrong".to_owned()),
        };
        if let Some(not_yet) = self.settle_back(op).await? {
            return Ok(not_yet);
        }
        let view = self.fresh().await?;
        let mut txn = Txn::new();
        let instance = op.kind.instance().and_then(|id| view.instances.get(&keys::instance(id)));
        if let (Some(instance), false) =
            (instance, matches!(op.kind, OpKind::AssociateFloating { .. }))
        {
            let mut next = idle(&instance.value);
            if matches!(op.kind, OpKind::CreateServer { .. }) {
                next.state = VmState::Error;
            }
            if matches!(
                op.kind,
                OpKind::Resize { .. }
                    | OpKind::Migrate { .. }
                    | OpKind::LiveMigrate { .. }
                    | OpKind::Evacuate { .. }
            ) {
                next.migration = None;
            }
            let rescue = matches!(op.kind, OpKind::Rescue { .. } | OpKind::Unrescue { .. });
            // That its guest is gone is what the agent of its host has to know when it is back.
            if !(rescue && is_lost(&next)) {
                next.fault = Some(fault);
            }
            txn.replace(instance, &next);
        }
        if matches!(
            op.kind,
            OpKind::CreateVolume { .. } | OpKind::AttachVolume { .. } | OpKind::CreateServer { .. }
        ) && let Some(volume) = volume_of(op)
            && let Some(volume) = view.volumes.get(&keys::volume(volume))
        {
            let mut next = volume.value.freed();
            if matches!(op.kind, OpKind::CreateVolume { .. }) {
                next.state = VolumeState::Error;
            }
            txn.replace(volume, &next);
        }
        Self::let_floating_go(&view, op, &mut txn);
        Ok(held.over(Attempt::Done(txn)))
    }
}

/// What an order that was not answered comes to.
fn unanswered(error: &BusError) -> Report {
    let reason = error.to_string();
    if error.may_have_arrived() {
        Report::Unknown { reason }
    } else {
        Report::NotDone { reason, retry: true }
    }
}

/// The same server with nothing being done to it.
pub(crate) fn idle(instance: &Instance) -> Instance {
    Instance { task: None, operation: None, lent: None, ..instance.clone() }
}
