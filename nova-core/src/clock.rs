//! Time as a port: nobody asks the machine for it behind a test's back.

mod meter;

use std::fmt::{Debug, Display};
use std::time::Duration;

use async_trait::async_trait;

pub use self::meter::{Meter, Waiting};

/// A moment: nanoseconds since the epoch of the clock that told it.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `later` after this one, stopping at the last there is.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it has not been yet.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where time comes from.
///
/// Laws:
/// - `now_never_goes_back`;
/// - `a_sleep_ends_when_its_moment_has_come`: after `sleep_until(t)`, `now() >= t`;
/// - `a_moment_that_has_passed_is_not_waited_for`;
/// - `an_abandoned_sleep_disturbs_nobody`.
#[async_trait]
pub trait Clock: Display + Debug + Send + Sync + 'static {
    /// The present moment. Never earlier than an answer given before.
    fn now(&self) -> Timestamp;

    /// Waits until `moment` has come; returns at once when it has passed.
    async fn sleep_until(&self, moment: Timestamp);
}

/// What every clock can do besides.
#[async_trait]
pub trait ClockExt: Clock {
    /// Waits for `time`.
    async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now().after(time)).await;
    }

    /// Runs `work` for at most `limit`; none when it did not end in time, and then it is dropped.
    async fn within<T, F>(&self, limit: Duration, work: F) -> Option<T>
    where
        F: Future<Output = T> + Send,
        T: Send,
    {
        tokio::select! {
            biased;
            result = work => Some(result),
            () = self.sleep(limit) => None,
        }
    }
}

impl<C: Clock + ?Sized> ClockExt for C {}

#[async_trait]
impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    async fn sleep_until(&self, moment: Timestamp) {
        (**self).sleep_until(moment).await;
    }
}

/// The machine's clock: the one place where the wall clock and the runtime's timer are asked.
///
/// It reads the wall clock once, when it is made, and counts on with the steady clock, so that a
/// step of the wall clock never makes it go back.
#[derive(Debug)]
pub struct SystemClock {
    born: std::time::Instant,
    born_at: Timestamp,
}

impl SystemClock {
    /// A clock that starts at the machine's present time.
    pub fn new() -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let born_at = Timestamp::default().after(since_epoch.unwrap_or_default());
        Self { born: std::time::Instant::now(), born_at }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Display for SystemClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("system clock")
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.born_at.after(self.born.elapsed())
    }

    async fn sleep_until(&self, moment: Timestamp) {
        let wait = moment.since(self.now());
        // The runtime's timer takes a turn even for no time at all.
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

const _: fn(Box<dyn Clock>) = |clock| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(clock);
};
