//! Programs that are run for a guest, each with a limit on what it may take.

use std::io;
use std::process::Command;

use nova_core::clock::Meter;

use crate::tools::plain;

/// The most memory, in the words of `prlimit`: these programs read what guests have written.
pub(super) const MEMORY: &str = "--as=1073741824";

/// The most processor time, in seconds.
pub(super) const CPU: &str = "--cpu=30";

/// A program under limits.
pub(super) fn limited(program: &str, limits: &[&str]) -> Command {
    let mut tool = Command::new("prlimit");
    tool.args(limits).args(["--", program]);
    plain(tool)
}

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
    pub(super) fn run(&self, mut tool: Command) -> io::Result<()> {
        let waiting = self.meter.as_ref().map(Meter::wait);
        let output = tool.output()?;
        drop(waiting);
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let full = said.contains("No space left on device");
        let kind = if full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        let last = said.lines().last().unwrap_or("it says nothing");
        let mut words = tool.get_args().skip_while(|word| *word != "--").skip(1);
        let program = words.next().unwrap_or_else(|| tool.get_program()).to_string_lossy();
        Err(io::Error::new(kind, format!("{program}: {last}")))
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

    #[test]
    fn a_program_that_fails_is_named_with_its_last_word() {
        let mut tool = limited("sh", &[MEMORY, CPU]);
        tool.args(["-c", "echo first >&2; echo No space left on device >&2; exit 1"]);
        let failed = Tools::default().run(tool).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!(failed.to_string(), "sh: No space left on device");
    }
}
