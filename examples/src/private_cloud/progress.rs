//! How far a run is, kept in the cloud's own store.
//!
//! A program may keep records of its own beside those of the cloud; this is one. It makes two
//! things possible: a run that was interrupted goes on where it was, and a run after a completed
//! one asks under request ids of its own.

use std::collections::BTreeMap;

use nova_core::store::record::Record;
use nova_core::store::{Key, Store, StoreError, StoreExt as _, Txn};

/// A part of the story. Each is safe to repeat as long as the next has not begun.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Images, networks, flavors, aggregates, quotas, keys, groups.
    Ground,
    /// Forty servers.
    Boot,
    /// Volumes and floating IPs.
    Attach,
    /// Stop, start, reboot, pause.
    Power,
    /// A request that fits nowhere.
    Refusal,
    /// A host dies.
    Failure,
    /// A look at everything while it is up.
    Review,
    /// Everything goes.
    Deletion,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 8] = [
        Self::Ground,
        Self::Boot,
        Self::Attach,
        Self::Power,
        Self::Refusal,
        Self::Failure,
        Self::Review,
        Self::Deletion,
    ];

    /// The stage after it; none after the last.
    pub(super) fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage > self)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ground => "laying the ground",
            Self::Boot => "booting servers",
            Self::Attach => "attaching volumes and floating IPs",
            Self::Power => "stopping and starting",
            Self::Refusal => "asking for too much",
            Self::Failure => "losing a host",
            Self::Review => "looking at everything",
            Self::Deletion => "deleting everything",
        })
    }
}

/// The run that is under way, or was the last.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Progress {
    /// Its number; a part of every request id.
    pub(super) run: u64,
    /// The stage that comes next; none when the run is over.
    pub(super) next: Option<Stage>,
    /// The census when the run began.
    pub(super) before: BTreeMap<String, usize>,
    /// The census when everything was there; empty until then.
    pub(super) most: BTreeMap<String, usize>,
}

impl Record for Progress {
    const TABLE: &'static str = "example-run";

    fn key(&self) -> Key {
        key()
    }
}

fn key() -> Key {
    Key::new([Progress::TABLE, "latest"])
}

impl Progress {
    pub(super) async fn load(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        Ok(store.read(&key()).await?.map(|progress| progress.value))
    }

    pub(super) async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut txn = Txn::new();
        txn.put(self);
        store.commit(txn).await.map(drop)
    }
}
