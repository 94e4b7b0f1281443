//! Servers that go to another host while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::cloud::{ApiError, Cloud, CloudOptions, Ports};
use nova_core::doctor::{Snapshot, Strictness, examine};
use nova_core::domain::{
    Fence, HostId, InstanceId, OpId, OpState, Operation, PowerState, VmState, VolumeId, VolumeSize,
};
use nova_core::memory::MemoryVolumes;
use nova_core::port::{
    Connection, ShareVolumes, VirtDriver, VolumeDriver, VolumeError, VolumeFacts,
};

use crate::anew::{host_returns, lose_host};
use crate::elsewhere::{others, restart};
use crate::moves::{check_home, furnished, home};
use crate::stubborn::Trouble;
use crate::world::{World, run, run_with};

/// Nothing is wrong at this moment, whatever is under way.
pub(crate) async fn check_moment(world: &World) {
    let ports = world.cloud.ports();
    let mut snapshot = Snapshot::read(&*ports.store).await.unwrap();
    for (id, host) in &world.hosts {
        snapshot = snapshot.with_guests(*id, host.guests().await.unwrap());
    }
    let snapshot = snapshot.with_volumes(ports.volumes.list().await.unwrap());
    assert_eq!(examine(&snapshot, Strictness::Busy), []);
}

/// Waits for an operation, and looks at every moment on the way.
pub(crate) async fn watched(world: &World, operation: OpId) -> Operation {
    loop {
        check_moment(world).await;
        let op = world.admin().operation(operation).await.unwrap();
        if op.state.is_final() {
            return op;
        }
        tokio::task::yield_now().await;
    }
}

/// Live-migrates a server.
pub(crate) async fn migrate(world: &World, id: InstanceId) -> OpId {
    let admin = world.admin();
    admin.live_migrate_server(admin.new_request(), id).await.unwrap().operation
}

#[test]
fn a_running_server_is_elsewhere_and_goes_on_with_everything_that_it_has() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        let before = project.server(id).await.unwrap();
        let census = world.admin().census().await.unwrap();
        let op = migrate(world, id).await;
        let op = watched(world, op).await;
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        let server = project.server(id).await.unwrap();
        assert_ne!(server.instance.host, Some(old));
        assert_eq!((server.instance.state, server.instance.migration), (VmState::Active, None));
        assert_eq!(server.ports, before.ports);
        assert_eq!(world.admin().census().await.unwrap().records, census.records);
        assert_eq!(world.guests().await, 1);
        check_home(world, id, volume, PowerState::Running, "written before").await;
        // And back, and nothing is left of it when it is deleted.
        let op = migrate(world, id).await;
        assert_eq!(watched(world, op).await.state, OpState::Done);
        assert_eq!(home(world, id).await, old);
        check_home(world, id, volume, PowerState::Running, "written before").await;
        world.done(project.delete_server(project.new_request(), id).await).await;
        assert_eq!(world.guests().await, 0);
        world.healthy().await;
    });
}

#[test]
fn a_paused_server_stays_paused() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        world.done(project.pause(project.new_request(), id).await).await;
        let op = migrate(world, id).await;
        assert_eq!(watched(world, op).await.state, OpState::Done);
        assert_ne!(home(world, id).await, old);
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Paused);
        check_home(world, id, volume, PowerState::Paused, "written before").await;
        world.done(project.unpause(project.new_request(), id).await).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

/// Volumes that only one host can have.
#[derive(Debug, Default)]
struct Single(MemoryVolumes);

impl std::fmt::Display for Single {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("volumes for one host")
    }
}

#[async_trait]
impl VolumeDriver for Single {
    async fn create(
        &self,
        volume: VolumeId,
        size: VolumeSize,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.0.create(volume, size, fence).await
    }

    async fn remove(&self, volume: VolumeId, fence: Fence) -> Result<(), VolumeError> {
        self.0.remove(volume, fence).await
    }

    async fn connect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<Connection, VolumeError> {
        self.0.connect(volume, host, fence).await
    }

    async fn disconnect(
        &self,
        volume: VolumeId,
        host: HostId,
        fence: Fence,
    ) -> Result<(), VolumeError> {
        self.0.disconnect(volume, host, fence).await
    }

    async fn list(&self) -> Result<Vec<VolumeFacts>, VolumeError> {
        self.0.list().await
    }

