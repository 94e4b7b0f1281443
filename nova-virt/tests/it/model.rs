//! A simulated host against a model of thirty lines: any calls in any order, in memory and in a
//! file that is opened anew in between.

use std::collections::{BTreeMap, BTreeSet};

use nova_core::domain::{PowerState, Reboot, VolumeId};
use nova_core::memory::MemoryImages;
use nova_core::port::{
    AttachVolumes as _, Connection, Guest, PauseGuests as _, SuspendGuests as _, VirtDriver as _,
    VirtError, VolumeLink,
};
use nova_virt::SimHost;
use proptest::prelude::*;

use crate::world::{TOTAL, guest, host, id, images, run};

#[derive(Debug, Clone, Copy)]
enum Step {
    Create(u128),
    Remove(u128),
    Start(u128),
    Stop(u128),
    Reboot(u128, u64),
    Pause(u128),
    Unpause(u128),
    Suspend(u128),
    Resume(u128),
    Attach(u128, u128),
    Detach(u128, u128),
    LosePower,
    RestorePower,
    Wipe,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    // More guests than there is room for, so that a full host is met as well.
    let (guest, volume) = (0..6_u128, 0..3_u128);
    prop_oneof![
        6 => guest.clone().prop_map(Create),
        2 => guest.clone().prop_map(Remove),
        2 => guest.clone().prop_map(Start),
        2 => guest.clone().prop_map(Stop),
        2 => (guest.clone(), 0..4_u64).prop_map(|(guest, boot)| Reboot(guest, boot)),
        2 => guest.clone().prop_map(Pause),
        2 => guest.clone().prop_map(Unpause),
        2 => guest.clone().prop_map(Suspend),
        2 => guest.clone().prop_map(Resume),
        2 => (guest.clone(), volume.clone()).prop_map(|(guest, volume)| Attach(guest, volume)),
        2 => (guest, volume).prop_map(|(guest, volume)| Detach(guest, volume)),
        1 => Just(LosePower),
        3 => Just(RestorePower),
        1 => Just(Wipe),
        1 => Just(Reopen),
    ]
}

/// What is expected: the guests with power, boot number and volumes, and whether there is power.
#[derive(Default)]
struct Model {
    guests: BTreeMap<u128, (PowerState, u64, BTreeSet<u128>)>,
    dark: bool,
}

impl Model {
    /// Takes a step and says how it ends, in a word.
    fn take(&mut self, step: Step) -> &'static str {
        use PowerState::{Paused, Running, Shutdown, Suspended};
        match step {
            Step::LosePower => {
                self.dark = true;
                let awake = self.guests.values_mut().filter(|guest| guest.0 != Suspended);
                awake.for_each(|guest| guest.0 = Shutdown);
            }
            Step::RestorePower => self.dark = false,
            Step::Wipe => self.guests.clear(),
            Step::Reopen => {}
            _ if self.dark => return "host",
            Step::Create(n) if self.guests.contains_key(&n) => {}
            Step::Create(_) if self.guests.len() == 4 => return "no room",
            Step::Create(n) => drop(self.guests.insert(n, (Running, 0, BTreeSet::new()))),
            Step::Remove(n) => drop(self.guests.remove(&n)),
            Step::Detach(n, v) => {
                let guest = self.guests.get_mut(&n);
                match guest.filter(|guest| guest.2.contains(&v)) {
                    Some((Suspended, ..)) => return "wrong power",
                    Some(guest) => drop(guest.2.remove(&v)),
                    None => {}
                }
            }
            Step::Start(n)
            | Step::Stop(n)
            | Step::Reboot(n, _)
            | Step::Pause(n)
            | Step::Unpause(n)
            | Step::Suspend(n)
            | Step::Resume(n)
            | Step::Attach(n, _) => {
                let Some((power, boot, volumes)) = self.guests.get_mut(&n) else {
                    return "no such guest";
                };
                match (step, *power) {
                    (Step::Pause(_) | Step::Unpause(_), Shutdown | Suspended)
                    | (Step::Suspend(_), Shutdown)
                    | (Step::Resume(_), Paused | Shutdown) => return "wrong power",
                    (Step::Attach(_, v), Suspended) if !volumes.contains(&v) => {
                        return "wrong power";
                    }
                    (Step::Suspend(_), _) => *power = Suspended,
                    (Step::Resume(_), _) => *power = Running,
                    (Step::Pause(_), _) => *power = Paused,
                    (Step::Unpause(_), _) | (Step::Start(_), Shutdown) => *power = Running,
                    (Step::Stop(_), _) => *power = Shutdown,
                    (Step::Reboot(_, number), _) if number > *boot => {
                        (*power, *boot) = (Running, number);
                    }
                    (Step::Attach(_, v), _) => drop(volumes.insert(v)),
                    _ => {}
                }
            }
        }
        "done"
    }

    fn guests(&self) -> Vec<Guest> {
        let describe = |(n, (power, boot, volumes)): (&u128, &(_, _, BTreeSet<u128>))| Guest {
            instance: id(*n),
            power: *power,
            boot: *boot,
            volumes: volumes.iter().map(|v| VolumeId::from_u128(*v)).collect(),
        };
        self.guests.iter().map(describe).collect()
    }
}

