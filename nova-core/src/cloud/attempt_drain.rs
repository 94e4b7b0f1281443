//! The step of a drain: every server leaves a host, each by an operation of its own.
//!
//! A drain keeps no list. Which operations are its own follows from their ids, and what became of
//! a server from its record, so that whoever goes on after a crash sees the same.

use std::time::Duration;

use crate::cloud::accept::occupy;
use crate::cloud::api::moves::setting_out;
use crate::cloud::attempt::Attempt;
use crate::cloud::order::Wake;
use crate::cloud::runner::Runner;
use crate::domain::{
    Action, Admission, HostId, Instance, InstanceId, Liveness, OpId, OpKind, OpState, Operation,
    VmState,
};
use crate::port::{MessageBusExt as _, Topic};
use crate::seed::Seed;
use crate::store::record::keys;
use crate::store::{StoreError, StoreExt as _, Txn, Versioned};

/// Servers that one drain moves at the same time. More would compete for the same link, and each
/// would take longer.
pub(crate) const DRAIN_MOVES_MAX: usize = 2;

/// How long a drain that has nothing to begin waits before it looks again.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What a drain did for one server so far.
#[derive(Debug, Default)]
struct Tries {
    live: Option<Operation>,
    cold: Option<Operation>,
    confirm: Option<Operation>,
}

/// What comes next for one server.
#[derive(Debug, PartialEq)]
enum Turn {
    /// This begins.
    Begin(Action),
    /// Something is being done to it.
    Wait,
    /// It stays, for this reason.
    Stays(String),
}

/// Live migration first; where that does not work, another way with an interruption.
fn turn(server: &Instance, host: HostId, can_live: bool, tries: &Tries) -> Turn {
    let here = server.host == Some(host);
    let cold_is_done = matches!(&tries.cold, Some(op) if op.state == OpState::Done);
    match server.state {
        _ if server.task.is_some() => Turn::Wait,
        VmState::Active | VmState::Paused if here && can_live && tries.live.is_none() => {
            Turn::Begin(Action::LiveMigrate)
        }
        VmState::Active | VmState::Stopped if here && tries.cold.is_none() => {
            Turn::Begin(Action::Migrate)
        }
        VmState::Resized if !here && cold_is_done && tries.confirm.is_none() => {
            Turn::Begin(Action::ConfirmResize)
        }
        VmState::Resized => Turn::Stays("its last move has to be confirmed or reverted".to_owned()),
        state => Turn::Stays(
            [&tries.confirm, &tries.cold, &tries.live]
                .into_iter()
                .flatten()
                .find_map(|op| match &op.state {
                    OpState::Failed(fault) | OpState::NeedsOperator(fault) => {
                        Some(fault.message.clone())
                    }
                    _ => None,
                })
                .unwrap_or_else(|| format!("it is {state}")),
        ),
    }
}

/// The id of what a drain does to a server: the same whoever asks.
fn child(drain: OpId, server: InstanceId, action: Action) -> OpId {
    let seed = Seed::new(0).child("drain").child_of("operation", drain.as_u128());
    let seed = seed.child_of("server", server.as_u128()).child(&action.to_string());
    OpId::draw(&mut seed.chance())
}

