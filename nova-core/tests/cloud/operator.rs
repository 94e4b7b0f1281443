//! Operations that call for a person, and what the person may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::cloud::{ApiError, Cloud, CloudOptions};
use nova_core::domain::{
    Attachment, HostId, ImageContent, ImageId, InstanceId, OpId, OpState, PowerState, Reboot,
    Vcpus, VmState, Volume, VolumeState,
};
use nova_core::memory::MemoryImages;
use nova_core::port::{ImageBytes, ImageError, ImageStore, VirtDriver as _};
use nova_core::store::record::keys;
use nova_core::store::{StoreExt as _, Txn};

use crate::anew::{lose_host, slow, trouble_everywhere, until};
use crate::elsewhere::{self, others};
use crate::linger::silence;
use crate::live::check_moment;
use crate::moves::{check_home, furnished, home};
use crate::snapshots::restart;
use crate::stubborn::Trouble;
use crate::world::{World, run, run_with};

/// A deletion that no host carries out.
async fn stuck(world: &mut World) -> (InstanceId, OpId) {
    let project = world.project();
    let (id, _) = furnished(world).await;
    trouble_everywhere(world, &Trouble::NeverRemove).await;
    let accepted = project.delete_server(project.new_request(), id).await.unwrap();
    let op = world.ended(accepted.operation).await;
    assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
    (id, accepted.operation)
}

#[test]
fn an_operation_that_is_retried_goes_on_where_it_stopped() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, op) = stuck(world).await;
        let waiting = admin.operations_needing_operator().await.unwrap();
        assert_eq!(waiting.iter().map(|op| op.id).collect::<Vec<_>>(), [op]);
        // Nothing has changed: it calls again.
        let again = admin.retry_operation(admin.new_request(), op).await.unwrap();
        let ended = world.ended(again.operation).await;
        assert!(matches!(ended.state, OpState::NeedsOperator(_)), "{ended:#?}");
        restart(world).await;
        world.done(admin.retry_operation(admin.new_request(), op).await).await;
        assert!(matches!(project.server(id).await, Err(ApiError::NotFound { .. })));
        assert_eq!(admin.operations_needing_operator().await.unwrap(), []);
        assert_eq!(world.guests().await, 0);
        world.healthy().await;
    });
}

#[test]
fn an_operation_that_is_abandoned_leaves_a_server_that_can_be_worked_on() {
    for then in ["delete", "rebuild"] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, op) = stuck(world).await;
            let census = admin.census().await.unwrap();
            admin.abandon_operation(admin.new_request(), op).await.unwrap();
            let ended = admin.operation(op).await.unwrap();
            let OpState::Failed(fault) = &ended.state else { panic!("{ended:#?}") };
            assert!(fault.message.starts_with("abandoned by an operator: "), "{fault:?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (VmState::Error, None));
            assert_eq!((server.operation, server.fault.as_ref()), (None, Some(fault)));
            assert_eq!(admin.census().await.unwrap(), census, "nothing leaks, nothing is lost");
            world.healthy().await;
            restart(world).await;
            let accepted = match then {
                "delete" => project.delete_server(project.new_request(), id).await,
                _ => project.rebuild_server(project.new_request(), id, world.image).await,
            };
            world.done(accepted).await;
            assert_eq!(world.guests().await, usize::from(then == "rebuild"));
            world.healthy().await;
        });
    }
}

#[test]
fn an_operation_that_waits_for_a_person_is_never_forgotten() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (_, op) = stuck(world).await;
        let kept = Duration::from_secs(60);
        let options = CloudOptions::default().with_journal_kept(kept);
        let cloud = Cloud::start(world.cloud.ports().clone(), options).await.unwrap();
        std::mem::replace(&mut world.cloud, cloud).stop().await;
        world.pass(kept * 3).await;
        assert_eq!(admin.operations_needing_operator().await.unwrap().len(), 1);
        admin.abandon_operation(admin.new_request(), op).await.unwrap();
        world.pass(kept * 3).await;
        assert!(matches!(admin.operation(op).await, Err(ApiError::NotFound { .. })));
    });
}

