//! A simulated host behaves as a host does, also when it goes wrong.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _};
use nova_core::domain::{
    AllocationRatio, GuestUser, ImageId, InterfaceName, Mac, MiB, Password, PowerState, Reboot,
    Resources, VolumeId,
};
use nova_core::memory::VirtualClock;
use nova_core::port::{
    AskAgents as _, AttachVolumes as _, CacheImages as _, Connection, ImageError, Invitation,
    LiveMigrate as _, MeasureGuests as _, MoveGuests as _, Nic, OpenConsoles as _, Parcel,
    PauseGuests as _, PlugInterfaces as _, ReadConsoles as _, RescueGuests as _,
    SnapshotGuests as _, SuspendGuests as _, Transfer, VirtDriver as _, VirtError, VolumeLink,
};
use nova_core::seed::Seed;
use nova_virt::sim::{Capacity, Faults, Latency, SimFailure, Verb};
use nova_virt::{Fleet, SimHost, SimOptions};

use crate::world::{SkipClock, TOTAL, guest, host, id, images, run, settle};

/// Which failure of the simulation an error comes from.
#[track_caller]
fn failure(error: VirtError) -> SimFailure {
    match error {
        VirtError::Host { source, .. } => *source.downcast().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn power(host: &SimHost, number: u128) -> PowerState {
    host.guest(id(number)).await.unwrap().unwrap().power
}

fn faults(refused: f64, answer_lost: f64, hang: f64) -> Faults {
    let faults = Faults::default().with_refused(refused).unwrap();
    faults.with_answer_lost(answer_lost).unwrap().with_hang(hang).unwrap()
}

#[test]
fn a_parcel_brings_to_another_host_what_is_on_the_disk_and_leaves_the_guest_where_it_is() {
    run(async {
        let (from, to, (images, image)) = (host("from"), host("to"), images().await);
        from.create(&guest(1, &image), &images).await.unwrap();
        from.reboot(id(1), Reboot::Hard, 4).await.unwrap();
        from.write_disk(id(1), "precious").unwrap();
        from.stop(id(1)).await.unwrap();
        let parcel = from.pack(id(1)).await.unwrap();
        to.unpack(&guest(1, &image), &parcel, &images).await.unwrap();
        for host in [&from, &to] {
            assert_eq!(host.disk(id(1)).unwrap(), "precious");
            let guest = host.guest(id(1)).await.unwrap().unwrap();
            assert_eq!((guest.power, guest.boot), (PowerState::Shutdown, 4));
        }
    });
}

#[test]
fn what_a_guest_writes_while_it_is_sent_arrives_and_it_is_not_booted_anew() {
    run(async {
        let (from, to, (images, image)) = (host("from"), host("to"), images().await);
        from.create(&guest(1, &image), &images).await.unwrap();
        let expected = to.expect(&guest(1, &image), &[]).await.unwrap();
        assert_eq!(from.send(id(1), &expected).await.unwrap(), Transfer::UnderWay);
        from.write_disk(id(1), "written late").unwrap();
        let sent = from.send(id(1), &expected).await.unwrap();
        let Transfer::Complete(parcel) = sent else { panic!("{sent:?}") };
        to.receive(id(1), &parcel).await.unwrap();
        to.unpause(id(1)).await.unwrap();
        assert_eq!(to.disk(id(1)).unwrap(), "written late");
        assert_eq!((to.counters().boots, power(&from, 1).await), (0, PowerState::Paused));
    });
}

#[test]
fn without_power_nothing_answers_and_afterwards_every_guest_is_shut_down_with_its_disks() {
    run(async {
        let (host, (images, image)) = (host("h"), images().await);
        let link = VolumeLink { volume: VolumeId::from_u128(9), connection: Connection::Simulated };
        for number in 1..=3 {
            host.create(&guest(number, &image), &images).await.unwrap();
        }
        host.reboot(id(1), Reboot::Hard, 4).await.unwrap();
        host.attach(id(1), &link).await.unwrap();
        host.pause(id(2)).await.unwrap();
        host.stop(id(3)).await.unwrap();
        host.lose_power().unwrap();
        assert!(!host.is_powered());

        let parcel = Parcel { instance: id(1), boot: 0, disks: String::new() };
        let invitation = Invitation { instance: id(1), address: String::new() };
        let nic = Nic {
            mac: Mac::new([0xfa, 0x16, 0x3e, 0, 0, 1]).unwrap(),
            bridge: InterfaceName::new("br100").unwrap(),
            address: [10, 0, 0, 2].into(),
        };
        let (user, password) = (GuestUser::new("u").unwrap(), Password::new("p").unwrap());
        let errors = [
            host.facts().await.err(),
            host.guests().await.err(),
            host.guest(id(1)).await.err(),
            host.create(&guest(1, &image), &images).await.err(),
            host.remove(id(1)).await.err(),
            host.start(id(1)).await.err(),
            host.stop(id(1)).await.err(),
            host.reboot(id(1), Reboot::Soft, 9).await.err(),
            host.pause(id(1)).await.err(),
            host.unpause(id(1)).await.err(),
            host.suspend(id(1)).await.err(),
            host.resume(id(1)).await.err(),
            host.attach(id(1), &link).await.err(),
            host.detach(id(1), link.volume).await.err(),
            host.pack(id(1)).await.err(),
            host.unpack(&guest(1, &image), &parcel, &images).await.err(),
            host.expect(&guest(1, &image), &[]).await.err(),
            host.send(id(1), &invitation).await.err(),
            host.receive(id(1), &parcel).await.err(),
            host.is_complete(id(1)).await.err(),
            host.recall(id(1)).await.err(),
            host.snapshot(id(1), ImageId::from_u128(8), image.format, &images).await.err(),
            host.rescue(id(1), &image, &images).await.err(),
            host.unrescue(id(1)).await.err(),
            host.rescued(id(1)).await.err(),
            host.console_log(id(1), 1).await.err(),
            host.open_console(id(1)).await.map(drop).err(),
            host.use_of(id(1)).await.err(),
            host.plug(id(1), &nic).await.err(),
            host.unplug(id(1), nic.mac).await.err(),
            host.plugged(id(1)).await.err(),
            host.cached_images().await.err(),
            host.answers(id(1)).await.err(),
            host.set_password(id(1), &user, &password).await.err(),
        ];
        assert_eq!(errors.len(), Verb::ALL.len());
        for error in errors {
            assert!(matches!(failure(error.unwrap()), SimFailure::NoPower));
        }

        host.restore_power().unwrap();
        for number in 1..=3 {
            assert_eq!(power(&host, number).await, PowerState::Shutdown);
        }
        let first = host.guest(id(1)).await.unwrap().unwrap();
        assert_eq!((first.boot, first.volumes), (4, vec![link.volume]));
        host.start(id(1)).await.unwrap();
        assert_eq!(power(&host, 1).await, PowerState::Running);
    });
}

#[test]
fn a_call_under_way_does_not_survive_an_outage_however_short() {
    run(async {
        let (clock, (images, image)) = (Arc::new(VirtualClock::new()), images().await);
        let slow = SimOptions::default()
            .with_latency_of(Verb::Create, Latency::of(Duration::from_secs(10)));
        let host = host("h").with_options(slow).with_clock(clock.clone());
        let spec = guest(1, &image);
        let (created, ()) = tokio::join!(host.create(&spec, &images), async {
            settle().await;
            clock.advance(Duration::from_secs(5));
            host.lose_power().unwrap();
            host.restore_power().unwrap();
            settle().await;
            clock.advance(Duration::from_secs(5));
        });
        assert!(matches!(failure(created.unwrap_err()), SimFailure::NoPower));
        assert_eq!(host.guest(id(1)).await.unwrap(), None);
    });
}

#[test]
fn a_host_that_was_wiped_is_empty_and_fetches_its_images_again() {
    run(async {
        let (host, (images, image)) = (host("h"), images().await);
        host.create(&guest(1, &image), &images).await.unwrap();
        host.wipe().unwrap();
        assert_eq!(host.guests().await.unwrap(), []);
        assert_eq!(host.used(), Resources::ZERO);
        host.create(&guest(1, &image), &images).await.unwrap();
        assert_eq!(host.counters().image_downloads, 2);
    });
}

#[test]
fn a_call_that_was_refused_did_nothing_and_one_whose_answer_was_lost_did_everything() {
    run(async {
        let (images, image) = images().await;
        for (faults, exists) in [(faults(1.0, 0.0, 0.0), false), (faults(0.0, 1.0, 0.0), true)] {
            let options = SimOptions::default().with_faults_of(Verb::Create, faults);
            let host = host("h").with_options(options);
            let error = host.create(&guest(1, &image), &images).await.unwrap_err();
            assert_eq!(error.to_string(), "cannot create a guest");
            assert!(error.source().is_some());
            let told = failure(error);
            assert!(matches!(told, SimFailure::AnswerLost) == exists, "{told:?}");
            assert!(matches!(told, SimFailure::Refused) != exists, "{told:?}");
            assert_eq!(host.guest(id(1)).await.unwrap().is_some(), exists);
        }
    });
}

#[test]
fn retrying_on_a_bad_host_ends_where_a_good_host_ends() {
    run(async {
        let (images, image) = images().await;
        for seed in 0..40 {
            let bad = SimOptions::default().with_faults(faults(0.25, 0.25, 0.2));
            let host = host("h")
                .with_options(bad)
                .with_seed(Seed::new(seed))
                .with_clock(Arc::new(SkipClock::default()));
            let spec = guest(1, &image);
            // A bound, so that a host that never does it is a failure and not a test that hangs.
            macro_rules! insist {
                ($call:expr) => {{
                    let mut tries = 0;
                    while $call.await.is_err() {
                        tries += 1;
                        assert!(tries < 200, "seed {seed}: never done");
                    }
                }};
            }
            insist!(host.create(&spec, &images));
            insist!(host.reboot(id(1), Reboot::Hard, 1));
            insist!(host.pause(id(1)));
            host.plant_guest(id(2), TOTAL).unwrap();
            insist!(host.stop(id(2)));
            insist!(host.remove(id(2)));
            let host = host.with_options(SimOptions::default());
            let guests = host.guests().await.unwrap();
            assert_eq!(guests.len(), 1, "seed {seed}");
            assert_eq!((guests[0].power, guests[0].boot), (PowerState::Paused, 1), "seed {seed}");
            let counters = host.counters();
            assert_eq!((counters.boots, counters.image_downloads), (2, 1), "seed {seed}");
        }
    });
}

#[test]
fn a_call_that_hangs_is_bounded_by_its_caller() {
    run(async {
        let mut done = [0, 0];
        let (images, image) = images().await;
        for seed in 0..20 {
            let clock = Arc::new(VirtualClock::new());
            let options = SimOptions::default().with_faults_of(Verb::Create, faults(0.0, 0.0, 1.0));
            let host = host("h")
                .with_options(options)
                .with_seed(Seed::new(seed))
                .with_clock(clock.clone());
            let (patience, spec) = (Duration::from_secs(30), guest(1, &image));
            let (answer, ()) =
                tokio::join!(clock.within(patience, host.create(&spec, &images)), async {
                    settle().await;
                    clock.advance(patience);
                });
            assert!(answer.is_none(), "the caller gave up first");
            // Whether it was done, only a look can tell.
            done[usize::from(host.guest(id(1)).await.unwrap().is_some())] += 1;
        }
        assert!(done[0] > 0 && done[1] > 0, "{done:?}");
    });
}

#[test]
fn a_call_that_hangs_fails_in_the_end() {
    run(async {
        let (clock, limit) = (Arc::new(SkipClock::default()), Duration::from_secs(77));
        let options = SimOptions::default().with_faults(faults(0.0, 0.0, 1.0));
        let host = host("h").with_options(options.with_hang_limit(limit)).with_clock(clock.clone());
        let told = failure(host.guests().await.unwrap_err());
        assert!(matches!(told, SimFailure::NoAnswer));
        assert_eq!(clock.now().0, 77_000_000_000);
    });
}

#[test]
fn memory_and_disk_are_held_to_what_is_there_unless_configured() {
    run(async {
        let (images, image) = images().await;
        let ratio = |ratio| AllocationRatio::new(ratio).unwrap();
        // Four guests take all of the memory and all of the disk.
        for (capacity, fit) in [
            (Capacity::default(), 4),
            (Capacity::Held { memory: ratio(2.0), disk: ratio(1.5) }, 6),
            (Capacity::Held { memory: ratio(0.5), disk: ratio(9.0) }, 2),
            (Capacity::Unlimited, 20),
        ] {
            let host = host("h").with_options(SimOptions::default().with_capacity(capacity));
            for number in 1..=20 {
                let created = host.create(&guest(number, &image), &images).await;
                // A guest that is shut down keeps its place.
                match created {
                    Ok(()) => host.stop(id(number)).await.unwrap(),
                    Err(VirtError::NoRoom { instance }) => assert_eq!(instance, id(number)),
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(host.guests().await.unwrap().len(), fit, "{capacity:?}");
            // Room is made by what is removed, and what is there is not refused again.
            host.create(&guest(1, &image), &images).await.unwrap();
            host.remove(id(1)).await.unwrap();
            host.create(&guest(99, &image), &images).await.unwrap();
        }
    });
}

#[test]
fn what_does_not_fit_fetches_no_image() {
    run(async {
        let (host, (images, image)) = (host("h"), images().await);
        let mut large = guest(1, &image);
        large.memory = MiB(4097);
        let refused = host.create(&large, &images).await;
        assert!(matches!(refused, Err(VirtError::NoRoom { .. })), "{refused:?}");
        assert_eq!(host.counters().image_downloads, 0);
    });
}

#[test]
fn an_image_is_fetched_once_however_many_guests_come_at_once() {
    run(async {
        let (host, (images, image)) = (host("h"), images().await);
        let specs = [1, 2, 3].map(|number| guest(number, &image));
        let [a, b, c] = &specs;
        let created =
            tokio::join!(host.create(a, &images), host.create(b, &images), host.create(c, &images));
        assert!(matches!(created, (Ok(()), Ok(()), Ok(()))), "{created:?}");
        let counters = host.counters();
        assert_eq!((counters.image_downloads, counters.boots), (1, 3));
        assert_eq!(counters.calls.get(&Verb::Create), Some(&3));
    });
}

#[test]
fn an_image_that_is_cached_is_still_compared_with_what_was_registered() {
    run(async {
        let (host, (images, image)) = (host("h"), images().await);
        host.create(&guest(1, &image), &images).await.unwrap();
        let mut other = guest(2, &image);
        other.image.content.sha256 = "f".repeat(64);
        let refused = host.create(&other, &images).await;
        let mismatch =
            matches!(refused, Err(VirtError::Image { source: ImageError::Mismatch { .. }, .. }));
        assert!(mismatch, "{refused:?}");
    });
}

#[test]
fn a_guest_that_was_planted_is_listed_counted_and_managed() {
    run(async {
        let (host, (images, image)) = (host("h"), images().await);
        host.plant_guest(id(7), TOTAL).unwrap();
        assert_eq!(host.guests().await.unwrap()[0].instance, id(7));
        assert_eq!((host.used(), host.spec(id(7))), (TOTAL, None));
        let refused = host.create(&guest(1, &image), &images).await;
        assert!(matches!(refused, Err(VirtError::NoRoom { .. })), "{refused:?}");
        host.crash_guest(id(7)).unwrap();
        assert_eq!(power(&host, 7).await, PowerState::Shutdown);
        host.remove(id(7)).await.unwrap();
        host.create(&guest(1, &image), &images).await.unwrap();
        assert_eq!(host.spec(id(1)), Some(guest(1, &image)));
    });
}

#[test]
fn a_volume_stays_as_it_was_plugged_first() {
    run(async {
        let host = host("h");
        host.plant_guest(id(1), TOTAL).unwrap();
        let link = |path: &str| VolumeLink {
            volume: VolumeId::from_u128(9),
            connection: Connection::File { path: path.to_owned() },
        };
        host.attach(id(1), &link("/first")).await.unwrap();
        host.attach(id(1), &link("/second")).await.unwrap();
        assert_eq!(host.links(id(1)), [link("/first")]);
        assert_eq!(host.links(id(2)), []);
    });
}

#[test]
fn the_same_seed_has_the_same_fates_and_hosts_of_one_seed_differ() {
    fn fates(name: &str, seed: u64) -> Vec<bool> {
        let options = SimOptions::default().with_faults(faults(0.5, 0.0, 0.0));
        let host = host(name).with_options(options).with_seed(Seed::new(seed));
        run(async {
            let mut fates = Vec::new();
            for _ in 0..64 {
                fates.push(host.guests().await.is_ok());
            }
            fates
        })
    }
    assert_eq!(fates("a", 1), fates("a", 1));
    assert_ne!(fates("a", 1), fates("a", 2));
    assert_ne!(fates("a", 1), fates("b", 1));
}

#[test]
fn a_latency_stays_within_its_bounds_and_uses_them() {
    run(async {
        let (clock, ms) = (Arc::new(SkipClock::default()), Duration::from_millis);
        let latency = Latency::between(ms(10), ms(20)).unwrap();
        let options = SimOptions::default().with_latency(latency);
        let host = host("h").with_options(options).with_clock(clock.clone());
        let mut seen = Vec::new();
        for _ in 0..200 {
            let before = clock.now();
            host.guests().await.unwrap();
            seen.push(clock.now().since(before));
        }
        let (least, most) = (*seen.iter().min().unwrap(), *seen.iter().max().unwrap());
        assert!(ms(10) <= least && least < ms(11), "{least:?}");
        assert!(ms(19) < most && most <= ms(20), "{most:?}");
    });
}

#[test]
fn a_fleet_in_a_directory_finds_its_guests_again() {
    run(async {
        let (directory, (images, image)) = (tempfile::tempdir().unwrap(), images().await);
        let fleet = Fleet::new("node", 3, TOTAL).in_directory(directory.path().join("hosts"));
        let hosts = fleet.clone().build().unwrap();
        hosts[1].create(&guest(1, &image), &images).await.unwrap();
        drop(hosts);
        let hosts = fleet.build().unwrap();
        let running = [hosts[0].guests().await, hosts[1].guests().await, hosts[2].guests().await];
        assert_eq!(running.map(|guests| guests.unwrap().len()), [0, 1, 0]);
        assert_eq!(power(&hosts[1], 1).await, PowerState::Running);
        // The image is on the host's disk and is not fetched again.
        hosts[1].create(&guest(2, &image), &images).await.unwrap();
        assert_eq!(hosts[1].counters().image_downloads, 0);
    });
}
