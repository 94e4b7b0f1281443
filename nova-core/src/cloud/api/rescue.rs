//! Servers that do not boot any more: rescued, and unrescued.

use crate::cloud::api::Plan;
use crate::cloud::api::project::Project;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::domain::{Action, ImageId, Instance, InstanceId, OpKind, RequestId};
use crate::store::{Txn, Versioned};

impl Project {
    /// Boots a server from a fresh rescue disk, made of `image` or else of the image that the
    /// server came from, with its own root disk as the second one. It ends
    /// [`Rescued`](crate::domain::VmState::Rescued), running; the image cannot be deleted until
    /// the server is [unrescued](Self::unrescue_server). Where it cannot be rescued it is as it
    /// was, restarted.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::Unsuitable`] for a server
    /// with too little memory for the image, or an image that cannot be used yet.
    pub async fn rescue_server(
        &self,
        request: RequestId,
        id: InstanceId,
        image: Option<ImageId>,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "rescue server", &(id, image), {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let image = image.unwrap_or(instance.value.image);
            let known = view.lend(image, &self.id, &mut txn)?;
            let memory = instance.value.flavor.memory();
            if memory < known.min_memory {
                let what = format!("server {id} for image {image}");
                let reason = format!("{memory} of memory, {} needed", known.min_memory);
                return Err(ApiError::Unsuitable { what, reason });
            }
            let borrowing = Instance { lent: Some(image), ..instance.value.clone() };
            let instance = &Versioned { value: borrowing, revision: instance.revision };
            let kind = OpKind::Rescue { instance: id, image };
            let operation = self.occupy(instance, Action::Rescue, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Boots a rescued server from its own root disk again; the rescue disk is gone.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn unrescue_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "unrescue server", &id, {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let kind = OpKind::Unrescue { instance: id };
            let operation = self.occupy(instance, Action::Unrescue, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }
}
