//! Servers that change their host.

use crate::cloud::accept::leaving;
use crate::cloud::api::Plan;
use crate::cloud::api::admin::Admin;
use crate::cloud::api::project::Project;
use crate::cloud::api::servers::not_on_volume;
use crate::cloud::api::views::Accepted;
use crate::cloud::error::ApiError;
use crate::cloud::question::image_of;
use crate::cloud::view::View;
use crate::domain::{
    Action, Flavor, FlavorName, GuestTopology, HostId, Image, ImageId, Instance, InstanceId,
    Liveness, OpKind, RequestId,
};
use crate::store::record::keys;
use crate::store::{Txn, Versioned};

impl Project {
    /// Moves a server to another host, where it gets another flavor. It is shut down meanwhile,
    /// and keeps its disks, addresses and volumes.
    ///
    /// It ends [`Resized`](crate::domain::VmState::Resized), with its old place still claimed,
    /// until it is [confirmed](Self::confirm_resize) or [reverted](Self::revert_resize). Until
    /// then the quota counts the larger flavor.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::Unsuitable`] for the flavor
    /// it has, one with a smaller disk, or one too small for its image; of a flavor's root disk
    /// nothing counts where a volume is that; [`ApiError::Invalid`] for
    /// one that its image contradicts; [`ApiError::OverQuota`].
    pub async fn resize_server(
        &self,
        request: RequestId,
        id: InstanceId,
        flavor: &FlavorName,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "resize server", &(id, flavor), {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let known = view.flavors.get(&keys::flavor(flavor));
            let mut wanted =
                known.ok_or_else(|| ApiError::not_found("flavor", flavor))?.value.clone();
            if instance.value.root.is_some() {
                wanted = wanted.without_root_disk();
            }
            let mut txn = Txn::new();
            let (image, lent) = needed(&view, &instance.value, &mut txn)?;
            suits(&wanted, &instance.value)?;
            self.door.boots(&wanted, image)?;
            let migration = leaving(&instance.value, wanted);
            let moved = Instance { migration, lent, ..instance.value.clone() };
            let more = moved.usage().saturating_sub(instance.value.usage());
            view.quota(&self.id).admits_servers(view.usage(&self.id), 0, more)?;
            self.touch(&view, &mut txn);
            let instance = &Versioned { value: moved, revision: instance.revision };
            let kind = OpKind::Resize { instance: id };
            let operation = self.occupy(instance, Action::Resize, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Makes a server anew from an image, which may be the one it has, on the host that it is on.
    /// It keeps its addresses and volumes; what is on its other disks is lost. Where the new
    /// guest cannot be made, the server is left in error, and can be rebuilt again. The operation
    /// fails, and the server is as it was, where the scheduler says that its host may not run
    /// another image.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::OnVolume`] for a server whose
    /// root disk is a volume, which is the project's and not made anew; [`ApiError::Unsuitable`] for
    /// one whose flavor is too small for the image, or whose NUMA cells would change with it;
    /// [`ApiError::Invalid`] for an image that contradicts the flavor.
    pub async fn rebuild_server(
        &self,
        request: RequestId,
        id: InstanceId,
        image: ImageId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "rebuild server", &(id, image), {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let instead = "which no image replaces: boot another server from another volume";
            not_on_volume(&instance.value, "rebuild", instead)?;
            let lent = view.lend(image, &self.id, &mut txn)?;
            self.door.boots(&instance.value.flavor, lent)?;
            keeps_cells(&view, &instance.value, lent)?;
            let borrowing = Instance { lent: Some(image), ..instance.value.clone() };
            let instance = &Versioned { value: borrowing, revision: instance.revision };
            let kind = OpKind::Rebuild { instance: id, image };
            let operation = self.occupy(instance, Action::Rebuild, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Keeps what a resize or a migration made of a server: its old place is given up.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn confirm_resize(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "confirm resize", &id, {
            let view = self.door.fresh().await?;
            let instance = self.own(&view, id)?;
            let mut txn = Txn::new();
            let kind = OpKind::ConfirmResize { instance: id };
            let operation = self.occupy(instance, Action::ConfirmResize, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Takes a resize or a migration back: the server goes on where it was, with the disks that
    /// it had then; what it wrote since to disks that are no volumes is lost.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::Unsuitable`] while the host
    /// that it came from is down.
    pub async fn revert_resize(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "revert resize", &id, {
            let mut view = self.door.fresh().await?;
            let instance = self.own(&view, id)?.clone();
            let mut txn = Txn::new();
            let kind = OpKind::RevertResize { instance: id };
            let operation = self.occupy(&instance, Action::RevertResize, kind, &mut txn)?;
            if let Some(moving) = &instance.value.migration {
                let hosts = view.hosts(self.door.now(), self.door.options.down_after);
                let row = hosts.get(moving.from);
                if row.is_none_or(|row| row.liveness == Liveness::Down) {
                    let reason = format!("host {}, where it came from, is down", moving.from);
                    return Err(ApiError::Unsuitable { what: format!("server {id}"), reason });
                }
            }
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }
}

impl Admin {
    /// Moves a server to another host as it is, shut down meanwhile. It ends
    /// [`Resized`](crate::domain::VmState::Resized), and its project confirms or reverts.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`].
    pub async fn migrate_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "migrate server", &id, {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            let server = departing(&view, id, &mut txn)?;
            let kind = OpKind::Migrate { instance: id };
            let operation = self.door.occupy(&server, Action::Migrate, kind, &mut txn)?;
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Makes a server anew on another host, because its own is lost: from its image, with its
    /// addresses and volumes; what was on its other disks is lost with the host. One that boots
    /// from a volume goes on with all that is on it. One that was
    /// rescued is so no more. When the host comes back, its agent removes the old guest.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::ServerState`]; [`ApiError::Unsuitable`] unless the
    /// host was [declared down](Self::force_down): a host that is merely silent may still run the
    /// guest.
    pub async fn evacuate_server(
        &self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        accept!(self, request, "evacuate server", &id, {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            let server = departing(&view, id, &mut txn)?;
            let kind = OpKind::Evacuate { instance: id, root: server.value.root };
            let operation = self.door.occupy(&server, Action::Evacuate, kind, &mut txn)?;
            let host = server.value.host.and_then(|host| view.hosts.get(&keys::host(host)));
            let Some(host) = host.filter(|host| host.value.forced_down.is_some()) else {
                let reason = "its host was not declared down".to_owned();
                return Err(ApiError::Unsuitable { what: format!("server {id}"), reason });
            };
            // Written as it is, so that nobody takes the declaration back at the same time.
            txn.replace(host, &host.value);
            Ok(Plan { answer: Accepted { id, operation }, txn, wake: Some(operation) })
        })
    }

    /// Refuses while a server is being made anew, or goes back from where it was sent, because
    /// `host` is lost: the host must not come back in the middle.
    pub(crate) async fn not_evacuating(&self, host: HostId) -> Result<(), ApiError> {
        let view = self.door.fresh().await?;
        let leaves = |server: &Instance| {
            let moving = server.migration.as_ref()?;
            // A deletion that interrupted the evacuation has both guests to remove.
            let tasks = [Some(Action::Evacuate.task()), Some(Action::Delete.task())];
            if tasks.contains(&server.task) && moving.from == host {
                return Some("evacuated");
            }
            let live = server.task == Some(Action::LiveMigrate.task());
            let sent = moving.to == Some(host) && server.host != Some(host);
            (live && sent).then_some("live-migrated")
        };
        let mut servers = view.instances.values().map(|server| &server.value);
        match servers.find_map(|server| Some((server.id, leaves(server)?))) {
            None => Ok(()),
            Some((id, how)) => {
                let by = format!("server {id}, which is being {how}");
                Err(ApiError::InUse { what: "host", id: host.to_string(), by })
            }
        }
    }
}

/// A server that is about to leave its host as it is. The image that its move needs is lent to it.
pub(crate) fn departing(
    view: &View,
    id: InstanceId,
    txn: &mut Txn,
) -> Result<Versioned<Instance>, ApiError> {
    let server = view.instances.get(&keys::instance(id));
    setting_out(view, server.ok_or_else(|| ApiError::not_found("server", id))?, txn)
}

/// As [`departing`], for whoever has the server's record.
pub(crate) fn setting_out(
    view: &View,
    server: &Versioned<Instance>,
    txn: &mut Txn,
) -> Result<Versioned<Instance>, ApiError> {
    let (_, lent) = needed(view, &server.value, txn)?;
    let migration = leaving(&server.value, server.value.flavor.clone());
    let value = Instance { migration, lent, ..server.value.clone() };
    Ok(Versioned { value, revision: server.revision })
}

/// The image of a server that is about to leave its host, and whether it is lent to it: a guest
/// whose root disk is a volume needs no bytes of it.
fn needed<'v>(
    view: &'v View,
    server: &Instance,
    txn: &mut Txn,
) -> Result<(&'v Image, Option<ImageId>), ApiError> {
    match server.root {
        None => Ok((view.lend(server.image, &server.project, txn)?, Some(server.image))),
        Some(volume) => match image_of(view, server) {
            Some(image) => Ok((image, None)),
            None => Err(ApiError::not_found("volume", volume)),
        },
    }
}

/// Whether a server keeps its NUMA cells when it is made anew from `image`, as it has to on the
/// host that it is on.
fn keeps_cells(view: &View, server: &Instance, image: &Image) -> Result<(), ApiError> {
    let cells = |properties| GuestTopology::from_specs(&server.flavor, properties);
    let Some(old) = view.images.get(&keys::image(server.source())) else { return Ok(()) };
    if cells(&old.value.properties).is_ok_and(|old| Ok(old) != cells(&image.properties)) {
        let what = format!("image {} for server {}", image.name, server.id);
        let reason = "its NUMA cells would be others".to_owned();
        return Err(ApiError::Unsuitable { what, reason });
    }
    Ok(())
}

/// Whether a server may get this flavor, whatever its image.
fn suits(flavor: &Flavor, server: &Instance) -> Result<(), ApiError> {
    let refuse = |reason: &str| {
        let what = format!("flavor {} for server {}", flavor.name(), server.id);
        Err(ApiError::Unsuitable { what, reason: reason.to_owned() })
    };
    if *flavor == server.flavor {
        return refuse("it has that flavor");
    }
    let (old, new) = (&server.flavor, flavor);
    if new.root_disk() < old.root_disk() || new.ephemeral_disk() < old.ephemeral_disk() {
        return refuse("its disks cannot shrink");
    }
    Ok(())
}
