//! Servers that are put aside: shelved, and unshelved.

use crate::cloud::api::Plan;
use crate::cloud::api::images::taken_of;
use crate::cloud::api::project::Project;
use crate::cloud::api::servers::not_on_volume;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::domain::{Action, ImageId, InstanceId, Label, OpKind, RequestId};
use crate::store::Txn;

impl Project {
    /// Puts a server aside: it is shut down, its root disk becomes an image, and its host gets
    /// back everything that it took there. It ends
    /// [`ShelvedOffloaded`](crate::domain::VmState::ShelvedOffloaded).
    ///
    /// It keeps its addresses, its volumes, which no host has meanwhile, and its floating IPs,
    /// which lead nowhere meanwhile. It still counts against the quota. What is on its ephemeral
    /// and swap disks is lost. Where it cannot be shelved it goes on as it was; one that was
    /// paused is stopped.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::OnVolume`] for a server whose
    /// root disk is a volume.
    pub async fn shelve_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        let image = self.door.draw(ImageId::draw);
        accept!(self, request, "shelve server", &id, {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let instead = "so that its host has no disk to put aside: delete the server, \
                           and boot another from the volume";
            not_on_volume(&instance.value, "shelve", instead)?;
            let kind = OpKind::Shelve { instance: id, image };
            let operation = self.occupy(instance, Action::Shelve, kind, &mut txn)?;
            let name = Label::new(format!("{}-shelved", instance.value.name));
            let name = name.or_else(|_| Label::new("shelved"))?;
            txn.create(&taken_of(&view, &instance.value, image, name));
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Brings a shelved server back, running, to whichever host has room for it now, and removes
    /// the image that its disk was in. Where no host takes it, it stays shelved, with the reason
    /// in its fault.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn unshelve_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "unshelve server", &id, {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let image = instance.value.shelf.unwrap_or(instance.value.image);
            let kind = OpKind::Unshelve { instance: id, image };
            let operation = self.occupy(instance, Action::Unshelve, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }
}
