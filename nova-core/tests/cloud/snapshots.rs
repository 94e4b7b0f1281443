//! Images that are taken of servers, and images that somebody needs while they are deleted.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nova_core::cloud::{ApiError, Cloud, CloudOptions, ImageSpec, ServerSpec};
use nova_core::domain::{
    HostName, Image, ImageFormat, ImageId, ImageState, InstanceId, OpState, PowerState,
    StepOutcome, StepRecord, VmState,
};
use nova_core::port::Topic;
use nova_core::store::record::{LateImage, Record as _, keys};
use nova_core::store::{StoreExt as _, Txn, Write};

use crate::anew::{other_image, slow, trouble_everywhere, until};
use crate::moves::home;
use crate::stubborn::Trouble;
use crate::world::{World, run, spec};

async fn snapshot(world: &World, id: InstanceId) -> ImageId {
    let project = world.project();
    let name = "backup".parse().unwrap();
    world.done(project.snapshot_server(project.new_request(), id, &name).await).await
}

async fn image(world: &World, id: ImageId) -> Option<Image> {
    world.project().images().await.unwrap().into_iter().find(|image| image.id == id)
}

/// A server on whose disk something is written.
async fn written(world: &World) -> InstanceId {
    let id = world.boot("web").await.instance.id;
    world.hosts[&home(world, id).await].write_disk(id, "precious");
    id
}

#[test]
fn a_server_made_from_a_snapshot_has_what_was_on_the_disk() {
    run(async |world: &mut World| {
        let project = world.project();
        let id = written(world).await;
        let states = [VmState::Active, VmState::Paused, VmState::Stopped];
        for state in states {
            match state {
                VmState::Paused => {
                    world.done(project.pause(project.new_request(), id).await).await;
                }
                VmState::Stopped => {
                    world.done(project.unpause(project.new_request(), id).await).await;
                    world.done(project.stop(project.new_request(), id).await).await;
                }
                _ => {}
            }
            let power = world.power(id).await;
            let taken = snapshot(world, id).await;
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task, server.lent), (state, None, None));
            assert_eq!(world.power(id).await, power);
            let record = image(world, taken).await.unwrap();
            let content = world.cloud.ports().images.content(taken).await.unwrap();
            assert_eq!((record.state, Some(record.content)), (ImageState::Active, content));
            assert_eq!((record.owner.as_ref(), record.server), (Some(project.id()), Some(id)));
            let spec = ServerSpec::new("copy".parse().unwrap(), "small".parse().unwrap(), taken);
            let copy = project.create_server(project.new_request(), &spec).await;
            let copy = world.done(copy).await;
            assert_eq!(world.power(copy).await, Some(PowerState::Running));
            let disk = world.hosts[&home(world, copy).await].disk(copy);
            assert_eq!(disk.as_deref(), Some("precious"));
            world.done(project.delete_server(project.new_request(), copy).await).await;
            project.delete_image(project.new_request(), taken).await.unwrap();
            assert_eq!(image(world, taken).await, None);
        }
        world.healthy().await;
    });
}

#[test]
fn an_image_of_a_server_has_a_format_that_hosts_keep() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let id = world.boot("web").await.instance.id;
        let foreign = [ImageFormat::Vmdk, ImageFormat::Vhd, ImageFormat::Vhdx, ImageFormat::Vdi];
        for format in foreign {
            let spec = ImageSpec::new("foreign".parse().unwrap(), format);
            let bytes = Box::new(&b"a disk"[..]);
            let from = admin.register_image(admin.new_request(), &spec, bytes).await.unwrap();
            assert_eq!(image(world, from).await.unwrap().format, format);
            world.done(project.rebuild_server(project.new_request(), id, from).await).await;
            let taken = snapshot(world, id).await;
            assert_eq!(image(world, taken).await.unwrap().format, ImageFormat::Qcow2, "{format:?}");
        }
    });
}

