//! A text frame as a message. Every byte here is a stranger's: fuzzed, and never logged.

use super::message::{ClientMessage, ErrorCode, ServerMessage};
use serde_json::Value;

/// The largest frame, bytes: the largest offer to a relay, as JSON.
pub const MAX_FRAME: usize = 256 * 1024;

/// The `type`s of [`ClientMessage`].
pub const TYPES: [&str; 18] = [
    "create",
    "join",
    "look",
    "leave",
    "publish",
    "unpublish",
    "want",
    "ready",
    "lost",
    "description",
    "candidate",
    "mail",
    "chat",
    "presence",
    "report",
    "trees",
    "set_policy",
    "ping",
];

/// Why a frame is no message.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// Not an object with a `type`: whoever sends this does not speak the protocol.
    #[error("not a JSON object with a type")]
    Malformed,
    /// A `type` that this version does not have; newer clients may send one.
    #[error("unknown type")]
    UnknownType {
        /// What it said, cut.
        kind: String,
    },
    /// A known `type` with wrong contents.
    #[error("{words}")]
    BadField {
        /// The `type`.
        kind: String,
        /// What is wrong.
        words: String,
    },
}

impl ParseError {
    /// What the client is told; `None`: it is told by closing.
    pub fn answer(self) -> Option<ServerMessage> {
        let (code, message, kind) = match self {
            ParseError::Malformed => return None,
            ParseError::UnknownType { kind } => (
                ErrorCode::UnknownMessage,
                "this server does not know this type of message".to_owned(),
                kind,
            ),
            ParseError::BadField { kind, words } => (ErrorCode::BadField, words, kind),
        };
        Some(ServerMessage::Error {
            code,
            message,
            refers_to: Some(kind),
        })
    }
}

/// Reads one text frame.
pub fn parse(text: &str) -> Result<ClientMessage, ParseError> {
    let value: Value = serde_json::from_str(text).map_err(|_| ParseError::Malformed)?;
    let kind = value
        .get("type")
        .and_then(Value::as_str)
        .ok_or(ParseError::Malformed)?;
    if !TYPES.contains(&kind) {
        return Err(ParseError::UnknownType {
            kind: kind.chars().take(32).collect(),
        });
    }
    let kind = kind.to_owned();
    serde_json::from_value(value).map_err(|error| {
        let words = error.to_string().chars().take(200).collect();
        ParseError::BadField { kind, words }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_is_malformed_and_strange_types_are_not() {
        for junk in [
            "",
            "{",
            "null",
            "[]",
            "7",
            "\"join\"",
            "{}",
            "{\"type\":7}",
            &"[".repeat(5000),
        ] {
            assert_eq!(parse(junk), Err(ParseError::Malformed), "{junk:.20}");
        }
        assert_eq!(
            parse(r#"{"type":"dance"}"#),
            Err(ParseError::UnknownType {
                kind: "dance".into()
            })
        );
        assert!(
            matches!(parse(r#"{"type":"ready","stream":7}"#), Err(ParseError::BadField { kind, .. }) if kind == "ready")
        );
        assert_eq!(
            parse(r#"{"type":"ping","n":3}"#),
            Ok(ClientMessage::Ping { n: 3 })
        );
    }

    #[test]
    fn the_list_of_types_is_the_protocols() {
        for kind in TYPES {
            let known = serde_json::from_str::<ClientMessage>(&format!("{{\"type\":\"{kind}\"}}"));
            assert!(
                known.map_or_else(|e| !e.to_string().contains("unknown variant"), |_| true),
                "{kind}"
            );
        }
        let all = serde_json::from_str::<ClientMessage>("{\"type\":\"?\"}")
            .expect_err("no such type")
            .to_string();
        assert_eq!(all.matches('`').count() / 2 - 1, TYPES.len(), "{all}");
    }
}
