#![no_main]
//! Texts that claim to be offers.

#[path = "../checks/rtp_offer.rs"]
mod rtp_offer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rtp_offer::check(bytes);
});
