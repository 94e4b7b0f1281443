//! Whether anything moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _};

use super::PACE_BYTES;

/// What has moved over a connection, and how long nothing may.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    patience: Duration,
    moved: AtomicU64,
}

impl Pace {
    pub(super) fn new(clock: &Arc<dyn Clock>, patience: Duration) -> Arc<Self> {
        Arc::new(Self { clock: Arc::clone(clock), patience, moved: AtomicU64::new(0) })
    }

    /// So many bytes went.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What is waited for begins anew.
    pub(super) fn restart(&self) {
        self.moved.fetch_add(PACE_BYTES, Ordering::Relaxed);
    }

    /// Ends when too little went for as long as is waited, at most twice as long after.
    pub(super) async fn stalled(self: Arc<Self>) {
        loop {
            let before = self.moved.load(Ordering::Relaxed);
            self.clock.sleep(self.patience).await;
            if self.moved.load(Ordering::Relaxed).wrapping_sub(before) < PACE_BYTES {
                return;
            }
        }
    }
}
