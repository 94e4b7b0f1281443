//! Why a host did not do what it was asked.

use crate::class::Class;
use crate::domain::{InstanceId, PowerState, VolumeId};

/// What went wrong on a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VirtError {
    /// The guest is not on this host.
    #[error("no guest {instance}")]
    NoSuchGuest {
        /// The guest.
        instance: InstanceId,
    },
    /// The guest is in a power state in which this cannot be done.
    #[error("guest {instance} is {power}: cannot {operation}")]
    WrongPower {
        /// The guest.
        instance: InstanceId,
        /// Its state.
        power: PowerState,
        /// What was to be done.
        operation: &'static str,
    },
    /// No agent in the guest does this.
    #[error("guest {instance}: no agent in it does this: cannot {operation}")]
    NoAgent {
        /// The guest.
        instance: InstanceId,
        /// What was to be done.
        operation: &'static str,
    },
    /// No guest of this host boots from a volume.
    #[error(
        "guest {instance}: guests of this host do not boot from volumes, as of volume {volume}"
    )]
    NoBootVolumes {
        /// The guest.
        instance: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// The volume that is the guest's root disk is not plugged in.
    #[error("guest {instance}: its root disk, volume {volume}, is not plugged in")]
    NoRootVolume {
        /// The guest.
        instance: InstanceId,
        /// The volume.
        volume: VolumeId,
    },
    /// The guest's root disk is a volume, which this does not concern.
    #[error("guest {instance}: cannot {operation}: its root disk is volume {volume}")]
    OnVolume {
        /// The guest.
        instance: InstanceId,
        /// The volume.
        volume: VolumeId,
        /// What was to be done.
        operation: &'static str,
    },
    /// The host has no room for it.
    #[error("guest {instance}: no room on the host")]
    NoRoom {
        /// The guest.
        instance: InstanceId,
    },
    /// The image could not be fetched or is not what it should be.
    #[error("guest {instance}: cannot use its image")]
    Image {
        /// The guest.
        instance: InstanceId,
        /// Why.
        source: crate::port::ImageError,
    },
    /// The host did not do it, or nobody knows whether it did.
    #[error("cannot {operation}")]
    Host {
        /// What was to be done.
        operation: &'static str,
        /// What the host said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl VirtError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Host { .. } => Class::Retry,
            Self::Image { source, .. } => source.class(),
            Self::NoSuchGuest { .. }
            | Self::WrongPower { .. }
            | Self::NoAgent { .. }
            | Self::NoBootVolumes { .. }
            | Self::NoRootVolume { .. }
            | Self::OnVolume { .. }
            | Self::NoRoom { .. } => Class::Permanent,
        }
    }
}
