//! The consoles of guests: what they wrote, and a way to talk to them.

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::VirtError;
use crate::domain::InstanceId;

/// The most that is read at a time of what a guest wrote to its console, in bytes.
pub const CONSOLE_BYTES_MAX: usize = 64 << 10;

/// Keeps what guests write to their consoles.
#[async_trait]
pub trait ReadConsoles: Send + Sync {
    /// The last of what the guest wrote to its console: `bytes` of it, if there are so many, and
    /// never more than [`CONSOLE_BYTES_MAX`]. It is whatever the guest chose to write, and may
    /// begin in the middle of a character. It is kept while the guest is here, over its reboots;
    /// what is old may be gone, since no guest may fill the host's disk with it.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`].
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError>;
}

/// Lets somebody sit down at a guest's console.
#[async_trait]
pub trait OpenConsoles: Send + Sync {
    /// The console of a guest that is in memory: what is written goes to the guest, as it is, and
    /// what the guest writes from now on is read. It ends when the guest does. Two who have it open
    /// share what is read. What is read goes into the log as well, where there is one.
    ///
    /// # Errors
    /// [`VirtError::Host`], [`VirtError::NoSuchGuest`], [`VirtError::WrongPower`] when it is shut
    /// down.
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError>;
}

/// An open console.
pub type ConsoleStream = Box<dyn Console>;

/// What is read and written at a console.
pub trait Console: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Console for T {}
