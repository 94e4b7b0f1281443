//! The clock suite on the machine's clock and on the virtual one.

use std::sync::Arc;

use nova_core::clock::{Clock as _, SystemClock};
use nova_core::memory::VirtualClock;

/// A virtual clock that goes on to the next wake-up whenever nobody else has anything to do.
fn driven() -> Arc<VirtualClock> {
    let clock = Arc::new(VirtualClock::new());
    let driver = Arc::clone(&clock);
    tokio::spawn(async move {
        loop {
            tokio::task::yield_now().await;
            if let Some(moment) = driver.next_wakeup() {
                driver.advance_to(moment);
            }
        }
    });
    clock
}

mod of_the_machine {
    nova_core::clock_laws!(async { super::SystemClock::new() });
}

mod in_an_arc {
    nova_core::clock_laws!(async { std::sync::Arc::new(super::SystemClock::new()) });
}

mod moved_by_hand {
    nova_core::clock_laws!(async { super::driven() });
}

#[tokio::test]
async fn a_driven_clock_wakes_everybody_exactly_at_their_moment() {
    let clock = driven();
    for nanos in [5, 7, 7_000_000_000] {
        let moment = nova_core::clock::Timestamp(nanos);
        clock.sleep_until(moment).await;
        assert_eq!(clock.now(), moment);
    }
}