#[test]
fn only_an_operation_that_waits_for_a_person_is_retried_or_abandoned() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let id = world.boot("web").await.instance.id;
        let stopped = project.stop(project.new_request(), id).await.unwrap();
        for word in ["running", "done"] {
            let retried = admin.retry_operation(admin.new_request(), stopped.operation).await;
            let told = matches!(
                &retried,
                Err(ApiError::OperationState { action: "retry", state, .. }) if *state == word
            );
            assert!(told, "{retried:?}");
            let given_up = admin.abandon_operation(admin.new_request(), stopped.operation).await;
            assert!(matches!(given_up, Err(ApiError::OperationState { action: "abandon", .. })));
            world.ended(stopped.operation).await;
        }
        let unknown = admin.retry_operation(admin.new_request(), OpId::from_u128(1)).await;
        assert!(matches!(unknown, Err(ApiError::NotFound { .. })));
        world.healthy().await;
    });
}

#[test]
fn abandoning_leaves_a_server_alone_that_a_deletion_has_taken_over() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, op) = stuck(world).await;
        restart(world).await;
        let delete = async {
            let accepted = project.delete_server(project.new_request(), id).await;
            accepted.map(|accepted| accepted.operation)
        };
        let abandon = admin.abandon_operation(admin.new_request(), op);
        let (deleted, abandoned) = tokio::join!(delete, abandon);
        abandoned.unwrap();
        let ended = world.ended(deleted.unwrap()).await;
        assert_eq!(ended.state, OpState::Done, "{ended:#?}");
        assert!(matches!(project.server(id).await, Err(ApiError::NotFound { .. })));
        world.healthy().await;
    });
}

#[test]
fn a_volume_whose_detachment_is_abandoned_stays_with_its_server() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (_, volume) = furnished(world).await;
        trouble_everywhere(world, &Trouble::NeverUnplug).await;
        let accepted = project.detach_volume(project.new_request(), volume).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
        admin.abandon_operation(admin.new_request(), op.id).await.unwrap();
        // The host may still have it, so it is the server's until that lets go.
        let known = project.volumes().await.unwrap();
        assert_eq!((known[0].state, known[0].operation), (VolumeState::InUse, None));
        let server = known[0].attachment.unwrap().instance;
        world.healthy().await;
        restart(world).await;
        world.done(project.delete_server(project.new_request(), server).await).await;
        world.done(project.delete_volume(project.new_request(), volume).await).await;
        world.healthy().await;
    });
}

#[test]
fn a_move_whose_end_is_abandoned_leaves_the_server_where_it_is_and_nothing_elsewhere() {
    for how in ["confirm", "revert"] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, _) = furnished(world).await;
            world.done(admin.migrate_server(admin.new_request(), id).await).await;
            let here = home(world, id).await;
            trouble_everywhere(world, &Trouble::NeverRemove).await;
            let accepted = match how {
                "confirm" => project.confirm_resize(project.new_request(), id).await,
                _ => project.revert_resize(project.new_request(), id).await,
            };
            let op = world.ended(accepted.unwrap().operation).await;
            assert!(matches!(op.state, OpState::NeedsOperator(_)), "{how}: {op:#?}");
            admin.abandon_operation(admin.new_request(), op.id).await.unwrap();
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (VmState::Error, None), "{how}");
            assert_eq!((server.host, server.migration), (Some(here), None), "{how}");
            restart(world).await;
            world.pass(CloudOptions::default().sweep_interval * 2).await;
            assert_eq!(world.guests().await, 1, "{how}: what was left elsewhere is removed");
            world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
            assert_eq!(home(world, id).await, here);
            assert_eq!(world.power(id).await, Some(PowerState::Running));
            world.healthy().await;
        });
    }
}

