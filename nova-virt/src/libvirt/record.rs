//! What a host knows of a guest that its hypervisor does not: a file beside the guest's disks.
//!
//! The record is the truth and the hypervisor's definition follows from it, so that a guest is
//! defined anew before each start, and one whose definition was lost is not lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nova_core::domain::{Image, ImageContent, InstanceId, VolumeId};
use nova_core::port::{Connection, GuestSpec, VirtError};

use crate::files::{self, FORMAT, FileError};

/// A guest as this host was told of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Record {
    format: u32,
    pub(super) spec: GuestSpec,
    /// Whether it is whole: it was made, and is not being removed.
    pub(super) whole: bool,
    /// The number of its last reboot.
    #[serde(default)]
    pub(super) boot: u64,
    /// A reboot under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rebooting: Option<Rebooting>,
    /// The machine that it first started on, which it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<String>,
    /// A kernel of its image's, started instead of its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<KernelFiles>,
    /// Whether it has a config drive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) config_drive: bool,
    /// The volumes that are plugged in.
    #[serde(default)]
    pub(super) volumes: BTreeMap<VolumeId, Plugged>,
    /// The number of its folder in the storage that hosts share; none when its disks lie beside
    /// this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<u32>,
    /// What is still to come of it from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) coming: Option<Coming>,
    /// How it is being sent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) leaving: Option<Leaving>,
    /// The life in which it was sent while it was frozen, and came back. Its hypervisor does not
    /// send it again before it has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stiff: Option<u32>,
    /// Whether its agent was told to put its file systems at rest, and has not said since that
    /// they are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) frozen: bool,
    /// What it was rescued with, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rescue: Option<Rescue>,
}

/// A reboot that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Rebooting {
    /// Its number.
    pub(super) boot: u64,
    /// The hypervisor's number for the guest's life before it; none when it was shut down.
    pub(super) life: Option<u32>,
}

/// What a kernel was started from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct KernelFiles {
    pub(super) kernel: ImageContent,
    pub(super) ramdisk: Option<ImageContent>,
    pub(super) command_line: String,
}

/// A guest that is expected from elsewhere.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Coming {
    /// Whether its disks come with its memory; otherwise both hosts reach them.
    pub(super) copied: bool,
    /// Whether something was made for its memory: when that is gone, its memory is.
    pub(super) prepared: bool,
    /// Whether it was shut down.
    pub(super) lost: bool,
    /// Whether it was tried to complete it.
    pub(super) finishing: bool,
}

/// A guest that is sent elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Leaving {
    /// The hypervisor's number for the life in which it was sent: in a later one it is not.
    pub(super) life: u32,
    /// Whether it ran before.
    pub(super) ran: bool,
    /// Whether its disks were copied.
    pub(super) copied: bool,
    /// What its destination has to be told, once everything was copied.
    pub(super) cookie: Option<String>,
}

/// A volume that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Plugged {
    pub(super) connection: Connection,
    /// The name under which the guest has it.
    pub(super) target: String,
}

/// The image that a guest is rescued with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Rescue {
    pub(super) image: Image,
    pub(super) kernel: Option<KernelFiles>,
}

impl Record {
    pub(super) fn new(spec: GuestSpec) -> Self {
        Self {
            format: FORMAT,
            spec,
            whole: false,
            boot: 0,
            rebooting: None,
            machine: None,
            kernel: None,
            config_drive: false,
            volumes: BTreeMap::new(),
            place: None,
            coming: None,
            leaving: None,
            stiff: None,
            frozen: false,
            rescue: None,
        }
    }

    /// Whether it has something to boot from.
    pub(super) fn has_root(&self) -> Result<(), VirtError> {
        let instance = self.spec.instance;
        let missing = |root: &VolumeId| self.rescue.is_none() && !self.volumes.contains_key(root);
        match self.spec.root.filter(missing) {
            Some(volume) => Err(VirtError::NoRootVolume { instance, volume }),
            None => Ok(()),
        }
    }
}

/// The records of a host, each in the directory of its guest.
#[derive(Debug, Clone)]
pub(super) struct Records {
    directory: PathBuf,
}

impl Records {
    /// Those below `directory`, which is made when it is not there.
    pub(super) fn at(directory: &Path) -> Result<Self, FileError> {
        Ok(Self { directory: files::directory(directory)? })
    }

    /// The file of what only this host knows.
    pub(super) fn key(&self) -> PathBuf {
        self.directory.join("key")
    }

    /// The directory of everything that belongs to a guest.
    pub(super) fn home(&self, guest: InstanceId) -> PathBuf {
        self.directory.join(guest.to_string())
    }

    fn file(&self, guest: InstanceId) -> PathBuf {
        self.home(guest).join("guest.json")
    }

    pub(super) fn load(&self, guest: InstanceId) -> Result<Option<Record>, FileError> {
        files::load(&self.file(guest))
    }

    pub(super) fn save(&self, record: &Record) -> Result<(), FileError> {
        files::directory(&self.home(record.spec.instance))?;
        files::save(&self.file(record.spec.instance), record)
    }

    /// The guests that something is kept of.
    pub(super) fn guests(&self) -> Result<Vec<InstanceId>, FileError> {
        let list = || -> std::io::Result<Vec<InstanceId>> {
            let mut guests = Vec::new();
            for entry in std::fs::read_dir(&self.directory)? {
                let name = entry?.file_name();
                let id = name.to_str().and_then(|name| name.parse::<InstanceId>().ok());
                guests.extend(id.filter(|id| Some(&*id.to_string()) == name.to_str()));
            }
            guests.sort_unstable();
            Ok(guests)
        };
        list().map_err(FileError::io(&self.directory, "list it"))
    }

    /// Removes everything that belongs to a guest.
    pub(super) fn remove(&self, guest: InstanceId) -> Result<(), FileError> {
        let home = self.home(guest);
        match std::fs::remove_dir_all(&home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::io(&home, "remove it")(error))
            }
            _ => Ok(()),
        }
    }
}
