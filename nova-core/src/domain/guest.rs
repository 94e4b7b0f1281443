//! What is seen of guests, and what went wrong with them.

use crate::clock::Timestamp;

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
}

impl std::fmt::Display for PowerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
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
}
