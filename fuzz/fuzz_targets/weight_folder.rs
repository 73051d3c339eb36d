//! See `fuzz::weight_folder`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::weight_folder(bytes));
