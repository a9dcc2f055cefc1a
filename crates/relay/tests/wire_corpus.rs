//! Bytes on the stream of a QUIC link's texts: random ones, and the seeds and finds of the fuzz target `quic_wire`.

#[path = "../../../fuzz/checks/quic_wire.rs"]
mod quic_wire;

use proptest::prelude::*;

#[test]
fn every_seed_of_the_fuzz_corpus_holds_what_any_stream_must_and_most_have_texts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/quic_wire");
    let (mut seeds, mut speaking) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("a readable folder").path();
        seeds += 1;
        speaking += u32::from(quic_wire::check(&std::fs::read(path).expect("a readable seed")) > 0);
    }
    assert!(
        seeds >= 4 && speaking >= 3,
        "{speaking} of {seeds} seeds have texts"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_what_must_hold(
        what: [u8; 2],
        texts in prop::collection::vec((0u16..300, "[ -~]{0,300}"), 0..6)
    ) {
        // Lengths that are right, or not.
        let mut bytes = what.to_vec();
        for (length, text) in texts {
            let length = if length < 200 { text.len() as u16 } else { length };
            bytes.extend(length.to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        quic_wire::check(&bytes);
    }
}
