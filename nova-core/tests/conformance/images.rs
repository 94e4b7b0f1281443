mod memory {
    nova_core::image_laws!(async { nova_core::memory::MemoryImages::new() });
}

mod shared {
    nova_core::image_laws!(async { std::sync::Arc::new(nova_core::memory::MemoryImages::new()) });
}
