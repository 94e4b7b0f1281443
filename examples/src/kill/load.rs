//! What one task asks of the cloud, as chance has it.

use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _};
use nova_core::cloud::{Accepted, ApiError, Project, ServerSpec, VolumeSpec};
use nova_core::domain::{GiB, ImageId, InstanceId, OpId, Reboot, RequestId, VolumeSize};
use nova_core::seed::Chance;

use super::ground::{FLAVOR, POOL};
use super::{Acknowledged, KillError};

/// What one project has at most; a task that finds so many makes no more.
const SERVERS_MAX: usize = 10;
const VOLUMES_MAX: usize = 5;
const FLOATING_MAX: usize = 4;

/// The longest pause between two requests of one task, in milliseconds.
const PAUSE_MS: u64 = 15;

/// One of several that ask at the same time.
pub(super) struct Task {
    pub(super) project: Project,
    pub(super) image: ImageId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Chance,
    /// What its request ids begin with.
    pub(super) name: String,
    pub(super) asked: u64,
}

impl Task {
    /// Asks for one thing. None when nothing came to mind, or when the cloud refused: chance asks
    /// for much that the state does not allow.
    pub(super) async fn ask(&mut self) -> Result<Option<Acknowledged>, KillError> {
        let pause = Duration::from_millis(self.chance.below(PAUSE_MS));
        self.clock.sleep(pause).await;
        self.asked += 1;
        let request: RequestId = format!("{}-{}", self.name, self.asked).parse()?;
        let (scope, id) = (self.project.id().to_string(), request.to_string());
        match self.something(request).await {
            Ok(Some(operation)) => {
                Ok(Some(Acknowledged { scope, request: id, operation: operation.0 }))
            }
            Ok(None) => Ok(None),
            Err(source @ ApiError::Store { .. }) => {
                Err(KillError::Cloud { doing: "ask for something", source })
            }
            Err(_) => Ok(None),
        }
    }

    async fn something(&mut self, request: RequestId) -> Result<Option<Operation>, ApiError> {
        let project = self.project.clone();
        let servers = project.servers().await?;
        let server = match servers.len() {
            0 => None,
            some => Some(servers[self.chance.index(some)].instance.id),
        };
        let what = self.chance.below(24);
        let accepted = match (what, server) {
            (0..=5, _) if servers.len() < SERVERS_MAX => self.create(request).await.map(of),
            (6..=7, Some(id)) => project.delete_server(request, id).await.map(of),
            (8..=13, Some(id)) => self.power(request, id).await.map(of),
            (14..=18, _) => return self.volume(request, server).await,
            (19..=23, _) => return self.floating(request, server).await,
            _ => return Ok(None),
        };
        accepted.map(Some)
    }

    async fn create(&self, request: RequestId) -> Result<Accepted<InstanceId>, ApiError> {
        let spec = ServerSpec::new(request.as_str().parse()?, FLAVOR.parse()?, self.image);
        self.project.create_server(request, &spec).await
    }

    async fn power(
        &mut self,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        match self.chance.below(8) {
            0 => self.project.start(request, id).await,
            1 => self.project.stop(request, id).await,
            2 => self.project.pause(request, id).await,
            3 => self.project.unpause(request, id).await,
            4 => self.project.suspend(request, id).await,
            5 => self.project.resume(request, id).await,
            6 => self.project.reboot(request, id, Reboot::Soft).await,
            _ => self.project.reboot(request, id, Reboot::Hard).await,
        }
    }

    async fn volume(
        &mut self,
        request: RequestId,
        server: Option<InstanceId>,
    ) -> Result<Option<Operation>, ApiError> {
        let project = &self.project;
        let volumes = project.volumes().await?;
        if volumes.is_empty() || (volumes.len() < VOLUMES_MAX && self.chance.happens(0.3)) {
            let size = VolumeSize::new(GiB(1 + self.chance.below(3)))?;
            let spec = VolumeSpec::new(request.as_str().parse()?, size);
            return project.create_volume(request, &spec).await.map(of).map(Some);
        }
        let volume = volumes[self.chance.index(volumes.len())].id;
        let accepted = match (self.chance.below(4), server) {
            (0..=1, Some(server)) => project.attach_volume(request, server, volume).await,
            (2, _) => project.detach_volume(request, volume).await,
            _ => project.delete_volume(request, volume).await,
        };
        accepted.map(of).map(Some)
    }

    async fn floating(
        &mut self,
        request: RequestId,
        server: Option<InstanceId>,
    ) -> Result<Option<Operation>, ApiError> {
        let project = &self.project;
        let floating = project.floating_ips().await?;
        if floating.is_empty() || (floating.len() < FLOATING_MAX && self.chance.happens(0.3)) {
            project.allocate_floating_ip(request, &POOL.parse()?).await?;
            return Ok(Some(Operation(None)));
        }
        let address = floating[self.chance.index(floating.len())].address;
        match (self.chance.below(5), server) {
            (0..=2, Some(server)) => {
                project.associate_floating_ip(request, address, server).await.map(of).map(Some)
            }
            (3, _) => project.disassociate_floating_ip(request, address).await.map(of).map(Some),
            _ => {
                project.release_floating_ip(request, address).await?;
                Ok(Some(Operation(None)))
            }
        }
    }

    /// Waits for an operation now and then, so that requests meet work at every stage.
    pub(super) async fn perhaps_wait(&mut self, operation: OpId) -> Result<(), KillError> {
        if self.chance.happens(0.4) {
            let ended = self.project.wait(operation).await;
            ended.map_err(super::ground::refused("wait for an operation"))?;
        }
        Ok(())
    }
}

/// The operation that goes on, unless the request was done at once.
struct Operation(Option<OpId>);

fn of<T>(accepted: Accepted<T>) -> Operation {
    Operation(Some(accepted.operation))
}
