//! Every key of the configuration, once: the file's keys, the environment's variables, the flags, the documents and the
//! list of near misses are made from this table.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// True or false.
    Switch,
    /// Several texts; separated by commas outside the file.
    List,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// In the file: `section.key`, or `key`.
    pub path: &'static str,
    /// Its flag, without dashes.
    pub flag: &'static str,
    /// What it looks like.
    pub kind: Kind,
    /// As in a TOML file.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

impl Key {
    /// `GROVE_SECTION_KEY`.
    pub fn variable(&self) -> String {
        format!("GROVE_{}", self.path.replace('.', "_").to_uppercase())
    }
}

/// A day: longer times are mistakes, and times stay far from where sums overflow.
const DAY: u64 = 86_400;
/// Far more than one machine holds.
const MANY: u64 = 1_000_000_000;

const fn key(
    path: &'static str,
    flag: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key {
        path,
        flag,
        kind,
        default,
        help,
    }
}

/// All of them, in the order of the documents.
pub const KEYS: &[Key] = &[
    key(
        "listen",
        "listen",
        Kind::Text,
        "\"[::]:8080\"",
        "Address and port to serve on; [::] is every address of this machine, IPv4 and IPv6",
    ),
    key(
        "data",
        "data",
        Kind::Text,
        "\"grove-data\"",
        "Directory for what the server keeps; made when missing",
    ),
    key(
        "public_url",
        "public-url",
        Kind::Text,
        "\"\"",
        "Where browsers find this server, e.g. https://meet.example.org; needed behind a proxy. Only pages from there may open a WebSocket. Empty: whatever host the page was loaded from",
    ),
    key(
        "tls.mode",
        "tls",
        Kind::Word(&["off", "self-signed", "files"]),
        "\"off\"",
        "off, self-signed (a certificate kept in the data directory; browsers warn once) or files",
    ),
    key(
        "tls.cert",
        "tls-cert",
        Kind::Text,
        "\"\"",
        "Certificate chain, PEM; with tls.key it turns TLS on",
    ),
    key("tls.key", "tls-key", Kind::Text, "\"\"", "Private key, PEM"),
    key(
        "log.format",
        "log-format",
        Kind::Word(&["text", "json"]),
        "\"text\"",
        "One line per event, for people or for programs",
    ),
    key(
        "log.level",
        "log-level",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        "\"info\"",
        "How much to log; RUST_LOG is taken when it is one of these words and this key is not set",
    ),
    key(
        "rooms.max",
        "max-rooms",
        Kind::Number(0, MANY),
        "10000",
        "Rooms at once",
    ),
    key(
        "rooms.max_people",
        "max-people",
        Kind::Number(0, 65_535),
        "0",
        "People in one room; 0 = no limit",
    ),
    key(
        "rooms.empty_seconds",
        "empty-room-seconds",
        Kind::Number(1, 30 * DAY),
        "600",
        "An empty room stays this long",
    ),
    key(
        "rooms.resume_seconds",
        "resume-seconds",
        Kind::Number(0, DAY),
        "30",
        "A participant whose connection broke keeps its place this long",
    ),
    key(
        "rooms.uplink_bps",
        "default-uplink-bps",
        Kind::Number(64_000, 10_000_000_000),
        "20000000",
        "What a peer that names no uplink of its own is taken to send in all, bit/s; browsers always name one, 4 Mbit/s at first",
    ),
    key(
        "rooms.slots",
        "slots",
        Kind::Number(1, 65_535),
        "64",
        "Edges that one browser carries at most, whatever their rate",
    ),
    key(
        "rooms.preset",
        "preset",
        Kind::Word(&["auto", "providence", "bbvoice", "cloud-chat"]),
        "\"auto\"",
        "How trees are chosen in rooms that do not say: auto (each stream as uplinks allow), providence (everybody to everybody), bbvoice (trees of two children per node) or cloud-chat (everything through the relay)",
    ),
    key(
        "signal.max_connections",
        "max-connections",
        Kind::Number(1, MANY),
        "20000",
        "WebSockets at once",
    ),
    key(
        "signal.messages_per_second",
        "messages-per-second",
        Kind::Number(1, 1_000_000),
        "50",
        "Steady rate of one connection; beyond the burst it is slowed down to this",
    ),
    key(
        "signal.burst",
        "message-burst",
        Kind::Number(1, 1_000_000),
        "400",
        "Messages that one connection may send at once",
    ),
    key(
        "signal.ping_seconds",
        "ping-seconds",
        Kind::Number(1, DAY),
        "10",
        "Pause between pings; after two and a half without a sign of life a connection is closed",
    ),
    key(
        "signal.drain_seconds",
        "drain-seconds",
        Kind::Number(0, DAY),
        "3",
        "After SIGTERM, clients are told, and closed after this time",
    ),
    key(
        "links.stun",
        "stun",
        Kind::List,
        "[]",
        "STUN servers that browsers ask for their public address, e.g. stun:stun.example.org:3478; none are needed in one network",
    ),
    key(
        "relay.enabled",
        "relay",
        Kind::Switch,
        "true",
        "Whether this server may carry sealed media where browsers cannot, or where a room asks for it. Rooms can forbid it for themselves",
    ),
    key(
        "relay.egress_bps",
        "relay-egress-bps",
        Kind::Number(64_000, 100_000_000_000),
        "1000000000",
        "What the relay sends in all, bit/s. Each room plans as if it were alone; beyond this pictures are left out, sound is not",
    ),
    key(
        "relay.slots",
        "relay-slots",
        Kind::Number(1, 65_535),
        "4096",
        "Edges that the relay carries in one room",
    ),
    key(
        "relay.max_links",
        "relay-max-links",
        Kind::Number(0, MANY),
        "4096",
        "Browsers that are linked to the relay at once",
    ),
    key(
        "relay.threads",
        "relay-threads",
        Kind::Number(0, grove_relay::MOST_THREADS as u64),
        "0",
        "Threads that the relay forwards on, each some of the rooms; 0: as many as the machine has cores",
    ),
    key(
        "relay.udp_listen",
        "relay-udp",
        Kind::Text,
        "\"\"",
        "Address and UDP port at which browsers send media to the relay; [::] is every address that this machine has when the relay starts. Empty: the same as listen. off: none, media goes over WebSockets",
    ),
    key(
        "relay.public_addresses",
        "relay-public-addresses",
        Kind::List,
        "[]",
        "Addresses under which browsers reach that port, where something before this machine translates addresses: 203.0.113.7, or 203.0.113.7:3478 when the port is another. Browsers are told these and no others",
    ),
    key(
        "relay.quic_listen",
        "relay-quic-listen",
        Kind::Text,
        "\"\"",
        "Address and UDP port where the relay also takes links over QUIC, e.g. [::]:4433, for native peers; browsers do not need it. They look for the port on the host that signalling is on. Port 0: a free one. Empty: no such port",
    ),
];

/// Variables of this prefix that are not configuration: the file's name, and what tests and tools use.
pub const OTHER_VARIABLES: &[&str] = &["GROVE_CONFIG", "GROVE_BIN", "GROVE_UPDATE"];
/// Prefixes of the same.
pub const OTHER_PREFIXES: &[&str] = &["GROVE_TEST_", "GROVE_E2E_", "GROVE_LAB_"];

/// The known name nearest to a wrong one.
pub fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let scored = known.map(|name| (strsim::jaro_winkler(wrong, &name), name));
    scored
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
