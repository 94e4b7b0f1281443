//! The laws of network managers, on the reference implementation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::{Clock, Timestamp};
use nova_core::conformance::network::Subject;
use nova_core::memory::MemoryNetworks;
use nova_core::port::NetworkManager;
use nova_core::seed::Seed;
use nova_core::store::{MemoryStore, Store};

/// A clock that stands still until it is moved. Nothing here waits on it.
#[derive(Debug, Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn advance(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl std::fmt::Display for HandClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hand clock")
    }
}

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, moment: Timestamp) {
        self.0.fetch_max(moment.0, Ordering::SeqCst);
    }
}

fn subject(wrap: fn(MemoryNetworks) -> Arc<dyn NetworkManager>) -> Subject {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clock = Arc::new(HandClock::default());
    let manager = MemoryNetworks::new(Arc::clone(&store), clock.clone(), Seed::new(1));
    Subject::new(wrap(manager), store, move |time| clock.advance(time))
}

mod memory {
    use super::*;
    nova_core::network_laws!(async { subject(|manager| Arc::new(manager)) });
}

mod memory_in_an_arc {
    use super::*;
    nova_core::network_laws!(async { subject(|manager| Arc::new(Arc::new(manager))) });
}

mod memory_with_vlans {
    use super::*;
    use nova_core::domain::NetworkKind;
    nova_core::network_laws!(async {
        subject(|manager| Arc::new(manager)).with_kind(NetworkKind::Vlan)
    });
}
