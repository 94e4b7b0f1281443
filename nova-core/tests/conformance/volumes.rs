mod memory {
    nova_core::volume_laws!(async { nova_core::memory::MemoryVolumes::new() });
}

mod shared {
    nova_core::volume_laws!(async { std::sync::Arc::new(nova_core::memory::MemoryVolumes::new()) });
}
