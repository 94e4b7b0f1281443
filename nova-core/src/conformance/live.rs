//! The laws of [`LiveMigrate`]: guests that go to another host while they run.
//!
//! The subject is two hosts of one kind that have the ability. Each law draws ids of its own and
//! removes what it made.

use crate::conformance::virt::{Subject, World, done};
use crate::domain::{InstanceId, PowerState, Reboot};
use crate::port::{Invitation, LiveMigrate, Parcel, Transfer, VirtDriver, VirtError};

/// One test for each law of live migration; the expression makes two drivers, or two
/// [`Subject`]s of the same shape.
///
/// ```
/// use nova_core::memory::MemoryHost;
/// nova_core::live_laws!(async { (MemoryHost::default(), MemoryHost::default()) });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! live_laws {
    (if $here:expr, $make:expr) => {
        $crate::laws!(
            live,
            if $here,
            $make,
            [
                an_expected_guest_does_not_run,
                a_guest_runs_until_it_was_sent,
                a_guest_arrives_as_it_was_sent,
                a_guest_arrives_with_the_volume_that_it_runs_from,
                expecting_sending_and_receiving_are_repeatable,
                a_recalled_guest_goes_on,
                a_guest_in_no_memory_is_not_sent,
                a_guest_whose_destination_loses_power_does_not_arrive,
                a_guest_that_arrived_outlives_a_loss_of_power,
                a_guest_whose_source_loses_power_is_sent_no_more,
            ]
        );
    };
    ($make:expr) => {
        $crate::live_laws!(if |_: &str| true, $make);
    };
}

/// Rounds of sending after which a guest that nobody uses has to be complete.
const ROUNDS_MAX: u32 = 10_000;

/// The source and the destination, with one guest for the law.
struct Way {
    source: World,
    destination: World,
    guest: InstanceId,
}

impl Way {
    async fn new<S: Into<Subject>, D: Into<Subject>>((source, there): (S, D), law: &str) -> Self {
        let source = World::new(source, law).await;
        let destination = World::new(there, law).await;
        let guest = source.id(0);
        Self { source, destination, guest }
    }

    fn here(&self) -> &dyn LiveMigrate {
        live(self.source.driver())
    }

    fn there(&self) -> &dyn LiveMigrate {
        live(self.destination.driver())
    }

    async fn expect(&self) -> Invitation {
        done(self.there().expect(&self.source.spec(0), &[]).await)
    }

    async fn send(&self, to: &Invitation) -> Parcel {
        for _ in 0..ROUNDS_MAX {
            match done(self.here().send(self.guest, to).await) {
                Transfer::Complete(parcel) => return parcel,
                // At every moment one of the two, and only one, may run.
                Transfer::UnderWay => {
                    assert_eq!(self.destination.power(self.guest).await, PowerState::Paused);
                }
            }
        }
        panic!("{}: sending does not end", self.source.driver());
    }

    async fn clean(self) {
        self.source.clean().await;
        self.destination.clean().await;
    }
}

fn live(driver: &dyn VirtDriver) -> &dyn LiveMigrate {
    driver.live().unwrap_or_else(|| panic!("{driver} sends no guests"))
}

#[track_caller]
fn refused(result: Result<(), VirtError>) {
    assert!(matches!(result, Err(VirtError::WrongPower { .. })), "{result:?}");
}

/// Nothing that it is asked lets it run before it was received, and it is not sent on.
pub async fn an_expected_guest_does_not_run<S: Into<Subject>, D: Into<Subject>>(hosts: (S, D)) {
    let way = Way::new(hosts, "an_expected_guest_does_not_run").await;
    let (guest, driver) = (way.guest, way.destination.driver());
    way.source.create(0).await;
    let to = way.expect().await;
    assert_eq!(way.destination.power(guest).await, PowerState::Paused);
    refused(driver.start(guest).await);
    refused(driver.reboot(guest, Reboot::Hard, 9).await);
    if let Some(pausing) = driver.pausing() {
        refused(pausing.unpause(guest).await);
    }
    refused(way.there().send(guest, &to).await.map(drop));
    assert_eq!(way.destination.power(guest).await, PowerState::Paused);
    assert!(!done(way.there().is_complete(guest).await));
    // Its source goes on all the same, and it can be removed.
    assert_eq!(way.source.power(guest).await, PowerState::Running);
    done(driver.remove(guest).await);
    assert_eq!(way.destination.guest(guest).await, None);
    way.clean().await;
}

/// It runs while it is copied and is frozen when that is over, and nothing but being received and
/// unpaused lets it run at its destination.
pub async fn a_guest_runs_until_it_was_sent<S: Into<Subject>, D: Into<Subject>>(hosts: (S, D)) {
    let way = Way::new(hosts, "a_guest_runs_until_it_was_sent").await;
    way.source.create(0).await;
    let to = way.expect().await;
    for _ in 0..ROUNDS_MAX {
        match done(way.here().send(way.guest, &to).await) {
            Transfer::UnderWay => {
                assert_eq!(way.source.power(way.guest).await, PowerState::Running);
            }
            Transfer::Complete(_) => {
                assert_eq!(way.source.power(way.guest).await, PowerState::Paused);
                assert_eq!(way.destination.power(way.guest).await, PowerState::Paused);
                assert!(!done(way.there().is_complete(way.guest).await));
                return way.clean().await;
            }
        }
    }
    panic!("{}: sending does not end", way.source.driver());
}

