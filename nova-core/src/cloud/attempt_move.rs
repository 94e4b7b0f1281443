//! The steps of moves: a server goes to another host, stays there, or comes back.
//!
//! While it moves, its record names both ends, both hold a claim, and at most one of the two
//! guests runs: the one on the host that the record says the server is on.

use crate::cloud::attempt::{Attempt, idle};
use crate::cloud::attempt_elsewhere::why_elsewhere;
use crate::cloud::attempt_server::{guest_spec, server_id};
use crate::cloud::order::{Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::steps::Step;
use crate::domain::{
    AddressState, Attachment, FloatingBinding, HostId, Instance, InstanceId, Liveness, Migration,
    OpKind, Operation, PowerState, VmState, Volume,
};
use crate::plant::{Bug, planted};
use crate::port::{NetError, VolumeLink};
use crate::store::record::keys;
use crate::store::{StoreError, Txn, Versioned};

/// A server on the move: its record, its move, and the host at the other end once there is one.
type Mover = (Versioned<Instance>, Migration, Option<HostId>);

impl Runner {
    /// Tries one step of a move.
    pub(crate) async fn attempt_move(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let Some((server, moving, there)) = self.mover(op).await? else {
            return Ok(self.hopeless("the server is not on the move"));
        };
        if step == Step::ClaimThere {
            return self.claim_there(op, server, moving).await;
        }
        let Some(there) = there else {
            return Ok(self.hopeless("the server has nowhere to go"));
        };
        let (from, to) = match op.kind {
            OpKind::RevertResize { .. } => (there, moving.from),
            _ => (moving.from, there),
        };
        op.settle = vec![from, to];
        let id = server.value.id;
        match step {
            Step::WireThere
            | Step::Carry
            | Step::SpawnThere
            | Step::ShareVolumes
            | Step::CarryLive
                if op.tried.contains(&to) =>
            {
                self.leave_there(op, &server, &moving, to).await
            }
            Step::WireThere => {
                let wired = self.wire_there(op, &server, to).await?;
                self.elsewhere_there(op, to, wired).await
            }
            Step::Halt if planted(Bug::RunTwice) => Ok(Attempt::Done(Txn::new())),
            Step::LeadFloating if planted(Bug::LeadBehind) => Ok(Attempt::Done(Txn::new())),
            Step::Halt => self.plain(op, from, Order::Stop(id)).await,
            Step::Carry => self.carry(op, &server.value, from, to).await,
            Step::SpawnThere => {
                let spawned = self.spawn_at(op, &server.value, to, moving.was).await?;
                self.elsewhere_there(op, to, spawned).await
            }
            Step::ShareVolumes => self.share_volumes(op, from, to).await,
            Step::CarryLive => self.carry_live(op, &server.value, from, to).await,
            Step::CutOver => self.cut_over(op, &server, to).await,
            Step::GoOn => self.go_on(op, &moving, to).await,
            Step::Disown => self.disown(op, from).await,
            Step::LetGo => self.let_go(op, from, to).await,
            Step::HandOver => Ok(belong(&server, to, &moving.new_flavor)),
            Step::HandBack => Ok(belong(&server, to, &moving.old_flavor)),
            Step::TakeUp => self.take_up(op, to).await,
            Step::LeadFloating => self.lead_floating(op, to).await,
            // A server that is made anew runs afterwards, unless it was stopped.
            Step::PowerThere
                if moving.was == VmState::Active
                    || (moving.was != VmState::Stopped
                        && matches!(op.kind, OpKind::Evacuate { .. })) =>
            {
                self.plain(op, to, Order::Start(id)).await
            }
            Step::FinishMove => Ok(finish_move(&server, &moving)),
            Step::DropMoved => self.remove_surely(op, there).await,
            Step::DropOld if matches!(op.kind, OpKind::LiveMigrate { .. }) => {
                self.drop_sent(op, &moving, to).await
            }
            Step::DropOld => self.remove_if_up(op, moving.from).await,
            Step::EndMove => self.end_move(op, &server, &moving, from).await,
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }

    /// Undoes one step of a move; only those that go forward to another host are undone.
    pub(crate) async fn undo_move(
        &self,
        step: Step,
        op: &mut Operation,
    ) -> Result<Attempt, StoreError> {
        let Some((server, moving, there)) = self.mover(op).await? else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let from = moving.from;
        if step == Step::Halt && moving.was == VmState::Active {
            // A host that is down finds the guest shut down when it returns, and says so.
            if self.liveness(from).await?.0 == Liveness::Down {
                return Ok(Attempt::Done(Txn::new()));
            }
            return Ok(self.start_again(op, from, server.value.id).await);
        }
        // Where no host is chosen any more, nothing else is left to undo.
        let Some(there) = there else { return Ok(Attempt::Done(Txn::new())) };
        match step {
            Step::ClaimThere => match self.lead_floating(op, from).await? {
                Attempt::Done(_) => self.unclaim_there(op, &server, &moving, there).await,
                // One was led to the server while it was there.
                not_yet => Ok(not_yet),
            },
            Step::Carry => {
                let removed = self.remove_if_up(op, there).await?;
                // Orders of the way forward that are still under way are out of date from here:
                // none may shut the guest down after it was started again.
                Ok(match removed {
                    Attempt::Done(_) => Attempt::Done(renew(op, &server)),
                    other => other,
                })
            }
            Step::GoOn => self.remove_surely(op, there).await,
            Step::CutOver => self.undo_cut_over(op, &server, &moving, there).await,
            Step::CarryLive => self.undo_carry_live(op, &server, &moving, there).await,
            Step::ShareVolumes => self.disown(op, there).await,
            Step::LetGo => {
                let back = match self.liveness(from).await? {
                    // A host that was declared down cannot be asked to plug anything in. The
                    // server stays there all the same, and can be evacuated.
                    (Liveness::Down, true) => self.reconnect(op, from).await?,
                    _ => self.take_up(op, from).await?,
                };
                self.volumes_are_at(op, from, back).await
            }
            Step::HandOver => Ok(belong(&server, from, &moving.old_flavor)),
            Step::TakeUp => self.let_go(op, there, from).await,
            Step::LeadFloating => self.lead_floating(op, from).await,
            Step::PowerThere | Step::SpawnThere => self.remove_surely(op, there).await,
            _ => Ok(Attempt::Done(Txn::new())),
        }
    }

    /// Starts a guest that was shut down on the way forward. One that is not there cannot be
    /// started, however often it is tried; its host finds out and says so.
    pub(crate) async fn start_again(&self, op: &Operation, at: HostId, id: InstanceId) -> Attempt {
        match self.order(op, at, Order::Start(id)).await {
            Report::NotDone { retry: false, .. } => Attempt::Done(Txn::new()),
            report => self.attempt_of(report),
        }
    }

    async fn mover(&self, op: &Operation) -> Result<Option<Mover>, StoreError> {
        let server = self.server_of(op).await?;
        Ok(server.and_then(|server| {
            let moving = server.value.migration.clone()?;
            let there = moving.to;
            Some((server, moving, there))
        }))
    }

    /// An order that either works or does not.
    pub(crate) async fn plain(
        &self,
        op: &Operation,
        at: HostId,
        order: Order,
    ) -> Result<Attempt, StoreError> {
        let report = self.order_if_up(op, at, order).await?;
        Ok(report.map_or(Attempt::Absent, |report| self.attempt_of(report)))
    }

    /// Chooses where the server goes, and claims what it will need there. What it has where it is
    /// stays claimed.
    async fn claim_there(
        &self,
        op: &mut Operation,
        server: Versioned<Instance>,
        moving: Migration,
    ) -> Result<Attempt, StoreError> {
        let mut txn = Txn::new();
        if server.value.root.is_none() {
            match self.fresh().await?.images.get(&keys::image(server.value.image)) {
                Some(image) => txn.unchanged(image),
                None => return Ok(self.hopeless("the image of the server is gone")),
            };
        }
        op.tried.insert(moving.from);
        let wanted = Instance { flavor: moving.new_flavor.clone(), ..server.value.clone() };
        let wanted = Versioned { value: wanted, revision: server.revision };
        let (claim, host) = match self.claim(&wanted, op).await? {
            Ok(claimed) => claimed,
            Err(mut fault) => {
                if let Some(reason) = why_elsewhere(op) {
                    fault.message = format!("{}; before, {reason}", fault.message);
                }
                return Ok(Attempt::NotDone { fault, retry: false });
            }
        };
        txn.merge(claim);
        op.settle = vec![moving.from, host];
        let migration = Some(Migration { to: Some(host), ..moving });
        txn.replace(&server, &Instance { migration, ..server.value.clone() });
        Ok(Attempt::Done(txn))
    }

    pub(crate) async fn unclaim_there(
        &self,
        op: &Operation,
        server: &Versioned<Instance>,
        moving: &Migration,
        there: HostId,
    ) -> Result<Attempt, StoreError> {
        let mut txn = match self.leave_end(op, &server.value, there).await? {
            Ok(txn) => txn,
            Err(not_yet) => return Ok(not_yet),
        };
        let migration = Some(Migration { to: None, ..moving.clone() });
        txn.replace(server, &Instance { migration, ..server.value.clone() });
        Ok(Attempt::Done(txn))
    }

    /// Packs the guest up where it is and unpacks it, shut down, where it goes.
    async fn carry(
        &self,
        op: &mut Operation,
        server: &Instance,
        from: HostId,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let Some(moving) = &server.migration else {
            return Ok(self.hopeless("the server is not on the move"));
        };
        let grown = Instance { flavor: moving.new_flavor.clone(), ..server.clone() };
        let Some(spec) = guest_spec(&*self.fresh().await?, &grown, to) else {
            return Ok(self.hopeless("the image or a network of the server is gone"));
        };
        let packed = match self.order_if_up(op, from, Order::Pack(server.id)).await? {
            None => return Ok(Attempt::Absent),
            Some(Report::Packed(parcel)) => parcel,
            Some(Report::Done { .. }) => return Ok(self.hopeless("the host sent no parcel")),
            Some(report) => return Ok(self.attempt_of(report)),
        };
        let order = Order::Unpack { spec: Box::new(spec), parcel: packed };
        let carried = self.plain(op, to, order).await?;
        self.elsewhere_there(op, to, carried).await
    }

    /// Takes every volume of the server from one host, and notes that it goes to another. Only
    /// the host's own word counts, or an operator's that it is down.
    pub(crate) async fn let_go(
        &self,
        op: &Operation,
        from: HostId,
        to: HostId,
    ) -> Result<Attempt, StoreError> {
        let instance = server_id(op);
        let held: Vec<_> = {
            let view = self.fresh().await?;
            let here = view.volumes_of(instance).filter(|volume| {
                volume.value.attachment.is_some_and(|attachment| attachment.host == from)
            });
            here.cloned().collect()
        };
        let mut txn = Txn::new();
        for held in &held {
            let volume = held.value.id;
            let report = match self.liveness(from).await? {
                (Liveness::Down, true) => Report::Done { guest: None },
                (Liveness::Down, false) => Report::NotDone {
                    reason: format!("host {from} is silent and may still use volume {volume}"),
                    retry: true,
                },
                (Liveness::Up, _) => self.order(op, from, Order::Unplug { instance, volume }).await,
            };
            if !matches!(report, Report::Done { .. }) {
                return Ok(self.attempt_of(report));
            }
            if let Err(error) = self.ports.volumes.disconnect(volume, from, self.fence).await {
                return Ok(self.volume_failed(&error));
            }
            let mut next = held.value.clone();
            next.attachment = Some(Attachment { instance, host: to });
            txn.replace(held, &next);
        }
        Ok(Attempt::Done(txn))
    }

    /// Connects every volume of the server to a host, and plugs it into the guest there.
    pub(crate) async fn take_up(&self, op: &Operation, at: HostId) -> Result<Attempt, StoreError> {
        let instance = server_id(op);
        let held: Vec<_> = {
            let view = self.fresh().await?;
            view.volumes_of(instance).map(|volume| volume.value.id).collect()
        };
        for volume in held {
            let connection = match self.ports.volumes.connect(volume, at, self.fence).await {
                Ok(connection) => connection,
                Err(error) => return Ok(self.volume_failed(&error)),
            };
            let link = VolumeLink { volume, connection };
            match self.order_if_up(op, at, Order::Plug { instance, link }).await? {
                Some(Report::Done { .. }) => {}
                Some(report) => return Ok(self.attempt_of(report)),
                None => return Ok(Attempt::Absent),
            }
        }
        Ok(Attempt::Done(Txn::new()))
    }

    /// Notes that the volumes of the server are at a host, once they are.
    async fn volumes_are_at(
        &self,
        op: &Operation,
        at: HostId,
        taken: Attempt,
    ) -> Result<Attempt, StoreError> {
        let Attempt::Done(mut txn) = taken else { return Ok(taken) };
        let instance = server_id(op);
        let attachment = Some(Attachment { instance, host: at });
        for held in self.fresh().await?.volumes_of(instance) {
            if held.value.attachment != attachment {
                txn.replace(held, &Volume { attachment, ..held.value.clone() });
            }
        }
        Ok(Attempt::Done(txn))
    }

    /// Leads the floating IPs of the server to a host, one in each transaction: all of them
    /// write the record of the port behind them.
    pub(crate) async fn lead_floating(
        &self,
        op: &Operation,
        at: HostId,
    ) -> Result<Attempt, StoreError> {
        let instance = server_id(op);
        let astray = {
            let view = self.fresh().await?;
            view.floating_ips.values().find_map(|floating| match &floating.value.state {
                AddressState::Owned(owner) => {
                    let to = owner.binding.as_ref()?;
                    (to.instance == instance && to.host != at).then(|| (floating.clone(), to.fixed))
                }
                _ => None,
            })
        };
        let Some((known, fixed)) = astray else { return Ok(Attempt::Done(Txn::new())) };
        let address = known.value.address;
        let Some(floating) = self.ports.network.floating_ips() else {
            return Ok(Attempt::Done(Txn::new()));
        };
        let binding = FloatingBinding { instance, fixed, host: at };
        Ok(match floating.associate(address, binding).await {
            Ok(mut draft) => {
                // Its owner may have led it to another server since.
                draft.txn.unchanged(&known);
                Attempt::Again { txn: draft.txn, reason: format!("{address} was led, others wait") }
            }
            Err(NetError::NoSuchFloatingIp { .. }) => {
                Attempt::Again { txn: Txn::new(), reason: format!("{address} was given back") }
            }
            Err(error) => self.network_failed(&error),
        })
    }

    /// Removes the guest from a host that must not run it any more: silence is not enough.
    pub(crate) async fn remove_surely(
        &self,
        op: &Operation,
        at: HostId,
    ) -> Result<Attempt, StoreError> {
        let report = match self.liveness(at).await? {
            (Liveness::Down, true) => return Ok(Attempt::Done(Txn::new())),
            (Liveness::Down, false) => Report::NotDone {
                reason: format!("host {at} is silent and may still run the guest"),
                retry: true,
            },
            (Liveness::Up, _) => self.order(op, at, Order::Remove(server_id(op))).await,
        };
        Ok(self.attempt_of(report))
    }

    /// Removes a guest that is shut down. A host that is down does it when it comes back.
    pub(crate) async fn remove_if_up(
        &self,
        op: &Operation,
        at: HostId,
    ) -> Result<Attempt, StoreError> {
        if self.liveness(at).await?.0 == Liveness::Down {
            return Ok(Attempt::Done(Txn::new()));
        }
        let report = self.order(op, at, Order::Remove(server_id(op))).await;
        Ok(self.attempt_of(report))
    }

    /// The move is over: `left` keeps nothing.
    async fn end_move(
        &self,
        op: &Operation,
        server: &Versioned<Instance>,
        moving: &Migration,
        left: HostId,
    ) -> Result<Attempt, StoreError> {
        let mut txn = match self.leave_end(op, &server.value, left).await? {
            Ok(_) if planted(Bug::KeepOldClaim) => Txn::new(),
            Ok(txn) => txn,
            Err(not_yet) => return Ok(not_yet),
        };
        let mut next = Instance { migration: None, fault: None, ..idle(&server.value) };
        next.state = match (&op.kind, next.power) {
            (OpKind::RevertResize { .. } | OpKind::LiveMigrate { .. }, _) => moving.was,
            (OpKind::Evacuate { .. }, _) if moving.was == VmState::Stopped => VmState::Stopped,
            (OpKind::Evacuate { .. }, _) => VmState::Active,
            (_, Some(PowerState::Shutdown)) => VmState::Stopped,
            _ => VmState::Active,
        };
        next.power = Some(power_of(next.state));
        if matches!(op.kind, OpKind::Evacuate { .. }) {
            next.rescue = None;
        }
        txn.replace(server, &next);
        Ok(Attempt::Done(txn))
    }
}

/// The server is on `host` now, with this flavor.
fn belong(server: &Versioned<Instance>, host: HostId, flavor: &crate::domain::Flavor) -> Attempt {
    let flavor = flavor.clone();
    let mut txn = Txn::new();
    txn.replace(server, &Instance { host: Some(host), flavor, ..server.value.clone() });
    Attempt::Done(txn)
}

fn finish_move(server: &Versioned<Instance>, moving: &Migration) -> Attempt {
    let mut next = Instance { fault: None, ..idle(&server.value) };
    next.state = VmState::Resized;
    next.power = Some(power_of(moving.was));
    let mut txn = Txn::new();
    txn.replace(server, &next);
    Attempt::Done(txn)
}

/// The server under a higher generation: hosts refuse what this operation ordered before.
pub(crate) fn renew(op: &mut Operation, server: &Versioned<Instance>) -> Txn {
    op.generation += 1;
    let mut txn = Txn::new();
    txn.replace(server, &Instance { generation: op.generation, ..server.value.clone() });
    txn
}

pub(crate) fn power_of(state: VmState) -> PowerState {
    match state {
        VmState::Stopped => PowerState::Shutdown,
        VmState::Paused => PowerState::Paused,
        VmState::Suspended => PowerState::Suspended,
        _ => PowerState::Running,
    }
}
