//! Calls to the volume driver that arrive long after somebody else went on.

use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nova_core::cloud::{Accepted, CloudOptions, Conductor, VolumeSpec};
use nova_core::domain::{
    Fence, GiB, HostId, InstanceId, OpId, OpState, Operation, PowerState, StepOutcome, StepRecord,
    VolumeId, VolumeSize,
};
use nova_core::memory::MemoryVolumes;
use nova_core::port::{Connection, ShareVolumes, VolumeDriver, VolumeError, VolumeFacts};
use nova_core::store::Txn;
use tokio::sync::Notify;

use crate::moves::{check_home, furnished, home};
use crate::world::{World, run, run_with};

/// Volumes that are far away: one call may be under way for as long as a test wants.
#[derive(Debug, Default)]
pub(crate) struct Distant {
    volumes: MemoryVolumes,
    /// The verb whose next call is slow.
    slow: Mutex<Option<&'static str>>,
    pub(crate) sent: Notify,
    pub(crate) released: Notify,
    /// The fences that the refusal of the slow call named, if it was refused.
    refusal: Mutex<Option<(Fence, Fence)>>,
    arrived: Notify,
}

impl Distant {
    /// Lets the next call of `verb` be slow.
    pub(crate) fn delay(&self, verb: &'static str) {
        *self.slow.lock().unwrap() = Some(verb);
    }

    async fn carry<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, VolumeError>>,
    ) -> Result<T, VolumeError> {
        if self.slow.lock().unwrap().take_if(|slow| *slow == verb).is_none() {
            return call.await;
        }
        self.sent.notify_one();
        self.released.notified().await;
        let answer = call.await;
        if let Err(VolumeError::Overtaken { fence, seen, .. }) = &answer {
            *self.refusal.lock().unwrap() = Some((*fence, *seen));
        }
        self.arrived.notify_one();
        answer
    }

    /// Lets the slow call arrive, which has to be refused and to change nothing.
    async fn is_too_late(&self) {
        let before = self.list().await.unwrap();
        self.released.notify_one();
        self.arrived.notified().await;
        assert_eq!(self.list().await.unwrap(), before);
        let refusal = self.refusal.lock().unwrap().take();
        assert!(refusal.is_some_and(|(fence, seen)| fence < seen), "{refusal:?}");
    }
}

impl Display for Distant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("distant volumes")
    }
}

#[async_trait]
impl VolumeDriver for Distant {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.carry("create", self.volumes.create(volume, size, fence)).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.carry("remove", self.volumes.remove(volume, fence)).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.carry("connect", self.volumes.connect(volume, host, fence)).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.carry("disconnect", self.volumes.disconnect(volume, host, fence)).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.volumes.list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        Some(self)
    }

    fn extending(&self) -> Option<&dyn nova_core::port::ExtendVolumes> {
        None
    }

    fn snapshots(&self) -> Option<&dyn nova_core::port::SnapshotVolumes> {
        None
    }

    fn cloning(&self) -> Option<&dyn nova_core::port::CloneVolumes> {
        None
    }

    fn filling(&self) -> Option<&dyn nova_core::port::FillVolumes> {
        None
    }
}

#[async_trait]
impl ShareVolumes for Distant {
    async fn share(
        &self,
        volume: VolumeId,
        from: HostId,
        to: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.carry("share", self.volumes.share(volume, from, to, fence)).await
    }
}

/// A world whose volumes are distant.
pub(crate) fn run_distant(test: impl AsyncFnOnce(&mut World, Arc<Distant>)) {
    let distant = Arc::new(Distant::default());
    let volumes = Arc::clone(&distant);
    run_with(|ports| ports.with_volumes(volumes), async |world| test(world, distant).await);
}

/// Waits until the slow call is under way. Then another conductor takes up everything that is
/// unfinished, as if the first one were gone.
async fn somebody_else_goes_on(world: &World, distant: &Distant) -> Conductor {
    distant.sent.notified().await;
    another_conductor(world).await
}

async fn another_conductor(world: &World) -> Conductor {
    let ports = world.cloud.ports().clone();
    Conductor::start(ports, CloudOptions::default()).await.unwrap()
}

async fn is_done(world: &World, operation: OpId) -> Operation {
    let op = world.ended(operation).await;
    assert_eq!(op.state, OpState::Done, "{op:#?}");
    op
}

async fn new_volume(world: &World) -> Accepted<VolumeId> {
    let project = world.project();
    let size = VolumeSize::new(GiB(5)).unwrap();
    let spec = VolumeSpec::new("data".parse().unwrap(), size);
    project.create_volume(project.new_request(), &spec).await.unwrap()
}

