//! The seeds and finds of the fuzz target `sealed_frame`, without a fuzzer.

#[path = "../../../fuzz/checks/sealed_frame.rs"]
mod sealed_frame;

#[test]
fn every_seed_of_the_fuzz_corpus_holds_what_any_bytes_must() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/corpus/sealed_frame"
    );
    let (mut framed, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("a readable folder").path();
        let bytes = std::fs::read(&path).expect("a readable seed");
        if sealed_frame::check(&bytes) {
            framed += 1;
        } else {
            refused += 1;
        }
    }
    assert!(
        framed >= 12 && refused >= 19,
        "{framed} seeds have the form of a frame, {refused} have not"
    );
}
