//! Programs that are run for images and guests, each with a limit on what it may take.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The most memory, in the words of `prlimit`: these programs read what guests have written.
pub(crate) const MEMORY: &str = "--as=1073741824";

/// The most processor time, in seconds.
#[cfg(any(test, feature = "libvirt", feature = "libvirt-native"))]
pub(crate) const CPU: &str = "--cpu=30";

/// The most that is taken of what a program says against something.
const SAID_MAX: u64 = 64 << 10;

/// A program under limits.
pub(crate) fn limited(program: &str, limits: &[&str]) -> Command {
    let mut tool = Command::new("prlimit");
    tool.args(limits).args(["--", program]);
    plain(tool)
}

/// A program under limits that everything else on the host goes before. It can become nobody with
/// more rights, and is killed when the thread that starts it ends, be it with its process.
pub(crate) fn last(program: &str, limits: &[String]) -> Command {
    let mut tool = Command::new("setpriv");
    tool.args(["--pdeathsig", "KILL", "--no-new-privs"]);
    // Some kernels have no order among those who want the disk.
    tool.args(["nice", "-n", "19", "ionice", "-t", "-c", "3"]);
    tool.arg("prlimit").args(limits).args(["--", program]);
    plain(tool)
}

/// A program whose surroundings are always the same.
fn plain(mut tool: Command) -> Command {
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

/// Holds a program that runs on another thread, and kills it when it is let go.
#[derive(Debug, Default)]
pub(crate) struct Leash(Arc<Mutex<Held>>);

/// The other end of a [`Leash`].
#[derive(Debug)]
pub(crate) struct Collar(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nobody,
    Running(OwnedFd),
    LetGo,
}

impl Leash {
    /// What the program is run with.
    pub(crate) fn collar(&self) -> Collar {
        Collar(Arc::clone(&self.0))
    }

    /// Kills it, or sees to it that it does not begin. That it ended already is success.
    pub(crate) fn let_go(&self) {
        if let Held::Running(program) = std::mem::replace(&mut *held(&self.0), Held::LetGo) {
            let _ = pidfd_send_signal(&program, Signal::KILL);
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Collar {
    /// Runs a program to its end, on a thread that may wait: how it ended, and what it said against
    /// it.
    pub(crate) fn run(self, mut tool: Command) -> io::Result<(ExitStatus, String)> {
        let mut child = tool.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let end = |child: &mut std::process::Child, why: io::Error| {
            // Who was killed is waited for, so that nothing of it is left.
            let _ = child.kill();
            let _ = child.wait();
            Err(why)
        };
        // Nobody else can have this number before the child was waited for.
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Err(error) => return end(&mut child, error.into()),
            Ok(program) => {
                let mut held = held(&self.0);
                if matches!(*held, Held::LetGo) {
                    drop(held);
                    return end(&mut child, io::ErrorKind::Interrupted.into());
                }
                *held = Held::Running(program);
            }
        }
        let mut said = Vec::new();
        if let Some(pipe) = child.stderr.take() {
            // What it says beyond that is lost, and so is it.
            if let Err(error) = pipe.take(SAID_MAX).read_to_end(&mut said) {
                return end(&mut child, error);
            }
        }
        Ok((child.wait()?, String::from_utf8_lossy(&said).into_owned()))
    }
}

fn held(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_program_that_fails_is_named_with_its_last_word() {
        let mut tool = limited("sh", &[MEMORY, CPU]);
        tool.args(["-c", "echo first >&2; echo No space left on device >&2; exit 1"]);
        let failed = run(tool).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!(failed.to_string(), "sh: No space left on device");
    }

    #[test]
    fn who_goes_last_has_its_limits_and_no_way_to_more_rights() {
        let mut tool = last("sh", &["--core=0".to_owned(), "--nofile=17".to_owned()]);
        tool.args(["-c", "nice >&2; ulimit -n >&2; grep NoNewPrivs /proc/self/status >&2; exit 3"]);
        let leash = Leash::default();
        let (status, said) = leash.collar().run(tool).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(said, "19\n17\nNoNewPrivs:\t1\n");
    }

    #[test]
    fn a_program_that_is_let_go_is_killed_before_it_begins_or_later() {
        let sleeps = || {
            let mut tool = last("sh", &[]);
            tool.args(["-c", "echo begun >&2; exec 2>&-; exec sleep 1000"]);
            tool
        };
        let leash = Leash::default();
        let collar = leash.collar();
        drop(leash);
        let never = collar.run(sleeps()).unwrap_err();
        assert_eq!(never.kind(), io::ErrorKind::Interrupted);
        let leash = Leash::default();
        let collar = leash.collar();
        let runs = std::thread::spawn(move || collar.run(sleeps()));
        while !matches!(*held(&leash.0), Held::Running(_)) {
            std::thread::yield_now();
        }
        drop(leash);
        let (status, _) = runs.join().unwrap().unwrap();
        assert_eq!(status.signal(), Some(9));
    }
}
