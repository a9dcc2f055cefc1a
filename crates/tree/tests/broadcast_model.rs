//! Random facts against a naive model: whoever applies the answers holds the tree, and every rule holds after every fact
//! and after every prefix of every answer.

mod broadcast;

use broadcast::{Model, Op, op, options};
use proptest::prelude::*;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn every_rule_holds_after_every_fact(options in options(), ops in prop::collection::vec(op(24), 1..120)) {
        let mut model = Model::new(options);
        for op in &ops {
            model.run(op);
        }
    }

    #[test]
    fn the_same_facts_give_the_same_answers(ops in prop::collection::vec(op(16), 1..60)) {
        let run = |ops: &[Op]| {
            let mut model = Model::new(Default::default());
            ops.iter().for_each(|op| model.run(op));
            model.answers
        };
        prop_assert_eq!(run(&ops), run(&ops));
    }
}
