//! What a host in memory can do besides: tell of changes, and keep consoles.

use async_trait::async_trait;
use tokio::io::SimplexStream;

use super::{Kept, MemoryHost};
use crate::domain::{InstanceId, PowerState};
use crate::port::{
    CONSOLE_BYTES_MAX, ConsoleStream, HearChanges, OpenConsoles, ReadConsoles, TellChanges,
    VirtError,
};

/// Bytes that were typed at a console and not read yet; who types more waits.
const TYPED_MAX: usize = 4096;

impl Kept {
    /// It begins from the start, and says so.
    pub(super) fn boots(&mut self) {
        self.writes(b"the guest boots\n");
    }

    fn writes(&mut self, bytes: &[u8]) {
        self.console.extend(bytes);
        let old = self.console.len().saturating_sub(CONSOLE_BYTES_MAX);
        self.console.drain(..old);
    }
}

impl MemoryHost {
    /// Writes to the console of a guest, as what runs in it does.
    pub fn write_console(&self, instance: InstanceId, bytes: &[u8]) {
        if let Some(guest) = self.guests().get_mut(&instance) {
            guest.writes(bytes);
        }
    }
}

impl TellChanges for MemoryHost {
    fn changes(&self) -> Box<dyn HearChanges> {
        self.herald.listen()
    }
}

#[async_trait]
impl ReadConsoles for MemoryHost {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        self.with(instance, |guest| {
            let old = guest.console.len().saturating_sub(bytes);
            Ok(guest.console[old..].to_vec())
        })
    }
}

/// A console gives back what is typed.
#[async_trait]
impl OpenConsoles for MemoryHost {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        self.with(instance, |guest| match guest.power {
            power @ PowerState::Shutdown => {
                Err(VirtError::WrongPower { instance, power, operation: "open its console" })
            }
            _ => Ok(Box::new(SimplexStream::new_unsplit(TYPED_MAX)) as ConsoleStream),
        })
    }
}
