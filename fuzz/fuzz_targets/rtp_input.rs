#![no_main]
//! Datagrams and packets of media in any sequence.

#[path = "../checks/rtp_input.rs"]
mod rtp_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rtp_input::check(bytes);
});
