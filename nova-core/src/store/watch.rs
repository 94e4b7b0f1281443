//! Following a store: a bounded feed of changes that says so when it lost some.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::store::{Key, Prefix, Revision, Value};

/// One key that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Its new value; none when it was removed.
    pub value: Option<Value>,
    /// The commit's revision.
    pub revision: Revision,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key changed.
    Changed(Change),
    /// Changes were lost; read everything again.
    Resync,
}

/// Distributes the changes of one store to its watches; for those who write a store.
///
/// It remembers the last [`CHANGES_MAX`](Self::CHANGES_MAX) changes. A watch that fell further
/// behind is told to read again.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    changes: VecDeque<Change>,
    /// How many changes were forgotten: the number of the first one still remembered.
    first: u64,
    /// Changes up to and including this revision may be forgotten.
    forgotten: Revision,
    /// The store is gone; nothing will come any more.
    closed: bool,
}

impl Feed {
    /// How many changes are remembered for watches that are behind.
    pub const CHANGES_MAX: usize = 16_384;

    /// A feed for a store that is at `revision`.
    pub fn new(revision: Revision) -> Self {
        let state =
            State { changes: VecDeque::new(), first: 0, forgotten: revision, closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), news: Notify::new() }) }
    }

    /// Tells every watch about one commit. Commits are published in the order of revisions.
    pub fn publish(&self, changes: impl IntoIterator<Item = Change>) {
        let mut state = self.shared.lock();
        for change in changes {
            if state.changes.len() == Self::CHANGES_MAX
                && let Some(oldest) = state.changes.pop_front()
            {
                state.first += 1;
                state.forgotten = oldest.revision;
            }
            state.changes.push_back(change);
        }
        drop(state);
        self.shared.news.notify_waiters();
    }

    /// A watch on the keys below `prefix` from just after `after`.
    pub fn watch(&self, prefix: &Prefix, after: Revision) -> Watch {
        let state = self.shared.lock();
        // A position before the first remembered change makes the watch begin with a resync.
        let next = if after < state.forgotten {
            None
        } else {
            let seen = state.changes.partition_point(|change| change.revision <= after);
            Some(state.first + seen as u64)
        };
        Watch { shared: Arc::clone(&self.shared), prefix: prefix.clone(), after, next }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.news.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The lock only guards plain moves of values; a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position in the history of a store.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    prefix: Prefix,
    /// Changes up to and including this revision are of no interest. They can still come: a
    /// store may let a commit be read before it publishes it.
    after: Revision,
    /// The number of the change to look at next; none when changes before it are lost already.
    next: Option<u64>,
}

impl Watch {
    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        let state = self.shared.lock();
        let end = state.first + state.changes.len() as u64;
        let Some(mut at) = self.next.filter(|at| *at >= state.first) else {
            self.next = Some(end);
            return Some(Event::Resync);
        };
        let mut found = None;
        while at < end && found.is_none() {
            let index = usize::try_from(at - state.first).unwrap_or(usize::MAX);
            found = state
                .changes
                .get(index)
                .filter(|change| change.revision > self.after && self.prefix.covers(&change.key));
            at += 1;
        }
        self.next = Some(at);
        found.cloned().map(Event::Changed)
    }

    /// The next event; none when the store is gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let shared = Arc::clone(&self.shared);
            let news = shared.news.notified();
            tokio::pin!(news);
            // Registered before looking, so that news between looking and waiting is not missed.
            news.as_mut().enable();
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if shared.lock().closed {
                return None;
            }
            news.await;
        }
    }
}
