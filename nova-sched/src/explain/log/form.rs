//! The lines of a log of decisions.

use std::sync::Arc;

use nova_core::clock::Timestamp;
use nova_core::domain::{Aggregate, HostId, HostRow, RequestSpec};
use nova_core::seed::Seed;
use serde::{Deserialize, Serialize};

/// The form that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;

/// What the first line of every log begins with, whatever its version.
pub(crate) const BEGINS: &[u8] = b"[0,{\"log\":{\"decisions\":";

/// Hosts are told of for so many tables at once: a cloud asks about its hosts, and about single
/// ones in tables of their own.
pub(super) const TABLES_MAX: usize = 8;

/// No line is longer, so that a reader's memory is bounded: the row of a host with a hundred
/// thousand servers fits, and an aggregate of a million hosts.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;

/// A line: how manieth it is of its part, and what it says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line(pub(super) u64, pub(super) Said);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// A part begins. Nothing that was told before is needed from here on.
    Log(Header),
    /// An aggregate as it is in the rows that follow.
    Aggregate(Arc<Aggregate>),
    /// A table begins without hosts, in place of another of this number.
    Table(u8),
    /// A host is like this in a table.
    Host(u8, Box<HostRow>),
    /// A host is not in a table any more.
    Gone(u8, HostId),
    /// A question about a table, with its answer.
    Asked(Box<Question>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// The version.
    pub(super) decisions: u32,
    /// What the scheduler calls itself.
    pub(super) policy: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    pub(super) table: u8,
    pub(super) at_ns: Timestamp,
    pub(super) seed: Seed,
    pub(super) request: RequestSpec,
    /// A host for each instance; none when not every instance found one.
    pub(super) placed: Option<Vec<HostId>>,
}
