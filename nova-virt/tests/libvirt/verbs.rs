//! What a guest is asked, one after the other, and how it is afterwards.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::SystemClock;
use nova_core::domain::{ImageFormat, ImageId, InstanceId, PowerState, Reboot};
use nova_core::port::{GuestSpec, ImageStore as _, VirtDriver as _, VirtError, VolumeLink};
use nova_virt::DirImageStore;
use nova_virt::domain::{DomainOptions, Hypervisor};
use nova_virt::libvirt::{LibvirtHost, Libvirtd};

use crate::lab;

/// The guest of most tests.
pub(crate) const GUEST: InstanceId = InstanceId::from_u128(0xabc);
/// The guest of those that run at the same time on the same daemon.
const OTHER_GUEST: InstanceId = InstanceId::from_u128(0xdef);
const COPY: ImageId = ImageId::from_u128(0xc0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A machine with nothing on its disk: it runs, and hears nothing.
    Machine,
    Container,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Pause,
    Unpause,
    Suspend,
    Resume,
    Reboot,
    Stop,
    Start,
    Attach,
    Snapshot,
    Rescue,
    Unrescue,
    Remove,
}

use Verb::*;

impl Kind {
    pub(crate) fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Container => &[Create, Pause, Unpause, Reboot, Stop, Start, Remove],
            Self::Machine => &[
                Create, Pause, Unpause, Suspend, Resume, Reboot, Stop, Start, Attach, Snapshot,
                Rescue, Unrescue, Remove,
            ],
        }
    }
}

/// A host with the one guest.
pub(crate) struct Place {
    pub(crate) host: LibvirtHost,
    images: DirImageStore,
    spec: GuestSpec,
    link: VolumeLink,
    guest: InstanceId,
    /// What lies here belongs to guests.
    pub(crate) homes: std::path::PathBuf,
}

impl Place {
    /// In a folder, which may have been used before, by the daemon behind the socket.
    pub(crate) async fn open(kind: Kind, folder: &Path, socket: &Path) -> Self {
        let (uri, hypervisor, format, memory) = match kind {
            Kind::Machine => ("qemu:///system", Hypervisor::Qemu, ImageFormat::Raw, 16),
            Kind::Container => ("lxc:///system", Hypervisor::Lxc, ImageFormat::RootfsTar, 64),
        };
        let directory = folder.join("host").to_str().unwrap().to_owned();
        let options = DomainOptions::new(hypervisor, directory).unwrap();
        let homes = options.homes().into();
        let libvirtd = Libvirtd::native_at(uri, socket);
        let host = LibvirtHost::new(libvirtd, options, Arc::new(SystemClock::new())).unwrap();
        let host = host.with_patience(Duration::from_millis(300));
        let images = DirImageStore::at(folder.join("images")).unwrap();
        let bytes = match kind {
            Kind::Machine => vec![0; 1 << 20],
            Kind::Container => std::fs::read(lab::guest_file("rootfs.tar")).unwrap(),
        };
        let mut image = lab::image(bytes.clone(), format).await.1;
        image.id = ImageId::from_u128(7);
        if images.content(image.id).await.unwrap().is_none() {
            images.put(image.id, Box::new(std::io::Cursor::new(bytes))).await.unwrap();
        }
        let killed = folder.file_name().unwrap().to_str().unwrap().starts_with("killed");
        let guest = if killed { OTHER_GUEST } else { GUEST };
        let spec = GuestSpec { instance: guest, ..lab::spec(image, memory) };
        let path = folder.join("volume").to_str().unwrap().to_owned();
        std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let connection = nova_core::port::Connection::File { path };
        let link = VolumeLink { volume: nova_core::domain::VolumeId::from_u128(1), connection };
        Self { host, images, spec, link, guest, homes }
    }

    pub(crate) async fn ask(&self, verb: Verb, boot: u64) -> Result<(), VirtError> {
        let host = &self.host;
        match verb {
            Create => host.create(&self.spec, &self.images).await,
            Pause => host.pausing().unwrap().pause(self.guest).await,
            Unpause => host.pausing().unwrap().unpause(self.guest).await,
            Suspend => host.suspending().unwrap().suspend(self.guest).await,
            Resume => host.suspending().unwrap().resume(self.guest).await,
            Reboot => host.reboot(self.guest, Reboot::Hard, boot).await,
            Stop => host.stop(self.guest).await,
            Start => host.start(self.guest).await,
            Attach => host.volumes().unwrap().attach(self.guest, &self.link).await,
            Snapshot => {
                let taking = host.snapshots().unwrap();
                taking.snapshot(self.guest, COPY, ImageFormat::Qcow2, &self.images).await.map(drop)
            }
            Rescue => {
                let image = &self.spec.image;
                host.rescuing().unwrap().rescue(self.guest, image, &self.images).await
            }
            Unrescue => host.rescuing().unwrap().unrescue(self.guest).await,
            Remove => host.remove(self.guest).await,
        }
    }

    /// The guest is as it is when this was done.
    pub(crate) async fn check(&self, verb: Verb, boot: u64) {
        let guest = self.host.guest(self.guest).await.unwrap();
        let listed = self.host.guests().await.unwrap();
        let listed = listed.into_iter().find(|guest| guest.instance == self.guest);
        assert_eq!(guest, listed, "{verb:?}");
        let expected = match verb {
            Remove => None,
            Stop => Some(PowerState::Shutdown),
            Pause => Some(PowerState::Paused),
            Suspend => Some(PowerState::Suspended),
            _ => Some(PowerState::Running),
        };
        assert_eq!(guest.as_ref().map(|guest| guest.power), expected, "{verb:?}");
        let Some(guest) = guest else {
            let homes = std::fs::read_dir(&self.homes).unwrap();
            let left = homes.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
            assert_eq!(left, 0, "a guest has left something");
            return;
        };
        match verb {
            Reboot => assert_eq!(guest.boot, boot),
            Attach => assert_eq!(guest.volumes, [self.link.volume]),
            Snapshot => assert!(self.images.content(COPY).await.unwrap().is_some()),
            Rescue | Unrescue => {
                let rescued = self.host.rescuing().unwrap().rescued(self.guest).await.unwrap();
                assert_eq!(rescued, verb == Rescue);
            }
            _ => {}
        }
    }

    /// The guest is as it was before this was done.
    pub(crate) async fn undo(&self, verb: Verb) {
        let back: &[Verb] = match verb {
            Create => &[Remove],
            Pause => &[Unpause],
            Unpause => &[Pause],
            Suspend => &[Resume],
            Resume => &[Suspend],
            Stop => &[Start],
            Start => &[Stop],
            Rescue => &[Unrescue],
            Unrescue => &[Rescue],
            Remove => &[Create],
            Snapshot => {
                self.images.remove(COPY).await.unwrap();
                &[]
            }
            Attach => {
                // Nobody in it gives it up.
                self.ask(Stop, 0).await.unwrap();
                let volumes = self.host.volumes().unwrap();
                volumes.detach(self.guest, self.link.volume).await.unwrap();
                &[Start]
            }
            Reboot => &[],
        };
        for verb in back {
            self.ask(*verb, 0).await.unwrap();
        }
    }
}
