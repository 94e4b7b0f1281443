//! Guests that go from one real daemon to another while they run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{ClockExt as _, SystemClock};
use nova_core::domain::{GiB, ImageFormat, InstanceId, PowerState};
use nova_core::port::{GuestSpec, ImageStore, Invitation, Parcel, Transfer, VirtDriver, VirtError};
use nova_virt::libvirt::LibvirtHost;

use crate::hosts::{Pair, are_here, driver, takes_in, tool, two_live};
use crate::lab;
use crate::moves::find;

mod shared {
    use crate::hosts;

    nova_core::live_laws!(if hosts::are_here, hosts::live(hosts::Pair::Shared));
}

mod copied {
    use crate::hosts;

    nova_core::live_laws!(if hosts::are_here, hosts::live(hosts::Pair::Offered));
}

mod failing {
    use crate::hosts;

    nova_core::laws!(
        live,
        if hosts::are_here,
        hosts::failing(),
        [
            a_guest_whose_destination_loses_power_does_not_arrive,
            a_guest_that_arrived_outlives_a_loss_of_power,
            a_guest_whose_source_loses_power_is_sent_no_more,
        ]
    );
}

/// Images, and a guest that is small, for these tests alone.
async fn guest(number: u128) -> (Arc<dyn ImageStore>, GuestSpec) {
    let (images, image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
    let instance = InstanceId::from_u128(number);
    (images, GuestSpec { instance, ..lab::spec(image, 128) })
}

async fn power(host: &LibvirtHost, guest: InstanceId) -> Option<PowerState> {
    host.guest(guest).await.unwrap().map(|guest| guest.power)
}

async fn sent(host: &LibvirtHost, guest: InstanceId, to: &Invitation) -> Parcel {
    let live = host.live().unwrap();
    loop {
        if let Transfer::Complete(parcel) = live.send(guest, to).await.unwrap() {
            return parcel;
        }
    }
}

#[tokio::test]
async fn what_was_written_goes_along_with_a_guest_that_runs() {
    if !are_here("what_was_written_goes_along_with_a_guest_that_runs") {
        return;
    }
    let (images, spec) = guest(11).await;
    let spec = GuestSpec { ephemeral_disk: GiB(1), ..spec };
    let [from, to] = two_live(Pair::Offered, &images);
    let id = spec.instance;
    from.driver.create(&spec, &*images).await.unwrap();
    from.driver.stop(id).await.unwrap();
    let written = |directory: &Path, what: &str| {
        let root = find(directory, "disk");
        tool("qemu-io", &["-f", "qcow2", "-c", &format!("{what} -P 0xab 700M 64k"), &root]);
        let second = find(directory, "disk.ephemeral");
        tool("qemu-io", &["-f", "raw", "-c", &format!("{what} -P 0xcd 1000M 64k"), &second]);
    };
    written(&from.directory, "write");
    from.driver.start(id).await.unwrap();
    let invited = to.driver.live().unwrap().expect(&spec, &[]).await.unwrap();
    let parcel = sent(&from.driver, id, &invited).await;
    to.driver.live().unwrap().receive(id, &parcel).await.unwrap();
    from.driver.remove(id).await.unwrap();
    to.driver.pausing().unwrap().unpause(id).await.unwrap();
    to.driver.stop(id).await.unwrap();
    written(&to.directory, "read");
    let root = find(&to.directory, "disk");
    let says = tool("qemu-img", &["info", "-f", "qcow2", &root]);
    let base = to.directory.join("base").display().to_string();
    assert!(says.contains(&format!("backing file: {base}/")), "{says}");
    to.driver.remove(id).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_is_taken_back_under_way_goes_on_and_can_be_sent_again() {
    if !are_here("a_guest_that_is_taken_back_under_way_goes_on_and_can_be_sent_again") {
        return;
    }
    let (images, spec) = guest(12).await;
    let [from, to] = two_live(Pair::Offered, &images);
    let id = spec.instance;
    let (here, there) = (from.driver.live().unwrap(), to.driver.live().unwrap());
    from.driver.create(&spec, &*images).await.unwrap();
    let clock = SystemClock::new();
    // At several moments of the way.
    for wait in [0, 300, 600, 1200] {
        let invited = there.expect(&spec, &[]).await.unwrap();
        let recall = async {
            clock.sleep(Duration::from_millis(wait)).await;
            here.recall(id).await
        };
        let (sent, recalled) = tokio::join!(here.send(id, &invited), recall);
        drop(sent);
        recalled.unwrap();
        // It may have come before there was anything to take back.
        here.recall(id).await.unwrap();
        assert_eq!(power(&from.driver, id).await, Some(PowerState::Running), "{wait}");
        to.driver.remove(id).await.unwrap();
    }
    let invited = there.expect(&spec, &[]).await.unwrap();
    let parcel = sent(&from.driver, id, &invited).await;
    there.receive(id, &parcel).await.unwrap();
    for host in [from, to] {
        host.driver.remove(id).await.unwrap();
    }
}

/// A driver that starts anew knows what was sent; what had come to the other one is gone with its
/// connection.
#[tokio::test]
async fn a_restarted_driver_recalls_what_it_sent_and_does_not_receive_what_had_come() {
    if !are_here("a_restarted_driver_recalls_what_it_sent_and_does_not_receive_what_had_come") {
        return;
    }
    let (images, spec) = guest(13).await;
    let [from, to] = two_live(Pair::Offered, &images);
    let id = spec.instance;
    from.driver.create(&spec, &*images).await.unwrap();
    let invited = to.driver.live().unwrap().expect(&spec, &[]).await.unwrap();
    let parcel = sent(&from.driver, id, &invited).await;
    let [here, there] = Pair::Offered.numbers();
    let again = |number: u8, host: crate::hosts::Host| {
        let directory = host.directory.clone();
        drop(host);
        takes_in(number, driver(number, &directory, None), &images)
    };
    let (from, to) = (again(here, from), again(there, to));
    assert_eq!(sent(&from, id, &invited).await, parcel);
    let clock = SystemClock::new();
    while power(&to, id).await == Some(PowerState::Paused) {
        clock.sleep(Duration::from_millis(50)).await;
    }
    let received = to.live().unwrap().receive(id, &parcel).await;
    assert!(matches!(received, Err(VirtError::WrongPower { .. })), "{received:?}");
    from.live().unwrap().recall(id).await.unwrap();
    assert_eq!(power(&from, id).await, Some(PowerState::Running));
    for host in [from, to] {
        host.remove(id).await.unwrap();
    }
}
