//! Time that passes only when it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, Timestamp};

/// A clock that stands still until somebody moves it on: the clock of tests and simulations.
///
/// It begins at moment 0. Share it in an [`Arc`](std::sync::Arc).
///
/// ```
/// # use std::time::Duration;
/// # use nova_core::{clock::{Clock, Timestamp}, memory::VirtualClock};
/// let clock = VirtualClock::new();
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.now(), Timestamp(1_000_000_000));
/// ```
#[derive(Debug, Default)]
pub struct VirtualClock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    now: Timestamp,
    /// Who sleeps until when. The number is given out in the order in which they lay down.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    registered: u64,
}

/// Turns that every task gets before time moves on.
const TURNS: usize = 64;

impl VirtualClock {
    /// A clock at moment 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves on by `time` and wakes everybody whose moment has come: in the order of their
    /// moments, and those of one moment in the order in which they began to sleep.
    ///
    /// All of them find the clock at the new moment. A simulation in which each must find it at
    /// its own goes from one [`next_wakeup`](Self::next_wakeup) to the next.
    pub fn advance(&self, time: Duration) {
        let moment = self.lock().now.after(time);
        self.advance_to(moment);
    }

    /// Moves on to `moment`, waking as [`advance`](Self::advance) does. A moment that has passed
    /// changes nothing.
    pub fn advance_to(&self, moment: Timestamp) {
        let due = {
            let mut state = self.lock();
            state.now = state.now.max(moment);
            let now = state.now;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        // Outside the lock, because whoever is woken may ask for the time at once.
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// When the next sleeper is due; none when nobody sleeps.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.lock().sleepers.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// Does `work`, and moves on to the next moment that somebody waits for whenever everybody has
    /// had their turn.
    ///
    /// For a runtime of one thread: on several, time would pass while others are at work.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use nova_core::{clock::{Clock, ClockExt, Timestamp}, memory::VirtualClock};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// let clock = VirtualClock::new();
    /// runtime.block_on(clock.drive(clock.sleep(Duration::from_secs(3600))));
    /// assert_eq!(clock.now(), Timestamp(3_600_000_000_000));
    /// ```
    pub async fn drive<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.run() => match never {},
        }
    }

    async fn run(&self) -> Infallible {
        loop {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            if let Some(moment) = self.next_wakeup() {
                self.advance_to(moment);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for VirtualClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("virtual clock")
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    async fn sleep_until(&self, moment: Timestamp) {
        Sleep { clock: self, moment, number: None }.await;
    }
}

/// One sleeper. It leaves the clock's list when it is dropped, so that nobody who has given up
/// is reported as the next to wake.
struct Sleep<'a> {
    clock: &'a VirtualClock,
    moment: Timestamp,
    number: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        if state.now >= self.moment {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            state.registered += 1;
            state.registered
        });
        let before = state.sleepers.insert((self.moment, number), context.waker().clone());
        drop(state);
        // After the lock: with the last waker goes its task, which may hold other sleepers.
        drop(before);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut state = self.clock.lock();
            let waker = state.sleepers.remove(&(self.moment, number));
            drop(state);
            // After the lock, as above.
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    /// Writes its name down when it is woken.
    struct Named(&'static str, Arc<Mutex<Vec<&'static str>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    /// Sleepers (name, second) in the order of registration, and who is woken by `advance`.
    fn check(sleepers: &[(&'static str, u64)], advance: u64, expected: &[&str]) {
        let clock = VirtualClock::new();
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut futures = Vec::new();
        for (name, second) in sleepers {
            let mut future = clock.sleep_until(Timestamp(second * 1_000_000_000));
            let waker = Waker::from(Arc::new(Named(name, Arc::clone(&woken))));
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            futures.push(future);
        }
        clock.advance(Duration::from_secs(advance));
        assert_eq!(*woken.lock().unwrap(), expected);
    }

    #[test]
    fn sleepers_wake_by_moment_then_in_the_order_they_lay_down() {
        check(&[("a", 2), ("b", 1), ("c", 2), ("d", 1)], 5, &["b", "d", "a", "c"]);
    }

    #[test]
    fn only_those_whose_moment_has_come_wake() {
        check(&[("a", 2), ("b", 3), ("c", 4)], 3, &["a", "b"]);
    }

    #[test]
    fn time_never_goes_back() {
        let clock = VirtualClock::new();
        clock.advance_to(Timestamp(9));
        clock.advance_to(Timestamp(3));
        assert_eq!(clock.now(), Timestamp(9));
    }

    #[test]
    fn who_gave_up_is_not_the_next_to_wake() {
        let clock = VirtualClock::new();
        let mut early = clock.sleep_until(Timestamp(1));
        let mut late = clock.sleep_until(Timestamp(2));
        let mut context = Context::from_waker(Waker::noop());
        assert!(early.as_mut().poll(&mut context).is_pending());
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert_eq!(clock.next_wakeup(), Some(Timestamp(1)));
        drop(early);
        assert_eq!(clock.next_wakeup(), Some(Timestamp(2)));
        drop(late);
        assert_eq!(clock.next_wakeup(), None);
    }
}
