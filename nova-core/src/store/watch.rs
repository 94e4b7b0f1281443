//! Following a store: a bounded feed of changes that says so when it lost some.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::Notify;

use crate::store::sync::{Mutex, MutexGuard};
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
    /// Nothing will come any more.
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

    /// Tells every watch to read everything again: for a store that follows another one and has
    /// lost its own place there.
    pub fn lose_place(&self) {
        let mut state = self.shared.lock();
        // One more than there are, so that a watch that has read all of them is behind too.
        state.first += state.changes.len() as u64 + 1;
        if let Some(newest) = state.changes.back().map(|change| change.revision) {
            state.forgotten = newest;
        }
        state.changes.clear();
        drop(state);
        self.shared.news.notify_waiters();
    }

    /// Whether anybody has a watch.
    pub fn is_watched(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
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
    fn lock(&self) -> MutexGuard<'_, State> {
        // The lock only guards plain moves of values; a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position in the history of a store.
///
/// It ends when its store is gone, or when whoever tells for the store has lost it. Whoever still
/// has to follow then opens another watch and reads everything again.
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
    /// Whether it has ended: nothing comes after what is there already.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().closed
    }

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

    /// The next event; none when the watch has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let shared = Arc::clone(&self.shared);
            let news = shared.news.notified();
            tokio::pin!(news);
            // Registered before looking, so that news between looking and waiting is not missed.
            news.as_mut().enable();
            // Asked before looking too: what was published before the end is still to be told.
            let closed = shared.lock().closed;
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            if closed {
                return None;
            }
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One change of `path` at `revision`.
    fn change(path: &str, revision: u64) -> Change {
        Change { key: Key::new(path.split('/')), value: None, revision: Revision(revision) }
    }

    /// Publishes (path, revision) and tells what a watch on `a` from after `after` says: paths
    /// with revisions, or `resync`.
    fn check(published: &[(&str, u64)], after: u64, expected: &str) {
        let feed = Feed::new(Revision(10));
        let mut early = feed.watch(&Prefix::new(["a"]), Revision(after));
        for (path, revision) in published {
            feed.publish([change(path, *revision)]);
        }
        let mut late = feed.watch(&Prefix::new(["a"]), Revision(after));
        assert_eq!(said(&mut early), expected, "opened before");
        assert_eq!(said(&mut late), expected, "opened after");
    }

    fn said(watch: &mut Watch) -> String {
        let mut said = Vec::new();
        while let Some(event) = watch.try_next() {
            said.push(match event {
                Event::Changed(change) => format!("{}@{}", change.key, change.revision),
                Event::Resync => "resync".to_owned(),
            });
        }
        said.join(" ")
    }

    #[test]
    fn only_what_lies_below_the_prefix_is_told() {
        check(
            &[("a/x", 11), ("ab/x", 12), ("b/a", 13), ("a", 14), ("a/y", 15)],
            10,
            "a/x@r11 a/y@r15",
        );
    }

    #[test]
    fn only_what_came_after_the_given_revision_is_told() {
        check(&[("a/x", 11), ("a/y", 12), ("a/z", 12), ("a/x", 13)], 11, "a/y@r12 a/z@r12 a/x@r13");
        check(&[("a/x", 11), ("a/y", 12)], 12, "");
        check(&[("a/x", 11), ("a/y", 12), ("a/z", 13)], 12, "a/z@r13");
    }

    #[test]
    fn a_past_that_nobody_remembers_begins_with_a_resync() {
        let feed = Feed::new(Revision(10));
        feed.publish([change("a/x", 11)]);
        assert_eq!(said(&mut feed.watch(&Prefix::all(), Revision(9))), "resync");
        assert_eq!(said(&mut feed.watch(&Prefix::all(), Revision(10))), "a/x@r11");
    }

    #[test]
    fn a_watch_may_be_as_far_behind_as_is_remembered_and_no_further() {
        let feed = Feed::new(Revision(0));
        let last = Feed::CHANGES_MAX as u64;
        let mut behind = feed.watch(&Prefix::new(["b"]), Revision(0));
        feed.publish([change("b/x", 1)]);
        for revision in 2..=last {
            feed.publish([change("a/x", revision)]);
        }
        let mut lost = feed.watch(&Prefix::new(["b"]), Revision(0));
        assert_eq!(said(&mut behind), "b/x@r1");
        feed.publish([change("b/y", last + 1)]);
        assert_eq!(said(&mut behind), format!("b/y@r{}", last + 1));
        assert_eq!(said(&mut lost), "resync");
        assert_eq!(said(&mut lost), "");
        assert_eq!(said(&mut feed.watch(&Prefix::new(["b"]), Revision(0))), "resync");
        let mut whole = feed.watch(&Prefix::new(["b"]), Revision(1));
        assert_eq!(said(&mut whole), format!("b/y@r{}", last + 1));
        feed.publish([change("b/z", last + 2)]);
        assert_eq!(said(&mut lost), format!("b/z@r{}", last + 2));
    }

    #[test]
    fn a_commit_of_which_a_part_is_forgotten_is_not_told_in_part() {
        let feed = Feed::new(Revision(0));
        feed.publish((0..=Feed::CHANGES_MAX).map(|at| change(&format!("a/{at}"), 1)));
        assert_eq!(said(&mut feed.watch(&Prefix::new(["a"]), Revision(0))), "resync");
        assert_eq!(said(&mut feed.watch(&Prefix::new(["a"]), Revision(1))), "");
    }

    #[test]
    fn a_store_that_lost_its_place_makes_every_watch_read_again() {
        let feed = Feed::new(Revision(10));
        let (mut whole, mut behind) =
            (feed.watch(&Prefix::all(), Revision(10)), feed.watch(&Prefix::all(), Revision(10)));
        feed.publish([change("a/x", 11)]);
        assert_eq!(said(&mut whole), "a/x@r11");
        feed.lose_place();
        feed.publish([change("a/y", 14)]);
        assert_eq!(said(&mut behind), "resync");
        assert_eq!(said(&mut whole), "resync");
        // What came before is nothing that this feed could tell about.
        assert_eq!(said(&mut feed.watch(&Prefix::all(), Revision(10))), "resync");
        feed.publish([change("a/z", 15)]);
        assert_eq!(said(&mut whole), "a/z@r15");
    }

    #[test]
    fn a_feed_knows_whether_anybody_watches() {
        let feed = Feed::new(Revision(0));
        assert!(!feed.is_watched());
        let watch = feed.watch(&Prefix::all(), Revision(0));
        assert!(feed.is_watched());
        drop(watch);
        assert!(!feed.is_watched());
    }

    #[tokio::test]
    async fn a_watch_tells_what_is_left_and_then_ends_with_its_store() {
        let feed = Feed::new(Revision(0));
        let mut watch = feed.watch(&Prefix::all(), Revision(0));
        feed.publish([change("a", 1)]);
        assert!(!watch.has_ended());
        drop(feed);
        assert!(watch.has_ended());
        assert_eq!(watch.next().await, Some(Event::Changed(change("a", 1))));
        assert_eq!(watch.next().await, None);
        assert_eq!(watch.try_next(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_news_and_by_the_end() {
        let feed = Feed::new(Revision(0));
        let mut watch = feed.watch(&Prefix::new(["a"]), Revision(0));
        let publish = async {
            feed.publish([change("b/x", 1)]);
            tokio::task::yield_now().await;
            feed.publish([change("a/x", 2)]);
        };
        // Polled in this order, so that the watch is waiting when the news comes.
        let (event, ()) = tokio::join!(biased; watch.next(), publish);
        assert_eq!(event, Some(Event::Changed(change("a/x", 2))));
        let (event, ()) = tokio::join!(biased; watch.next(), async { drop(feed) });
        assert_eq!(event, None);
    }
}
