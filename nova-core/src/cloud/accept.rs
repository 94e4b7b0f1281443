//! How an operation begins: its record, and the hold that it takes on its server.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::cloud::error::ApiError;
use crate::cloud::steps::STEPS_VERSION;
use crate::domain::{
    Action, Flavor, Instance, Migration, OpId, OpKind, OpState, Operation, ProjectId,
};
use crate::store::record::OpenOperation;
use crate::store::{Txn, Versioned};

/// The record of a new operation, put into `txn`.
pub(crate) fn begin(
    id: OpId,
    project: Option<&ProjectId>,
    kind: OpKind,
    (generation, after): (u64, Option<OpId>),
    now: Timestamp,
    txn: &mut Txn,
) {
    txn.create(&OpenOperation { operation: id }).create(&Operation {
        id,
        project: project.cloned(),
        kind,
        steps_version: STEPS_VERSION,
        state: OpState::Running,
        step: 0,
        attempts: 0,
        generation,
        after,
        tried: BTreeSet::new(),
        settle: Vec::new(),
        unheard: BTreeSet::new(),
        led: None,
        journal: Vec::new(),
        accepted_at: now,
        ended_at: None,
    });
}

/// Begins an operation on a server of any project, if its state allows it.
pub(crate) fn occupy(
    id: OpId,
    instance: &Versioned<Instance>,
    action: Action,
    kind: OpKind,
    now: Timestamp,
    txn: &mut Txn,
) -> Result<(), ApiError> {
    let Instance { id: server, state, task, .. } = instance.value;
    let anywhere = matches!(action, Action::Delete | Action::Unshelve);
    let no_host = !anywhere && instance.value.host.is_none();
    if !action.is_allowed(state, task) || no_host {
        return Err(ApiError::ServerState { id: server.to_string(), action, state, task });
    }
    let generation = instance.value.generation + 1;
    let after = instance.value.operation;
    begin(id, Some(&instance.value.project), kind, (generation, after), now, txn);
    let next = Instance {
        generation,
        task: Some(action.task()),
        operation: Some(id),
        ..instance.value.clone()
    };
    txn.replace(instance, &next);
    Ok(())
}

/// The beginning of a move. A server in the middle of one keeps that, and is refused for its
/// state.
pub(crate) fn leaving(instance: &Instance, new_flavor: Flavor) -> Option<Migration> {
    let moving = instance.host.map(|from| Migration {
        from,
        to: None,
        old_flavor: instance.flavor.clone(),
        new_flavor,
        was: instance.state,
    });
    instance.migration.clone().or(moving)
}
