#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| nova_virt::libvirt::fuzzing::xml(text));