#[test]
fn a_snapshot_that_fails_leaves_neither_record_nor_bytes() {
    run(async |world: &mut World| {
        let project = world.project();
        let id = written(world).await;
        let census = world.admin().census().await.unwrap();
        // The store refuses what the host had already stored once; and then the host is lost.
        let name = project.server(id).await.unwrap().host.unwrap();
        world.cloud.stop_host(&name).await;
        world.pass(CloudOptions::default().down_after * 2).await;
        let label = "backup".parse().unwrap();
        let accepted = project.snapshot_server(project.new_request(), id, &label).await.unwrap();
        assert_eq!(image(world, accepted.id).await.unwrap().state, ImageState::Saving);
        assert_ne!(world.admin().census().await.unwrap().records, census.records);
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.task), (VmState::Active, None));
        assert!(server.fault.is_some());
        world.healthy().await;
        // Nobody knows whether the host had begun; when it is back, it has nothing left of it.
        returns(world, name).await;
        assert_eq!(world.admin().census().await.unwrap().records, census.records);
    });
}

#[test]
fn an_answer_that_was_lost_costs_no_second_copy() {
    run(async |world: &mut World| {
        let id = written(world).await;
        trouble_everywhere(world, &Trouble::NoSnapshot).await;
        let taken = snapshot(world, id).await;
        assert_eq!(image(world, taken).await.unwrap().state, ImageState::Active);
        world.healthy().await;
    });
}

#[test]
fn an_image_that_was_given_up_is_taken_back_by_a_host_that_hung_when_it_had_stored_it() {
    run(async |world: &mut World| {
        let id = written(world).await;
        // The bytes are stored, and the driver says so when nobody listens any more.
        let (verb, clock, begun) = ("snapshot", Arc::clone(&world.clock), Arc::default());
        let time = CloudOptions::default().order_limit * 10;
        let trouble = Trouble::Slow { verb, clock, time, begun: Arc::clone(&begun) };
        trouble_everywhere(world, &trouble).await;
        let (ports, host) = (world.cloud.ports(), home(world, id).await);
        let other = world.project().images().await.unwrap().remove(0);
        let image = ImageId::from_u128(77);
        let mut txn = Txn::new();
        txn.put(&Image { id: image, state: ImageState::Saving, ..other });
        ports.store.commit(txn).await.unwrap();
        let order = format!(
            r#"{{"generation":99,"order":{{"snapshot":
                {{"instance":"{id}","image":"{image}","format":"raw"}}}}}}"#
        );
        let (order, limit) = (Arc::from(order.into_bytes()), Duration::from_secs(3600));
        let agent = Topic::agent(host);
        // Whoever wanted it gives it up when the host has begun.
        let given_up = async {
            until(&begun).await;
            let mut txn = Txn::new();
            txn.write(Write::Remove(keys::image(image)));
            ports.store.commit(txn).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ports.bus.call(&agent, order, limit), given_up);
        let answer = answer.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("the image was given up"), "{answer}");
        assert!(!ports.images.list().await.unwrap().contains(&image));
    });
}

/// A server of which its host was taking an image when it died. The image has been given up, and
/// its bytes are there all the same, as what the host had stored last.
async fn stored_too_late(world: &mut World) -> (InstanceId, HostName, ImageId) {
    let project = world.project();
    let id = written(world).await;
    let begun = Arc::new(AtomicBool::new(false));
    trouble_everywhere(world, &slow(world, "snapshot", &begun)).await;
    let label = "backup".parse().unwrap();
    let taken = project.snapshot_server(project.new_request(), id, &label).await.unwrap();
    until(&begun).await;
    let host = project.server(id).await.unwrap().host.unwrap();
    world.cloud.stop_host(&host).await;
    // It had not come so far yet.
    let images = Arc::clone(&world.cloud.ports().images);
    images.remove(taken.id).await.unwrap();
    world.pass(CloudOptions::default().down_after * 2).await;
    let op = world.ended(taken.operation).await;
    assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
    assert_eq!(image(world, taken.id).await, None);
    images.put(taken.id, Box::new(&b"late"[..])).await.unwrap();
    (id, host, taken.id)
}

