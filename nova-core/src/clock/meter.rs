//! How long others were waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Clock, Timestamp};

/// Adds up for how long something outside is waited for: a daemon, a program that was started.
///
/// What is waited for at the same time counts once, so that the total never exceeds the time that
/// has passed; what is left of that is what the waiting program took itself. Clones add to one
/// total.
///
/// ```
/// use std::sync::Arc;
/// use nova_core::clock::{Meter, SystemClock};
///
/// let meter = Meter::new(Arc::new(SystemClock::new()));
/// let answer = meter.over(|| "what somebody else took long for");
/// println!("{answer}, after {:?}", meter.total());
/// ```
#[derive(Debug, Clone)]
pub struct Meter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    sum: Mutex<Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    /// Of all times that are over.
    past: Duration,
    /// How many wait now, and since when the first of them does.
    waiting: u64,
    since: Timestamp,
}

/// Somebody waits, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Waiting {
    inner: Arc<Inner>,
}

impl Meter {
    /// A meter that starts at nothing.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(Inner { clock, sum: Mutex::default() }) }
    }

    /// Counts from now on until what it returns is dropped.
    pub fn wait(&self) -> Waiting {
        let now = self.inner.clock.now();
        let mut sum = self.inner.sum();
        if sum.waiting == 0 {
            sum.since = now;
        }
        sum.waiting = sum.waiting.saturating_add(1);
        Waiting { inner: Arc::clone(&self.inner) }
    }

    /// Counts while `work` is done.
    pub fn over<T>(&self, work: impl FnOnce() -> T) -> T {
        let _waiting = self.wait();
        work()
    }

    /// For how long somebody has waited so far, with what is being waited for now.
    pub fn total(&self) -> Duration {
        let now = self.inner.clock.now();
        let sum = self.inner.sum();
        match sum.waiting {
            0 => sum.past,
            _ => sum.past.saturating_add(now.since(sum.since)),
        }
    }
}

impl Inner {
    fn sum(&self) -> MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now = self.inner.clock.now();
        let mut sum = self.inner.sum();
        sum.waiting = sum.waiting.saturating_sub(1);
        if sum.waiting == 0 {
            sum.past = sum.past.saturating_add(now.since(sum.since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::VirtualClock;

    /// Does what the words say, one after the other, and compares the total after each.
    fn check(words: &[(&str, u64)]) {
        let clock = Arc::new(VirtualClock::new());
        let meter = Meter::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let mut waiting = Vec::new();
        for (at, (word, total)) in words.iter().enumerate() {
            match *word {
                "begin" => waiting.push(meter.clone().wait()),
                "end" => drop(waiting.remove(0)),
                _ => clock.advance(Duration::from_secs(1)),
            }
            assert_eq!(meter.total(), Duration::from_secs(*total), "after {at}: {word}");
        }
    }

    #[test]
    fn only_what_is_waited_for_counts() {
        check(&[("pass", 0), ("begin", 0), ("pass", 1), ("end", 1), ("pass", 1), ("begin", 1)]);
    }

    #[test]
    fn what_is_waited_for_at_the_same_time_counts_once() {
        let both = [("begin", 0), ("pass", 1), ("begin", 1), ("pass", 2), ("end", 2), ("pass", 3)];
        check(&[&both[..], &[("end", 3), ("pass", 3)]].concat());
    }
}
