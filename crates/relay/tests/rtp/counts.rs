//! What the relay counts of links by RTP.

use crate::udp::Call;

#[tokio::test]
async fn what_was_sent_again_is_counted_and_stays_so_after_its_link_has_ended() {
    let mut call = Call::new(2).await;
    assert_eq!(call.handle.stats().counters.packets_retransmitted, 0);
    call.browsers[1].loses = 20;
    call.edge(1, 2);
    call.run_until(|call| call.handle.stats().counters.packets_retransmitted > 0)
        .await;
    let mut leaving = call.browsers.pop().expect("two");
    leaving.client.rtc.close().expect("alive");
    leaving.drain();
    let counted = call.handle.stats().counters;
    call.run_until(|call| call.handle.stats().size.links == 1)
        .await;
    let stats = call.handle.stats();
    assert!(stats.counters.packets_retransmitted >= counted.packets_retransmitted);
    assert!(stats.counters.frames_unsent >= counted.frames_unsent);
}
