//! Feedback by somebody who lies.

use grove_relay::Micros;
use grove_relay::rtp::estimate::{Estimator, MIN_BPS, WANTED};
use grove_relay::rtp::rtcp::TransportFeedback;
use proptest::prelude::*;

use crate::sim::{Chance, MS};

const START: u64 = 1_000_000;
const DEMAND: u64 = 2_000_000;

/// What must hold whatever was told.
fn check(estimator: &mut Estimator, now: Micros) {
    let most = (DEMAND as f64 * WANTED) as u64;
    let stats = estimator.stats();
    assert!((MIN_BPS..=most).contains(&stats.bps), "{stats:?}");
    assert!(stats.delay_gradient.is_finite(), "{stats:?}");
    assert!(
        (0.0..=1.0).contains(&stats.loss) && stats.queue_ms >= 0.0,
        "{stats:?}"
    );
    assert!(estimator.pacing_bps() >= stats.bps);
    if let Some(probe) = estimator.next_probe(now) {
        assert!(probe.bps <= most && probe.bytes <= 1 << 16, "{probe:?}");
    }
    if let Some(at) = estimator.timeout() {
        assert!(at <= now + 5_000 * MS, "{at} at {now}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send {
        packets: u16,
        bytes: usize,
        skip: u16,
    },
    Tell(TransportFeedback),
    /// About the last packets that left, with one delta for all.
    Praise {
        packets: u16,
        delta: i32,
        step: i32,
    },
    Report(u8, u64),
    Wait(u64),
}

fn delta() -> impl Strategy<Value = i32> {
    prop_oneof![-40i32..400, any::<i16>().prop_map(i32::from), any::<i32>()]
}

fn step() -> impl Strategy<Value = Step> {
    let packets = prop::collection::vec(prop::option::of(delta()), 0..80);
    let told = (any::<u16>(), any::<u8>(), any::<i32>(), packets);
    prop_oneof![
        4 => (0u16..60, 0usize..2_000, prop_oneof![9 => Just(0u16), 1 => any::<u16>()])
            .prop_map(|(packets, bytes, skip)| Step::Send { packets, bytes, skip }),
        1 => told.prop_map(|(base_seq, count, reference_64ms, packets)| {
            Step::Tell(TransportFeedback { base_seq, count, reference_64ms, packets })
        }),
        3 => (0u16..90, delta(), -2i32..4)
            .prop_map(|(packets, delta, step)| Step::Praise { packets, delta, step }),
        1 => (any::<u8>(), any::<u64>()).prop_map(|(lost, trip)| Step::Report(lost, trip)),
        3 => prop_oneof![0u64..200_000, Just(30_000_000)].prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_feedback_panics_or_raises_the_estimate_beyond_what_is_wanted(
        steps in prop::collection::vec(step(), 0..120)
    ) {
        let mut now = 5;
        let mut estimator = Estimator::new(START, now);
        estimator.set_demand(DEMAND);
        let (mut seq, mut reference) = (0u16, 0i32);
        for step in steps {
            match step {
                Step::Send { packets, bytes, skip } => {
                    seq = seq.wrapping_add(skip);
                    for at in 0..packets {
                        now += 700;
                        estimator.sent(seq, bytes, now, at % 3 == 0);
                        seq = seq.wrapping_add(1);
                    }
                }
                Step::Tell(feedback) => {
                    estimator.feedback(&feedback, now);
                }
                Step::Praise { packets, delta, step } => {
                    reference = reference.wrapping_add(step);
                    let feedback = TransportFeedback {
                        base_seq: seq.wrapping_sub(packets),
                        count: 0,
                        reference_64ms: reference,
                        packets: vec![Some(delta); usize::from(packets)],
                    };
                    estimator.feedback(&feedback, now);
                }
                Step::Report(lost, trip) => {
                    estimator.report(lost, trip, now);
                }
                Step::Wait(long) => now += long,
            }
            check(&mut estimator, now);
        }
    }
}

#[test]
fn who_says_that_all_came_at_once_gets_what_is_wanted_and_no_more() {
    let mut estimator = Estimator::new(START, 0);
    estimator.set_demand(DEMAND);
    let mut chance = Chance(9);
    let mut seq = 0u16;
    for round in 0..600u64 {
        let now = round * 100 * MS;
        let base_seq = seq;
        for at in 0..100 {
            estimator.sent(seq, 1_200, now + at * MS, chance.part() < 0.2);
            seq = seq.wrapping_add(1);
        }
        let feedback = TransportFeedback {
            base_seq,
            count: round as u8,
            reference_64ms: round as i32,
            packets: vec![Some(0); 100],
        };
        estimator.feedback(&feedback, now + 120 * MS);
        check(&mut estimator, now + 120 * MS);
    }
}

#[test]
fn praise_for_packets_that_never_left_is_no_news() {
    let mut estimator = Estimator::new(START, 0);
    estimator.set_demand(DEMAND);
    for round in 0..200u16 {
        let feedback = TransportFeedback {
            base_seq: round.wrapping_mul(977),
            count: round as u8,
            reference_64ms: i32::from(round),
            packets: vec![Some(1); 5_000],
        };
        assert!(!estimator.feedback(&feedback, u64::from(round) * 50 * MS));
    }
    assert_eq!(estimator.bps(), START);
    assert_eq!(estimator.stats().acked_bps, 0);
    assert_eq!(estimator.next_probe(10_000 * MS), None);
}

#[test]
fn a_probe_that_was_wanted_when_it_left_raises_nothing_when_it_arrives() {
    for (wanted, expected) in [(DEMAND, Some(3_000_000)), (DEMAND / 4, None)] {
        let mut estimator = Estimator::new(START, 0);
        estimator.set_demand(DEMAND);
        let tell = |base_seq, reference_64ms, delta, packets| TransportFeedback {
            base_seq,
            count: 0,
            reference_64ms,
            packets: vec![Some(delta); packets],
        };
        for seq in 0..100u16 {
            estimator.sent(seq, 1_200, u64::from(seq) * 10 * MS, false);
        }
        estimator.feedback(&tell(0, 0, 40, 100), 1_000 * MS);
        let probe = estimator.next_probe(1_000 * MS).unwrap();
        assert_eq!((probe.bps, probe.bytes), (3_000_000, 7_500));
        for at in 0..10u16 {
            estimator.sent(100 + at, 750, (1_000 + 2 * u64::from(at)) * MS, true);
        }
        estimator.set_demand(wanted);
        let before = estimator.bps();
        estimator.feedback(&tell(100, 16, 8, 10), 1_060 * MS);
        assert_eq!(estimator.bps(), expected.unwrap_or(before));
    }
}
