//! What must hold for any bytes on a QUIC link's stream of texts. The fuzz target and the test of its seeds both include this.
//!
//! The first byte says how much may be read of an unknown peer, the second in what pieces the rest arrives.

use bytes::BytesMut;
use grove_relay::quic::wire::{
    MAX_GREETING, MAX_TEXT, TextError, hello, pack, read_hello, read_welcome, unpack, welcome,
};

/// The texts of a stream that arrives in pieces, and why it ended.
fn texts(stream: &[u8], piece: usize, longest: usize) -> (Vec<String>, Option<TextError>) {
    let mut buffer = BytesMut::new();
    let mut texts = Vec::new();
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match unpack(&mut buffer, longest) {
                Ok(Some(text)) => texts.push(text),
                Ok(None) => break,
                Err(error) => return (texts, Some(error)),
            }
        }
        assert!(buffer.len() < 2 + longest, "no more waits than one text");
    }
    (texts, None)
}

/// How many texts there are.
pub fn check(bytes: &[u8]) -> usize {
    let Some((&[what, piece], stream)) = bytes.split_first_chunk() else {
        return 0;
    };
    let longest = [MAX_GREETING, MAX_TEXT][usize::from(what & 1)];
    let whole = texts(stream, stream.len().max(1), longest);
    assert_eq!(texts(stream, usize::from(piece).max(1), longest), whole);
    let (texts, ended) = whole;
    let packed: Vec<u8> = texts.iter().flat_map(|text| pack(text)).collect();
    assert!(
        stream.starts_with(&packed),
        "what is read is what stands there"
    );
    if ended.is_none() {
        assert!(stream.len() - packed.len() < 2 + longest);
    }
    for text in &texts {
        assert!(text.len() <= longest);
        if let Some(token) = read_hello(text) {
            assert_eq!(read_hello(&hello(token)), Some(token));
        }
        if let Some(instance) = read_welcome(text) {
            assert_eq!(read_welcome(&welcome(&instance)), Some(instance));
        }
    }
    texts.len()
}
