//! What a project may do with volumes and floating IPs.

use std::net::IpAddr;

use crate::cloud::api::Plan;
use crate::cloud::api::project::Project;
use crate::cloud::api::servers::not_on_volume;
use crate::cloud::api::specs::VolumeSpec;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::cloud::view::View;
use crate::domain::{
    Action, AddressState, Attachment, FloatingIp, FloatingOwner, Image, ImageFormat, ImageId,
    InstanceId, OpId, OpKind, Operation, PoolName, Quantum, RequestId, VmState, Volume, VolumeId,
    VolumeState,
};
use crate::port::FloatingRequest;
use crate::store::record::keys;
use crate::store::{Draft, StoreExt as _, Txn, Versioned};

impl Project {
    /// Makes a volume, empty or of an image. From one that was made of an image a server can
    /// [boot](crate::cloud::BootSource::Volume).
    ///
    /// # Errors
    /// [`ApiError::OverQuota`]; [`ApiError::NotFound`] for the image, [`ApiError::Unsuitable`] for
    /// one that cannot be used yet, that is larger than the volume or no disk, and where the volume
    /// driver makes none of images.
    pub async fn create_volume(
        &self,
        request: RequestId,
        spec: &VolumeSpec,
    ) -> Result<Accepted<VolumeId>, ApiError> {
        let id = self.door.draw(VolumeId::draw);
        accept!(self, request, "create volume", spec, {
            let view = self.door.fresh().await?;
            let mine = view.volumes.values().filter(|volume| volume.value.project == self.id);
            let (count, size) = mine.fold((0, 0_u64), |(count, size), volume| {
                (count + 1, size.saturating_add(volume.value.size.get().0))
            });
            let quota = view.quota(&self.id);
            quota.admits(Quantum::Volumes, count, 1)?;
            quota.admits(Quantum::VolumeStorage, size, spec.size.get().0)?;
            let mut txn = Txn::new();
            self.touch(&view, &mut txn);
            let image = match spec.image {
                Some(image) => Some(Box::new(self.filling(&view, spec, image, &mut txn)?)),
                None => None,
            };
            let kind = OpKind::CreateVolume { volume: id };
            let operation = self.door.begin(Some(&self.id), kind, (0, None), &mut txn);
            txn.create(&Volume {
                id,
                project: self.id.clone(),
                name: spec.name.clone(),
                size: spec.size,
                state: VolumeState::Creating,
                attachment: None,
                operation: Some(operation),
                image,
                root_of: None,
            });
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// The image of which a volume is to be made.
    fn filling(
        &self,
        view: &View,
        spec: &VolumeSpec,
        image: ImageId,
        txn: &mut Txn,
    ) -> Result<Image, ApiError> {
        let image = view.lend(image, &self.id, txn)?;
        let what = format!("image {} for volume {}", image.id, spec.name);
        let refuse = |reason: String| Err(ApiError::Unsuitable { what, reason });
        let volumes = &self.door.ports.volumes;
        let (size, bytes) = (spec.size.get(), image.content.size_bytes);
        if volumes.filling().is_none() {
            return refuse(format!("{volumes} are not made of images"));
        }
        if image.format == ImageFormat::RootfsTar {
            return refuse("it is an archive and no disk".to_owned());
        }
        if size < image.min_disk || bytes > size.to_bytes() {
            let least = image.min_disk;
            return refuse(format!(
                "it has {bytes} bytes and needs {least}, the volume has {size}"
            ));
        }
        Ok(image.clone())
    }

    /// Destroys a volume.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::VolumeState`] while a server has it.
    pub async fn delete_volume(
        &self,
        request: RequestId,
        id: VolumeId,
    ) -> Result<Accepted<VolumeId>, ApiError> {
        accept!(self, request, "delete volume", &id, {
            let view = self.door.fresh().await?;
            let volume = self.own_volume(&view, id)?;
            if !matches!(volume.value.state, VolumeState::Available | VolumeState::Error) {
                return Err(in_state(&volume.value, "delete"));
            }
            let mut txn = Txn::new();
            let kind = OpKind::DeleteVolume { volume: id };
            let operation = self.door.begin(Some(&self.id), kind, (0, None), &mut txn);
            let next = Volume {
                state: VolumeState::Deleting,
                operation: Some(operation),
                ..volume.value.clone()
            };
            txn.replace(volume, &next);
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Gives a volume to a server.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for either; [`ApiError::ServerState`]; [`ApiError::VolumeState`]
    /// unless it is available.
    pub async fn attach_volume(
        &self,
        request: RequestId,
        server: InstanceId,
        id: VolumeId,
    ) -> Result<Accepted<VolumeId>, ApiError> {
        accept!(self, request, "attach volume", &(server, id), {
            let view = self.door.fresh().await?;
            let volume = self.own_volume(&view, id)?;
            let instance = self.own(&view, server)?;
            if volume.value.state != VolumeState::Available {
                return Err(in_state(&volume.value, "attach"));
            }
            let mut txn = Txn::new();
            let kind = OpKind::AttachVolume { instance: server, volume: id };
            let operation = self.occupy(instance, Action::AttachVolume, kind, &mut txn)?;
            let host = instance.value.host;
            let next = Volume {
                state: VolumeState::Attaching,
                attachment: host.map(|host| Attachment { instance: server, host }),
                operation: Some(operation),
                ..volume.value.clone()
            };
            txn.replace(volume, &next);
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Takes a volume from its server. It is free when the host has confirmed that it let go.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::ServerState`]; [`ApiError::VolumeState`] unless it is
    /// in use; [`ApiError::OnVolume`] for the root disk of a server.
    pub async fn detach_volume(
        &self,
        request: RequestId,
        id: VolumeId,
    ) -> Result<Accepted<VolumeId>, ApiError> {
        accept!(self, request, "detach volume", &id, {
            let view = self.door.fresh().await?;
            let volume = self.own_volume(&view, id)?;
            let (VolumeState::InUse, Some(attachment)) =
                (volume.value.state, volume.value.attachment)
            else {
                return Err(in_state(&volume.value, "detach"));
            };
            let instance = self.own(&view, attachment.instance)?;
            if volume.value.root_of.is_some() {
                let instead = "which stays as long as the server";
                not_on_volume(&instance.value, "detach it", instead)?;
            }
            let mut txn = Txn::new();
            let kind = OpKind::DetachVolume { instance: attachment.instance, volume: id };
            let operation = self.occupy(instance, Action::DetachVolume, kind, &mut txn)?;
            let next = Volume {
                state: VolumeState::Detaching,
                operation: Some(operation),
                ..volume.value.clone()
            };
            txn.replace(volume, &next);
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    pub(crate) fn own_volume<'a>(
        &self,
        view: &'a View,
        id: VolumeId,
    ) -> Result<&'a Versioned<Volume>, ApiError> {
        let own = view.volumes.get(&keys::volume(id));
        let own = own.filter(|volume| volume.value.project == self.id);
        own.ok_or_else(|| ApiError::not_found("volume", id))
    }

    /// Its floating IPs, sorted by address.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn floating_ips(&self) -> Result<Vec<FloatingIp>, ApiError> {
        let view = self.door.fresh().await?;
        let mine = view.floating_ips.values().map(|floating| &floating.value);
        Ok(mine.filter(|floating| self.holds(floating)).cloned().collect())
    }

    fn holds(&self, floating: &FloatingIp) -> bool {
        matches!(&floating.state, AddressState::Owned(owner) if owner.project == self.id)
    }

    fn own_floating<'a>(
        &self,
        view: &'a View,
        address: IpAddr,
    ) -> Result<(&'a Versioned<FloatingIp>, &'a FloatingOwner), ApiError> {
        let known = view.floating_ips.get(&keys::floating_ip(address));
        known
            .and_then(|known| match &known.value.state {
                AddressState::Owned(owner) if owner.project == self.id => Some((known, owner)),
                _ => None,
            })
            .ok_or_else(|| ApiError::not_found("floating IP", address))
    }

    /// Begins an operation on a floating IP. It goes after the one that was accepted before it,
    /// so that the last word is the one that stays.
    fn lead(
        &self,
        (known, owner): (&Versioned<FloatingIp>, &FloatingOwner),
        kind: OpKind,
        txn: &mut Txn,
    ) -> OpId {
        let operation = self.door.begin(Some(&self.id), kind, (0, owner.operation), txn);
        let owner = FloatingOwner { operation: Some(operation), ..owner.clone() };
        let state = AddressState::Owned(owner);
        txn.replace(known, &FloatingIp { state, ..known.value.clone() });
        operation
    }

    /// Takes an address from a pool.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for the pool, [`ApiError::OverQuota`], [`ApiError::Network`] when
    /// the pool is empty.
    pub async fn allocate_floating_ip(
        &self,
        request: RequestId,
        pool: &PoolName,
    ) -> Result<IpAddr, ApiError> {
        accept!(self, request, "allocate floating IP", pool, {
            let mut txn = Txn::new();
            self.touch(&*self.door.fresh().await?, &mut txn);
            let draft = self.draft_floating_ip(pool, None).await?;
            txn.merge(draft.txn);
            Ok(Plan::now(draft.value.address, txn))
        })
    }

    /// An address of a pool for the project, or for a new server of its, within its quota. The
    /// project has to be touched before: what is counted here must not be older.
    pub(crate) async fn draft_floating_ip(
        &self,
        pool: &PoolName,
        server: Option<InstanceId>,
    ) -> Result<Draft<FloatingIp>, ApiError> {
        {
            let view = self.door.fresh().await?;
            let held = view.floating_ips.values().filter(|f| self.holds(&f.value)).count();
            view.quota(&self.id).admits(Quantum::FloatingIps, held as u64, 1)?;
        }
        let request = FloatingRequest { project: self.id.clone(), pool: pool.clone(), server };
        Ok(self.door.floating()?.allocate(&request).await?)
    }

    /// Gives an address back.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Network`] while it leads to a server;
    /// [`ApiError::InUse`] while an operation works on it.
    pub async fn release_floating_ip(
        &self,
        request: RequestId,
        address: IpAddr,
    ) -> Result<(), ApiError> {
        accept!(self, request, "release floating IP", &address, {
            let mut txn = Txn::new();
            {
                let view = self.door.fresh().await?;
                let (known, owner) = self.own_floating(&view, address)?;
                if let Some(operation) = owner.operation {
                    let key = keys::operation(operation);
                    let op = self.door.ports.store.read::<Operation>(&key).await?;
                    if op.is_some_and(|op| !op.value.state.is_final()) {
                        let (id, by) = (address.to_string(), format!("operation {operation}"));
                        return Err(ApiError::InUse { what: "floating IP", id, by });
                    }
                }
                // An operation that is accepted meanwhile conflicts.
                txn.unchanged(known);
                self.touch(&view, &mut txn);
            }
            let draft = self.door.floating()?.release(address).await?;
            txn.merge(draft.txn);
            Ok(Plan::now((), txn))
        })
    }

    /// Leads an address to a server, from wherever it led before: this is how it moves.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for either; [`ApiError::ServerState`] for a server that has no host
    /// or is being deleted; [`ApiError::Unsuitable`] for one without address.
    pub async fn associate_floating_ip(
        &self,
        request: RequestId,
        address: IpAddr,
        server: InstanceId,
    ) -> Result<Accepted<IpAddr>, ApiError> {
        accept!(self, request, "associate floating IP", &(address, server), {
            let view = self.door.fresh().await?;
            let floating = self.own_floating(&view, address)?;
            let instance = self.own(&view, server)?;
            let settled = [VmState::Active, VmState::Paused, VmState::Suspended, VmState::Stopped];
            let deleting = instance.value.task == Some(Action::Delete.task());
            if !settled.contains(&instance.value.state) || deleting {
                return Err(ApiError::Unsuitable {
                    what: format!("server {server}"),
                    reason: format!("it is {}", instance.value.state),
                });
            }
            if view.ports_of(server).next().is_none() {
                return Err(ApiError::Unsuitable {
                    what: format!("server {server}"),
                    reason: "it has no address that a floating IP could stand for".to_owned(),
                });
            }
            let mut txn = Txn::new();
            let kind = OpKind::AssociateFloating { address, instance: server };
            let operation = self.lead(floating, kind, &mut txn);
            Ok(Plan { answer: Accepted { id: address, operation }, txn, wake: Some(operation) })
        })
    }

    /// Lets an address lead nowhere; it stays the project's.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn disassociate_floating_ip(
        &self,
        request: RequestId,
        address: IpAddr,
    ) -> Result<Accepted<IpAddr>, ApiError> {
        accept!(self, request, "disassociate floating IP", &address, {
            let view = self.door.fresh().await?;
            let floating = self.own_floating(&view, address)?;
            let mut txn = Txn::new();
            let kind = OpKind::DisassociateFloating { address };
            let operation = self.lead(floating, kind, &mut txn);
            Ok(Plan { answer: Accepted { id: address, operation }, txn, wake: Some(operation) })
        })
    }
}

fn in_state(volume: &Volume, action: &'static str) -> ApiError {
    ApiError::VolumeState { id: volume.id.to_string(), action, state: volume.state }
}
