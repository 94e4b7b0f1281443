//! The laws of the ports as tests, for whoever implements one.
//!
//! Each suite is a module with one function for each law, named as the port's documentation names
//! it, and a macro that turns all of them into tests:
//!
//! ```
//! nova_core::store_laws!(async { nova_core::store::MemoryStore::new() });
//! # fn main() {}
//! ```
//!
//! The expression after the macro's name makes a fresh subject for each law.

pub mod bus;
pub mod clock;
pub mod images;
pub mod live;
pub mod network;
pub mod scheduler;
pub mod store;
pub mod virt;
pub mod volumes;

use crate::clock::{ClockExt as _, SystemClock};

/// A law that is not through by then waits for something that will never come: a message that
/// was lost, a change nobody told. It fails by its name instead of holding up all others.
const LAW_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// Runs one law to its end on a runtime of its own; what the macros expand to.
///
/// # Panics
/// When the law does, when it does not end, or when there is no runtime for it.
pub fn run(law: impl Future<Output = ()>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(async {
            let clock = SystemClock::new();
            tokio::select! {
                biased;
                () = law => {}
                () = clock.sleep(LAW_LIMIT) => {
                    panic!("the law did not end within {LAW_LIMIT:?}")
                }
            }
        }),
        Err(error) => panic!("no runtime for the law: {error}"),
    }
}

/// One test for each law of a suite; what the suites' own macros expand to.
#[doc(hidden)]
#[macro_export]
macro_rules! laws {
    ($suite:ident, if $here:expr, $make:expr, [$($law:ident),+ $(,)?]) => {$(
        #[test]
        fn $law() {
            let is_here: fn(&str) -> bool = $here;
            if !is_here(stringify!($law)) {
                return;
            }
            $crate::conformance::run(async {
                $crate::conformance::$suite::$law($make.await).await;
            });
        }
    )+};
    ($suite:ident, $make:expr, [$($law:ident),+ $(,)?]) => {
        $crate::laws!($suite, if |_: &str| true, $make, [$($law),+]);
    };
}
