#![no_main]
//! Reading and writing signalling messages on any bytes.

#[path = "../checks/signal_message.rs"]
mod signal_message;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    signal_message::check(bytes);
});
