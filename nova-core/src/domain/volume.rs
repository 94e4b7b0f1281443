//! Volumes: storage that outlives the server it is attached to.

use crate::domain::{GiB, HostId, Image, InstanceId, Invalid, Label, OpId, ProjectId, VolumeId};

/// The size of a volume: at least one gibibyte.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct VolumeSize(GiB);

impl VolumeSize {
    /// The largest: 1 PiB.
    pub const MAX: GiB = GiB(1 << 20);

    /// Checks `size`.
    ///
    /// # Errors
    /// [`Invalid`] for zero and above [`MAX`](Self::MAX).
    pub fn new(size: GiB) -> Result<Self, Invalid> {
        if size > GiB::ZERO && size <= Self::MAX {
            Ok(Self(size))
        } else {
            Err(Invalid::new("volume.size", size, "1 GiB to 1 PiB"))
        }
    }

    /// The size.
    pub const fn get(self) -> GiB {
        self.0
    }
}

impl TryFrom<u64> for VolumeSize {
    type Error = Invalid;

    fn try_from(gib: u64) -> Result<Self, Invalid> {
        Self::new(GiB(gib))
    }
}

impl From<VolumeSize> for u64 {
    fn from(size: VolumeSize) -> u64 {
        size.0.0
    }
}

/// Where a volume is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VolumeState {
    /// Being made.
    Creating,
    /// Free to be attached.
    Available,
    /// On its way to a server.
    Attaching,
    /// With a server.
    InUse,
    /// On its way back; not free before the host has confirmed that it let go.
    Detaching,
    /// Being destroyed.
    Deleting,
    /// Something failed that did not clean itself up.
    Error,
}

impl std::fmt::Display for VolumeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::Attaching => "attaching",
            Self::InUse => "in-use",
            Self::Detaching => "detaching",
            Self::Deleting => "deleting",
            Self::Error => "error",
        })
    }
}

/// A volume as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Volume {
    /// The id.
    pub id: VolumeId,
    /// Who owns it.
    pub project: ProjectId,
    /// Its name.
    pub name: Label,
    /// Its size.
    pub size: VolumeSize,
    /// Where it is in its life.
    pub state: VolumeState,
    /// The server that has it, or is getting or losing it.
    pub attachment: Option<Attachment>,
    /// The operation that works on it.
    pub operation: Option<OpId>,
    /// The image that it was made of, as that was then: a server can boot from a volume that was
    /// made of one. The image itself may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<Image>>,
    /// The server whose root disk it is, from the moment that the server was asked for until it is
    /// deleted, or failed to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_of: Option<InstanceId>,
}

impl Volume {
    /// Whether it belongs to a server, as a disk that is or will be plugged in.
    pub fn belongs_to(&self, instance: InstanceId) -> bool {
        self.root_of == Some(instance) || self.attachment.is_some_and(|to| to.instance == instance)
    }

    /// The same volume, free: nobody has it, and nothing is done to it.
    #[must_use]
    pub fn freed(&self) -> Self {
        let (attachment, operation, root_of) = (None, None, None);
        Self { state: VolumeState::Available, attachment, operation, root_of, ..self.clone() }
    }
}

/// Which server has a volume, and where that server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Attachment {
    /// The server.
    pub instance: InstanceId,
    /// The host to which the volume is connected.
    pub host: HostId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_at_least_one_gibibyte() {
        assert_eq!(VolumeSize::new(GiB(0)).map_err(|e| e.field), Err("volume.size"));
        assert!(VolumeSize::new(GiB(1)).is_ok());
        assert!(serde_json::from_str::<VolumeSize>("0").is_err());
    }
}
