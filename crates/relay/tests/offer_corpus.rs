//! Texts that claim to be offers: random changes of real ones, and the seeds and finds of the fuzz target `rtp_offer`.

#[path = "../../../fuzz/checks/rtp_offer.rs"]
mod rtp_offer;

use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/rtp_offer");
    let entries = std::fs::read_dir(folder).expect("the corpus is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let read = |path| std::fs::read(path).expect("a readable seed");
    paths.into_iter().map(read).collect()
}

#[test]
fn every_seed_of_the_fuzz_corpus_holds_what_any_offer_must_and_browsers_are_answered() {
    let answered = seeds().iter().filter(|seed| rtp_offer::check(seed)).count();
    assert_eq!((seeds().len(), answered), (6, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_a_browsers_offer_breaks_what_must_hold(
        seed: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 1..20)
    ) {
        let mut seeds = seeds();
        seeds.retain(|seed| seed.len() > 1_000);
        let mut offer = seed.get(&seeds).clone();
        for (at, what, byte) in changes {
            let at = at.index(offer.len());
            match what {
                0 => offer[at] = byte,
                1 => drop(offer.remove(at)),
                _ => offer.insert(at, byte),
            }
        }
        rtp_offer::check(&offer);
    }
}
