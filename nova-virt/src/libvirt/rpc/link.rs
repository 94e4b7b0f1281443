//! One connection to a daemon: many calls at a time, told apart by their numbers, and what the
//! daemon tells unasked.
//!
//! Two tasks serve it, one for each direction, whatever the number of calls. A caller that gives up
//! leaves nothing half written, and its answer is thrown away when it comes.

#[cfg(fuzzing)]
pub(in crate::libvirt) mod fuzzing;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::xdr::{Reader, Writer};
use super::{PROGRAM, QEMU_PROGRAM, Unreadable, VERSION};
use crate::libvirt::LibvirtError;

/// Bytes of a header, with the length before it.
const HEADER_BYTES: usize = 28;

/// The longest message, in bytes. The daemon itself sends none beyond 32 MiB.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Calls that wait to be written.
const QUEUE_MAX: usize = 64;

/// What kind of message it is.
mod kind {
    pub(super) const CALL: u32 = 0;
    pub(super) const REPLY: u32 = 1;
    pub(super) const MESSAGE: u32 = 2;
}

/// What a daemon tells unasked: the number of what happened, and what it says of it.
pub(super) type Told = Box<dyn Fn(u32, &[u8]) + Send + Sync>;

type Answer = Result<Vec<u8>, LibvirtError>;

/// A connection. When it is dropped, it is closed.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Vec<u8>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared(Mutex<Calls>);

/// The calls that wait for an answer.
#[derive(Debug, Default)]
struct Calls {
    last: u32,
    open: BTreeMap<u32, oneshot::Sender<Answer>>,
    /// Set once, when nothing can come any more.
    lost: bool,
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Calls) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nobody is answered any more.
    fn lose(&self) {
        self.with(|calls| {
            calls.lost = true;
            // Whoever waits finds that nobody will answer.
            calls.open.clear();
        });
    }
}

/// Forgets a call whose caller is gone.
struct Waiting<'a> {
    shared: &'a Shared,
    serial: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.with(|calls| calls.open.remove(&self.serial));
    }
}

impl Link {
    /// Connects to the daemon that listens at `path`.
    pub(super) async fn to(path: &Path, told: Told) -> io::Result<Self> {
        let (from, into) = UnixStream::connect(path).await?.into_split();
        let shared = Arc::new(Shared(Mutex::default()));
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let reading = tokio::spawn(read(from, Arc::clone(&shared), told));
        let writing = tokio::spawn(write(into, waiting, Arc::clone(&shared)));
        Ok(Self { shared, queue, tasks: [reading, writing] })
    }

    /// Whether no call can succeed any more.
    pub(super) fn is_lost(&self) -> bool {
        self.shared.with(|calls| calls.lost)
    }

    /// One call of one of the programs, and its answer.
    pub(super) async fn call(&self, program: u32, procedure: u32, body: Writer) -> Answer {
        let body = body.finish();
        let length = HEADER_BYTES.saturating_add(body.len());
        if length > MESSAGE_BYTES_MAX {
            return Err(LibvirtError::Message { reason: "it is longer than a message may be" });
        }
        let (answer, answered) = oneshot::channel();
        let serial = self.shared.with(|calls| {
            calls.last = calls.last.wrapping_add(1);
            if !calls.lost {
                calls.open.insert(calls.last, answer);
            }
            calls.last
        });
        let _waiting = Waiting { shared: &self.shared, serial };
        let mut message = Writer::default()
            .u32(u32::try_from(length).unwrap_or(u32::MAX))
            .u32(program)
            .u32(VERSION)
            .u32(procedure)
            .u32(kind::CALL)
            .u32(serial)
            .u32(0)
            .finish();
        message.extend(body);
        self.queue.send(message).await.map_err(|_| LibvirtError::Lost)?;
        answered.await.unwrap_or(Err(LibvirtError::Lost))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn write(
    mut into: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) {
    while let Some(message) = waiting.recv().await {
        if into.write_all(&message).await.is_err() {
            break;
        }
    }
    shared.lose();
}

async fn read(mut from: OwnedReadHalf, shared: Arc<Shared>, told: Told) {
    while let Ok(message) = receive(&mut from).await {
        if dispatch(&message, &shared, &told).is_err() {
            break;
        }
    }
    shared.lose();
}

/// The next message without its length.
async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = Vec::new();
    // As it comes, not as it is announced.
    let count = from.take(length as u64 - 4).read_to_end(&mut message).await?;
    if count + 4 == length { Ok(message) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Gives a message to whom it belongs. After one that does not read, nothing can be believed.
fn dispatch(message: &[u8], shared: &Shared, told: &Told) -> Result<(), Unreadable> {
    let mut header = Reader::new(message);
    let (program, _version, procedure) = (header.u32()?, header.u32()?, header.u32()?);
    let (kind, serial, status) = (header.u32()?, header.u32()?, header.u32()?);
    let body = message.get(HEADER_BYTES - 4..).ok_or(Unreadable)?;
    match kind {
        _ if ![PROGRAM, QEMU_PROGRAM].contains(&program) => {}
        kind::REPLY => {
            let answer = match status {
                0 => Ok(body.to_vec()),
                _ => Err(error(body)?),
            };
            if let Some(caller) = shared.with(|calls| calls.open.remove(&serial)) {
                // Who is gone does not want to know.
                let _ = caller.send(answer);
            }
        }
        kind::MESSAGE if program == PROGRAM => told(procedure, body),
        _ => {}
    }
    Ok(())
}

fn error(body: &[u8]) -> Result<LibvirtError, Unreadable> {
    let mut body = Reader::new(body);
    let (code, _domain) = (body.i32()?, body.i32()?);
    let message = body.maybe_text()?.unwrap_or_default();
    Ok(LibvirtError::Refused { code, message })
}