/// A server and a volume.
async fn apart(world: &World) -> (InstanceId, VolumeId) {
    let id = world.boot("web").await.instance.id;
    let made = new_volume(world).await;
    is_done(world, made.operation).await;
    (id, made.id)
}

#[test]
fn a_volume_that_was_detached_is_not_connected_by_a_call_that_arrives_late() {
    run_distant(async |world: &mut World, distant: Arc<Distant>| {
        let project = world.project();
        let (id, volume) = apart(world).await;
        distant.delay("connect");
        let attached = project.attach_volume(project.new_request(), id, volume).await.unwrap();
        let _other = somebody_else_goes_on(world, &distant).await;
        let attached = is_done(world, attached.operation).await;
        world.done(project.detach_volume(project.new_request(), volume).await).await;
        distant.is_too_late().await;
        world.healthy().await;
        assert_eq!(world.ended(attached.id).await, attached, "nothing is written on top of it");
    });
}

#[test]
fn a_volume_whose_server_was_deleted_is_not_connected_by_a_call_that_arrives_late() {
    run_distant(async |world: &mut World, distant: Arc<Distant>| {
        let project = world.project();
        let (id, volume) = apart(world).await;
        distant.delay("connect");
        let attached = project.attach_volume(project.new_request(), id, volume).await.unwrap();
        distant.sent.notified().await;
        let deleted = project.delete_server(project.new_request(), id).await.unwrap();
        let _other = another_conductor(world).await;
        is_done(world, deleted.operation).await;
        let attached = world.ended(attached.operation).await;
        assert!(matches!(attached.state, OpState::Failed(_)), "{attached:#?}");
        distant.is_too_late().await;
        world.healthy().await;
        assert_eq!(world.ended(attached.id).await, attached);
    });
}

#[test]
fn a_volume_that_was_attached_again_is_not_taken_away_by_a_call_that_arrives_late() {
    run_distant(async |world: &mut World, distant: Arc<Distant>| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        distant.delay("disconnect");
        let detached = project.detach_volume(project.new_request(), volume).await.unwrap();
        let _other = somebody_else_goes_on(world, &distant).await;
        is_done(world, detached.operation).await;
        world.done(project.attach_volume(project.new_request(), id, volume).await).await;
        distant.is_too_late().await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
        world.healthy().await;
    });
}

#[test]
fn a_volume_that_was_deleted_is_not_made_again_by_a_call_that_arrives_late() {
    run_distant(async |world: &mut World, distant: Arc<Distant>| {
        let project = world.project();
        distant.delay("create");
        let made = new_volume(world).await;
        let _other = somebody_else_goes_on(world, &distant).await;
        is_done(world, made.operation).await;
        world.done(project.delete_volume(project.new_request(), made.id).await).await;
        distant.is_too_late().await;
        assert_eq!(distant.list().await.unwrap(), []);
        world.healthy().await;
    });
}

#[test]
fn a_volume_that_came_back_is_not_shared_by_a_call_that_arrives_late() {
    run_distant(async |world: &mut World, distant: Arc<Distant>| {
        let admin = world.admin();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        distant.delay("share");
        let moved = admin.live_migrate_server(admin.new_request(), id).await.unwrap();
        let _other = somebody_else_goes_on(world, &distant).await;
        is_done(world, moved.operation).await;
        world.done(admin.live_migrate_server(admin.new_request(), id).await).await;
        assert_eq!(home(world, id).await, old);
        distant.is_too_late().await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
        world.healthy().await;
    });
}

#[test]
fn an_operation_whose_calls_are_refused_as_late_tries_again_with_a_higher_fence() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = apart(world).await;
        let (host, ports) = (home(world, id).await, world.cloud.ports());
        // As where the store was brought back from a copy that is older than the volumes.
        let now = ports.store.commit(Txn::new()).await.unwrap();
        ports.volumes.disconnect(volume, host, Fence(now.0 + 4)).await.unwrap();
        let attached = project.attach_volume(project.new_request(), id, volume).await.unwrap();
        let attached = is_done(world, attached.operation).await;
        let refused = |record: &&StepRecord| record.outcome != StepOutcome::Done;
        let refused: Vec<_> = attached.journal.iter().filter(refused).collect();
        assert!(!refused.is_empty() && refused.iter().all(|record| record.step == "connect"));
        world.healthy().await;
    });
}
