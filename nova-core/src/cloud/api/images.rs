//! Images: registered, taken of servers, lent to operations, deleted.

use crate::cloud::api::admin::{Admin, SCOPE};
use crate::cloud::api::project::Project;
use crate::cloud::api::servers::not_on_volume;
use crate::cloud::api::specs::ImageSpec;
use crate::cloud::api::upload::receive;
use crate::cloud::api::views::Accepted;
use crate::cloud::api::{ACCEPT_ATTEMPTS_MAX, Door, Plan};
use crate::cloud::error::{ApiError, Overload};
use crate::cloud::view::{View, reach};
use crate::domain::{
    Action, Image, ImageContent, ImageFormat, ImageId, ImageState, Instance, InstanceId, Label,
    MiB, OpKind, ProjectId, RequestId, Volume, VolumeState,
};
use crate::port::ImageBytes;
use crate::seed::Seed;
use crate::store::record::keys;
use crate::store::{StoreError, StoreExt as _, Txn, Versioned};

impl Admin {
    /// Takes the bytes of an image, measures them and registers it.
    ///
    /// The same request id names the same image, so that a registration that was cut short is
    /// finished by asking again; the bytes that had arrived completely are used.
    ///
    /// # Errors
    /// [`ApiError::Image`] when the bytes could not be read or kept, or are more than
    /// [`transfer_limit`](crate::cloud::CloudOptions::transfer_limit).
    pub async fn register_image(
        &self,
        request: RequestId,
        spec: &ImageSpec,
        bytes: ImageBytes,
    ) -> Result<ImageId, ApiError> {
        let images = &self.door.ports.images;
        let seed = Seed::new(0).child("image").child(request.as_str());
        let id = ImageId::draw(&mut seed.chance());
        let write = self.door.write(SCOPE, request, "register image", spec)?;
        if let Some(answer) = write.known().await? {
            return Ok(answer);
        }
        let content = receive(&**images, id, bytes, self.door.options.transfer_limit).await;
        let content = content.map_err(|source| ApiError::Image { source })?;
        accept!(self, write, {
            let view = self.door.fresh().await?;
            if view.images.contains_key(&keys::image(id)) {
                return Err(ApiError::Exists { what: "image", id: id.to_string() });
            }
            let mut txn = Txn::new();
            txn.create(&Image {
                id,
                name: spec.name.clone(),
                owner: spec.owner.clone(),
                format: spec.format,
                content: content.clone(),
                min_memory: spec.min_memory,
                min_disk: spec.min_disk,
                properties: spec.properties.clone(),
                state: ImageState::Active,
                server: None,
            });
            Ok(Plan::now(id, txn))
        })
    }

    /// Removes an image. Servers that were made from it stay.
    ///
    /// While it is being removed nothing new can use it. The record goes first, the bytes second.
    /// A removal that was cut short is finished by asking again with the same request id.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::InUse`] while an operation on a server needs it, or
    /// makes it.
    pub async fn delete_image(&self, request: RequestId, id: ImageId) -> Result<(), ApiError> {
        let removed: Result<(), ApiError> =
            accept!(self, request, "delete image", &id, { self.door.remove_image(id, None).await });
        removed?;
        self.door.ports.images.remove(id).await.map_err(|source| ApiError::Image { source })
    }
}

impl Project {
    /// Takes an image of a server's root disk, with what is written on it now. The image belongs
    /// to the project, and can be used as soon as the operation is done; until then it is
    /// [`Saving`](ImageState::Saving). The server goes on as it is.
    ///
    /// A snapshot that fails, or whose server is deleted meanwhile, leaves no image. Volumes and
    /// other disks are not in the image.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn snapshot_server(
        &self,
        request: RequestId,
        id: InstanceId,
        name: &Label,
    ) -> Result<Accepted<ImageId>, ApiError> {
        let image = self.door.draw(ImageId::draw);
        accept!(self, request, "snapshot server", &(id, name), {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let instead = "which holds all that an image would: stop the server and copy it";
            not_on_volume(&instance.value, "take an image", instead)?;
            let kind = OpKind::Snapshot { instance: id, image };
            let operation = self.occupy(instance, Action::Snapshot, kind, &mut txn)?;
            txn.create(&taken_of(&view, &instance.value, image, name.clone()));
            let answer = Accepted { id: image, operation };
            Ok(Plan { answer, txn, wake: Some(operation) })
        })
    }

    /// Removes an image that belongs to the project alone, as
    /// [`Admin::delete_image`] does.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], also for an image of others or of everybody;
    /// [`ApiError::InUse`] while an operation on a server needs it, or makes it.
    pub async fn delete_image(&self, request: RequestId, id: ImageId) -> Result<(), ApiError> {
        let removed: Result<(), ApiError> = accept!(self, request, "delete image", &id, {
            self.door.remove_image(id, Some(&self.id)).await
        });
        removed?;
        self.door.ports.images.remove(id).await.map_err(|source| ApiError::Image { source })
    }
}