impl Runner {
    /// Begins what can begin, waits for what is under way, and ends when nothing is left to do.
    pub(crate) async fn move_off(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let OpKind::DrainHost { host } = op.kind else {
            return Ok(self.hopeless("not a drain"));
        };
        let (record, servers) = {
            let view = self.fresh().await?;
            let servers = view.claims_on(host).filter_map(|claim| {
                let server = view.instances.get(&keys::instance(claim.instance))?;
                let has_volumes = view.volumes_of(claim.instance).next().is_some();
                let unable = setting_out(&view, server, &mut Txn::new()).err();
                Some((server.clone(), has_volumes, unable))
            });
            (view.hosts.get(&keys::host(host)).cloned(), servers.collect::<Vec<_>>())
        };
        if record.is_some_and(|host| host.value.admission == Admission::Enabled) {
            return Ok(self.hopeless(format!("host {host} was enabled again")));
        }
        let down = self.liveness(host).await?.0 == Liveness::Down;
        let (mut under_way, mut waiting) = (0, false);
        let (mut ready, mut staying) = (Vec::new(), Vec::new());
        for (server, has_volumes, unable) in servers {
            let id = server.value.id;
            let can_live = !has_volumes || self.ports.volumes.sharing().is_some();
            let tries = self.tries(op.id, id).await?;
            let turn = match turn(&server.value, host, can_live, &tries) {
                Turn::Wait => self.wait_for(op.id, &server.value, &mut under_way).await?,
                turn => turn,
            };
            match turn {
                Turn::Begin(_) if down => staying.push(format!("server {id}: its host is down")),
                Turn::Begin(action) => match unable.filter(|_| action != Action::ConfirmResize) {
                    Some(error) => staying.push(format!("server {id}: {error}")),
                    None => ready.push((server, action)),
                },
                Turn::Wait => waiting = true,
                Turn::Stays(reason) => staying.push(format!("server {id}: {reason}")),
            }
        }
        if ready.is_empty() {
            return Ok(match (waiting, staying.is_empty()) {
                (true, _) => Attempt::UnderWay(LOOK_PAUSE),
                (false, true) => Attempt::Done(Txn::new()),
                (false, false) => self.hopeless(staying.join("; ")),
            });
        }
        let free = DRAIN_MOVES_MAX.saturating_sub(under_way);
        ready.truncate(free);
        if ready.is_empty() {
            return Ok(Attempt::UnderWay(LOOK_PAUSE));
        }
        self.begin_moves(op.id, &ready).await
    }

    /// The operations of these servers in one transaction, which the journal tells.
    async fn begin_moves(
        &self,
        drain: OpId,
        ready: &[(Versioned<Instance>, Action)],
    ) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let mut txn = Txn::new();
        let mut begun = Vec::new();
        for (server, action) in ready {
            let id = server.value.id;
            let kind = match action {
                Action::LiveMigrate => OpKind::LiveMigrate { instance: id },
                Action::ConfirmResize => OpKind::ConfirmResize { instance: id },
                _ => OpKind::Migrate { instance: id },
            };
            let server = match action {
                Action::ConfirmResize => server.clone(),
                _ => match setting_out(&view, server, &mut txn) {
                    Ok(server) => server,
                    // Its image was just marked for deletion; the next look says so.
                    Err(_) => return Ok(Attempt::UnderWay(LOOK_PAUSE)),
                },
            };
            let (child, now) = (child(drain, id, *action), self.ports.clock.now());
            match occupy(child, &server, *action, kind, now, &mut txn) {
                Ok(()) => begun.push(format!("{action} of server {id} begins")),
                Err(error) => return Ok(self.hopeless(error.to_string())),
            }
        }
        Ok(Attempt::Again { txn, reason: begun.join("; ") })
    }

    /// What an operation on a server is waited for, and woken if nobody has begun with it.
    async fn wait_for(
        &self,
        drain: OpId,
        server: &Instance,
        under_way: &mut usize,
    ) -> Result<Turn, StoreError> {
        let Some(id) = server.operation else { return Ok(Turn::Wait) };
        let Some(op) = self.operation(id).await? else { return Ok(Turn::Wait) };
        if matches!(op.state, OpState::NeedsOperator(_)) {
            return Ok(Turn::Stays(format!("operation {id} waits for an operator")));
        }
        let actions = [Action::LiveMigrate, Action::Migrate, Action::ConfirmResize];
        if actions.iter().any(|action| child(drain, server.id, *action) == id) {
            *under_way += 1;
            if op.journal.is_empty() {
                // A wake-up that is lost delays the work until the next sweep.
                let wake = Wake { operation: id };
                drop(self.ports.bus.tell(&Topic::conductor(), &wake).await);
            }
        }
        Ok(Turn::Wait)
    }

    async fn tries(&self, drain: OpId, server: InstanceId) -> Result<Tries, StoreError> {
        Ok(Tries {
            live: self.operation(child(drain, server, Action::LiveMigrate)).await?,
            cold: self.operation(child(drain, server, Action::Migrate)).await?,
            confirm: self.operation(child(drain, server, Action::ConfirmResize)).await?,
        })
    }

    async fn operation(&self, id: OpId) -> Result<Option<Operation>, StoreError> {
        let op = self.ports.store.read::<Operation>(&keys::operation(id)).await?;
        Ok(op.map(|op| op.value))
    }
}
