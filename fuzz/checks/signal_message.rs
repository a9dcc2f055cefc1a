//! What must hold for any bytes that claim to be a message of a client. The fuzz target and the test of its seeds both
//! include this.

use grove_server::signal::message::{ClientMessage, Report, ServerMessage};
use grove_server::signal::parse::parse;

/// The longest answer to a frame that is no message, bytes of JSON: refusing must not cost more than asking.
const LONGEST_ANSWER: usize = 4096;

/// True when the bytes are a message.
pub fn check(bytes: &[u8]) -> bool {
    let Ok(frame) = std::str::from_utf8(bytes) else {
        return false;
    };
    let message = match parse(frame) {
        Ok(message) => message,
        Err(error) => {
            if let Some(answer) = error.answer() {
                assert!(matches!(answer, ServerMessage::Error { .. }));
                let answer = serde_json::to_string(&answer).expect("an answer can be written");
                assert!(answer.len() <= LONGEST_ANSWER, "{answer}");
            }
            return false;
        }
    };
    if !finite(&message) {
        return true;
    }
    let text = serde_json::to_string(&message).expect("every message can be written");
    let again = parse(&text).expect("what was written can be read");
    assert_eq!(again, message);
    assert_eq!(serde_json::to_string(&again).expect("as before"), text);
    true
}

/// A number beyond `f32` is read as infinite, which JSON cannot say again; rooms show it as 0.
fn finite(message: &ClientMessage) -> bool {
    let ClientMessage::Report(Report { links, edges, .. }) = message else {
        return true;
    };
    let links = links.iter().flat_map(|link| [link.rtt_ms, link.loss]);
    links
        .chain(edges.iter().map(|edge| edge.delay_ms))
        .all(f32::is_finite)
}
