//! The bytes of a link over QUIC: texts on its one two-way stream, each behind its length, and the two that open it.

use bytes::{Buf, BytesMut};
use serde_json::{Value, json};

use crate::command::Token;

/// Longest text, bytes: a control message has at most 4096 characters.
pub const MAX_TEXT: usize = 16 * 1024;
/// Longest hello or welcome, bytes: what an unknown peer may make us read.
pub const MAX_GREETING: usize = 256;
/// Read from the stream at a time.
const CHUNK: usize = 4096;
/// Longest instance.
const MAX_INSTANCE: usize = 64;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// Longer than it may be.
    TooLong,
    /// Not UTF-8, or the stream ended within a text.
    Malformed,
    /// The connection is lost or was closed.
    Gone,
}

/// A text as it stands on the stream: its length in bytes (u16, big-endian), then itself. For our own texts, which are shorter
/// than 64 KiB.
pub fn pack(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("our own texts are shorter than 64 KiB");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Takes the first text out of `buffer`, if it is whole, of at most `longest` bytes. After an error the stream is of no use.
pub fn unpack(buffer: &mut BytesMut, longest: usize) -> Result<Option<String>, TextError> {
    let Some(&[high, low]) = buffer.first_chunk::<2>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > longest {
        return Err(TextError::TooLong);
    }
    if buffer.len() < 2 + length {
        return Ok(None);
    }
    buffer.advance(2);
    let text = buffer.split_to(length).to_vec();
    String::from_utf8(text)
        .map(Some)
        .map_err(|_| TextError::Malformed)
}

/// The texts of a stream. Holds one text and one read at most.
#[derive(Debug)]
pub(super) struct Texts {
    stream: quinn::RecvStream,
    buffer: BytesMut,
}

impl Texts {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next one; `None` when the other side has finished.
    pub(super) async fn next(&mut self, longest: usize) -> Result<Option<String>, TextError> {
        loop {
            if let Some(text) = unpack(&mut self.buffer, longest)? {
                return Ok(Some(text));
            }
            match self.stream.read_chunk(CHUNK, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => return Err(TextError::Malformed),
                Err(_) => return Err(TextError::Gone),
            }
        }
    }
}

/// What opens a link.
pub fn hello(token: Token) -> String {
    json!({ "t": "hello", "token": encode(&token.0) }).to_string()
}

/// The token of a hello, if it is one.
pub fn read_hello(text: &str) -> Option<Token> {
    let message: Value = serde_json::from_str(text).ok()?;
    let token = message["token"].as_str()?;
    (message["t"] == "hello").then_some(Token(decode(token)?))
}

/// What answers a hello.
pub fn welcome(instance: &str) -> String {
    json!({ "t": "welcome", "instance": instance }).to_string()
}

/// The instance in a welcome, if it is one.
pub fn read_welcome(text: &str) -> Option<String> {
    let message: Value = serde_json::from_str(text).ok()?;
    let instance = message["instance"].as_str()?;
    let fits = instance.len() <= MAX_INSTANCE && message["t"] == "welcome";
    fits.then(|| instance.to_owned())
}

/// Base64url without padding (RFC 4648 section 5).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes(word);
        let digit = |n: usize| char::from(ALPHABET[(word >> (18 - 6 * n)) as usize & 63]);
        text.extend((0..=chunk.len()).map(digit));
    }
    text
}

/// 16 bytes from their 22 digits. Bits that stand for nothing must be zero: one token has one writing.
fn decode(text: &str) -> Option<[u8; 16]> {
    if text.len() != 22 {
        return None;
    }
    let mut value = 0_u128;
    let mut spare = 0;
    for (n, digit) in text.bytes().enumerate() {
        let bits = ALPHABET.iter().position(|&d| d == digit)? as u128;
        // 21 digits are 126 bits; the last one brings two and four that are spare.
        if n < 21 {
            value = value << 6 | bits;
        } else {
            value = value << 2 | bits >> 4;
            spare = bits & 15;
        }
    }
    (spare == 0).then(|| value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hello_is_the_one_of_the_websocket() {
        let token = Token([0xff; 16]);
        let text = hello(token);
        assert_eq!(text, r#"{"t":"hello","token":"_____________________w"}"#);
        assert_eq!(read_hello(&text), Some(token));
        for wrong in [
            r#"{"t":"hello","token":"_____________________x"}"#,
            r#"{"t":"hello","token":"____________________w"}"#,
            r#"{"t":"hello","token":"____________________+w"}"#,
            r#"{"t":"welcome","token":"_____________________w"}"#,
            r#"{"t":"hello"}"#,
            "",
        ] {
            assert_eq!(read_hello(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_is_read_when_it_is_whole_and_refused_when_it_is_too_long() {
        let mut buffer = BytesMut::from(&pack("ab")[..3]);
        assert_eq!(unpack(&mut buffer, 2), Ok(None));
        buffer.extend_from_slice(b"b");
        assert_eq!(unpack(&mut buffer, 2), Ok(Some("ab".into())));
        let mut long = BytesMut::from(&pack("abc")[..]);
        assert_eq!(unpack(&mut long, 2), Err(TextError::TooLong));
        let mut foreign = BytesMut::from(&[0, 1, 0xff][..]);
        assert_eq!(unpack(&mut foreign, 2), Err(TextError::Malformed));
    }

    proptest! {
        #[test]
        fn every_token_comes_back(bytes: [u8; 16]) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(text)) = unpack(&mut buffer, MAX_TEXT) {
                let _ = (read_hello(&text), read_welcome(&text));
            }
        }
    }
}
