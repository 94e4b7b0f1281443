//! Programs that are run for a guest, each with a limit on what it may take.

use std::io;
use std::process::{Command, Stdio};

/// The most memory, in the words of `prlimit`: these programs read what guests have written.
pub(crate) const MEMORY: &str = "--as=1073741824";

/// The most processor time, in seconds.
#[cfg(any(test, feature = "libvirt", feature = "libvirt-native"))]
pub(crate) const CPU: &str = "--cpu=30";

/// A program under limits.
pub(crate) fn limited(program: &str, limits: &[&str]) -> Command {
    let mut tool = Command::new("prlimit");
    tool.args(limits).args(["--", program]);
    // Each of its threads would reserve a part of what it may address for itself.
    tool.stdin(Stdio::null()).env("LC_ALL", "C").env("MALLOC_ARENA_MAX", "1");
    tool
}

/// Runs it to its end.
///
/// # Errors
/// The last thing that it said, as [`StorageFull`](io::ErrorKind::StorageFull) when it was that.
pub(crate) fn run(mut tool: Command) -> io::Result<()> {
    let output = tool.output()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_named_with_its_last_word() {
        let mut tool = limited("sh", &[MEMORY, CPU]);
        tool.args(["-c", "echo first >&2; echo No space left on device >&2; exit 1"]);
        let failed = run(tool).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!(failed.to_string(), "sh: No space left on device");
    }
}
