//! Guests with an agent inside, which puts their file systems at rest while an image is taken; and
//! what is left of that when something goes wrong in the middle.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{ClockExt as _, SystemClock};
use nova_core::domain::{GuestUser, ImageFormat, ImageId, ImageProperties, InstanceId, Password};
use nova_core::memory::MemoryImages;
use nova_core::port::{
    AGENT_PROPERTY, AskAgents as _, GuestSpec, ImageStore, OpenConsoles as _, QUIESCE_PROPERTY,
    ReadConsoles as _, SnapshotGuests as _, VirtDriver, VirtError,
};
use nova_virt::domain::{DomainOptions, DomainSpec, Hypervisor};
use nova_virt::libvirt::{LibvirtHost, Libvirtd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::lab::{self, Way};
use crate::proxy::{Moment, Proxy};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(180);

/// A copy has no more calls.
const CALLS_MAX: u32 = 40;

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

async fn look_again() {
    SystemClock::new().sleep(Duration::from_millis(50)).await;
}

/// A guest that has booted, on a host of its own.
struct Place {
    host: LibvirtHost,
    images: Arc<dyn ImageStore>,
    guest: InstanceId,
}

impl Place {
    async fn boot(host: LibvirtHost, id: u128, properties: &[(&str, &str)]) -> Self {
        let (images, mut image) = lab::image(lab::qcow2(), ImageFormat::Qcow2).await;
        image.properties = ImageProperties::new(properties.iter().copied()).unwrap();
        let guest = InstanceId::from_u128(id);
        let spec = GuestSpec { instance: guest, ..lab::spec(image, 128) };
        host.create(&spec, &*images).await.unwrap();
        let place = Self { host, images, guest };
        place.says("GUEST-READY").await;
        place
    }

    /// Waits until this is on its console.
    async fn says(&self, words: &str) -> String {
        loop {
            let log = self.host.console_log(self.guest, usize::MAX).await.unwrap();
            let log = String::from_utf8_lossy(&log).into_owned();
            if log.contains(words) {
                return log;
            }
            look_again().await;
        }
    }

    async fn hears(&self) {
        while !self.host.answers(self.guest).await.unwrap() {
            look_again().await;
        }
    }

    /// Types this, and waits until that is on the console.
    async fn types(&self, line: &str, until: &str) {
        // What was typed may be lost when whoever typed it leaves at once.
        let mut console = self.host.open_console(self.guest).await.unwrap();
        console.write_all(line.as_bytes()).await.unwrap();
        self.says(until).await;
    }

    /// Writes something to its disk that stays in its memory.
    async fn holds_back(&self) {
        let line = "echo 0 >/proc/sys/vm/dirty_writeback_centisecs; exec 7<>/dev/vda; \
                    echo HELD-$((40+2))-BACK | dd of=/dev/vda bs=1M seek=600 conv=notrunc; \
                    echo WRITTEN-$((1+1))\n";
        self.types(line, "WRITTEN-2").await;
    }

    async fn snapshot(&self, id: u128) -> Result<Vec<u8>, VirtError> {
        let image = ImageId::from_u128(id);
        let images = MemoryImages::new();
        self.host.snapshot(self.guest, image, ImageFormat::Qcow2, &images).await?;
        let mut bytes = Vec::new();
        images.open(image).await.unwrap().read_to_end(&mut bytes).await.unwrap();
        Ok(bytes)
    }

    async fn end(self) {
        drop(self.images);
        VirtDriver::remove(&self.host, self.guest).await.unwrap();
    }
}

fn has_it(image: &[u8]) -> bool {
    image.windows(b"HELD-42-BACK".len()).any(|bytes| bytes == b"HELD-42-BACK")
}

#[test]
fn a_guest_with_an_agent_is_at_rest_while_an_image_of_it_is_taken() {
    run("a_guest_with_an_agent_is_at_rest_while_an_image_of_it_is_taken", async {
        let host = || lab::host(Way::Native.to("qemu:///system"), Hypervisor::Qemu, LIMIT);
        // Nobody in this one is asked for anything.
        let without = Place::boot(host(), 0xae1, &[]).await;
        without.snapshot(1).await.unwrap();
        let log = without.says("GUEST-READY").await;
        assert!(!log.contains("GUEST-FROZEN"), "{log}");
        without.end().await;

        let with = Place::boot(host(), 0xae2, &[(AGENT_PROPERTY, "yes")]).await;
        with.hears().await;
        with.holds_back().await;
        assert!(has_it(&with.snapshot(2).await.unwrap()));
        let log = with.says("GUEST-THAWED").await;
        assert!(log.find("GUEST-FROZEN") < log.find("GUEST-THAWED"), "{log}");
        assert!(!with.host.is_frozen(with.guest).await.unwrap());
        let (user, password) =
            (GuestUser::new("root").unwrap(), Password::new("s3 cr\"t").unwrap());
        with.host.set_password(with.guest, &user, &password).await.unwrap();
        with.says("GUEST-PASSWORD root s3 cr\"t").await;
        with.end().await;
    });
}

#[cfg(feature = "libvirt")]
#[test]
fn an_agent_answers_through_the_library() {
    run("an_agent_answers_through_the_library", async {
        let host = lab::host(Way::Library.to("qemu:///system"), Hypervisor::Qemu, LIMIT);
        let place = Place::boot(host, 0xae3, &[(AGENT_PROPERTY, "yes")]).await;
        place.hears().await;
        assert!(!place.host.is_frozen(place.guest).await.unwrap());
        place.end().await;
    });
}

#[test]
fn a_deaf_agent_delays_an_image_and_no_more_unless_the_image_asks_for_rest() {
    run("a_deaf_agent_delays_an_image_and_no_more_unless_the_image_asks_for_rest", async {
        for (id, asks) in [(0xae4, false), (0xae5, true)] {
            let host = lab::host(Way::Native.to("qemu:///system"), Hypervisor::Qemu, LIMIT);
            let rest = if asks { "true" } else { "false" };
            let properties = [(AGENT_PROPERTY, "1"), (QUIESCE_PROPERTY, rest)];
            let place = Place::boot(host, id, &properties).await;
            place.hears().await;
            place.snapshot(1).await.unwrap();
            let line = "for p in /proc/[0-9]*; do grep -q /etc/agent $p/cmdline && \
                        kill -STOP ${p#/proc/}; done; echo DEAF-$((1+1))\n";
            place.types(line, "DEAF-2").await;
            assert!(!place.host.answers(place.guest).await.unwrap());
            match place.snapshot(2).await {
                Ok(_) => assert!(!asks),
                Err(VirtError::NoAgent { instance, .. }) => {
                    assert!(asks && instance == place.guest);
                }
                Err(other) => panic!("{other:?}"),
            }
            place.end().await;
        }
    });
}

#[test]
fn a_guest_is_not_left_frozen_wherever_the_connection_was_lost() {
    run("a_guest_is_not_left_frozen_wherever_the_connection_was_lost", async {
        let folder = lab::folder("frozen");
        let proxy = Proxy::in_folder(&folder);
        let libvirtd = Libvirtd::native_at("qemu:///system", proxy.socket());
        let host = lab::host(libvirtd, Hypervisor::Qemu, LIMIT);
        let place = Place::boot(host, 0xae6, &[(AGENT_PROPERTY, "yes")]).await;
        place.hears().await;
        let (mut losses, mut frozen) = (0, 0);
        for call in 0..CALLS_MAX {
            proxy.at(Moment::After(call), || {});
            drop(place.snapshot(1).await);
            if !proxy.rest() {
                break;
            }
            losses += 1;
            let mut was = false;
            loop {
                match place.host.is_frozen(place.guest).await {
                    Ok(true) => was = true,
                    Ok(false) => break,
                    Err(VirtError::NoAgent { .. }) => {}
                    Err(other) => panic!("{call}: {other:?}"),
                }
                // Whoever looks has it go on.
                place.host.guest(place.guest).await.unwrap();
                look_again().await;
            }
            frozen += u32::from(was);
        }
        println!("the connection was lost {losses} times, and {frozen} times the guest was frozen");
        assert!(losses > 6, "{losses}");
        place.end().await;
    });
}

/// A host in this folder, as it is when its process starts again.
fn host_in(folder: &Path) -> LibvirtHost {
    let directory = folder.join("host").to_str().unwrap().to_owned();
    let options = DomainOptions::new(Hypervisor::Qemu, directory).unwrap();
    let libvirtd = Way::Native.to("qemu:///system");
    LibvirtHost::new(libvirtd, options, Arc::new(SystemClock::new())).unwrap()
}

#[test]
fn a_guest_whose_host_ended_while_it_was_frozen_goes_on_when_that_starts_again() {
    run("a_guest_whose_host_ended_while_it_was_frozen_goes_on_when_that_starts_again", async {
        let folder = lab::folder("ended");
        let place = Place::boot(host_in(&folder), 0xae7, &[(AGENT_PROPERTY, "yes")]).await;
        place.hears().await;
        let Place { host, images, guest } = place;
        drop(host);
        // What is there when it ends between the two.
        let file = folder.join(format!("host/instances/{guest}/guest.json"));
        let mut record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        record["frozen"] = true.into();
        std::fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        let name = DomainSpec::name_of(guest);
        let freeze = "{\"execute\":\"guest-fsfreeze-freeze\"}";
        let mut virsh = Command::new("virsh");
        virsh.args(["-q", "-c", "qemu:///system", "qemu-agent-command", &name, freeze]);
        assert!(virsh.status().unwrap().success());
        let place = Place { host: host_in(&folder), images, guest };
        assert!(place.host.is_frozen(guest).await.unwrap());
        // As an agent does when it starts.
        place.host.guests().await.unwrap();
        while place.host.is_frozen(guest).await.unwrap() {
            look_again().await;
        }
        place.says("GUEST-THAWED").await;
        loop {
            let record: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            if record.get("frozen").is_none() {
                break;
            }
            look_again().await;
        }
        place.end().await;
    });
}
