//! Why a link to the relay is closed: codes and words, as [`crate::signal::close`] has them for signalling.

/// A reason to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// By order: no edge uses the link any more.
    Ordered,
    /// The server is stopping.
    Stopping,
    /// No hello came, or something else did.
    NoHello,
    /// Nobody is expected with this token.
    Token,
    /// A message above the size cap.
    TooLarge,
    /// The relay has as many links as it may.
    Full,
    /// The relay has too much to do to take anybody who was not there before.
    Overloaded,
    /// The reader was too slow for what it is sent.
    Stuck,
    /// Nothing came, not even a heartbeat.
    Silent,
    /// The link was opened again with the same token.
    Replaced,
    /// The relay broke, and starts anew.
    Broken,
    /// Bytes that are no text where one must be.
    Malformed,
}

impl Close {
    /// All of them, for the documents.
    pub const ALL: [Close; 12] = [
        Close::Ordered,
        Close::Stopping,
        Close::NoHello,
        Close::Token,
        Close::TooLarge,
        Close::Full,
        Close::Stuck,
        Close::Silent,
        Close::Replaced,
        Close::Broken,
        Close::Malformed,
        Close::Overloaded,
    ];

    /// The WebSocket close code (RFC 6455 section 7.4; 4000 to 4999 are ours).
    pub fn code(self) -> u16 {
        match self {
            Close::Ordered => 1000,
            Close::Stopping => 1001,
            Close::NoHello => 4400,
            Close::Token => 4401,
            Close::TooLarge => 4402,
            Close::Full => 4403,
            Close::Stuck => 4404,
            Close::Silent => 4405,
            Close::Replaced => 4406,
            Close::Broken => 4407,
            Close::Malformed => 4408,
            Close::Overloaded => 4409,
        }
    }

    /// The reason in the close frame: what happened, and what helps.
    pub fn reason(self) -> &'static str {
        match self {
            Close::Ordered => "the link is not needed any more",
            Close::Stopping => "the server is stopping; reconnect after a pause",
            Close::NoHello => "the first message must be a hello with a token, within 5 seconds",
            Close::Token => "no link is expected with this token; report it lost and get a new one",
            Close::TooLarge => "a message has at most 262144 bytes",
            Close::Full => "the relay has as many links as it may; report this one lost",
            Close::Overloaded => {
                "the relay has too much to do to take anybody new; try again in a minute"
            }
            Close::Stuck => "messages were not read fast enough; report the link lost",
            Close::Silent => "nothing came, not even a heartbeat; report the link lost",
            Close::Replaced => "the link was opened again with the same token",
            Close::Broken => "the relay starts anew; a new link will be ordered",
            Close::Malformed => "control messages are UTF-8, each behind its length",
        }
    }

    /// Under which word a link that was refused for this is counted.
    pub fn limit(self) -> &'static str {
        match self {
            Close::NoHello => "relay_hello",
            Close::Token => "relay_token",
            Close::Full => "relay_links",
            Close::Overloaded => "relay_overload",
            _ => "relay_broken",
        }
    }
}

impl From<grove_relay::Close> for Close {
    fn from(close: grove_relay::Close) -> Self {
        match close {
            grove_relay::Close::Replaced => Close::Replaced,
            grove_relay::Close::Ordered => Close::Ordered,
            grove_relay::Close::Stuck => Close::Stuck,
            grove_relay::Close::Stopped => Close::Broken,
        }
    }
}

impl From<grove_relay::AttachError> for Close {
    fn from(error: grove_relay::AttachError) -> Self {
        match error {
            grove_relay::AttachError::Unknown => Close::Token,
            grove_relay::AttachError::Full => Close::Full,
            grove_relay::AttachError::Overloaded => Close::Overloaded,
            grove_relay::AttachError::Stopped => Close::Broken,
        }
    }
}
