//! What a simulated host can do besides: tell of changes, and keep consoles.

use async_trait::async_trait;
use nova_core::domain::{InstanceId, PowerState};
use nova_core::port::{
    ConsoleStream, HearChanges, OpenConsoles, ReadConsoles, TellChanges, VirtError,
};
use tokio::io::SimplexStream;

use super::SimHost;
use super::options::Verb;

/// Bytes that were typed at a console and not read yet; who types more waits.
const TYPED_MAX: usize = 4096;

impl TellChanges for SimHost {
    fn changes(&self) -> Box<dyn HearChanges> {
        self.machine.herald.listen()
    }
}

#[async_trait]
impl ReadConsoles for SimHost {
    async fn console_log(&self, instance: InstanceId, bytes: usize) -> Result<Vec<u8>, VirtError> {
        self.call(Verb::ReadConsole, move |state| {
            let console = state.existing(instance)?.console.as_bytes();
            Ok(console[console.len().saturating_sub(bytes)..].to_vec())
        })
        .await
    }
}

/// A console gives back what is typed.
#[async_trait]
impl OpenConsoles for SimHost {
    async fn open_console(&self, instance: InstanceId) -> Result<ConsoleStream, VirtError> {
        let verb = Verb::OpenConsole;
        self.call(verb, move |state| match state.existing(instance)?.power {
            power @ PowerState::Shutdown => {
                Err(VirtError::WrongPower { instance, power, operation: verb.name() })
            }
            _ => Ok(()),
        })
        .await?;
        Ok(Box::new(SimplexStream::new_unsplit(TYPED_MAX)))
    }
}
