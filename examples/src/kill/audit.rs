//! Is everything that was acknowledged still there?

use std::collections::BTreeMap;
use std::path::Path;

use nova_core::domain::{OpId, OpState, Operation, ProjectId, RequestId};
use nova_core::store::StoreExt as _;
use nova_core::store::record::{Request, keys};

use super::{Acknowledged, KillError};
use crate::cold::{self, Cold};

/// What became of everything that was acknowledged.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Fates {
    /// Done, at once or as an operation.
    pub done: usize,
    /// Failed, with a reason.
    pub failed: usize,
    /// Still progressing.
    pub open: usize,
}

/// Examines what a process has left behind, and adds what is wrong to `findings`.
pub(super) async fn audit(
    directory: &Path,
    acknowledged: &[Acknowledged],
    findings: &mut Vec<String>,
) -> Result<Fates, KillError> {
    let cold = cold::examine(directory).await?;
    let mut wrong: Vec<String> =
        cold.checkup.findings.iter().map(|finding| format!("left: {finding}")).collect();
    for (host, reason) in &cold.checkup.unasked {
        wrong.push(format!("left: host {host} could not be asked: {reason}"));
    }
    let operations: BTreeMap<OpId, &Operation> =
        cold.snapshot.operations.iter().map(|op| (op.id, op)).collect();
    let mut fates = Fates::default();
    for one in acknowledged {
        match fate(&cold, &operations, one).await {
            Ok(Fate::Done) => fates.done += 1,
            Ok(Fate::Failed) => fates.failed += 1,
            Ok(Fate::Open) => fates.open += 1,
            Err(what) => {
                let Acknowledged { scope, request, .. } = one;
                wrong.push(format!("request {request} of {scope} was acknowledged and {what}"));
            }
        }
    }
    // What stays wrong is found after every kill, and told once.
    wrong.retain(|finding| !findings.contains(finding));
    findings.extend(wrong);
    Ok(fates)
}

enum Fate {
    Done,
    Failed,
    Open,
}

async fn fate(
    cold: &Cold,
    operations: &BTreeMap<OpId, &Operation>,
    one: &Acknowledged,
) -> Result<Fate, String> {
    let unreadable = |error: &dyn std::error::Error| format!("cannot be looked up: {error}");
    let scope: ProjectId = one.scope.parse().map_err(|error| unreadable(&error))?;
    let id: RequestId = one.request.parse().map_err(|error| unreadable(&error))?;
    let known = cold.store.read::<Request>(&keys::request(scope.as_str(), &id)).await;
    if known.map_err(|error| unreadable(&error))?.is_none() {
        return Err("is forgotten".to_owned());
    }
    let Some(operation) = one.operation else { return Ok(Fate::Done) };
    match operations.get(&operation).map(|op| &op.state) {
        None => Err(format!("its operation {operation} is forgotten")),
        Some(OpState::Done) => Ok(Fate::Done),
        Some(OpState::Failed(fault)) if !fault.message.is_empty() => Ok(Fate::Failed),
        Some(OpState::Running | OpState::Undoing(_)) => Ok(Fate::Open),
        Some(other) => Err(format!("its operation {operation} is {other:?}")),
    }
}
