//! Orders and messages in any sequence: random ones, and the seeds and finds of the fuzz target `relay_input`.

#[path = "../../../fuzz/checks/relay_input.rs"]
mod relay_input;

use proptest::prelude::*;

#[test]
fn every_seed_of_the_fuzz_corpus_holds_what_any_sequence_must_and_most_forward_frames() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/relay_input");
    let (mut seeds, mut forwarding) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("a readable folder").path();
        seeds += 1;
        forwarding +=
            u32::from(relay_input::check(&std::fs::read(path).expect("a readable seed")) > 0);
    }
    assert!(
        seeds >= 4 && forwarding >= 3,
        "{forwarding} of {seeds} seeds forward frames"
    );
}

/// A call that stands, as a script: node 1 sends, nodes 2 and 3 are fed. Random steps then do what they like to it.
fn call() -> Vec<u8> {
    let mut script = vec![0, 0, 0];
    for peer in 0..3 {
        script.extend([2, peer, 0, 10, peer, 255]);
    }
    // Stream 16 comes from node 1, in layers 0 and 1, and goes to nodes 2 and 3.
    script.extend([7, 0, 3, 4, 1, 3, 4, 2, 3, 16, 1, 0, 0, 0, 16, 2, 0, 0, 0]);
    script.extend([12, 0, 1, 0, 1, 19, 0, 255]);
    script
}

#[test]
fn the_call_that_random_sequences_start_from_forwards_frames() {
    assert!(relay_input::check(&call()) >= 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_orders_and_messages_breaks_what_must_hold(
        steps in prop::collection::vec(prop::collection::vec(any::<u8>(), 3..9), 0..300)
    ) {
        relay_input::check(&[call(), steps.concat()].concat());
    }

    #[test]
    fn no_sequence_from_nothing_breaks_what_must_hold(script in prop::collection::vec(any::<u8>(), 0..2000)) {
        relay_input::check(&script);
    }
}