/// The record of an image that is about to be taken of a server.
pub(crate) fn taken_of(view: &View, server: &Instance, id: ImageId, name: Label) -> Image {
    // The image that the server came from may be gone.
    let origin = view.images.get(&keys::image(server.image)).map(|image| &image.value);
    Image {
        id,
        name,
        owner: Some(server.project.clone()),
        format: origin.map_or(ImageFormat::Raw, |origin| origin.format.on_hosts()),
        content: ImageContent::none(),
        min_memory: origin.map_or(MiB::ZERO, |origin| origin.min_memory),
        min_disk: server.flavor.root_disk(),
        properties: origin.map(|origin| origin.properties.clone()).unwrap_or_default(),
        state: ImageState::Saving,
        server: Some(server.id),
    }
}

impl View {
    /// An image that servers of `project` may start from, guarded so that nobody deletes it
    /// before the plan is committed. The server's record has to name it as
    /// [`lent`](Instance::lent), so that nobody deletes it afterwards.
    pub(crate) fn lend(
        &self,
        id: ImageId,
        project: &ProjectId,
        txn: &mut Txn,
    ) -> Result<&Image, ApiError> {
        let image = self.images.get(&keys::image(id));
        let image = image.filter(|i| i.value.owner.as_ref().is_none_or(|owner| owner == project));
        let image = image.ok_or_else(|| ApiError::not_found("image", id))?;
        let state = image.value.state;
        if state != ImageState::Active {
            let (what, reason) = (format!("image {id}"), format!("it is {state}"));
            return Err(ApiError::Unsuitable { what, reason });
        }
        txn.unchanged(image);
        Ok(&image.value)
    }

    /// Who needs an image, if anybody does.
    fn user_of(&self, image: &Image) -> Option<String> {
        let (saving, shelved) = (ImageState::Saving, ImageState::Shelved);
        let making = image.server.filter(|_| [saving, shelved].contains(&image.state));
        let making = making.map(|server| format!("server {server}, whose disk it is"));
        making.or_else(|| {
            let uses = |server: &&Versioned<Instance>| {
                [server.value.lent, server.value.rescue].contains(&Some(image.id))
            };
            let server = self.instances.values().find(uses);
            let of = |volume: &&Versioned<Volume>| {
                let made = volume.value.image.as_ref().is_some_and(|of| of.id == image.id);
                made && volume.value.state == VolumeState::Creating
            };
            let server = server.map(|server| format!("server {}", server.value.id));
            server.or_else(|| {
                let volume = self.volumes.values().find(of)?;
                Some(format!("volume {}, which is being made of it", volume.value.id))
            })
        })
    }
}

impl Door {
    /// Plans the removal of an image. It is marked first: who began to use it before that is seen
    /// when the mark is, and nobody begins afterwards.
    async fn remove_image(
        &self,
        id: ImageId,
        owner: Option<&ProjectId>,
    ) -> Result<Plan<()>, ApiError> {
        let key = keys::image(id);
        for _ in 0..ACCEPT_ATTEMPTS_MAX {
            let image = self.ports.store.read::<Image>(&key).await?;
            let mine =
                |image: &Versioned<Image>| owner.is_none() || image.value.owner.as_ref() == owner;
            let image = image.filter(mine).ok_or_else(|| ApiError::not_found("image", id))?;
            let user = {
                let (clock, limit) = (&*self.ports.clock, self.options.order_limit);
                let view = reach(&self.view, image.revision, clock, limit).await?;
                let Some(view) = view else { continue };
                view.user_of(&image.value)
            };
            let marked = image.value.state == ImageState::Deleting;
            let state = match (marked, &user) {
                (true, None) => {
                    let mut txn = Txn::new();
                    txn.remove(&image);
                    return Ok(Plan::now((), txn));
                }
                (false, Some(_)) => None,
                (true, Some(_)) => Some(ImageState::Active),
                (false, None) => Some(ImageState::Deleting),
            };
            if let Some(state) = state {
                let mut txn = Txn::new();
                txn.replace(&image, &Image { state, ..image.value.clone() });
                match self.ports.store.commit(txn).await {
                    Ok(_) => {}
                    Err(StoreError::Conflict { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(by) = user {
                return Err(ApiError::InUse { what: "image", id: id.to_string(), by });
            }
        }
        Err(Overload::Conflicts { attempts: ACCEPT_ATTEMPTS_MAX, key: key.to_string() }.into())
    }
}