    fn sharing(&self) -> Option<&dyn ShareVolumes> {
        None
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

#[test]
fn what_cannot_be_live_migrated_is_refused_and_unchanged() {
    run_with(
        |ports: Ports| ports.with_volumes(Single::default()),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let before = project.server(id).await.unwrap();
            let refused = admin.live_migrate_server(admin.new_request(), id).await;
            assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
            assert_eq!(project.server(id).await.unwrap(), before);
            // Without its volume it can go.
            world.done(project.detach_volume(project.new_request(), volume).await).await;
            let op = migrate(world, id).await;
            assert_eq!(watched(world, op).await.state, OpState::Done);
            world.done(project.stop(project.new_request(), id).await).await;
            let refused = admin.live_migrate_server(admin.new_request(), id).await;
            assert!(matches!(refused, Err(ApiError::ServerState { .. })), "{refused:?}");
            let missing = InstanceId::from_u128(99);
            let refused = admin.live_migrate_server(admin.new_request(), missing).await;
            assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
        },
    );
}

#[test]
fn where_one_of_the_hosts_cannot_the_server_goes_on_where_it_is() {
    for (at_source, trouble, word) in [
        (false, Trouble::NotLive, "this host cannot"),
        (true, Trouble::NotLive, "this host cannot"),
        (false, Trouble::No("expect"), "trouble"),
        (true, Trouble::No("send"), "trouble"),
        (false, Trouble::No("receive"), "trouble"),
        // A guest of which half is missing must not become the server.
        (false, Trouble::FalseReceipt, "said yes and did not"),
        // Nor one that cannot go on.
        (false, Trouble::DeadReceipt, "said yes and did not"),
    ] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            let (old, there) = (home(world, id).await, others(world, id).await[0]);
            let at = if at_source { old } else { there };
            restart(world, at, Some(&trouble)).await;
            let census = world.admin().census().await.unwrap();
            let op = migrate(world, id).await;
            let op = watched(world, op).await;
            let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
            assert!(fault.message.contains(word), "{trouble:?}: {fault:?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.host), (VmState::Active, Some(old)), "{trouble:?}");
            assert_eq!((server.task, server.migration), (None, None));
            assert_eq!(world.admin().census().await.unwrap(), census);
            assert_eq!(world.guests().await, 1);
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

#[test]
fn a_live_migration_tries_another_host() {
    for trouble in [Trouble::NotLive, Trouble::No("receive")] {
        run(async |world: &mut World| {
            let (id, volume) = furnished(world).await;
            world.add_host("gamma").await;
            let op = migrate(world, id).await;
            let chosen = watched(world, op).await;
            assert_eq!(chosen.state, OpState::Done);
            let first = home(world, id).await;
            let op = migrate(world, id).await;
            assert_eq!(watched(world, op).await.state, OpState::Done);
            restart(world, first, Some(&trouble)).await;
            if home(world, id).await == first {
                panic!("it did not move");
            }
            let op = migrate(world, id).await;
            let op = watched(world, op).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            assert_ne!(home(world, id).await, first);
            check_home(world, id, volume, PowerState::Running, "written before").await;
        });
    }
}

fn slow(world: &World, verb: &'static str, begun: &Arc<AtomicBool>) -> Trouble {
    Trouble::Slow {
        verb,
        clock: Arc::clone(&world.clock),
        time: Duration::from_secs(20),
        begun: Arc::clone(begun),
    }
}

/// Begins a live migration in which `verb` takes long, and waits until it has begun.
pub(crate) async fn begin(world: &mut World, id: InstanceId, verb: &'static str) -> OpId {
    let begun = Arc::new(AtomicBool::new(false));
    let trouble = slow(world, verb, &begun);
    for host in world.hosts.keys().copied().collect::<Vec<_>>() {
        restart(world, host, Some(&trouble)).await;
    }
    let op = migrate(world, id).await;
    while !begun.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    op
}

#[test]
fn a_server_that_is_deleted_while_it_is_live_migrated_leaves_nothing_on_either_host() {
    for verb in ["expect", "send", "receive", "unpause", "remove"] {
        run(async |world: &mut World| {
            let project = world.project();
            let (id, _) = furnished(world).await;
            let moved = begin(world, id, verb).await;
            check_moment(world).await;
            world.done(project.delete_server(project.new_request(), id).await).await;
            let op = world.ended(moved).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert_eq!(world.guests().await, 0, "{verb}");
            let volumes = world.cloud.ports().volumes.list().await.unwrap();
            assert_eq!(volumes[0].hosts().count(), 0, "{verb}");
            world.healthy().await;
        });
    }
}

#[test]
fn the_image_of_a_server_that_is_live_migrated_is_not_deleted_in_the_middle() {
    run(async |world: &mut World| {
        let (project, admin) = (world.project(), world.admin());
        let (id, _) = furnished(world).await;
        let image = project.server(id).await.unwrap().instance.image;
        let op = begin(world, id, "send").await;
        let refused = admin.delete_image(admin.new_request(), image).await;
        let by = format!("server {id}");
        assert!(
            matches!(&refused, Err(ApiError::InUse { by: user, .. }) if *user == by),
            "{refused:?}"
        );
        let op = watched(world, op).await;
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        assert_eq!(project.server(id).await.unwrap().instance.lent, None);
        admin.delete_image(admin.new_request(), image).await.unwrap();
        world.healthy().await;
    });
}

#[test]
fn a_live_migration_goes_on_after_a_restart_in_any_of_its_steps() {
    for verb in ["expect", "send", "receive", "unpause", "remove"] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(|ports| ports).await;
            let clock = Arc::clone(&world.clock);
            let work = async {
                let (id, volume) = furnished(&world).await;
                let op = begin(&mut world, id, verb).await;
                let ports = world.cloud.ports().clone();
                let cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
                std::mem::replace(&mut world.cloud, cloud).stop().await;
                for host in world.hosts.keys().copied().collect::<Vec<_>>() {
                    restart(&mut world, host, None).await;
                }
                let op = watched(&world, op).await;
                assert_eq!(op.state, OpState::Done, "{verb}: {op:#?}");
                check_home(&world, id, volume, PowerState::Running, "written before").await;
            };
            clock.drive(work).await;
        });
    }
}

