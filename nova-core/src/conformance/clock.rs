//! The laws of [`Clock`].
//!
//! A clock that stands still until somebody moves it needs somebody who does: the expression that
//! makes it can spawn a task for that.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// Long enough to be noticed, short enough to wait for.
const NAP: Duration = Duration::from_millis(3);

/// One test for each law of [`Clock`](crate::clock::Clock); the expression makes a clock.
///
/// ```
/// nova_core::clock_laws!(async { nova_core::clock::SystemClock::new() });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! clock_laws {
    ($make:expr) => {
        $crate::laws!(
            clock,
            $make,
            [
                now_never_goes_back,
                a_sleep_ends_when_its_moment_has_come,
                a_moment_that_has_passed_is_not_waited_for,
                an_abandoned_sleep_disturbs_nobody,
            ]
        );
    };
}

/// However often it is asked, with and without waiting in between.
pub async fn now_never_goes_back(clock: impl Clock) {
    let mut last = clock.now();
    for round in 0..1000 {
        if round % 500 == 499 {
            clock.sleep_until(last.after(NAP)).await;
        }
        let now = clock.now();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
}

/// Never before: many sleepers, the latest first.
pub async fn a_sleep_ends_when_its_moment_has_come(clock: impl Clock) {
    let start = clock.now();
    let late = async {
        clock.sleep_until(start.after(NAP * 2)).await;
        clock.now()
    };
    let early = async {
        clock.sleep_until(start.after(NAP)).await;
        clock.now()
    };
    let (late, early) = tokio::join!(late, early);
    assert!(late >= start.after(NAP * 2) && early >= start.after(NAP), "{late:?} {early:?}");
}

/// Nor is the present one.
pub async fn a_moment_that_has_passed_is_not_waited_for(clock: impl Clock) {
    for moment in [Timestamp::default(), clock.now()] {
        let mut sleep = clock.sleep_until(moment);
        let first = poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))).await;
        assert!(first.is_ready(), "{moment:?} at {:?}", clock.now());
    }
}

/// Those who go on sleeping wake all the same.
pub async fn an_abandoned_sleep_disturbs_nobody(clock: impl Clock) {
    let moment = clock.now().after(NAP);
    let mut abandoned = clock.sleep_until(moment);
    let mut kept = clock.sleep_until(moment);
    for sleep in [&mut abandoned, &mut kept] {
        let first = poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context))).await;
        assert!(first.is_pending() || clock.now() >= moment);
    }
    drop(abandoned);
    kept.await;
    assert!(clock.now() >= moment);
}
