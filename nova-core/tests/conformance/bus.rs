//! The bus suite on the local bus.

use std::sync::Arc;

use nova_core::clock::SystemClock;
use nova_core::memory::LocalBus;

fn local() -> LocalBus {
    LocalBus::new(Arc::new(SystemClock::new()))
}

mod of_the_process {
    nova_core::bus_laws!(async { super::local() });
}

mod with_the_shortest_queue_that_holds_ten {
    nova_core::bus_laws!(async { super::local().with_capacity(10) });
}

mod in_an_arc {
    nova_core::bus_laws!(async { std::sync::Arc::new(super::local()) });
}