/// The host under test: in memory, or in a file.
struct Real {
    host: Option<SimHost>,
    directory: Option<tempfile::TempDir>,
    images: MemoryImages,
    image: nova_core::domain::Image,
}

impl Real {
    fn open(directory: &tempfile::TempDir) -> SimHost {
        SimHost::open(directory.path().join("h.json"), "h".parse().unwrap(), TOTAL).unwrap()
    }

    fn host(&self) -> &SimHost {
        self.host.as_ref().unwrap()
    }

    async fn take(&mut self, step: Step) -> &'static str {
        let link = |volume| VolumeLink {
            volume: VolumeId::from_u128(volume),
            connection: Connection::Simulated,
        };
        if let (Step::Reopen, Some(directory)) = (step, &self.directory) {
            // The old one first: it holds the lock.
            self.host = None;
            self.host = Some(Self::open(directory));
        }
        let host = self.host();
        let result = match step {
            Step::Create(n) => host.create(&guest(n, &self.image), &self.images).await,
            Step::Remove(n) => host.remove(id(n)).await,
            Step::Start(n) => host.start(id(n)).await,
            Step::Stop(n) => host.stop(id(n)).await,
            Step::Reboot(n, boot) => host.reboot(id(n), Reboot::Soft, boot).await,
            Step::Pause(n) => host.pause(id(n)).await,
            Step::Unpause(n) => host.unpause(id(n)).await,
            Step::Suspend(n) => host.suspend(id(n)).await,
            Step::Resume(n) => host.resume(id(n)).await,
            Step::Attach(n, volume) => host.attach(id(n), &link(volume)).await,
            Step::Detach(n, volume) => host.detach(id(n), VolumeId::from_u128(volume)).await,
            Step::LosePower => return host.lose_power().map(|()| "done").unwrap(),
            Step::RestorePower => return host.restore_power().map(|()| "done").unwrap(),
            Step::Wipe => return host.wipe().map(|()| "done").unwrap(),
            Step::Reopen => Ok(()),
        };
        match result {
            Ok(()) => "done",
            Err(VirtError::NoRoom { .. }) => "no room",
            Err(VirtError::NoSuchGuest { .. }) => "no such guest",
            Err(VirtError::WrongPower { .. }) => "wrong power",
            Err(VirtError::Host { .. }) => "host",
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn check(steps: &[Step], directory: Option<tempfile::TempDir>) {
    let (images, image) = images().await;
    let host = directory.as_ref().map_or_else(|| host("h"), Real::open);
    let mut real = Real { host: Some(host), directory, images, image };
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        let expected = model.take(*step);
        assert_eq!(real.take(*step).await, expected, "step {number}, {step:?}");
        if !model.dark {
            let guests = real.host().guests().await.unwrap();
            assert_eq!(guests, model.guests(), "after step {number}, {step:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_host_does_what_the_model_does(steps in proptest::collection::vec(step(), 0..60)) {
        run(check(&steps, None));
    }
}

proptest! {
    // Each change is synced to the disk.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_host_in_a_file_does_what_the_model_does(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        run(check(&steps, Some(tempfile::tempdir().unwrap())));
    }
}