/// The agent of a host is back, and has swept.
async fn returns(world: &mut World, host: HostName) {
    let hosts = world.admin().hosts().await.unwrap();
    let id = hosts.iter().find(|known| known.host.name == host).unwrap().host.id;
    let driver = Arc::clone(&world.hosts[&id]);
    world.cloud.add_host(spec(host.as_str()), driver).await.unwrap();
}

#[test]
fn what_a_host_stored_too_late_before_it_died_goes_when_it_is_back() {
    run(async |world: &mut World| {
        let (_, host, image) = stored_too_late(world).await;
        returns(world, host).await;
        assert!(!world.cloud.ports().images.list().await.unwrap().contains(&image));
        assert_eq!(late_images(world).await, 0);
        world.healthy().await;
    });
}

#[test]
fn what_a_host_stored_too_late_goes_when_the_host_is_declared_down() {
    run(async |world: &mut World| {
        let (_, host, image) = stored_too_late(world).await;
        let (admin, images) = (world.admin(), Arc::clone(&world.cloud.ports().images));
        let hosts = admin.hosts().await.unwrap();
        let id = hosts.iter().find(|known| known.host.name == host).unwrap().host.id;
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        assert!(images.list().await.unwrap().contains(&image), "the host may be at it still");
        admin.force_down(admin.new_request(), id, "it is off").await.unwrap();
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        assert!(!images.list().await.unwrap().contains(&image));
        assert_eq!(late_images(world).await, 0);
    });
}

#[test]
fn what_a_host_stored_too_late_of_a_server_that_is_deleted_since_goes_when_it_is_back() {
    run(async |world: &mut World| {
        let (id, host, image) = stored_too_late(world).await;
        let project = world.project();
        world.done(project.delete_server(project.new_request(), id).await).await;
        returns(world, host).await;
        assert!(!world.cloud.ports().images.list().await.unwrap().contains(&image));
        assert_eq!(late_images(world).await, 0);
        world.healthy().await;
    });
}

async fn late_images(world: &World) -> usize {
    let store = &world.cloud.ports().store;
    store.read_all::<LateImage>(&LateImage::all()).await.unwrap().len()
}

#[test]
fn a_server_that_is_deleted_while_an_image_is_taken_leaves_nothing() {
    run(async |world: &mut World| {
        let project = world.project();
        let id = written(world).await;
        let begun = Arc::new(AtomicBool::new(false));
        trouble_everywhere(world, &slow(world, "snapshot", &begun)).await;
        let label = "backup".parse().unwrap();
        let accepted = project.snapshot_server(project.new_request(), id, &label).await.unwrap();
        until(&begun).await;
        // Neither can it be used, nor taken away under the hands of who makes it.
        let spec = ServerSpec::new("copy".parse().unwrap(), "small".parse().unwrap(), accepted.id);
        let early = project.create_server(project.new_request(), &spec).await;
        assert!(matches!(early, Err(ApiError::Unsuitable { .. })), "{early:?}");
        let early = project.delete_image(project.new_request(), accepted.id).await;
        assert!(matches!(early, Err(ApiError::InUse { .. })), "{early:?}");
        world.done(project.delete_server(project.new_request(), id).await).await;
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        assert_eq!(image(world, accepted.id).await, None);
        assert_eq!(world.guests().await, 0);
        world.healthy().await;
    });
}

#[test]
fn a_host_that_stores_too_late_takes_the_image_back() {
    run(async |world: &mut World| {
        let project = world.project();
        let id = written(world).await;
        let begun = Arc::new(AtomicBool::new(false));
        trouble_everywhere(world, &slow(world, "snapshot", &begun)).await;
        let label = "backup".parse().unwrap();
        let accepted = project.snapshot_server(project.new_request(), id, &label).await.unwrap();
        until(&begun).await;
        // The image is given up while the host is still at it, as by another conductor.
        let store = Arc::clone(&world.cloud.ports().store);
        let saving = store.read::<Image>(&keys::image(accepted.id)).await.unwrap().unwrap();
        let mut txn = Txn::new();
        txn.replace(&saving, &Image { state: ImageState::Discarded, ..saving.value.clone() });
        store.commit(txn).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let taken_back = |record: &StepRecord| matches!(&record.outcome, StepOutcome::NotDone { reason } if reason.contains("given up"));
        assert!(op.journal.iter().any(taken_back), "{op:#?}");
        assert_eq!(image(world, accepted.id).await, None);
        world.healthy().await;
    });
}

