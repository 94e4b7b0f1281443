//! One at a time for each guest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nova_core::domain::InstanceId;
use tokio::sync::OwnedMutexGuard;

/// Who works on which guest.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>);

/// While it is held, nobody else works on the guest.
pub(super) type Turn = Arc<OwnedMutexGuard<()>>;

impl Turns {
    /// Waits until nobody works on the guest.
    pub(super) async fn take(&self, guest: InstanceId) -> Turn {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(guest).or_default())
        };
        Arc::new(turn.lock_owned().await)
    }
}
