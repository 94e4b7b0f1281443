//! What each kind of operation needs before it can begin, and how it is asked for.

use std::net::IpAddr;
use std::time::Duration;

use crate::cloud::{Admin, ApiError, BootSource, Project, ServerSpec, VolumeSpec};
use crate::domain::{
    Action, GiB, HostId, InstanceId, Label, OpId, OpKind, OpState, Operation, RequestId, VolumeId,
    VolumeSize,
};
use crate::store::StoreExt as _;
use crate::store::record::keys;
use crate::testing::client::{Answer, Client};
use crate::testing::run::{Wrong, broken};
use crate::testing::users::User;

/// Somebody with a project and an operator, and what they have made so far.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) user: User,
    pub(crate) operator: Client,
    pub(crate) server: Option<InstanceId>,
    volume: Option<VolumeId>,
    address: Option<IpAddr>,
    /// A host that was lost on purpose, by its place among the machines.
    pub(crate) lost: Option<(usize, HostId)>,
}

/// How long a calm cloud may take for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

fn missing() -> Wrong {
    ("a calm cloud works", "a scenario lacks what it needs".to_owned())
}

impl Setting {
    pub(crate) fn new(user: User, operator: Client) -> Self {
        Self { user, operator, server: None, volume: None, address: None, lost: None }
    }

    /// Makes everything that has to be there before such an operation.
    pub(crate) async fn furnish(&mut self, kind: &OpKind) -> Result<(), Wrong> {
        match kind {
            OpKind::CreateServer { root: None, .. } | OpKind::CreateVolume { .. } => {}
            OpKind::CreateServer { .. } => self.volume().await?,
            OpKind::DeleteVolume { .. } => self.volume().await?,
            OpKind::AttachVolume { .. } => {
                self.server().await?;
                self.volume().await?;
            }
            OpKind::AssociateFloating { .. } => {
                self.server().await?;
                self.address().await?;
            }
            OpKind::Power { action, .. } => {
                self.everything().await?;
                match action {
                    Action::Start => self.go(&power(Action::Stop)).await?,
                    Action::Unpause => self.go(&power(Action::Pause)).await?,
                    Action::Resume => self.go(&power(Action::Suspend)).await?,
                    _ => {}
                }
            }
            OpKind::Migrate { .. } | OpKind::LiveMigrate { .. } => {
                self.everything_on_a_volume().await?;
            }
            OpKind::DeleteServer { .. }
            | OpKind::Resize { .. }
            | OpKind::DrainHost { .. }
            | OpKind::Rebuild { .. }
            | OpKind::Snapshot { .. }
            | OpKind::Shelve { .. }
            | OpKind::Rescue { .. }
            | OpKind::DetachVolume { .. }
            | OpKind::DisassociateFloating { .. }
            | OpKind::ApplySecurityGroups => self.everything().await?,
            OpKind::ConfirmResize { instance } => {
                self.everything().await?;
                self.go(&OpKind::Resize { instance: *instance }).await?;
            }
            OpKind::RevertResize { instance } => {
                self.everything_on_a_volume().await?;
                self.go(&OpKind::Resize { instance: *instance }).await?;
            }
            OpKind::Unrescue { instance } => {
                self.everything().await?;
                let image = self.user.image;
                self.go(&OpKind::Rescue { instance: *instance, image }).await?;
            }
            OpKind::Unshelve { instance, image } => {
                self.everything().await?;
                self.go(&OpKind::Shelve { instance: *instance, image: *image }).await?;
            }
            OpKind::Evacuate { root, .. } => {
                match root {
                    None => self.everything().await?,
                    Some(_) => self.everything_on_a_volume().await?,
                }
                self.lose_host().await?;
            }
        }
        Ok(())
    }

