#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| push::fuzzing::run("attach_from_host", data));