/// It comes paused, complete, with its boot number and the volumes that it was expected with, and
/// goes on when it is unpaused.
pub async fn a_guest_arrives_as_it_was_sent<S: Into<Subject>, D: Into<Subject>>(hosts: (S, D)) {
    let way = Way::new(hosts, "a_guest_arrives_as_it_was_sent").await;
    let (guest, source, destination) = (way.guest, &way.source, &way.destination);
    source.create(0).await;
    done(source.driver().reboot(guest, Reboot::Hard, 3).await);
    let links = source.links();
    if let Some(volumes) = source.driver().volumes() {
        done(volumes.attach(guest, &links[0]).await);
    }
    let plugged = source.guest(guest).await.map(|guest| guest.volumes).unwrap_or_default();
    let links = &links[..plugged.len()];
    let to = done(way.there().expect(&source.spec(0), links).await);
    let parcel = way.send(&to).await;
    done(way.there().receive(guest, &parcel).await);
    assert!(done(way.there().is_complete(guest).await));
    let arrived = destination.guest(guest).await.map(|g| (g.power, g.boot, g.volumes));
    assert_eq!(arrived, Some((PowerState::Paused, 3, plugged)));
    done(source.driver().remove(guest).await);
    let pausing = destination.driver().pausing();
    done(pausing.unwrap_or_else(|| panic!("it pauses no guests")).unpause(guest).await);
    assert_eq!(destination.power(guest).await, PowerState::Running);
    way.clean().await;
}

/// Its root disk is among the volumes that it was expected with, and it goes on from it there.
pub async fn a_guest_arrives_with_the_volume_that_it_runs_from<
    S: Into<Subject>,
    D: Into<Subject>,
>(
    hosts: (S, D),
) {
    let way = Way::new(hosts, "a_guest_arrives_with_the_volume_that_it_runs_from").await;
    let (source, destination) = (&way.source, &way.destination);
    let Some(volumes) = source.driver().volumes() else { return };
    let guest = source.boot_from_volume(volumes).await;
    let links = &source.links()[..1];
    let to = done(way.there().expect(&source.spec_on_volume(), links).await);
    let parcel = way.send(&to).await;
    done(way.there().receive(guest, &parcel).await);
    done(source.driver().remove(guest).await);
    let pausing = destination.driver().pausing();
    done(pausing.unwrap_or_else(|| panic!("it pauses no guests")).unpause(guest).await);
    let is = destination.guest(guest).await.map(|is| (is.power, is.volumes));
    assert_eq!(is, Some((PowerState::Running, vec![links[0].volume])));
    // It knows what it boots from.
    let plugging = destination.driver().volumes();
    let plugging = plugging.unwrap_or_else(|| panic!("it plugs no volumes"));
    refused(plugging.detach(guest, links[0].volume).await);
    done(destination.driver().stop(guest).await);
    done(destination.driver().start(guest).await);
    assert_eq!(destination.power(guest).await, PowerState::Running);
    way.clean().await;
}

/// Each may be asked again: what is there is left as it is, also when it runs already.
pub async fn expecting_sending_and_receiving_are_repeatable<S: Into<Subject>, D: Into<Subject>>(
    hosts: (S, D),
) {
    let way = Way::new(hosts, "expecting_sending_and_receiving_are_repeatable").await;
    let guest = way.guest;
    way.source.create(0).await;
    done(way.source.driver().reboot(guest, Reboot::Hard, 2).await);
    way.expect().await;
    let to = way.expect().await;
    let parcel = way.send(&to).await;
    assert_eq!(way.send(&to).await, parcel);
    assert!(!done(way.there().is_complete(guest).await));
    done(way.there().receive(guest, &parcel).await);
    let arrived = way.destination.guest(guest).await;
    way.expect().await;
    done(way.there().receive(guest, &parcel).await);
    assert_eq!(way.destination.guest(guest).await, arrived);
    assert!(done(way.there().is_complete(guest).await));
    let pausing = way.destination.driver().pausing();
    done(pausing.unwrap_or_else(|| panic!("it pauses no guests")).unpause(guest).await);
    way.expect().await;
    done(way.there().receive(guest, &parcel).await);
    assert_eq!(way.destination.power(guest).await, PowerState::Running);
    way.clean().await;
}

