//! The seeds of the fuzz targets, as an ordinary test: whoever changes the protocol need not have a nightly toolchain.

#[path = "../../../fuzz/checks/signal_message.rs"]
mod signal_message;

use std::collections::BTreeSet;
use std::path::Path;

/// Seeds that claim to be a message and are none.
const REFUSED: [&str; 5] = [
    "deep",
    "missing-field",
    "no-json",
    "number-too-large",
    "unknown-type",
];

#[test]
fn every_seed_is_a_message_but_those_that_are_named_for_what_is_wrong() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/signal_message");
    let refused: BTreeSet<String> = std::fs::read_dir(&directory)
        .expect("the seeds are part of the repository")
        .map(|seed| seed.expect("readable").path())
        .filter(|seed| !signal_message::check(&std::fs::read(seed).expect("readable")))
        .map(|seed| seed.file_name().expect("a file").to_string_lossy().into())
        .collect();
    assert_eq!(refused, REFUSED.map(str::to_owned).into());
}
