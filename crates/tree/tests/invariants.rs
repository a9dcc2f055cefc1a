//! Whatever happens in whatever order, no rule of the plan is broken, at no prefix of any answer.

mod common;

use common::{Shadow, ops};
use grove_tree::{Fact, NodeId, Plan};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_facts_breaks_a_rule(
        policy in ops::policy(),
        start in prop::collection::vec(ops::facts(), 1..7),
        relays in prop::collection::vec(ops::relay_facts(), 0..3),
        list in prop::collection::vec(ops::op(8, 5), 1..50),
    ) {
        let mut shadow = Shadow::new(policy);
        for (id, facts) in (0..).zip(start).chain((ops::RELAYS..).zip(relays)) {
            shadow.fact(Fact::Node(NodeId(id), facts));
        }
        for op in &list {
            ops::run(&mut shadow, op);
        }
        shadow.quiet();
    }

    #[test]
    fn the_same_facts_give_the_same_answers(
        policy in ops::policy(),
        list in prop::collection::vec(ops::op(6, 3), 1..30),
    ) {
        let mut one = Plan::new(policy);
        let mut two = Plan::new(policy);
        let mut now = 0;
        for op in &list {
            match *op {
                ops::Op::Fact(fact) => prop_assert_eq!(one.handle(fact, now), two.handle(fact, now)),
                ops::Op::Deliver => {}
                ops::Op::Pass(millis) => {
                    now += millis;
                    prop_assert_eq!(one.poll_timeout(), two.poll_timeout());
                    prop_assert_eq!(one.handle_timeout(now), two.handle_timeout(now));
                }
            }
        }
        prop_assert_eq!(one.trees(), two.trees());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rooms_of_up_to_forty_keep_the_rules_too(
        policy in ops::policy(),
        start in prop::collection::vec(ops::facts(), 1..41),
        relays in prop::collection::vec(ops::relay_facts(), 0..3),
        list in prop::collection::vec(ops::op(40, 8), 1..25),
    ) {
        let mut shadow = Shadow::new(policy);
        for (id, facts) in (0..).zip(start).chain((ops::RELAYS..).zip(relays)) {
            shadow.fact(Fact::Node(NodeId(id), facts));
        }
        for op in &list {
            ops::run(&mut shadow, op);
        }
        shadow.quiet();
    }
}
