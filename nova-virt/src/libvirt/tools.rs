//! Who runs programs for guests, and counts for how long.

use std::io;
use std::process::Command;

use nova_core::clock::Meter;

use crate::tools;
pub(super) use crate::tools::{CPU, MEMORY, limited};

/// Who runs them.
#[derive(Debug, Default, Clone)]
pub(super) struct Tools {
    /// What adds up how long they take.
    pub(super) meter: Option<Meter>,
}

impl Tools {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// The last thing that it said, as [`StorageFull`](io::ErrorKind::StorageFull) when it was
    /// that.
    pub(super) fn run(&self, tool: Command) -> io::Result<()> {
        let _waiting = self.meter.as_ref().map(Meter::wait);
        tools::run(tool)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use nova_core::clock::{Clock, Timestamp};

    use super::*;

    /// A clock on which a nanosecond passes whenever it is looked at.
    #[derive(Debug, Default)]
    struct Looks(AtomicU64);

    impl std::fmt::Display for Looks {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("looks")
        }
    }

    #[async_trait::async_trait]
    impl Clock for Looks {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
        }

        async fn sleep_until(&self, _: Timestamp) {}
    }

    #[test]
    fn a_program_is_waited_for_whatever_becomes_of_it() {
        let meter = Meter::new(Arc::new(Looks::default()));
        let tools = Tools { meter: Some(meter.clone()) };
        for (program, total) in [("true", 1), ("false", 2), ("/no/such/program", 3)] {
            let _ = tools.run(Command::new(program));
            assert_eq!(meter.total(), Duration::from_nanos(total), "{program}");
        }
    }
}