/// Running or paused, it is as it was before it was sent, and can be sent again; what was not
/// sent, or is not there, is left.
pub async fn a_recalled_guest_goes_on<S: Into<Subject>, D: Into<Subject>>(hosts: (S, D)) {
    let way = Way::new(hosts, "a_recalled_guest_goes_on").await;
    let (guest, driver) = (way.guest, way.source.driver());
    done(way.here().recall(guest).await);
    way.source.create(0).await;
    let to = way.expect().await;
    for power in [PowerState::Running, PowerState::Paused] {
        if let (PowerState::Paused, Some(pausing)) = (power, driver.pausing()) {
            done(pausing.pause(guest).await);
        }
        done(way.here().recall(guest).await);
        assert_eq!(way.source.power(guest).await, power);
        // Once it has begun, and twice when it is over.
        drop(done(way.here().send(guest, &to).await));
        done(way.here().recall(guest).await);
        assert_eq!(way.source.power(guest).await, power);
        way.send(&to).await;
        for _ in 0..2 {
            done(way.here().recall(guest).await);
            assert_eq!(way.source.power(guest).await, power);
        }
    }
    way.clean().await;
}

/// One that is shut down has nothing to go on with, and one that is missing is named.
pub async fn a_guest_in_no_memory_is_not_sent<S: Into<Subject>, D: Into<Subject>>(hosts: (S, D)) {
    let way = Way::new(hosts, "a_guest_in_no_memory_is_not_sent").await;
    let to = way.expect().await;
    let missing = way.here().send(way.guest, &to).await;
    let told = matches!(missing, Err(VirtError::NoSuchGuest { instance }) if instance == way.guest);
    assert!(told, "{missing:?}");
    let parcel = Parcel { instance: way.guest, boot: 0, disks: String::new() };
    let missing = way.here().receive(way.guest, &parcel).await;
    assert!(matches!(missing, Err(VirtError::NoSuchGuest { .. })), "{missing:?}");
    assert!(!done(way.here().is_complete(way.guest).await));
    way.source.create(0).await;
    done(way.source.driver().stop(way.guest).await);
    refused(way.here().send(way.guest, &to).await.map(drop));
    assert_eq!(way.source.power(way.guest).await, PowerState::Shutdown);
    way.clean().await;
}

/// What its memory was copied into is gone, so that receiving is refused, and it does not run. It
/// can be expected and sent anew.
pub async fn a_guest_whose_destination_loses_power_does_not_arrive<
    S: Into<Subject>,
    D: Into<Subject>,
>(
    hosts: (S, D),
) {
    let way = Way::new(hosts, "a_guest_whose_destination_loses_power_does_not_arrive").await;
    let guest = way.guest;
    way.source.create(0).await;
    let to = way.expect().await;
    let parcel = way.send(&to).await;
    way.destination.lose_power(guest).await;
    refused(way.there().receive(guest, &parcel).await);
    assert!(!done(way.there().is_complete(guest).await));
    refused(way.destination.driver().start(guest).await);
    assert_eq!(way.destination.power(guest).await, PowerState::Shutdown);
    // Nothing happened to it where it is.
    assert_eq!(way.source.power(guest).await, PowerState::Paused);
    done(way.here().recall(guest).await);
    assert_eq!(way.source.power(guest).await, PowerState::Running);
    done(way.destination.driver().remove(guest).await);
    let to = way.expect().await;
    let parcel = way.send(&to).await;
    done(way.there().receive(guest, &parcel).await);
    assert!(done(way.there().is_complete(guest).await));
    way.clean().await;
}

/// It is shut down, whole, and can be started.
pub async fn a_guest_that_arrived_outlives_a_loss_of_power<S: Into<Subject>, D: Into<Subject>>(
    hosts: (S, D),
) {
    let way = Way::new(hosts, "a_guest_that_arrived_outlives_a_loss_of_power").await;
    let (guest, driver) = (way.guest, way.destination.driver());
    way.source.create(0).await;
    done(way.source.driver().reboot(guest, Reboot::Hard, 4).await);
    let to = way.expect().await;
    let parcel = way.send(&to).await;
    done(way.there().receive(guest, &parcel).await);
    way.destination.lose_power(guest).await;
    // To receive it again is no way to wake it.
    done(way.there().receive(guest, &parcel).await);
    assert!(done(way.there().is_complete(guest).await));
    let arrived = way.destination.guest(guest).await.map(|guest| (guest.power, guest.boot));
    assert_eq!(arrived, Some((PowerState::Shutdown, 4)));
    done(driver.start(guest).await);
    assert_eq!(way.destination.power(guest).await, PowerState::Running);
    way.clean().await;
}

/// Sent or not, it is shut down; it is not sent again, and is not frozen when it is started.
pub async fn a_guest_whose_source_loses_power_is_sent_no_more<
    S: Into<Subject>,
    D: Into<Subject>,
>(
    hosts: (S, D),
) {
    let way = Way::new(hosts, "a_guest_whose_source_loses_power_is_sent_no_more").await;
    let (guest, driver) = (way.guest, way.source.driver());
    way.source.create(0).await;
    let to = way.expect().await;
    way.send(&to).await;
    way.source.lose_power(guest).await;
    refused(way.here().send(guest, &to).await.map(drop));
    done(way.here().recall(guest).await);
    assert_eq!(way.source.power(guest).await, PowerState::Shutdown);
    done(driver.start(guest).await);
    assert_eq!(way.source.power(guest).await, PowerState::Running);
    // What was sent before is nothing to recall.
    done(way.here().recall(guest).await);
    assert_eq!(way.source.power(guest).await, PowerState::Running);
    way.clean().await;
}
