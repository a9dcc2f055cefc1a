//! Why the server closes a WebSocket: the one place that maps reasons to close codes and words.

/// A reason to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// The participant left, and its children have new parents.
    Left,
    /// The server is stopping.
    Stopping,
    /// A frame was not a JSON object with a `type`.
    Malformed,
    /// A binary frame.
    Binary,
    /// A frame above the size cap.
    TooLarge,
    /// Far more messages than the rate cap for longer than a burst.
    Flood,
    /// The reader was too slow for what it is sent.
    TooSlow,
    /// Nothing came, not even a pong.
    Silent,
    /// The participant came back on another connection.
    Replaced,
    /// The room broke by a fault of the server.
    Broken,
}

impl Close {
    /// All of them, for the documents and the metrics.
    pub const ALL: [Close; 10] = [
        Close::Left,
        Close::Stopping,
        Close::Malformed,
        Close::Binary,
        Close::TooLarge,
        Close::Flood,
        Close::TooSlow,
        Close::Silent,
        Close::Replaced,
        Close::Broken,
    ];

    /// The WebSocket close code (RFC 6455 section 7.4; 4000 to 4999 are ours).
    pub fn code(self) -> u16 {
        match self {
            Close::Left => 1000,
            Close::Stopping => 1001,
            Close::Malformed => 4000,
            Close::Binary => 4001,
            Close::TooLarge => 4002,
            Close::Flood => 4003,
            Close::TooSlow => 4004,
            Close::Silent => 4005,
            Close::Replaced => 4006,
            Close::Broken => 4007,
        }
    }

    /// The reason in the close frame: what happened, and what helps.
    pub fn reason(self) -> &'static str {
        match self {
            Close::Left => "you left the room",
            Close::Stopping => "the server is stopping; reconnect after a pause",
            Close::Malformed => "a message must be one JSON object with a type",
            Close::Binary => "messages are text; binary frames are refused",
            Close::TooLarge => "a message has at most 262144 bytes",
            Close::Flood => "too many messages; keep below the rate of the protocol",
            Close::TooSlow => "messages were not read fast enough; reconnect",
            Close::Silent => "no answer to pings; reconnect",
            Close::Replaced => "this participant came back on another connection",
            Close::Broken => "the room ended by a fault of the server; start a new one",
        }
    }
}
