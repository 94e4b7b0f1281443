use std::sync::Arc;

use nova_core::conformance::virt::Subject;
use nova_core::memory::MemoryHost;

mod memory {
    use super::*;

    nova_core::virt_laws!(async { MemoryHost::default() });
}

/// Through a shared pointer, with guests that somebody else starts.
mod shared {
    use super::*;

    nova_core::virt_laws!(async {
        let host = Arc::new(MemoryHost::default());
        Subject::new(Arc::clone(&host)).with_plant(Box::new(move |instance| {
            host.plant_guest(instance);
            Box::pin(async {})
        }))
    });
}

mod live {
    use super::*;

    nova_core::live_laws!(async { (MemoryHost::default(), MemoryHost::default()) });
}
