//! What hosts tell of their guests unasked.

use std::fmt::Debug;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::domain::InstanceId;

/// Something that a host told unasked. It is only a wake-up: what is so now, the host is asked.
// Not `#[non_exhaustive]`: who hears of a change has to know where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestChange {
    /// Something is otherwise with one guest: how it executes, or whether it is there.
    Guest(InstanceId),
    /// Anything may be otherwise: too much was told at a time, or nothing for a while.
    Anything,
}

/// Tells when something about a guest changes, whoever changed it.
pub trait TellChanges: Send + Sync {
    /// What changes from now on. A change is told when it can be seen, perhaps more than once, and
    /// now and then it is not told: whoever listens looks by themselves as well.
    fn changes(&self) -> Box<dyn HearChanges>;
}

/// Hears what a host tells.
#[async_trait]
pub trait HearChanges: Debug + Send {
    /// The next change; none when nothing more will be told. Who gives up waiting misses nothing.
    async fn next(&mut self) -> Option<GuestChange>;
}

/// Tells everybody who listens, for those who write a driver. Clones tell the same listeners.
#[derive(Debug, Clone)]
pub struct Herald(broadcast::Sender<GuestChange>);

impl Herald {
    /// Changes that somebody may be behind; of more they hear as
    /// [`GuestChange::Anything`].
    pub const UNHEARD_MAX: usize = 256;

    /// Tells of a change. That nobody listens is no error.
    pub fn tell(&self, change: GuestChange) {
        let _ = self.0.send(change);
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// What is told from now on.
    pub fn listen(&self) -> Box<dyn HearChanges> {
        Box::new(Listener(self.0.subscribe()))
    }
}

impl Default for Herald {
    fn default() -> Self {
        Self(broadcast::channel(Self::UNHEARD_MAX).0)
    }
}

#[derive(Debug)]
struct Listener(broadcast::Receiver<GuestChange>);

#[async_trait]
impl HearChanges for Listener {
    async fn next(&mut self) -> Option<GuestChange> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(GuestChange::Anything),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_too_far_behind_hears_that_anything_may_have_changed() {
        let herald = Herald::default();
        let mut late = herald.listen();
        let guest = GuestChange::Guest(InstanceId::from_u128(1));
        (0..=Herald::UNHEARD_MAX).for_each(|_| herald.tell(guest));
        assert_eq!(late.next().await, Some(GuestChange::Anything));
        assert_eq!(late.next().await, Some(guest));
        drop(herald);
        for _ in 1..Herald::UNHEARD_MAX {
            assert_eq!(late.next().await, Some(guest));
        }
        assert_eq!(late.next().await, None);
    }
}
