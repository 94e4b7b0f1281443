//! Servers that boot from volumes in files, on real hosts that share nothing else.

use std::time::Duration;

use nova_core::clock::{ClockExt as _, SystemClock};
use nova_core::cloud::{ServerSpec, VolumeSpec};
use nova_core::domain::{GiB, ImageId, InstanceId, PowerState, Reboot, VolumeId, VolumeSize};
use nova_core::domain::{VmState, VolumeState};
use nova_core::port::{OpenConsoles as _, ReadConsoles as _};
use tokio::io::AsyncWriteExt as _;

use crate::cloud::{World, check};
use crate::hosts::Pair;

/// How often a guest is asked before it counts as dumb.
const ASKED_MAX: u32 = 30;

/// Writes what no image has, behind all that is in the guest's image. The shell does the sum, so
/// that what is typed is not taken for what is read.
const WRITES: (&str, &str) = (
    "echo kept-$((40+2)) | dd of=/dev/vda bs=512 seek=200000 conv=fsync && echo wrote-$?",
    "wrote-0",
);

/// Reads it again from this disk. What is said is told from what was said before by the number.
fn reads(disk: &str, number: u32) -> (String, String) {
    let read = format!("dd if=/dev/{disk} bs=512 skip=200000 count=1 2>/dev/null | head -n 1");
    (format!("echo read-{number}-$({read})"), format!("read-{number}-kept-42"))
}

impl World {
    async fn volume_of(&self, image: ImageId) -> VolumeId {
        let spec = VolumeSpec::new("system".parse().unwrap(), VolumeSize::new(GiB(1)).unwrap());
        let (project, spec) = (&self.project, spec.with_image(image));
        self.done(project.create_volume(project.new_request(), &spec).await).await
    }

    async fn boot(&self, volume: VolumeId) -> InstanceId {
        let spec = ServerSpec::new("web".parse().unwrap(), "small".parse().unwrap(), volume);
        let project = &self.project;
        self.done(project.create_server(project.new_request(), &spec).await).await
    }

    /// Types a command at the console of a server's guest until it says what is expected.
    async fn types(&self, id: InstanceId, typed: (impl AsRef<str>, impl AsRef<str>)) {
        let (command, expected) = (typed.0.as_ref(), typed.1.as_ref());
        let host = self.project.server(id).await.unwrap().instance.host.unwrap();
        let (driver, clock) = (&self.hosts[&host], SystemClock::new());
        for _ in 0..ASKED_MAX {
            let mut console = driver.open_console(id).await.unwrap();
            console.write_all(format!("\n{command}\n").as_bytes()).await.unwrap();
            console.flush().await.unwrap();
            for _ in 0..20 {
                let log = driver.console_log(id, usize::MAX).await.unwrap();
                if String::from_utf8_lossy(&log).contains(expected) {
                    return;
                }
                clock.sleep(Duration::from_millis(250)).await;
            }
        }
        let log = driver.console_log(id, usize::MAX).await.unwrap();
        panic!("it does not say {expected:?}: {}", String::from_utf8_lossy(&log));
    }

    /// It is at one host, and what it boots from is its volume.
    async fn runs_on(&self, id: InstanceId, volume: VolumeId) {
        let (home, guests) = self.places(id).await;
        assert_eq!(
            (guests[&home].power, &guests[&home].volumes),
            (PowerState::Running, &vec![volume])
        );
        let others = guests.iter().filter(|(host, _)| **host != home);
        assert!(others.into_iter().all(|(_, guest)| guest.power == PowerState::Shutdown));
    }
}

async fn kept() {
    let (world, image) = World::new(Pair::OfferedCloud, "kept").await;
    let project = &world.project;
    let volume = world.volume_of(image).await;
    let first = world.boot(volume).await;
    world.runs_on(first, volume).await;
    world.types(first, WRITES).await;
    // From start to start, and beside a rescue disk.
    world.done(project.stop(project.new_request(), first).await).await;
    world.done(project.start(project.new_request(), first).await).await;
    world.types(first, reads("vda", 1)).await;
    world.done(project.rescue_server(project.new_request(), first, None).await).await;
    assert_eq!(project.server(first).await.unwrap().instance.state, VmState::Rescued);
    world.types(first, reads("vdb", 9)).await;
    world.done(project.unrescue_server(project.new_request(), first).await).await;
    world.done(project.delete_server(project.new_request(), first).await).await;
    let free = project.volumes().await.unwrap();
    assert_eq!((free[0].state, free[0].attachment), (VolumeState::Available, None));
    // The next server has it, wherever it is.
    let second = world.boot(volume).await;
    world.runs_on(second, volume).await;
    world.types(second, reads("vda", 2)).await;
    world.end(second).await;
}

#[test]
fn what_a_guest_wrote_on_its_volume_is_there_for_the_next_server() {
    check("what_a_guest_wrote_on_its_volume_is_there_for_the_next_server", kept());
}

async fn moved() {
    let (world, image) = World::new(Pair::OfferedCloud, "moved").await;
    let (project, admin) = (&world.project, world.cloud.admin());
    let volume = world.volume_of(image).await;
    let id = world.boot(volume).await;
    let first = world.places(id).await.0;
    world.types(id, WRITES).await;
    let large = "large".parse().unwrap();
    world.done(project.resize_server(project.new_request(), id, &large).await).await;
    assert_ne!(world.places(id).await.0, first);
    world.types(id, reads("vda", 3)).await;
    world.done(project.revert_resize(project.new_request(), id).await).await;
    assert_eq!(world.places(id).await.0, first);
    world.types(id, reads("vda", 4)).await;
    world.runs_on(id, volume).await;
    // While it runs: nothing of the volume is copied, and it goes on from it.
    world.done(admin.live_migrate_server(admin.new_request(), id).await).await;
    assert_ne!(world.places(id).await.0, first);
    world.runs_on(id, volume).await;
    world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
    world.types(id, reads("vda", 5)).await;
    world.end(id).await;
}

#[test]
fn a_server_on_a_volume_is_moved_between_hosts_that_share_nothing_else() {
    check("a_server_on_a_volume_is_moved_between_hosts_that_share_nothing_else", moved());
}

async fn evacuated() {
    let (mut world, image) = World::new(Pair::OfferedCloud, "evacuated with its volume").await;
    let volume = world.volume_of(image).await;
    let id = world.boot(volume).await;
    world.types(id, WRITES).await;
    world.evacuates(Pair::OfferedCloud, id).await;
    world.runs_on(id, volume).await;
    world.types(id, reads("vda", 6)).await;
    world.end(id).await;
}

#[test]
fn a_server_of_a_killed_host_goes_on_from_its_volume() {
    check("a_server_of_a_killed_host_goes_on_from_its_volume", evacuated());
}
