//! Consoles of guests: the file in which the hypervisor keeps what a machine writes, and the
//! terminal at which somebody can sit down.
//!
//! The hypervisor sets no end to the file. This driver does, whenever it lists the guests, which
//! an agent has it do again and again: of a file that has grown too long only the end is kept, so
//! that a guest can fill no more of the disk than it writes between two looks. A daemon that has
//! its log daemon keep such files has a bound of its own, and a lower one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use nova_core::domain::InstanceId;
use nova_core::port::{CONSOLE_BYTES_MAX, ConsoleStream, OpenConsoles, ReadConsoles, VirtError};
use rustix::termios::{self, OptionalActions};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::daemon::Which;
use super::host::{LibvirtHost, domain_of, host, power};
use super::xml::Element;
use crate::files::FileError;

/// What a file of a console may have when it is looked at, in bytes; of more, only the end is kept.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// The file that the hypervisor writes.
const LOG: &str = "console.log";
/// What was its end when it was last too long.
const OLDER: &str = "console.log.older";

#[async_trait]
impl ReadConsoles for LibvirtHost {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        let operation = "read a guest's console";
        self.inner.existing(instance).await?;
        let read = self.inner.files(operation, move |inner| {
            let home = inner.records.home(instance);
            last(&home, bytes.min(CONSOLE_BYTES_MAX)).map_err(FileError::io(&home, operation))
        });
        read.await
    }
}

/// The last bytes of what a guest wrote, of which the beginning may be in the older file.
fn last(home: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let mut log = end_of(&home.join(LOG), bytes)?;
    if log.len() < bytes {
        let mut older = end_of(&home.join(OLDER), bytes - log.len())?;
        older.append(&mut log);
        log = older;
    }
    Ok(log)
}

/// The last bytes of a file; nothing when there is none.
fn end_of(path: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let length = file.metadata()?.len();
    let bytes = bytes as u64;
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end)?;
    Ok(end)
}

/// Shortens the log of a guest that has become too long. What cannot be shortened now is the next
/// time.
pub(super) fn bound(home: &Path) {
    let _ = shorten(home);
}

fn shorten(home: &Path) -> io::Result<()> {
    let log = home.join(LOG);
    if !std::fs::metadata(&log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        return Ok(());
    }
    let end = end_of(&log, CONSOLE_BYTES_MAX)?;
    File::create(home.join(OLDER))?.write_all(&end)?;
    // The hypervisor appends: it goes on at the beginning. What it writes just now may be lost.
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[async_trait]
impl OpenConsoles for LibvirtHost {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        let operation = "open a guest's console";
        let (state, _) = self.inner.existing(instance).await?;
        if state.is_down() {
            return Err(VirtError::WrongPower { instance, power: power(state), operation });
        }
        let now = self.inner.daemon().description(domain_of(instance), Which::Current).await;
        let path = terminal(&now.map_err(host(operation))?);
        let path = path.ok_or_else(|| host(operation)("it has no terminal"))?;
        Ok(Box::new(Terminal::open(Path::new(&path)).map_err(host(operation))?))
    }
}

/// The terminal that a description of a guest that executes names.
fn terminal(description: &str) -> Option<String> {
    let tree = Element::read(description)?;
    let devices = tree.at(&["devices"])?;
    let first = ["serial", "console"].into_iter().find_map(|kind| devices.all(kind).next())?;
    let path = first.at(&["source"])?.get("path")?;
    Some(path.to_owned())
}

/// An open terminal, of which the guest has the other end.
#[derive(Debug)]
struct Terminal(AsyncFd<File>);

impl Terminal {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
        let flags = flags.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        // Every byte as it is, and no second echo beside the guest's. What is no terminal is
        // refused here.
        let mut mode = termios::tcgetattr(&file)?;
        mode.make_raw();
        termios::tcsetattr(&file, OptionalActions::Now, &mode)?;
        #[expect(deprecated, reason = "a file is one descriptor for as long as it lives")]
        let terminal = AsyncFd::new(file)?;
        Ok(Self(terminal))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let into = buf.initialize_unfilled();
            match ready.try_io(|terminal| terminal.get_ref().read(into)) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The guest's end is gone.
                Ok(Err(error))
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_not_ready) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|terminal| terminal.get_ref().write(bytes)) {
                Ok(written) => return Poll::Ready(written),
                Err(_not_ready) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_log_that_is_too_long_keeps_its_end_and_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join(LOG);
        let mut guest = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        assert_eq!(last(home.path(), 5).unwrap(), b"");
        guest.write_all(b"short").unwrap();
        bound(home.path());
        assert_eq!(last(home.path(), 9).unwrap(), b"short");
        guest.write_all(&vec![b'x'; LOG_BYTES_MAX as usize]).unwrap();
        guest.write_all(b"the end").unwrap();
        bound(home.path());
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(last(home.path(), 8).unwrap(), b"xthe end");
        guest.write_all(b" and on").unwrap();
        assert_eq!(last(home.path(), 15).unwrap(), b"xthe end and on");
        assert_eq!(last(home.path(), 3).unwrap(), b" on");
        assert_eq!(last(home.path(), usize::MAX).unwrap().len(), CONSOLE_BYTES_MAX + 7);
    }

    #[tokio::test]
    async fn a_terminal_carries_bytes_as_they_are_until_the_other_end_is_gone() {
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let guest = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&guest).unwrap();
        rustix::pty::unlockpt(&guest).unwrap();
        let path = rustix::pty::ptsname(&guest, Vec::new()).unwrap();
        let mut guest = File::from(guest);
        let mut terminal = Terminal::open(Path::new(path.to_str().unwrap())).unwrap();
        terminal.write_all(b"\x03\n\xff").await.unwrap();
        let mut typed = [0; 3];
        guest.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"\x03\n\xff");
        guest.write_all(b"hello\n").unwrap();
        let mut said = [0; 6];
        terminal.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello\n");
        drop(guest);
        assert_eq!(terminal.read(&mut said).await.unwrap(), 0);
        assert!(Terminal::open(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn the_terminal_is_what_the_description_names() {
        let machine = "<domain><devices><serial type='pty'><source path='/dev/pts/1'/></serial>\
            <console type='pty' tty='/dev/pts/1'><source path='/dev/pts/1'/></console></devices></domain>";
        assert_eq!(terminal(machine).as_deref(), Some("/dev/pts/1"));
        let off = "<domain><devices><console type='pty'/></devices></domain>";
        assert_eq!(terminal(off), None);
    }
}
