//! See `fuzz::weight_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::weight_file(bytes));
