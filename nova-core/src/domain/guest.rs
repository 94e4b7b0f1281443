//! What is seen of guests, and what went wrong with them.

use crate::clock::Timestamp;
use crate::domain::{GroupPolicy, HostName, ResourceClass, ResourceKind, ServerGroupId};

/// What a driver sees of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PowerState {
    /// Executing.
    Running,
    /// In memory, not executing.
    Paused,
    /// Defined, not in memory.
    Shutdown,
    /// Not executing; what was in its memory is on disk.
    Suspended,
}

impl std::fmt::Display for PowerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
            Self::Suspended => "suspended",
        })
    }
}

/// Whether a guest is asked to restart, or made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reboot {
    /// The guest is asked and shuts its own services down.
    Soft,
    /// Power off, power on.
    Hard,
}

/// Why a server is in [`VmState::Error`](crate::domain::VmState::Error), or why its last operation failed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// What went wrong, for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Why no host was found, when that was it.
    pub refusal: Option<crate::domain::Refusal>,
    /// Which check of a claim failed, when that was it.
    #[serde(default)]
    pub check: Option<Box<FailedCheck>>,
}

/// What a claim was refused for when it was about to be made, whatever was planned before.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailedCheck {
    /// The host that was chosen has not enough left.
    Capacity {
        /// The host.
        host: HostName,
        /// What it lacks.
        resource: ResourceKind,
        /// How much of it the server takes, in its unit.
        wanted: u64,
    },
    /// The host that was chosen has not enough left of a resource class.
    ClassCapacity {
        /// The host.
        host: HostName,
        /// What it lacks.
        class: ResourceClass,
        /// How much of it the server takes.
        wanted: u64,
    },
    /// The host that was chosen cannot give the NUMA cells or PCI devices that are asked for.
    Devices {
        /// The host.
        host: HostName,
        /// Why not, for people.
        reason: String,
    },
    /// The host that was chosen is against the rule of the server's group.
    GroupRule {
        /// The group.
        group: ServerGroupId,
        /// Its rule.
        policy: GroupPolicy,
        /// The host.
        host: HostName,
    },
    /// No address is left.
    Addresses {
        /// In which network.
        of: String,
    },
}