/// A confirmation that cannot remove the guest where it was before.
async fn stuck_confirmation(world: &mut World) -> (InstanceId, OpId, HostId) {
    let (admin, project) = (world.admin(), world.project());
    let id = world.boot("web").await.instance.id;
    let old = home(world, id).await;
    world.done(admin.migrate_server(admin.new_request(), id).await).await;
    elsewhere::restart(world, old, Some(&Trouble::NeverRemove)).await;
    let accepted = project.confirm_resize(project.new_request(), id).await.unwrap();
    let op = world.ended(accepted.operation).await;
    assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
    (id, op.id, old)
}

async fn claimed_on(world: &World, host: HostId) -> Vcpus {
    let hosts = world.admin().hosts().await.unwrap();
    hosts.iter().find(|row| row.host.id == host).unwrap().used.vcpus
}

#[test]
fn what_an_abandoned_move_leaves_on_a_silent_host_keeps_its_claim_until_the_host_has_spoken() {
    for speaks in ["host", "operator"] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, op, old) = stuck_confirmation(world).await;
            silence(world, old).await;
            admin.abandon_operation(admin.new_request(), op).await.unwrap();
            world.pass(Duration::from_secs(600)).await;
            check_moment(world).await;
            assert_eq!(claimed_on(world, old).await, Vcpus(2));
            world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
            assert_ne!(home(world, id).await, old);
            if speaks == "host" {
                elsewhere::restart(world, old, None).await;
                assert_eq!(world.hosts[&old].guest(id).await.unwrap(), None);
                world.healthy().await;
            } else {
                admin.force_down(admin.new_request(), old, "burnt").await.unwrap();
                world.pass(CloudOptions::default().sweep_interval * 2).await;
                world.healthy_but_for(old).await;
            }
            assert_eq!(claimed_on(world, old).await, Vcpus(0), "{speaks}");
        });
    }
}

#[test]
fn what_an_abandoned_move_leaves_on_a_host_that_is_lost_is_given_back_at_once() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (_, op, old) = stuck_confirmation(world).await;
        admin.force_down(admin.new_request(), old, "burnt").await.unwrap();
        admin.abandon_operation(admin.new_request(), op).await.unwrap();
        assert_eq!(claimed_on(world, old).await, Vcpus(0));
        check_moment(world).await;
    });
}

#[test]
fn a_server_does_not_go_where_an_abandoned_move_may_have_left_something() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, op, old) = stuck_confirmation(world).await;
        admin.abandon_operation(admin.new_request(), op).await.unwrap();
        world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
        // The host answers, and its agent cannot remove the guest.
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        assert_eq!(claimed_on(world, old).await, Vcpus(2));
        let moved = admin.migrate_server(admin.new_request(), id).await.unwrap();
        world.pass(Duration::from_secs(60)).await;
        let op = admin.operation(moved.operation).await.unwrap();
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        elsewhere::restart(world, old, None).await;
        world.done(admin.migrate_server(admin.new_request(), id).await).await;
        assert_eq!(home(world, id).await, old);
        world.healthy().await;
    });
}

