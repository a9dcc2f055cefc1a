#![no_main]
//! Headers, opening and sealing on any bytes.

#[path = "../checks/sealed_frame.rs"]
mod sealed_frame;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sealed_frame::check(bytes);
});
