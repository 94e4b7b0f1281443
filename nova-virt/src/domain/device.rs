//! The parts of a domain.

use std::net::IpAddr;
use std::str::FromStr;

use nova_core::domain::{ImageFormat, InterfaceName, Invalid, Mac};

/// What a guest starts first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Boot {
    /// The root disk.
    Disk,
    /// A kernel, whatever is on the disks.
    Kernel {
        /// Its file on the host.
        kernel: String,
        /// The file of what it unpacks into memory first.
        ramdisk: Option<String>,
        /// What it is told.
        command_line: String,
    },
    /// A program of a container.
    Init {
        /// Its path inside.
        path: String,
    },
}

/// A disk of a guest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Disk {
    /// What it is for.
    pub role: DiskRole,
    /// The name under which the hypervisor plugs it, such as `vda`.
    pub target: String,
    /// What it is plugged into.
    pub bus: DiskBus,
    /// Its file on the host.
    pub path: String,
    /// The file's format, always stated: who guesses can be fooled by the guest.
    pub format: DiskFormat,
    /// How large the guest sees it, in bytes; none means as large as its backing.
    pub size_bytes: Option<u64>,
    /// What lies below it.
    pub backing: Option<Backing>,
}

/// The file that a disk only adds its differences to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Backing {
    /// The file on the host.
    pub path: String,
    /// Its format.
    pub format: DiskFormat,
}

/// The format of a disk's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

impl DiskFormat {
    /// That of the file that a host keeps of an image.
    pub(crate) fn of(image: ImageFormat) -> Self {
        match image.on_hosts() {
            ImageFormat::Qcow2 => Self::Qcow2,
            _ => Self::Raw,
        }
    }
}

/// What a disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskRole {
    /// The system.
    Root,
    /// A second, empty disk.
    Ephemeral,
    /// Swap.
    Swap,
    /// What the guest is told, to read.
    Config,
}

/// What disks are plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskBus {
    /// Paravirtual.
    Virtio,
    /// SCSI.
    Scsi,
    /// Serial ATA.
    Sata,
    /// Parallel ATA, four disks.
    Ide,
    /// USB.
    Usb,
}

impl DiskBus {
    /// How many disks it takes.
    pub const fn disks_max(self) -> usize {
        match self {
            Self::Ide => 4,
            // One and two letters.
            Self::Virtio | Self::Scsi | Self::Sata | Self::Usb => 26 + 26 * 26,
        }
    }

    /// The target name of the disk with this number, counted from 0: `vda`, ..., `vdz`, `vdaa`;
    /// none when the bus does not take as many.
    pub fn target(self, index: usize) -> Option<String> {
        let prefix = match self {
            Self::Virtio => "vd",
            Self::Scsi | Self::Sata | Self::Usb => "sd",
            Self::Ide => "hd",
        };
        let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap_or(0));
        match index {
            _ if index >= self.disks_max() => None,
            0..26 => Some(format!("{prefix}{}", letter(index))),
            _ => Some(format!("{prefix}{}{}", letter(index / 26 - 1), letter(index))),
        }
    }
}

impl FromStr for DiskBus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(match text {
            "virtio" => Self::Virtio,
            "scsi" => Self::Scsi,
            "sata" => Self::Sata,
            "ide" => Self::Ide,
            "usb" => Self::Usb,
            _ => {
                let allowed = "virtio, scsi, sata, ide or usb";
                return Err(Invalid::new("image.hw_disk_bus", text, allowed));
            }
        })
    }
}

/// A directory of the host that is a container's root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RootFs {
    /// The directory on the host.
    pub source: String,
    /// Where the container sees it.
    pub target: String,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Interface {
    /// The host's end; see [`InterfaceName::of_port`].
    pub tap: InterfaceName,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The bridge that the host's end is in.
    pub bridge: InterfaceName,
    /// The fixed IP, which filters on the host hold the guest to.
    pub address: IpAddr,
    /// The card that the guest sees; none in a container.
    pub model: Option<NicModel>,
}

/// The network card that a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NicModel {
    /// Paravirtual.
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574.
    E1000e,
    /// Realtek RTL8139.
    Rtl8139,
}

impl FromStr for NicModel {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(match text {
            "virtio" => Self::Virtio,
            "e1000" => Self::E1000,
            "e1000e" => Self::E1000e,
            "rtl8139" => Self::Rtl8139,
            _ => {
                let allowed = "virtio, e1000, e1000e or rtl8139";
                return Err(Invalid::new("image.hw_vif_model", text, allowed));
            }
        })
    }
}

/// Where a guest's console goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Console {
    /// A serial port, with a file on the host that keeps what was written to it.
    Serial {
        /// The file.
        log: String,
    },
    /// A container's console, with such a file.
    Container {
        /// The file.
        log: String,
    },
}