    /// Asks for such an operation, and tells its id.
    pub(crate) async fn begin(&mut self, kind: &OpKind) -> Result<OpId, Wrong> {
        let (server, volume, address) = (self.server, self.volume, self.address);
        let server = || server.ok_or_else(missing);
        let volume = || volume.ok_or_else(missing);
        let address = || address.ok_or_else(missing);
        let image = self.user.image;
        match kind {
            OpKind::CreateServer { root, .. } => {
                let (name, flavor) =
                    ("server".parse().map_err(broken)?, "small".parse().map_err(broken)?);
                let boot = match root {
                    None => BootSource::Image(image),
                    Some(_) => BootSource::Volume(volume()?),
                };
                let spec = ServerSpec::new(name, flavor, boot);
                let made = self
                    .ask(|p, id| {
                        let spec = spec.clone();
                        async move { p.create_server(id, &spec).await }
                    })
                    .await?;
                self.server = Some(made.id);
                Ok(made.operation)
            }
            OpKind::Power { action, .. } => {
                let (server, action) = (server()?, *action);
                let asked = self.ask(async |p: Project, id| match action {
                    Action::Start => p.start(id, server).await,
                    Action::Stop => p.stop(id, server).await,
                    Action::Pause => p.pause(id, server).await,
                    Action::Unpause => p.unpause(id, server).await,
                    Action::Suspend => p.suspend(id, server).await,
                    Action::Resume => p.resume(id, server).await,
                    Action::Reboot(how) => p.reboot(id, server, how).await,
                    _ => p.delete_server(id, server).await,
                });
                Ok(asked.await?.operation)
            }
            OpKind::DeleteServer { .. } => {
                let server = server()?;
                Ok(self
                    .ask(async |p: Project, id| p.delete_server(id, server).await)
                    .await?
                    .operation)
            }
            OpKind::Resize { .. } => {
                let (server, flavor) =
                    (server()?, "large".parse::<crate::domain::FlavorName>().map_err(broken)?);
                let asked = self.ask(|p, id| {
                    let flavor = flavor.clone();
                    async move { p.resize_server(id, server, &flavor).await }
                });
                Ok(asked.await?.operation)
            }
            OpKind::Migrate { .. } => {
                let server = server()?;
                let call = async |admin: Admin, id| admin.migrate_server(id, server).await;
                Ok(self.command(call).await?.operation)
            }
            OpKind::LiveMigrate { .. } => {
                let server = server()?;
                let call = async |admin: Admin, id| admin.live_migrate_server(id, server).await;
                Ok(self.command(call).await?.operation)
            }
            OpKind::DrainHost { .. } => {
                let host = self.home(server()?).await?.ok_or_else(missing)?;
                let call = async |admin: Admin, id| admin.drain_host(id, host, "repair").await;
                Ok(self.command(call).await?.operation)
            }
            OpKind::ConfirmResize { .. } => {
                let server = server()?;
                Ok(self
                    .ask(async |p: Project, id| p.confirm_resize(id, server).await)
                    .await?
                    .operation)
            }
            OpKind::RevertResize { .. } => {
                let server = server()?;
                Ok(self
                    .ask(async |p: Project, id| p.revert_resize(id, server).await)
                    .await?
                    .operation)
            }
            OpKind::Evacuate { .. } => {
                let server = server()?;
                let call = async |admin: Admin, id| admin.evacuate_server(id, server).await;
                Ok(self.command(call).await?.operation)
            }
            OpKind::Rebuild { .. } => {
                let server = server()?;
                let asked =
                    self.ask(async |p: Project, id| p.rebuild_server(id, server, image).await);
                Ok(asked.await?.operation)
            }
            OpKind::Snapshot { .. } => {
                let (server, name) = (server()?, Label::new("image").map_err(broken)?);
                let asked = self.ask(|p: Project, id| {
                    let name = name.clone();
                    async move { p.snapshot_server(id, server, &name).await }
                });
                Ok(asked.await?.operation)
            }
            OpKind::Shelve { .. } => {
                let server = server()?;
                let call = async |p: Project, id| p.shelve_server(id, server).await;
                Ok(self.ask(call).await?.operation)
            }
            OpKind::Rescue { .. } => {
                let server = server()?;
                let call = async |p: Project, id| p.rescue_server(id, server, None).await;
                Ok(self.ask(call).await?.operation)
            }
            OpKind::Unrescue { .. } => {
                let server = server()?;
                let call = async |p: Project, id| p.unrescue_server(id, server).await;
                Ok(self.ask(call).await?.operation)
            }
            OpKind::Unshelve { .. } => {
                let server = server()?;
                let call = async |p: Project, id| p.unshelve_server(id, server).await;
                Ok(self.ask(call).await?.operation)
            }
            OpKind::CreateVolume { .. } => {
                let size = VolumeSize::new(GiB(1)).map_err(broken)?;
                let spec = VolumeSpec::new(Label::new("volume").map_err(broken)?, size);
                let spec = spec.with_image(image);
                let made = self
                    .ask(|p, id| {
                        let spec = spec.clone();
                        async move { p.create_volume(id, &spec).await }
                    })
                    .await?;
                self.volume = Some(made.id);
                Ok(made.operation)
            }
            OpKind::DeleteVolume { .. } => {
                let volume = volume()?;
                Ok(self
                    .ask(async |p: Project, id| p.delete_volume(id, volume).await)
                    .await?
                    .operation)
            }
            OpKind::AttachVolume { .. } => {
                let (server, volume) = (server()?, volume()?);
                let asked =
                    self.ask(async |p: Project, id| p.attach_volume(id, server, volume).await);
                Ok(asked.await?.operation)
            }
            OpKind::DetachVolume { .. } => {
                let volume = volume()?;
                Ok(self
                    .ask(async |p: Project, id| p.detach_volume(id, volume).await)
                    .await?
                    .operation)
            }
            OpKind::AssociateFloating { .. } => {
                let (address, server) = (address()?, server()?);
                let call =
                    async |p: Project, id| p.associate_floating_ip(id, address, server).await;
                Ok(self.ask(call).await?.operation)
            }
            OpKind::DisassociateFloating { .. } => {
                let address = address()?;
                let call = async |p: Project, id| p.disassociate_floating_ip(id, address).await;
                Ok(self.ask(call).await?.operation)
            }
            OpKind::ApplySecurityGroups => {
                let (server, none) = (server()?, std::collections::BTreeSet::new());
                let call = async |p: Project, id| p.set_security_groups(id, server, &none).await;
                Ok(self.ask(call).await?.operation)
            }
        }
    }

