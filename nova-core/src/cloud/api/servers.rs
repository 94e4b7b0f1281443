//! What a project may do with servers.

use crate::cloud::accept;
use crate::cloud::api::project::Project;
use crate::cloud::api::specs::{BootSource, ServerSpec};
use crate::cloud::api::views::Accepted;
use crate::cloud::api::{Door, Plan};
use crate::cloud::error::ApiError;
use crate::cloud::question::devices;
use crate::cloud::view::View;
use crate::domain::{
    Action, Flavor, Image, Instance, InstanceId, Invalid, KeyPair, OpKind, Reboot, RequestId,
    TaskState, TraitName, VmState, Volume, VolumeId, VolumeState,
};
use crate::store::record::{Ledger, keys};
use crate::store::{StoreExt as _, Txn, Versioned};

impl Project {
    /// Asks for a server.
    ///
    /// The answer comes as soon as the request is safe; the server then goes through the
    /// operation's steps. Where no host can take it, the operation fails and the server is left
    /// in [`VmState::Error`] with the reason in its fault.
    ///
    /// One that boots from a volume has it from now on: the volume is its root disk, for which its
    /// host gives no room, whatever the flavor says, and cannot be detached. It is available again
    /// when the server is deleted, or could not be made.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for anything the spec names and the project may not use,
    /// [`ApiError::VolumeState`] for a volume that is not available, [`ApiError::Unsuitable`] for
    /// one that was not made of an image, or a flavor too small for the image, [`ApiError::Invalid`] for an
    /// image that contradicts what the flavor says of NUMA cells, [`ApiError::OverQuota`],
    /// [`ApiError::Network`] when the pool has no floating IP left.
    pub async fn create_server(
        &self,
        request: RequestId,
        spec: &ServerSpec,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        if spec.networks.len() > ServerSpec::NETWORKS_MAX {
            let count = spec.networks.len();
            return Err(Invalid::new("server.networks", count, "at most 16").into());
        }
        let id = self.door.draw(InstanceId::draw);
        accept!(self, request, "create server", spec, {
            let key_pair = match &spec.key_pair {
                Some(name) => {
                    let key = keys::key_pair(&self.id, name);
                    let pair = self.door.ports.store.read::<KeyPair>(&key).await?;
                    Some(pair.ok_or_else(|| ApiError::not_found("key pair", name))?.value)
                }
                None => None,
            };
            let mut txn = Txn::new();
            self.touch(&*self.door.fresh().await?, &mut txn);
            if let Some(pool) = &spec.floating_pool {
                txn.merge(self.draft_floating_ip(pool, Some(id)).await?.txn);
            }
            let view = self.door.fresh().await?;
            let mut instance = self.instance(&view, id, spec, &mut txn)?;
            instance.key_pair = key_pair;
            let wanted = instance.flavor.resources();
            view.quota(&self.id).admits_servers(view.usage(&self.id), 1, wanted)?;
            if let Some(group) = spec.group {
                // The group cannot go away while somebody joins it.
                let ledger = Ledger::for_group(group);
                txn.touch(view.ledger(&keys::group_ledger(group)), &ledger);
            }
            let kind = OpKind::CreateServer { instance: id, root: instance.root };
            let operation =
                self.door.begin(Some(&self.id), kind, (instance.generation, None), &mut txn);
            instance.operation = Some(operation);
            if let Some(root) = instance.root {
                let volume = self.own_volume(&view, root)?;
                let next = Volume {
                    state: VolumeState::Attaching,
                    operation: Some(operation),
                    root_of: Some(id),
                    ..volume.value.clone()
                };
                txn.replace(volume, &next);
            }
            txn.create(&instance);
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// The record of a new server, if everything that the spec names is there.
    fn instance(
        &self,
        view: &View,
        id: InstanceId,
        spec: &ServerSpec,
        txn: &mut Txn,
    ) -> Result<Instance, ApiError> {
        let flavor = view.flavors.get(&keys::flavor(&spec.flavor));
        let flavor = flavor.ok_or_else(|| ApiError::not_found("flavor", &spec.flavor))?;
        let mut flavor = flavor.value.clone();
        let (image, lent, root) = match spec.boot {
            BootSource::Image(image) => (view.lend(image, &self.id, txn)?, Some(image), None),
            BootSource::Volume(volume) => {
                flavor = flavor.without_root_disk();
                (bootable(&self.own_volume(view, volume)?.value)?, None, Some(volume))
            }
        };
        self.door.boots(&flavor, image)?;
        for network in &spec.networks {
            let known = view.networks.get(&keys::network(*network)).map(|known| &known.value);
            let mine = |owner: &crate::domain::ProjectId| *owner == self.id;
            if !known.is_some_and(|known| known.project.as_ref().is_none_or(mine)) {
                return Err(ApiError::not_found("network", network));
            }
        }
        if let Some(group) = spec.group {
            let known = view.groups.get(&keys::group(group));
            let known = known.filter(|known| known.value.project == self.id);
            let known = known.ok_or_else(|| ApiError::not_found("server group", group))?;
            // Nor may it have gone away by now: before its first member it has no ledger.
            txn.unchanged(known);
        }
        spec.hints.check()?;
        let scheduler = &self.door.ports.scheduler;
        let mut custom = spec.hints.custom.iter();
        custom.try_for_each(|(name, words)| scheduler.check_hint(name, words))?;
        let hinted = spec.hints.same_host.iter().chain(&spec.hints.different_host);
        for other in hinted {
            self.own(view, *other)?;
        }
        Ok(Instance {
            id,
            project: self.id.clone(),
            name: spec.name.clone(),
            flavor,
            image: image.id,
            root,
            key_pair: None,
            zone: spec.zone.clone(),
            group: spec.group,
            hints: spec.hints.clone(),
            networks: spec.networks.clone(),
            security_groups: self.groups_of(view, spec, txn)?,
            user_data: spec.user_data.clone(),
            state: VmState::Building,
            task: Some(TaskState::Scheduling),
            operation: None,
            generation: 1,
            power: None,
            host: None,
            migration: None,
            shelf: None,
            rescue: None,
            lent,
            boots: 0,
            fault: None,
            created_at: self.door.now(),
            launched_at: None,
        })
    }

    /// A server of this project.
    pub(crate) fn own<'a>(
        &self,
        view: &'a View,
        id: InstanceId,
    ) -> Result<&'a Versioned<Instance>, ApiError> {
        let own = view.instances.get(&keys::instance(id));
        let own = own.filter(|instance| instance.value.project == self.id);
        own.ok_or_else(|| ApiError::not_found("server", id))
    }

    /// Starts a server that is stopped.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn start(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Start).await
    }

