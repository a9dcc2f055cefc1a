#![no_main]
//! Any orders to a relay, and anything from its peers.

#[path = "../checks/relay_input.rs"]
mod relay_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    relay_input::check(bytes);
});
