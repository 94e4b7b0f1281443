//! What a user of the cloud is told when something cannot be done.

use std::time::Duration;

use crate::class::Class;
use crate::domain::{Action, Invalid, OverQuota, TaskState, VmState};
use crate::port::{ImageError, NetError, VirtError, VolumeError};
use crate::store::StoreError;

/// Why a call was refused. A refused call has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A value is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such thing, or it belongs to another project.
    #[error("no {what} {id}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The name is taken.
    #[error("{what} {id} exists already")]
    Exists {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// Somebody needs it.
    #[error("{what} {id} is in use by {by}")]
    InUse {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        id: String,
        /// By whom.
        by: String,
    },
    /// The server is in a state in which this may not begin.
    #[error("server {id}: cannot {action} while {state}{}", during(*task))]
    ServerState {
        /// The server.
        id: String,
        /// What was asked for.
        action: Action,
        /// Its state.
        state: VmState,
        /// What is being done to it.
        task: Option<TaskState>,
    },
    /// The volume is in a state in which this may not begin.
    #[error("volume {id}: cannot {action} while {state}")]
    VolumeState {
        /// The volume.
        id: String,
        /// What was asked for.
        action: &'static str,
        /// Its state.
        state: crate::domain::VolumeState,
    },
    /// The root disk of the server is a volume, which this does not concern.
    #[error("server {id}: cannot {action}: its root disk is volume {volume}, {instead}")]
    OnVolume {
        /// The server.
        id: String,
        /// What was asked for.
        action: &'static str,
        /// The volume.
        volume: String,
        /// What is done with it, or what can be done instead.
        instead: &'static str,
    },
    /// The operation is in a state in which this cannot be done.
    #[error("operation {id}: cannot {action} what is {state}")]
    OperationState {
        /// The operation.
        id: String,
        /// What was asked for.
        action: &'static str,
        /// Its state.
        state: &'static str,
    },
    /// A host may still use what nobody else may get before the host has let go, or was declared
    /// down.
    #[error(
        "operation {operation}: host {host} may still use {what}; \
         retry it when the host is back or was declared down"
    )]
    StillUsed {
        /// The operation.
        operation: String,
        /// The host, by its name.
        host: String,
        /// What: a volume or a server, with its id.
        what: String,
    },
    /// What was asked for does not go together.
    #[error("{what}: {reason}")]
    Unsuitable {
        /// What was asked for.
        what: String,
        /// Why it cannot be.
        reason: String,
    },
    /// The project would have more than it may.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// The request id was used before, for something else.
    #[error("request id {id} was used for another request")]
    RequestIdReused {
        /// The id.
        id: String,
    },
    /// Too many others want something at the same time. It was not accepted, and asking again later
    /// will help.
    #[error("too busy: {overload}")]
    Busy {
        /// What there is too much of.
        overload: Overload,
        /// How long to wait before asking again, at least.
        retry_after: Duration,
    },
    /// What is known here of the store is behind, and did not catch up; asking again will help.
    #[error("what is known of the store is still behind after {waited:?}")]
    Behind {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The network manager refused or failed.
    #[error("the network manager refused or failed")]
    Network {
        /// Why.
        source: NetError,
    },
    /// The image store refused or failed.
    #[error("the image store refused or failed")]
    Image {
        /// Why.
        source: ImageError,
    },
    /// The volume driver refused or failed.
    #[error("the volume driver refused or failed")]
    Volume {
        /// Why.
        source: VolumeError,
    },
    /// The driver of a host refused or failed.
    #[error("host {host}: its driver refused or failed")]
    Driver {
        /// The host.
        host: String,
        /// Why.
        source: VirtError,
    },
    /// The store failed.
    #[error("the store failed")]
    Store {
        /// Why.
        source: StoreError,
    },
}

/// What a cloud has too much of at the moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Overload {
    /// Others change the same things.
    #[error("{attempts} attempts conflicted, last on {key}")]
    Conflicts {
        /// How often it was tried.
        attempts: u32,
        /// Where the last one conflicted.
        key: String,
    },
    /// One way in has as many writes in its hands as it may, see
    /// [`CloudOptions::writes_max`](crate::cloud::CloudOptions::writes_max).
    #[error("{limit} writes are being accepted")]
    Writes {
        /// How many it may have.
        limit: usize,
    },
    /// As many operations have begun and not ended as may, see
    /// [`CloudOptions::operations_open_max`](crate::cloud::CloudOptions::operations_open_max).
    #[error("{limit} operations have not ended")]
    Operations {
        /// How many there may be.
        limit: usize,
    },
}

impl From<Overload> for ApiError {
    fn from(overload: Overload) -> Self {
        Self::Busy { overload, retry_after: RETRY_AFTER }
    }
}

/// How long whoever met an overload is told to wait: what fits into less is waited for here.
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn during(task: Option<TaskState>) -> String {
    task.map(|task| format!(" and {task}")).unwrap_or_default()
}

impl ApiError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Busy { .. } | Self::Behind { .. } => Class::Retry,
            Self::Network { source } => source.class(),
            Self::Image { source } => source.class(),
            Self::Volume { source } => source.class(),
            Self::Driver { source, .. } => source.class(),
            Self::Store { source } => source.class(),
            _ => Class::Permanent,
        }
    }

    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }
}

impl From<StoreError> for ApiError {
    fn from(source: StoreError) -> Self {
        Self::Store { source }
    }
}

impl From<NetError> for ApiError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Invalid(invalid) => Self::Invalid(invalid),
            NetError::Store { source, .. } => Self::Store { source },
            NetError::NoSuchNetwork { network } => Self::not_found("network", network),
            NetError::NoSuchPool { pool } => Self::not_found("floating IP pool", pool),
            NetError::NoSuchFloatingIp { address } => Self::not_found("floating IP", address),
            source => Self::Network { source },
        }
    }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
