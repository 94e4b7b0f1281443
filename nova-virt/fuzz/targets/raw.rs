#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nova_virt_fuzz::disks::look(
    nova_virt::inspect::Format::Raw,
    data
));
