//! What the laws cannot say for every host: figures of a guest that really boots, and one that is
//! killed behind the driver's back.

use std::time::Duration;

use nova_core::clock::{ClockExt as _, SystemClock};
use nova_core::domain::{InstanceId, PowerState};
use nova_core::port::{GuestChange, GuestSpec, MeasureGuests as _, TellChanges as _, VirtDriver};
use nova_virt::libvirt::LibvirtHost;

use crate::lab::{self, Way};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn run(test: &str, work: impl Future<Output = ()>) {
    if lab::is_here(test) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = SystemClock::new();
            tokio::select! {
                biased;
                () = work => {}
                () = clock.sleep(LIMIT) => panic!("{test} takes too long"),
            }
        });
    }
}

/// A host with one guest that was just started.
async fn boot(id: u128) -> (LibvirtHost, InstanceId) {
    let (host, images, spec) = lab::qemu_host(Way::Native).await;
    let instance = InstanceId::from_u128(id);
    host.create(&GuestSpec { instance, ..spec }, &*images).await.unwrap();
    (host, instance)
}

#[test]
fn a_guest_that_boots_is_counted() {
    run("a_guest_that_boots_is_counted", async {
        let (host, guest) = boot(0xab1).await;
        lab::booted(&host, guest).await;
        let used = host.use_of(guest).await.unwrap();
        assert!(used.cpu_time > Some(Duration::from_millis(100)), "{used:?}");
        // As much as the guest sees, or what of it was touched; in any case not what nobody has.
        assert!(used.memory_bytes.is_some_and(|bytes| (16 << 20..1 << 30).contains(&bytes)));
        let disks: Vec<&str> = used.disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(disks, ["vda"]);
        // Its kernel lies there.
        assert!(used.disks[0].read_bytes > 1 << 20 && used.disks[0].reads > 0, "{used:?}");
        VirtDriver::remove(&host, guest).await.unwrap();
    });
}

#[test]
fn a_guest_that_is_killed_is_told_of() {
    run("a_guest_that_is_killed_is_told_of", async {
        let (host, guest) = boot(0xab2).await;
        let mut changes = host.changes();
        // The daemon writes the process down.
        let file = format!("/run/libvirt/qemu/nova-{guest}.pid");
        let process = std::fs::read_to_string(file).unwrap();
        let mut tool = std::process::Command::new("kill");
        assert!(tool.args(["-KILL", process.trim()]).status().unwrap().success());
        loop {
            let change = changes.next().await.unwrap();
            let power = host.guest(guest).await.unwrap().unwrap().power;
            if change == GuestChange::Guest(guest) && power == PowerState::Shutdown {
                break;
            }
        }
        VirtDriver::remove(&host, guest).await.unwrap();
    });
}