/// What abandoning an operation is refused for: the host, and what it may still use.
async fn refused(world: &World, op: OpId) -> (String, String) {
    let admin = world.admin();
    let before = admin.operation(op).await.unwrap();
    let census = admin.census().await.unwrap();
    match admin.abandon_operation(admin.new_request(), op).await {
        Err(ApiError::StillUsed { operation, host, what }) => {
            assert_eq!(operation, op.to_string());
            assert_eq!(admin.operation(op).await.unwrap(), before);
            assert_eq!(admin.census().await.unwrap(), census);
            (host, what)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_move_is_not_abandoned_while_its_other_end_is_connected_to_a_volume() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (id, volume) = furnished(world).await;
        let old = home(world, id).await;
        elsewhere::restart(world, old, Some(&Trouble::NeverRemove)).await;
        let moved = admin.live_migrate_server(admin.new_request(), id).await.unwrap();
        let op = world.ended(moved.operation).await;
        assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
        assert_ne!(home(world, id).await, old);
        let name = admin.hosts().await.unwrap();
        let name = name.iter().find(|row| row.host.id == old).unwrap().host.name.to_string();
        let held = (name, format!("volume {volume}"));
        assert_eq!(refused(world, op.id).await, held);
        silence(world, old).await;
        assert_eq!(refused(world, op.id).await, held);
        // What the refusal says to do helps.
        admin.force_down(admin.new_request(), old, "burnt").await.unwrap();
        world.done(admin.retry_operation(admin.new_request(), op.id).await).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn what_was_being_made_anew_elsewhere_is_not_abandoned_before_its_host_is_declared_down() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        world.done(project.stop(project.new_request(), id).await).await;
        let (old, there) = (home(world, id).await, others(world, id).await[0]);
        lose_host(world, id).await;
        let begun = Arc::default();
        elsewhere::restart(world, there, Some(&slow(world, "stop", &begun))).await;
        admin.evacuate_server(admin.new_request(), id).await.unwrap();
        until(&begun).await;
        elsewhere::restart(world, there, Some(&Trouble::NeverRemove)).await;
        let deleted = project.delete_server(project.new_request(), id).await.unwrap();
        let op = world.ended(deleted.operation).await;
        assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
        let running = world.hosts[&there].guest(id).await.unwrap().unwrap();
        assert_eq!(running.power, PowerState::Running);
        assert_eq!(home(world, id).await, old);
        assert_eq!(refused(world, op.id).await.1, format!("server {id}"));
        silence(world, there).await;
        assert_eq!(refused(world, op.id).await.1, format!("server {id}"));

        // The volume was on its way already: between two steps its record is ahead.
        let store = &world.cloud.ports().store;
        let known = store.read::<Volume>(&keys::volume(volume)).await.unwrap().unwrap();
        let ahead = Some(Attachment { instance: id, host: there });
        let mut txn = Txn::new();
        txn.replace(&known, &Volume { attachment: ahead, ..known.value.clone() });
        store.commit(txn).await.unwrap();
        world.hosts[&there].stop(id).await.unwrap();
        admin.force_down(admin.new_request(), there, "burnt").await.unwrap();
        admin.abandon_operation(admin.new_request(), op.id).await.unwrap();
        assert_eq!(claimed_on(world, there).await, Vcpus(0));
        check_moment(world).await;
        world.add_host("gamma").await;
        world.done(admin.evacuate_server(admin.new_request(), id).await).await;
        check_home(world, id, volume, PowerState::Running, "").await;
    });
}

/// An image store that neither takes nor removes anything, and will not, while it is told so.
#[derive(Debug, Default)]
struct Sealed {
    images: MemoryImages,
    sealed: AtomicBool,
}

impl Sealed {
    fn check(&self, image: ImageId) -> Result<(), ImageError> {
        match self.sealed.load(Ordering::SeqCst) {
            true => Err(ImageError::NoSuchImage { image }),
            false => Ok(()),
        }
    }
}

impl std::fmt::Display for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sealed images")
    }
}

#[async_trait]
impl ImageStore for Sealed {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        self.check(image)?;
        self.images.put(image, bytes).await
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        self.images.content(image).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        self.images.open(image).await
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.check(image)?;
        self.images.remove(image).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        self.images.list().await
    }
}

#[test]
fn a_snapshot_that_is_abandoned_leaves_no_image_and_a_server_that_can_be_rebooted() {
    let images = Arc::new(Sealed::default());
    let with = Arc::clone(&images);
    run_with(
        |ports| ports.with_images(with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let id = world.boot("web").await.instance.id;
            images.sealed.store(true, Ordering::SeqCst);
            let name = "backup".parse().unwrap();
            let taken = project.snapshot_server(project.new_request(), id, &name).await.unwrap();
            let op = world.ended(taken.operation).await;
            assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
            admin.abandon_operation(admin.new_request(), op.id).await.unwrap();
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (VmState::Error, None));
            images.sealed.store(false, Ordering::SeqCst);
            world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
            world.pass(CloudOptions::default().sweep_interval * 2).await;
            let known = project.images().await.unwrap();
            assert_eq!(known.iter().map(|image| image.id).collect::<Vec<_>>(), [world.image]);
            assert_eq!(images.list().await.unwrap(), [world.image]);
            world.healthy().await;
        },
    );
}
