//! One thing at a time for each guest.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::Hand;
use crate::domain::InstanceId;

impl Hand {
    /// Does `work` while nothing else is done for a guest.
    pub(crate) async fn alone<T>(&self, id: InstanceId, work: impl Future<Output = T>) -> T {
        let lock = self.lock_of(id).await;
        let done = {
            let _alone = lock.lock().await;
            work.await
        };
        self.put_away(id).await;
        done
    }

    /// The same, unless something is being done for the guest; then nothing.
    pub(crate) async fn unless_busy(&self, id: InstanceId, work: impl Future<Output = ()>) {
        let lock = self.lock_of(id).await;
        if let Ok(_alone) = lock.try_lock() {
            work.await;
        }
        self.put_away(id).await;
    }

    async fn lock_of(&self, id: InstanceId) -> Arc<Mutex<()>> {
        Arc::clone(self.guests.lock().await.entry(id).or_default())
    }

    /// Takes a guest's lock away when nobody waits for it any more: whoever waits holds a copy, as
    /// does whoever calls this.
    async fn put_away(&self, id: InstanceId) {
        let mut guests = self.guests.lock().await;
        if guests.get(&id).is_some_and(|known| Arc::strong_count(known) <= 2) {
            guests.remove(&id);
        }
    }
}
