//! Servers that change their host while they run.

use crate::cloud::api::Plan;
use crate::cloud::api::admin::Admin;
use crate::cloud::api::moves::departing;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::domain::{Action, InstanceId, OpKind, RequestId};
use crate::store::Txn;

impl Admin {
    /// Moves a server to another host while it runs. It stops only for the moment in which the
    /// other host takes over, keeps everything that it has, and nobody has to confirm. A paused
    /// server stays paused.
    ///
    /// Until the other host has taken over, whatever goes wrong leaves the server running where
    /// it was; hosts whose driver cannot do it are among what can go wrong. Afterwards it is on the
    /// other host, and nothing is removed where it was before it was seen there. If the other host
    /// has lost it by then, or is declared down, the server goes back and is started anew from its
    /// disks; while the other host is merely silent, it is waited for.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::Unsuitable`] for a server
    /// with volumes whose driver cannot connect them to two hosts, or whose image is not active.
    pub async fn live_migrate_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "live migrate server", &id, {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            let server = departing(&view, id, &mut txn)?;
            let kind = OpKind::LiveMigrate { instance: id };
            let operation = self.door.occupy(&server, Action::LiveMigrate, kind, &mut txn)?;
            let volumes = &self.door.ports.volumes;
            if volumes.sharing().is_none() && view.volumes_of(id).next().is_some() {
                let reason = format!("{volumes} cannot be used by two hosts");
                return Err(ApiError::Unsuitable { what: format!("server {id}"), reason });
            }
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }
}
