#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| push::fuzzing::run("answers", data));
