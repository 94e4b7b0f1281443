//! What takes the whole world down with it: run by themselves, one after the other
//! (`alone:: --test-threads 1`).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock as _, ClockExt as _, SystemClock};
use nova_core::conformance;
use nova_core::domain::{InstanceId, PowerState};
use nova_core::port::{VirtDriver as _, VirtError};
use nova_virt::domain::DomainSpec;

use crate::lab;
use crate::verbs::{GUEST, Kind, Place, Verb};

const DAEMON: &str = "/run/libvirt/libvirt-sock";

fn here(test: &str) -> bool {
    lab::is_here(test) && {
        let alone = std::env::args().any(|argument| argument.starts_with("alone::"));
        if !alone {
            println!("skipped {test}: not alone");
        }
        alone
    }
}

fn run(kind: Kind, test: impl AsyncFnOnce(&Place)) {
    conformance::run(async move {
        let folder = lab::folder("alone");
        let place = Place::open(kind, &folder, Path::new(DAEMON)).await;
        test(&place).await;
        place.ask(Verb::Remove, 0).await.unwrap();
        place.check(Verb::Remove, 0).await;
    });
}

fn does(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said} {output:?}");
    said
}

/// The number of a process, as it noted it itself.
fn noted(file: &str) -> String {
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Waits until a guest is so.
async fn becomes(place: &Place, power: PowerState) {
    let clock = SystemClock::new();
    let end = clock.now().after(Duration::from_secs(20));
    loop {
        let now = place.host.guest(GUEST).await.unwrap().unwrap().power;
        if now == power {
            return;
        }
        assert!(clock.now() < end, "the guest is {now}");
        clock.sleep(Duration::from_millis(20)).await;
    }
}

/// Makes the guest, and waits until a container has begun whatever it does: a daemon that is still busy
/// with its beginning may take it for dead, or never notice that it is.
async fn made(place: &Place, kind: Kind) {
    place.ask(Verb::Create, 0).await.unwrap();
    let clock = SystemClock::new();
    let sign = place.homes.join(GUEST.to_string()).join("rootfs/srv/index.html");
    while kind == Kind::Container && !sign.exists() {
        clock.sleep(Duration::from_millis(20)).await;
    }
}

fn a_killed_daemon(kind: Kind) {
    run(kind, async |place| {
        made(place, kind).await;
        does("kill", &["-9", &noted("/run/libvirtd.pid")]);
        // Nobody answers, and that is what is said.
        while place.host.guest(GUEST).await.is_ok() {
            tokio::task::yield_now().await;
        }
        does("libvirtd", &["--daemon"]);
        // The guest has not noticed, and the connection is a new one.
        let clock = SystemClock::new();
        while place.host.guest(GUEST).await.is_err() {
            clock.sleep(Duration::from_millis(20)).await;
        }
        becomes(place, PowerState::Running).await;
        for verb in [Verb::Pause, Verb::Unpause, Verb::Stop, Verb::Start] {
            place.ask(verb, 0).await.unwrap();
            place.check(verb, 0).await;
        }
    });
}

#[test]
fn a_daemon_that_was_killed_finds_its_machines_again() {
    if here("killed daemon, machine") {
        a_killed_daemon(Kind::Machine);
    }
}

#[test]
fn a_daemon_that_was_killed_finds_its_containers_again() {
    if here("killed daemon, container") {
        a_killed_daemon(Kind::Container);
    }
}

/// The file in which the daemon has the memory of the guest.
fn saved() -> String {
    format!("/var/lib/libvirt/qemu/save/{}.save", DomainSpec::name_of(GUEST))
}

#[test]
fn a_suspended_machine_is_suspended_still_when_its_daemon_was_killed() {
    if !here("killed daemon, suspended machine") {
        return;
    }
    run(Kind::Machine, async |place| {
        place.ask(Verb::Create, 0).await.unwrap();
        place.ask(Verb::Suspend, 0).await.unwrap();
        assert!(Path::new(&saved()).exists());
        does("kill", &["-9", &noted("/run/libvirtd.pid")]);
        while place.host.guest(GUEST).await.is_ok() {
            tokio::task::yield_now().await;
        }
        does("libvirtd", &["--daemon"]);
        let clock = SystemClock::new();
        while place.host.guest(GUEST).await.is_err() {
            clock.sleep(Duration::from_millis(20)).await;
        }
        place.check(Verb::Suspend, 0).await;
        place.ask(Verb::Resume, 0).await.unwrap();
        place.check(Verb::Resume, 0).await;
        assert!(!Path::new(&saved()).exists());
        // What is removed while it is suspended leaves no memory behind.
        place.ask(Verb::Suspend, 0).await.unwrap();
        place.ask(Verb::Remove, 0).await.unwrap();
        assert!(!Path::new(&saved()).exists());
    });
}

#[test]
fn a_machine_whose_memory_is_damaged_is_not_resumed_and_boots_when_it_is_made_to() {
    if !here("damaged memory") {
        return;
    }
    run(Kind::Machine, async |place| {
        use std::os::unix::fs::FileExt as _;
        place.ask(Verb::Create, 0).await.unwrap();
        place.ask(Verb::Suspend, 0).await.unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(saved()).unwrap();
        let length = file.metadata().unwrap().len();
        // What the daemon itself reads first is as it was.
        file.write_all_at(&vec![0x5a; 64 << 10], length / 2).unwrap();
        file.set_len(length - 4096).unwrap();
        let refused = place.ask(Verb::Resume, 0).await;
        assert!(matches!(refused, Err(VirtError::Host { .. })), "{refused:?}");
        place.check(Verb::Suspend, 0).await;
        place.ask(Verb::Reboot, 1).await.unwrap();
        place.check(Verb::Reboot, 1).await;
        assert!(!Path::new(&saved()).exists());
    });
}

fn a_killed_guest(kind: Kind, folder: &str) {
    run(kind, async move |place| {
        made(place, kind).await;
        let pid = noted(&format!("/run/libvirt/{folder}/{}.pid", DomainSpec::name_of(GUEST)));
        // Of a container, its first process and not the one that watches over it.
        let pid = match kind {
            Kind::Machine => pid,
            Kind::Container => noted(&format!("/proc/{pid}/task/{pid}/children")),
        };
        does("kill", &["-9", &pid]);
        becomes(place, PowerState::Shutdown).await;
        place.ask(Verb::Start, 0).await.unwrap();
        place.check(Verb::Start, 0).await;
    });
}

#[test]
fn a_machine_that_was_killed_is_shut_down_and_starts_again() {
    if here("killed machine") {
        a_killed_guest(Kind::Machine, "qemu");
    }
}

#[test]
fn a_container_that_was_killed_is_shut_down_and_starts_again() {
    if here("killed container") {
        a_killed_guest(Kind::Container, "lxc");
    }
}

#[test]
fn a_host_without_room_says_so_and_keeps_nothing_by_half() {
    if !here("a full disk") {
        return;
    }
    // From less than the image needs to more than the guest does.
    let sizes = [(Kind::Machine, 900, 1500, 40), (Kind::Container, 1500, 6000, 300)];
    for (kind, least, most, step) in sizes {
        let mut refused = 0;
        for size in (least..most).step_by(step) {
            refused += u32::from(no_room(kind, size));
        }
        assert!(!no_room(kind, most), "{kind:?} has room");
        println!("{kind:?}: refused {refused} times");
        assert!(refused > 2);
    }
}

/// Whether a guest finds no room in so many kibibytes.
fn no_room(kind: Kind, size: usize) -> bool {
    let folder = lab::folder("full");
    let path = folder.join("host").to_str().unwrap().to_owned();
    does("mkdir", &[&path]);
    does("mount", &["-t", "tmpfs", "-o", &format!("size={size}k"), "tmpfs", &path]);
    let mut none = false;
    conformance::run(async {
        let place = Place::open(kind, &folder, Path::new(DAEMON)).await;
        match place.ask(Verb::Create, 0).await {
            // What it does itself where there is hardly any is its own affair.
            Ok(()) => place.ask(Verb::Remove, 0).await.unwrap(),
            Err(VirtError::NoRoom { instance }) => {
                assert_eq!(instance, GUEST);
                none = true;
            }
            Err(other) => panic!("{kind:?} in {size} KiB: {other:?}"),
        }
        place.check(Verb::Remove, 0).await;
    });
    does("umount", &[&path]);
    none
}

#[test]
fn a_machine_that_does_not_listen_is_shut_down_all_the_same() {
    if here("a deaf machine") {
        run(Kind::Machine, async |place| {
            place.ask(Verb::Create, 0).await.unwrap();
            let clock = Arc::new(SystemClock::new());
            let began = clock.now();
            place.ask(Verb::Stop, 0).await.unwrap();
            place.check(Verb::Stop, 0).await;
            // It was asked first, for as long as one is patient here.
            assert!(clock.now().since(began) >= Duration::from_millis(300));
        });
    }
}

#[test]
fn what_somebody_else_runs_is_not_looked_at_unless_it_has_a_guests_name() {
    if here("domains of others") {
        run(Kind::Machine, async |place| {
            let planted = InstanceId::from_u128(0xdead);
            for (name, id) in [("other", 1), (&*DomainSpec::name_of(planted), 0xdead)] {
                lab::plant("qemu:///system", name, InstanceId::from_u128(id));
            }
            let listed = place.host.guests().await.unwrap();
            let listed: Vec<InstanceId> = listed.iter().map(|guest| guest.instance).collect();
            assert_eq!(listed, [planted]);
            place.host.remove(planted).await.unwrap();
            assert!(place.host.guests().await.unwrap().is_empty());
            let virsh = ["-q", "-c", "qemu:///system", "domstate", "other"];
            assert_eq!(does("virsh", &virsh).trim(), "running");
            does("virsh", &["-q", "-c", "qemu:///system", "destroy", "other"]);
        });
    }
}