#[test]
fn before_the_cut_over_a_lost_destination_changes_nothing_and_a_lost_source_is_evacuated() {
    for (lost_source, verb) in [(false, "expect"), (false, "receive"), (true, "send")] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let (old, there) = (home(world, id).await, others(world, id).await[0]);
            let op = begin(world, id, verb).await;
            let lost = if lost_source { old } else { there };
            power_off(world, lost).await;
            let op = world.ended(op).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.host, server.task, server.migration), (Some(old), None, None));
            if lost_source {
                world.done(admin.evacuate_server(admin.new_request(), id).await).await;
                check_home(world, id, volume, PowerState::Running, "").await;
            } else {
                check_home(world, id, volume, PowerState::Running, "written before").await;
                host_returns(world, there).await;
                assert_eq!(world.guests().await, 1);
                check_home(world, id, volume, PowerState::Running, "written before").await;
            }
        });
    }
}

/// A host loses its power, and an operator says so.
pub(crate) async fn power_off(world: &mut World, host: HostId) {
    let admin = world.admin();
    let known = admin.hosts().await.unwrap();
    let name = known.iter().find(|h| h.host.id == host).unwrap().host.name.clone();
    world.cloud.stop_host(&name).await;
    for guest in world.hosts[&host].guests().await.unwrap() {
        world.hosts[&host].stop(guest.instance).await.unwrap();
    }
    admin.force_down(admin.new_request(), host, "burnt").await.unwrap();
}

#[test]
fn a_guest_that_was_sent_for_nothing_goes_on_when_its_agent_is_back() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        let op = begin(world, id, "receive").await;
        assert_eq!(world.power(id).await, Some(PowerState::Paused));
        // The agent is gone, and the guest stays frozen; nobody can tell it.
        let known = world.admin().hosts().await.unwrap();
        let name = known.iter().find(|h| h.host.id == old).unwrap().host.name.clone();
        let there = others(world, id).await[0];
        world.cloud.stop_host(&name).await;
        restart(world, there, Some(&Trouble::No("receive"))).await;
        world.pass(CloudOptions::default().down_after * 2).await;
        let op = world.ended(op).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        assert_eq!(world.power(id).await, Some(PowerState::Paused));
        restart(world, old, None).await;
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Active);
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_lost_server_is_not_live_migrated() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, _) = furnished(world).await;
        let old = lose_host(world, id).await;
        let op = migrate(world, id).await;
        let op = world.ended(op).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.host, server.migration), (Some(old), None));
    });
}
