//! The laws of hosts that keep what guests write to their consoles, and let people type there.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Subject, World, done};
use crate::clock::{ClockExt as _, SystemClock};
use crate::domain::{InstanceId, PowerState, Reboot};
use crate::port::{CONSOLE_BYTES_MAX, ReadConsoles, VirtError};

/// How long a guest that really boots is left alone before its console is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a guest wrote is kept over a reboot and while it is shut down, and goes with the guest.
pub async fn a_console_log_goes_with_its_guest(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_console_log_goes_with_its_guest").await;
    let Some(consoles) = world.driver().reading() else { return };
    let guest = world.create(0).await;
    let first = world.writes_more_than(consoles, guest, 0).await;
    done(world.driver().reboot(guest, Reboot::Hard, 1).await);
    world.writes_more_than(consoles, guest, first).await;
    done(world.driver().stop(guest).await);
    let kept = done(consoles.console_log(guest, usize::MAX).await);
    assert!(kept.len() > first, "{}: a reboot lost what was written before", world.driver());
    done(world.driver().remove(guest).await);
    let missing = consoles.console_log(guest, 1).await;
    let told = matches!(missing, Err(VirtError::NoSuchGuest { instance }) if instance == guest);
    assert!(told, "{}: {missing:?}", world.driver());
    world.clean().await;
}

/// What is read is the end of what was written, and no more than was asked for.
pub async fn a_console_log_is_as_long_as_was_asked(subject: impl Into<Subject>) {
    let world = World::new(subject, "a_console_log_is_as_long_as_was_asked").await;
    let Some(consoles) = world.driver().reading() else { return };
    let guest = world.create(0).await;
    world.writes_more_than(consoles, guest, 0).await;
    // So that nothing more is written.
    done(world.driver().stop(guest).await);
    let all = done(consoles.console_log(guest, usize::MAX).await);
    assert!((1..=CONSOLE_BYTES_MAX).contains(&all.len()), "{}: {}", world.driver(), all.len());
    for bytes in [0, 1, all.len() / 2, all.len(), all.len() + 1] {
        let end = done(consoles.console_log(guest, bytes).await);
        assert_eq!(end, all[all.len().saturating_sub(bytes)..], "{bytes} bytes");
    }
    world.clean().await;
}

/// Who types at a console gets something back, again and again; the guest goes on when they leave,
/// and one that is shut down has no console.
pub async fn an_open_console_answers(subject: impl Into<Subject>) {
    let world = World::new(subject, "an_open_console_answers").await;
    let Some(consoles) = world.driver().talking() else { return };
    let guest = world.create(0).await;
    for _ in 0..2 {
        let mut console = done(consoles.open_console(guest).await);
        let (mut answer, clock) = ([0; 16], SystemClock::new());
        let typing = async {
            // One that is still booting may not have heard.
            while console.write_all(b"\n").await.is_ok() {
                let heard = clock.within(LOOK_AGAIN * 20, console.read(&mut answer));
                if let Some(heard) = heard.await {
                    return heard.ok();
                }
            }
            None
        };
        let heard = typing.await;
        assert!(heard.is_some_and(|bytes| bytes > 0), "{}: {heard:?}", world.driver());
        drop(console);
        assert_eq!(world.power(guest).await, PowerState::Running);
    }
    done(world.driver().stop(guest).await);
    let refused = consoles.open_console(guest).await.map(drop);
    let told = matches!(
        refused,
        Err(VirtError::WrongPower { instance, power: PowerState::Shutdown, .. })
            if instance == guest
    );
    assert!(told, "{}: {refused:?}", world.driver());
    let missing = consoles.open_console(world.id(1)).await.map(drop);
    let told = matches!(missing, Err(VirtError::NoSuchGuest { .. }));
    assert!(told, "{}: {missing:?}", world.driver());
    world.clean().await;
}

impl World {
    /// Waits until a guest has written more to its console than this, and says how much.
    async fn writes_more_than(
        &self,
        consoles: &dyn ReadConsoles,
        guest: InstanceId,
        before: usize,
    ) -> usize {
        let clock = SystemClock::new();
        loop {
            let written = done(consoles.console_log(guest, usize::MAX).await).len();
            if written > before {
                return written;
            }
            clock.sleep(LOOK_AGAIN).await;
        }
    }
}