#[test]
fn a_snapshot_goes_on_after_a_restart() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(|ports| ports).await;
        let clock = Arc::clone(&world.clock);
        let work = async {
            let project = world.project();
            let id = written(&world).await;
            let begun = Arc::new(AtomicBool::new(false));
            let trouble = slow(&world, "snapshot", &begun);
            trouble_everywhere(&mut world, &trouble).await;
            let label = "backup".parse().unwrap();
            let accepted = project.snapshot_server(project.new_request(), id, &label).await;
            until(&begun).await;
            restart(&mut world).await;
            let taken = world.done(accepted).await;
            assert_eq!(image(&world, taken).await.unwrap().state, ImageState::Active);
            world.healthy().await;
        };
        clock.drive(work).await;
    });
}

/// The process ends and another one takes over, with hosts without trouble.
pub(crate) async fn restart(world: &mut World) {
    let ports = world.cloud.ports().clone();
    let cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
    std::mem::replace(&mut world.cloud, cloud).stop().await;
    for host in world.admin().hosts().await.unwrap() {
        let driver = Arc::clone(&world.hosts[&host.host.id]);
        world.cloud.add_host(crate::world::spec(host.host.name.as_str()), driver).await.unwrap();
    }
}

#[test]
fn an_image_is_not_deleted_while_an_operation_needs_it() {
    for what in ["rebuild", "resize", "migrate"] {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let id = written(world).await;
            let begun = Arc::new(AtomicBool::new(false));
            let verb = if what == "rebuild" { "create" } else { "unpack" };
            trouble_everywhere(world, &slow(world, verb, &begun)).await;
            let needed = if what == "rebuild" { other_image(world).await } else { world.image };
            let accepted = match what {
                "rebuild" => project.rebuild_server(project.new_request(), id, needed).await,
                "migrate" => admin.migrate_server(admin.new_request(), id).await,
                _ => {
                    let spec = nova_core::cloud::FlavorSpec::new(
                        "large".parse().unwrap(),
                        nova_core::domain::Vcpus(4),
                        nova_core::domain::MiB(4096),
                    )
                    .with_root_disk(nova_core::domain::GiB(20));
                    admin.create_flavor(admin.new_request(), &spec).await.unwrap();
                    let large = "large".parse().unwrap();
                    project.resize_server(project.new_request(), id, &large).await
                }
            };
            until(&begun).await;
            let refused = admin.delete_image(admin.new_request(), needed).await;
            let by = format!("server {id}");
            assert!(
                matches!(&refused, Err(ApiError::InUse { by: user, .. }) if *user == by),
                "{refused:?}"
            );
            assert_eq!(image(world, needed).await.unwrap().state, ImageState::Active);
            world.done(accepted).await;
            admin.delete_image(admin.new_request(), needed).await.unwrap();
            assert_eq!(image(world, needed).await, None);
            world.healthy().await;
        });
    }
}

#[test]
fn of_a_deletion_and_a_use_at_once_one_is_refused() {
    for turns in 0..12 {
        run(async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let id = written(world).await;
            let begun = Arc::new(AtomicBool::new(false));
            trouble_everywhere(world, &slow(world, "create", &begun)).await;
            let needed = other_image(world).await;
            let rebuild = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                project.rebuild_server(project.new_request(), id, needed).await
            };
            let delete = async {
                for _ in 0..6 {
                    tokio::task::yield_now().await;
                }
                admin.delete_image(admin.new_request(), needed).await
            };
            let (rebuilt, deleted) = tokio::join!(rebuild, delete);
            assert!(rebuilt.is_ok() != deleted.is_ok(), "{rebuilt:?} {deleted:?}");
            if let Ok(accepted) = rebuilt {
                world.done(Ok(accepted)).await;
            }
            world.healthy().await;
        });
    }
}
