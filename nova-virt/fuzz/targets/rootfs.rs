#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| nova_virt_fuzz::archives::look(data));