    /// An operation from beginning to end; it has to succeed.
    async fn go(&mut self, kind: &OpKind) -> Result<(), Wrong> {
        let id = self.begin(kind).await?;
        let op = self.ended(id).await?;
        if op.state == OpState::Done {
            return Ok(());
        }
        Err(("a calm cloud works", format!("{} ended {:?}", kind.word(), op.state)))
    }

    /// Waits for an operation.
    async fn ended(&mut self, id: OpId) -> Result<Operation, Wrong> {
        self.user.client.wait(id, PATIENCE).await;
        if let Some(op) = self.operation(id).await?.filter(|op| op.state.is_final()) {
            return Ok(op);
        }
        self.operator.wait(id, PATIENCE).await;
        self.operation(id).await?.ok_or_else(missing)
    }

    /// The record of an operation.
    pub(crate) async fn operation(&self, id: OpId) -> Result<Option<Operation>, Wrong> {
        let store = &self.operator.world.store;
        let op = store.read::<Operation>(&keys::operation(id)).await.map_err(broken)?;
        Ok(op.map(|op| op.value))
    }

    async fn ask<T: Answer, F>(
        &mut self,
        call: impl Fn(Project, RequestId) -> F,
    ) -> Result<T, Wrong>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        self.user.ask(call).await.ok_or_else(missing)
    }

    async fn command<T: Answer, F>(
        &mut self,
        call: impl Fn(Admin, RequestId) -> F,
    ) -> Result<T, Wrong>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        self.operator.ask(call).await.ok_or_else(missing)
    }

    async fn server(&mut self) -> Result<(), Wrong> {
        self.go(&OpKind::CreateServer { instance: InstanceId::from_u128(0), root: None }).await
    }

    /// A server that boots from a volume.
    async fn server_on_a_volume(&mut self) -> Result<(), Wrong> {
        self.volume().await?;
        let (instance, root) = (InstanceId::from_u128(0), self.volume);
        self.go(&OpKind::CreateServer { instance, root }).await
    }

    async fn volume(&mut self) -> Result<(), Wrong> {
        self.go(&OpKind::CreateVolume { volume: VolumeId::from_u128(0) }).await
    }

    async fn address(&mut self) -> Result<(), Wrong> {
        let pool = "public".parse().map_err(broken)?;
        let call = |p: Project, id| {
            let pool = std::clone::Clone::clone(&pool);
            async move { p.allocate_floating_ip(id, &pool).await }
        };
        self.address = Some(self.ask(call).await?);
        Ok(())
    }

    /// A server with a volume and a floating IP.
    async fn everything(&mut self) -> Result<(), Wrong> {
        self.server().await?;
        self.belongings().await
    }

    /// The same of one that boots from another volume.
    async fn everything_on_a_volume(&mut self) -> Result<(), Wrong> {
        self.server_on_a_volume().await?;
        self.belongings().await
    }

    async fn belongings(&mut self) -> Result<(), Wrong> {
        let instance = InstanceId::from_u128(0);
        self.volume().await?;
        self.go(&OpKind::AttachVolume { instance, volume: VolumeId::from_u128(0) }).await?;
        self.address().await?;
        let address = self.address.ok_or_else(missing)?;
        self.go(&OpKind::AssociateFloating { address, instance }).await
    }

    /// The host of the server loses power, and an operator says so.
    async fn lose_host(&mut self) -> Result<(), Wrong> {
        let id = self.server.ok_or_else(missing)?;
        let host = self.home(id).await?.ok_or_else(missing)?;
        let at = self.machine(host).await?;
        let world = std::sync::Arc::clone(&self.operator.world);
        world.machines[at].agent.kill().await;
        world.machines[at].driver.lose_power().await;
        let call = async |admin: Admin, id| admin.force_down(id, host, "it has no power").await;
        self.command(call).await?;
        self.lost = Some((at, host));
        Ok(())
    }

    /// The host that was lost comes back.
    pub(crate) async fn find_host(&mut self) -> Result<(), Wrong> {
        let Some((at, host)) = self.lost.take() else { return Ok(()) };
        let world = std::sync::Arc::clone(&self.operator.world);
        world.machines[at].driver.regain_power();
        world.start_agent(&world.machines[at]).await;
        world.pass(Duration::from_secs(3)).await;
        let call = async |admin: Admin, id| admin.clear_forced_down(id, host).await;
        self.command(call).await
    }

    /// The host that a server is on.
    pub(crate) async fn home(&self, id: InstanceId) -> Result<Option<HostId>, Wrong> {
        let store = &self.operator.world.store;
        let server = store.read::<crate::domain::Instance>(&keys::instance(id)).await;
        Ok(server.map_err(broken)?.and_then(|server| server.value.host))
    }

    /// A host's place among the machines.
    pub(crate) async fn machine(&self, id: HostId) -> Result<usize, Wrong> {
        let world = &self.operator.world;
        let host =
            world.store.read::<crate::domain::Host>(&keys::host(id)).await.map_err(broken)?;
        let name = host.map(|host| host.value.name);
        let at = world.machines.iter().position(|m| Some(&m.spec.name) == name.as_ref());
        at.ok_or_else(missing)
    }
}

fn power(action: Action) -> OpKind {
    OpKind::Power { instance: InstanceId::from_u128(0), action }
}
