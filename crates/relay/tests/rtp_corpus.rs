//! Datagrams and packets in any sequence: random ones, and the seeds and finds of the fuzz target `rtp_input`.

#[path = "../../../fuzz/checks/rtp_input.rs"]
mod rtp_input;

use proptest::prelude::*;

#[test]
fn every_seed_of_the_fuzz_corpus_holds_what_any_sequence_must_and_most_send_packets_on() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/rtp_input");
    let (mut seeds, mut sending) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("a readable folder").path();
        let seed = std::fs::read(path).expect("a readable seed");
        seeds += 1;
        sending += u32::from(rtp_input::check(&seed) > 0);
    }
    assert!(
        seeds >= 4 && sending >= 3,
        "{sending} of {seeds} seeds send packets on"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_datagrams_and_packets_breaks_what_must_hold(
        steps in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..9), 0..400)
    ) {
        rtp_input::check(&steps.concat());
    }

    #[test]
    fn no_pictures_in_whatever_order_break_what_must_hold(
        steps in prop::collection::vec((0u8..40, 0u8..3, 0u8..6, any::<u8>()), 0..400)
    ) {
        let script: Vec<u8> = steps.iter().flat_map(|&(what, a, b, c)| {
            // Mostly pictures: 2 and 3, with and without key frames, reversed, or cut short.
            [if what % 5 == 0 { 4 } else { 2 + 6 * what }, a, b, c]
        }).collect();
        rtp_input::check(&script);
    }
}