    /// Stops a server; its disks, addresses and claims stay.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn stop(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Stop).await
    }

    /// Restarts a server. By force it may interrupt an operation that hangs.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn reboot(
        &self,
        request: RequestId,
        id: InstanceId,
        how: Reboot,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Reboot(how)).await
    }

    /// Freezes a server in memory.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn pause(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Pause).await
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn unpause(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Unpause).await
    }

    /// Puts the memory of a server on its host's disk and lets it go on from there when it is
    /// [resumed](Self::resume), also after its host was switched off meanwhile.
    ///
    /// Until then it keeps its claim, its addresses and its volumes, but volumes are neither
    /// attached nor detached, and it is neither resized nor moved, because what is in its memory
    /// counts on what it has. A reboot by force gives the memory up.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn suspend(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Suspend).await
    }

    /// Lets a suspended server go on where it was.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn resume(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Resume).await
    }

    /// Deletes a server, in whatever state it is, with everything that only it had. Volumes, also
    /// the one that it booted from, and floating IPs are its project's, and stay, but for floating
    /// IPs that came
    /// [with it](ServerSpec::with_floating_ip).
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn delete_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        self.act(request, id, Action::Delete).await
    }

    async fn act(
        &self,
        request: RequestId,
        id: InstanceId,
        action: Action,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "act on server", &(id, action), {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let kind = match action {
                Action::Delete => OpKind::DeleteServer { instance: id },
                _ => OpKind::Power { instance: id, action },
            };
            let mut txn = Txn::new();
            let operation = self.occupy(instance, action, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Begins an operation on a server, if its state allows it.
    pub(crate) fn occupy(
        &self,
        instance: &Versioned<Instance>,
        action: Action,
        kind: OpKind,
        txn: &mut Txn,
    ) -> Result<crate::domain::OpId, ApiError> {
        self.door.occupy(instance, action, kind, txn)
    }
}

impl Door {
    /// Begins an operation on a server of any project, if its state allows it.
    pub(crate) fn occupy(
        &self,
        instance: &Versioned<Instance>,
        action: Action,
        kind: OpKind,
        txn: &mut Txn,
    ) -> Result<crate::domain::OpId, ApiError> {
        let operation = self.draw(crate::domain::OpId::draw);
        accept::occupy(operation, instance, action, kind, self.now(), txn)?;
        Ok(operation)
    }

    /// Whether a server of this flavor can start from this image.
    pub(crate) fn boots(&self, flavor: &Flavor, image: &Image) -> Result<(), ApiError> {
        fits(flavor, image)?;
        devices(flavor, &image.properties, &self.options.pci_aliases)?;
        flavor.classes()?;
        Ok(TraitName::check_wishes(flavor, &image.properties)?)
    }
}

/// The image that a volume was made of from which a server is to boot.
fn bootable(volume: &Volume) -> Result<&Image, ApiError> {
    if volume.state != VolumeState::Available {
        let (id, action) = (volume.id.to_string(), "boot from it");
        return Err(ApiError::VolumeState { id, action, state: volume.state });
    }
    volume.image.as_deref().ok_or_else(|| ApiError::Unsuitable {
        what: format!("volume {}", volume.id),
        reason: "no server boots from a volume that was not made of an image".to_owned(),
    })
}

/// Refuses what a server cannot have done to it because its root disk is a volume.
pub(crate) fn not_on_volume(
    server: &Instance,
    action: &'static str,
    instead: &'static str,
) -> Result<(), ApiError> {
    let Some(volume) = server.root else { return Ok(()) };
    let (id, volume) = (server.id.to_string(), VolumeId::to_string(&volume));
    Err(ApiError::OnVolume { id, action, volume, instead })
}

/// Whether this image fits into a server of this flavor.
fn fits(flavor: &Flavor, image: &Image) -> Result<(), ApiError> {
    let unsuitable = |reason: String| ApiError::Unsuitable {
        what: format!("flavor {} for image {}", flavor.name(), image.name),
        reason,
    };
    let (memory, disk) = (flavor.memory(), flavor.root_disk());
    if memory < image.min_memory {
        return Err(unsuitable(format!("{memory} of memory, {} needed", image.min_memory)));
    }
    if disk < image.min_disk && disk.0 > 0 {
        return Err(unsuitable(format!("{disk} of root disk, {} needed", image.min_disk)));
    }
    if disk.0 > 0 && image.content.size_bytes > disk.to_bytes() {
        let size = image.content.size_bytes;
        return Err(unsuitable(format!("{disk} of root disk, the image has {size} bytes")));
    }
    Ok(())
}
