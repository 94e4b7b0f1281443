//! Hosts that are emptied.

use crate::cloud::api::Plan;
use crate::cloud::api::admin::Admin;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::domain::{
    Admission, Host, HostId, Invalid, Liveness, OpId, OpKind, Operation, RequestId,
};
use crate::store::record::{OpenOperation, Record as _, keys};
use crate::store::{StoreExt as _, Txn};

impl Admin {
    /// Empties a host: no new servers come, and those that are there leave, a few at a time. One
    /// that runs is live-migrated where that works, and migrated with an interruption and
    /// confirmed where it does not; one that is stopped stays stopped.
    ///
    /// The operation ends when the host is empty, or [fails](crate::domain::OpState::Failed) when
    /// only servers are left that cannot leave, which its fault names; the host stays disabled.
    /// Its journal tells what was begun. [`enable_host`](Self::enable_host) ends it early.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Invalid`] for a reason longer than 255 bytes or with
    /// control characters; [`ApiError::InUse`] while it is being drained already;
    /// [`ApiError::Unsuitable`] for a host that is down: its servers are
    /// [evacuated](Self::evacuate_server).
    pub async fn drain_host(
        &self,
        request: RequestId,
        id: HostId,
        reason: &str,
    ) -> Result<Accepted<HostId>, ApiError> {
        if reason.len() > 255 || reason.chars().any(char::is_control) {
            let allowed = "at most 255 bytes without control characters";
            return Err(Invalid::new("reason", reason, allowed).into());
        }
        accept!(self, request, "drain host", &(id, reason), {
            let running = self.drain_of(id).await?;
            let mut view = self.door.fresh().await?;
            let hosts = view.hosts(self.door.now(), self.door.options.down_after);
            let down = hosts.get(id).is_none_or(|row| row.liveness == Liveness::Down);
            let host = view.hosts.get(&keys::host(id));
            let host = host.ok_or_else(|| ApiError::not_found("host", id))?;
            if down {
                let reason = "it is down: its servers cannot leave, but be evacuated".to_owned();
                return Err(ApiError::Unsuitable { what: format!("host {id}"), reason });
            }
            if let Some(op) = running {
                let by = format!("drain {op}");
                return Err(ApiError::InUse { what: "host", id: id.to_string(), by });
            }
            let mut txn = Txn::new();
            // Two drains that are asked for at once conflict here.
            txn.replace(
                host,
                &Host {
                    admission: Admission::Disabled,
                    disabled_reason: Some(reason.to_owned()),
                    ..host.value.clone()
                },
            );
            let kind = OpKind::DrainHost { host: id };
            let operation = self.door.begin(None, kind, (0, None), &mut txn);
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Lets new servers come to a host again. A drain of it ends; what is leaving right now goes
    /// on.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn enable_host(&self, request: RequestId, host: HostId) -> Result<(), ApiError> {
        self.set_admission(request, host, Admission::Enabled).await
    }

    /// Waits until an operation of any project, or of none, has ended, however it ended.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn wait(&self, id: OpId) -> Result<Operation, ApiError> {
        self.door.wait(id).await
    }

    /// The drain of a host that has not ended.
    async fn drain_of(&self, host: HostId) -> Result<Option<OpId>, ApiError> {
        let store = &self.door.ports.store;
        for open in store.read_all::<OpenOperation>(&OpenOperation::all()).await? {
            let key = keys::operation(open.value.operation);
            let op = store.read::<Operation>(&key).await?;
            if op.is_some_and(|op| op.value.kind == OpKind::DrainHost { host }) {
                return Ok(Some(open.value.operation));
            }
        }
        Ok(None)
    }
}
