//! Transactions as values: built by whoever knows what must hold, merged, committed once.

use crate::store::{Key, Record, Revision, Value, Versioned};

/// Something that must hold when a transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is stored under the key.
    Absent(Key),
    /// The key was last written at this revision, and is still there.
    Unchanged(Key, Revision),
}

impl Guard {
    /// The key that is guarded.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Store the value under the key, whatever was there.
    Put(Key, Value),
    /// Store nothing under the key.
    Remove(Key),
}

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Remove(key) => key,
        }
    }
}

/// Guards and writes that are committed together or not at all.
///
/// ```
/// # use nova_core::store::{record::Ledger, Txn};
/// let mut txn = Txn::new();
/// txn.create(&Ledger::for_project("demo".parse()?));
/// assert_eq!((txn.guards().len(), txn.writes().len()), (1, 1));
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Txn {
    guards: Vec<Guard>,
    writes: Vec<Write>,
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a guard.
    pub fn guard(&mut self, guard: Guard) -> &mut Self {
        self.guards.push(guard);
        self
    }

    /// Adds a write.
    pub fn write(&mut self, write: Write) -> &mut Self {
        self.writes.push(write);
        self
    }

    /// Writes a record that must not exist yet.
    pub fn create<R: Record>(&mut self, record: &R) -> &mut Self {
        let key = record.key();
        self.guard(Guard::Absent(key.clone())).write(Write::Put(key, record.encode()))
    }

    /// Writes a record whatever was there.
    pub fn put<R: Record>(&mut self, record: &R) -> &mut Self {
        self.write(Write::Put(record.key(), record.encode()))
    }

    /// Replaces a record that must still be as it was read.
    pub fn replace<R: Record>(&mut self, read: &Versioned<R>, with: &R) -> &mut Self {
        self.unchanged(read).write(Write::Put(with.key(), with.encode()))
    }

    /// Removes a record that must still be as it was read.
    pub fn remove<R: Record>(&mut self, read: &Versioned<R>) -> &mut Self {
        self.unchanged(read).write(Write::Remove(read.value.key()))
    }

    /// Demands that a record is still as it was read, and leaves it so.
    pub fn unchanged<R: Record>(&mut self, read: &Versioned<R>) -> &mut Self {
        self.guard(Guard::Unchanged(read.value.key(), read.revision))
    }

    /// Marks a record as changed: whoever decided on an older reading will conflict. `read` is
    /// what this decision saw; none when there was nothing yet.
    pub fn touch<R: Record>(&mut self, read: Option<&Versioned<R>>, record: &R) -> &mut Self {
        match read {
            Some(read) => self.replace(read, record),
            None => self.create(record),
        }
    }

    /// Adds all guards and writes of `other`.
    pub fn merge(&mut self, other: Self) -> &mut Self {
        self.guards.extend(other.guards);
        self.writes.extend(other.writes);
        self
    }

    /// What must hold.
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// What will change.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// A key that is written more than once, which no store accepts.
    pub fn written_twice(&self) -> Option<&Key> {
        let mut keys: Vec<&Key> = self.writes.iter().map(Write::key).collect();
        keys.sort_unstable();
        keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

/// A decision that takes effect when its transaction is committed, alone or merged into another.
///
/// This is how claiming and deciding become one step: the scheduler's claim, the network
/// manager's addresses and the quota are drafts, and one commit makes all of them true or none.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a draft is only a proposal until its transaction is committed"]
pub struct Draft<T> {
    /// What will be true.
    pub value: T,
    /// What makes it true.
    pub txn: Txn,
}
