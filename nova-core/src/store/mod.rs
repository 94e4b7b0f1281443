//! The store: where the truth is.
//!
//! A store maps keys to values and changes only by guarded transactions. What the cloud keeps in
//! it, and under which keys, is in [`record`]; a copy that follows it is a [`Mirror`].
//!
//! It is not a query engine: what needs an index keeps a [`Mirror`] and looks there.

mod key;
mod memory;
mod mirror;
mod port;
#[cfg(all(test, shuttle))]
mod races;
pub mod record;
#[cfg(feature = "redb")]
mod redb;
mod sync;
mod txn;
mod watch;

#[cfg(feature = "redb")]
pub use self::redb::{RedbOptions, RedbStore};
pub use key::{Key, Prefix};
pub use memory::MemoryStore;
pub use mirror::{Mirror, Versioned};
pub use port::{Entry, Page, Revision, Scan, Store, StoreError, StoreExt, Value};
pub use record::Record;
pub use txn::{Draft, Guard, Txn, Write};
pub use watch::{Change, Event, Feed, Watch};
