#![no_main]
//! Bytes on the stream of a QUIC link's texts.

#[path = "../checks/quic_wire.rs"]
mod quic_wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    quic_wire::check(bytes);
});
