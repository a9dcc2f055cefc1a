//! The configuration: one struct, from defaults < TOML file < environment < flags. Unknown keys are refused, with the
//! nearest name; a value of the wrong kind is refused with where it came from.

pub mod change;
pub mod key;

use crate::signal::message::Policy;
use key::{KEYS, Key, Kind, OTHER_PREFIXES, OTHER_VARIABLES, nearest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Everything that can be set. `docs/ref/configuration.md` says what each key does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to serve on.
    pub listen: SocketAddr,
    /// Where the server keeps things.
    pub data: PathBuf,
    /// Where browsers find it; empty = the host they asked for.
    pub public_url: String,
    /// Certificates.
    pub tls: Tls,
    /// Logging.
    pub log: Log,
    /// Rooms.
    pub rooms: Rooms,
    /// WebSockets.
    pub signal: Signal,
    /// Links between browsers.
    pub links: Links,
    /// The relay inside the server.
    pub relay: Relay,
}

/// Section `tls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Plain HTTP.
    Off,
    /// Our own, kept in the data directory.
    SelfSigned,
    /// The two files.
    Files,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// For people or programs.
    pub format: LogFormat,
    /// How much.
    pub level: String,
}

/// For people or programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Section `rooms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rooms {
    /// Rooms at once.
    pub max: usize,
    /// People in one room; 0 = no limit.
    pub max_people: usize,
    /// An empty room stays this long.
    pub empty_seconds: u64,
    /// A broken connection may come back within this time.
    pub resume_seconds: u64,
    /// What a peer that names no uplink can send, bit/s.
    pub uplink_bps: u64,
    /// Edges per browser.
    pub slots: u16,
    /// How trees are chosen in rooms that do not say.
    pub preset: Preset,
}

/// A policy by the name of the system that it is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// What each stream needs.
    Auto,
    /// Everybody to everybody.
    Providence,
    /// A tree of two children per node.
    Bbvoice,
    /// Everything through the server.
    CloudChat,
}

impl Preset {
    /// What it stands for.
    pub fn policy(self) -> Policy {
        match self {
            Preset::Auto => Policy::Auto,
            Preset::Providence => Policy::Mesh,
            Preset::Bbvoice => Policy::Tree { branching: 2 },
            Preset::CloudChat => Policy::Relay,
        }
    }
}

/// Section `signal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// WebSockets at once.
    pub max_connections: usize,
    /// Steady rate of one.
    pub messages_per_second: u32,
    /// At once.
    pub burst: u32,
    /// Pause between pings.
    pub ping_seconds: u64,
    /// Between being told and being closed when the server stops.
    pub drain_seconds: u64,
}

/// Section `links`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Links {
    /// STUN servers.
    pub stun: Vec<String>,
}

/// Section `relay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// Is there one?
    pub enabled: bool,
    /// What it may send in all, bit/s.
    pub egress_bps: u64,
    /// Edges that it carries in one room.
    pub slots: u16,
    /// Links at once.
    pub max_links: usize,
    /// Threads that it runs on: 1 to 64. Written as 0, one for each core.
    #[serde(deserialize_with = "threads")]
    pub threads: usize,
    /// Where media comes in by UDP: empty, `off`, or an address with a port.
    pub udp_listen: String,
    /// Where else browsers reach it: addresses, with or without a port.
    pub public_addresses: Vec<String>,
    /// Where links over QUIC are taken, if at all.
    #[serde(deserialize_with = "address_or_none", serialize_with = "text_or_empty")]
    pub quic_listen: Option<SocketAddr>,
}

/// Why there is no configuration. Each says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, or it may not be read.
    #[error("cannot read the configuration file {path}: {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML.
    #[error("{path} is not TOML: {error}")]
    NotToml {
        /// Which.
        path: PathBuf,
        /// Where.
        error: toml::de::Error,
    },
    /// A key that does not exist.
    #[error("unknown {what} {name}{}; `grove config defaults` lists all", hint.as_ref().map_or(String::new(), |hint| format!(": did you mean {hint}?")))]
    Unknown {
        /// A key of which file, or a variable.
        what: String,
        /// As written.
        name: String,
        /// The nearest that exists.
        hint: Option<String>,
    },
    /// A value that does not fit.
    #[error("{origin} is {found}, but must be {wanted}")]
    Value {
        /// Key and where it was set.
        origin: String,
        /// As written.
        found: String,
        /// What would do.
        wanted: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Together(&'static str),
}

/// Values as given on the command line, by path, and the file named there.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// By [`Key::path`].
    pub values: BTreeMap<&'static str, String>,
}

/// Where a value comes from that nobody set.
const DEFAULT: &str = "the default";

impl Config {
    /// What holds when nothing is set.
    pub fn defaults() -> Config {
        Config::load(&Flags::default(), std::iter::empty())
            .expect("the defaults are a configuration")
    }

    /// Puts the layers together. `variables` is the environment.
    pub fn load(
        flags: &Flags,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let variables: BTreeMap<String, String> = variables
            .filter(|(name, _)| name.starts_with("GROVE_") || name == "RUST_LOG")
            .collect();
        let mut values: BTreeMap<&str, (Value, String)> = BTreeMap::new();
        for key in KEYS {
            let table: Table = format!("v = {}", key.default)
                .parse()
                .expect("a default is TOML");
            values.insert(key.path, (table["v"].clone(), DEFAULT.to_owned()));
        }
        if let Some(Kind::Word(levels)) = find("log.level").map(|key| key.kind)
            && let Some(level) = variables
                .get("RUST_LOG")
                .filter(|level| levels.contains(&level.as_str()))
        {
            values.insert(
                "log.level",
                (Value::String(level.clone()), "RUST_LOG".to_owned()),
            );
        }
        if let Some(path) = flags
            .file
            .clone()
            .or_else(|| variables.get("GROVE_CONFIG").map(PathBuf::from))
        {
            read_file(&path, &mut values)?;
        }
        read_environment(&variables, &mut values)?;
        for (path, text) in &flags.values {
            let key = find(path).expect("flags are made from the keys");
            let origin = format!("--{}", key.flag);
            values.insert(key.path, (from_text(key, text, &origin)?, origin));
        }
        build(values)
    }
}

fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

fn read_file(path: &Path, values: &mut BTreeMap<&str, (Value, String)>) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.into(),
        error,
    })?;
    let table: Table = text.parse().map_err(|error| ConfigError::NotToml {
        path: path.into(),
        error,
    })?;
    let mut leaves = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section)
                if KEYS
                    .iter()
                    .any(|key| key.path.starts_with(&format!("{name}."))) =>
            {
                leaves.extend(
                    section
                        .into_iter()
                        .map(|(key, value)| (format!("{name}.{key}"), value)),
                );
            }
            value => leaves.push((name, value)),
        }
    }
    for (name, value) in leaves {
        let Some(key) = find(&name) else {
            let hint = nearest(&name, KEYS.iter().map(|key| key.path.to_owned()));
            return Err(ConfigError::Unknown {
                what: format!("key in {}:", path.display()),
                name,
                hint,
            });
        };
        let origin = format!("{name} in {}", path.display());
        check(key, &value, &origin)?;
        values.insert(key.path, (value, origin));
    }
    Ok(())
}

fn read_environment(
    variables: &BTreeMap<String, String>,
    values: &mut BTreeMap<&str, (Value, String)>,
) -> Result<(), ConfigError> {
    for (name, text) in variables
        .iter()
        .filter(|(name, _)| name.starts_with("GROVE_"))
    {
        if OTHER_VARIABLES.contains(&name.as_str())
            || OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == *name) else {
            let hint = nearest(name, KEYS.iter().map(Key::variable));
            return Err(ConfigError::Unknown {
                what: "variable".to_owned(),
                name: name.clone(),
                hint,
            });
        };
        values.insert(key.path, (from_text(key, text, name)?, name.clone()));
    }
    Ok(())
}

/// A value from a flag or a variable.
fn from_text(key: &Key, text: &str, origin: &str) -> Result<Value, ConfigError> {
    let value = match key.kind {
        Kind::Number(..) => text
            .parse()
            .map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
        Kind::List => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        Kind::Switch => text
            .parse()
            .map_or_else(|_| Value::String(text.to_owned()), Value::Boolean),
        Kind::Text | Kind::Word(_) => Value::String(text.to_owned()),
    };
    check(key, &value, origin)?;
    Ok(value)
}

fn check(key: &Key, value: &Value, origin: &str) -> Result<(), ConfigError> {
    let (fits, wanted) = match key.kind {
        Kind::Text => (value.is_str(), "text in quotes".to_owned()),
        Kind::Word(words) => (
            value.as_str().is_some_and(|word| words.contains(&word)),
            words.join(" or "),
        ),
        Kind::Number(least, most) => (
            value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok())
                .is_some_and(|number| (least..=most).contains(&number)),
            format!("a whole number from {least} to {most}"),
        ),
        Kind::Switch => (value.is_bool(), "true or false".to_owned()),
        Kind::List => {
            let texts = |items: &Vec<Value>| items.iter().all(Value::is_str);
            (
                value.as_array().is_some_and(texts),
                "a list of texts".to_owned(),
            )
        }
    };
    if fits {
        return Ok(());
    }
    Err(ConfigError::Value {
        origin: origin.to_owned(),
        found: value.to_string(),
        wanted,
    })
}

fn build(values: BTreeMap<&str, (Value, String)>) -> Result<Config, ConfigError> {
    let origin = |path: &str| values[path].1.clone();
    let mut listen = values["listen"].0.as_str().unwrap_or_default().to_owned();
    if let Some(port) = listen.strip_prefix("localhost:") {
        listen = format!("127.0.0.1:{port}");
    }
    if listen.parse::<SocketAddr>().is_err() {
        let wanted = "an address with a port, e.g. 127.0.0.1:8080 or [::]:8080".to_owned();
        return Err(ConfigError::Value {
            origin: format!("listen ({})", origin("listen")),
            found: format!("\"{listen}\""),
            wanted,
        });
    }
    let quic = values["relay.quic_listen"].0.as_str().unwrap_or_default();
    if !quic.is_empty() && quic.parse::<SocketAddr>().is_err() {
        return Err(ConfigError::Value {
            origin: format!("relay.quic_listen ({})", origin("relay.quic_listen")),
            found: format!("\"{quic}\""),
            wanted: "an address with a port, e.g. [::]:4433, or nothing".to_owned(),
        });
    }
    let public_url = values["public_url"].0.as_str().unwrap_or_default();
    let public_url = as_origin(public_url.trim_end_matches('/')).to_owned();
    if !public_url.is_empty() && !is_origin(&public_url) {
        let wanted =
            "http:// or https:// with a host and nothing behind it, in lower case".to_owned();
        return Err(ConfigError::Value {
            origin: format!("public_url ({})", origin("public_url")),
            found: format!("\"{public_url}\""),
            wanted,
        });
    }
    let stun = values["links.stun"].0.as_array().into_iter().flatten();
    if let Some(wrong) = stun
        .filter_map(Value::as_str)
        .find(|address| !is_stun(address))
    {
        return Err(ConfigError::Value {
            origin: format!("links.stun ({})", origin("links.stun")),
            found: format!("\"{wrong}\""),
            wanted: "stun: and a host with or without a port, e.g. stun:stun.example.org:3478"
                .to_owned(),
        });
    }
    let udp = values["relay.udp_listen"].0.as_str().unwrap_or_default();
    if !["", "off"].contains(&udp) && udp.parse::<SocketAddr>().is_err() {
        return Err(ConfigError::Value {
            origin: format!("relay.udp_listen ({})", origin("relay.udp_listen")),
            found: format!("\"{udp}\""),
            wanted: "an address with a port, e.g. [::]:3478, or off, or empty".to_owned(),
        });
    }
    let public = values["relay.public_addresses"].0.as_array();
    if let Some(wrong) = public
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|address| public_address(address, 0).is_none())
    {
        return Err(ConfigError::Value {
            origin: format!(
                "relay.public_addresses ({})",
                origin("relay.public_addresses")
            ),
            found: format!("\"{wrong}\""),
            wanted: "IP addresses with or without a port, e.g. 203.0.113.7".to_owned(),
        });
    }
    let has = |path: &str| values[path].0.as_str().is_some_and(|text| !text.is_empty());
    if has("tls.cert") != has("tls.key") {
        return Err(ConfigError::Together(
            "tls.cert and tls.key go together: give both or neither",
        ));
    }
    let mode = values["tls.mode"].0.as_str().unwrap_or_default();
    if mode == "files" && !has("tls.cert") {
        return Err(ConfigError::Together(
            "tls.mode is files, so tls.cert and tls.key must name them",
        ));
    }
    if mode == "self-signed" && has("tls.cert") {
        return Err(ConfigError::Together(
            "tls.mode is self-signed, but tls.cert names a certificate: choose one",
        ));
    }
    if mode == "off" && has("tls.cert") && origin("tls.mode") != DEFAULT {
        return Err(ConfigError::Together(
            "tls.mode is off, but tls.cert names a certificate: choose one",
        ));
    }
    if values["rooms.preset"].0.as_str() == Some("cloud-chat")
        && values["relay.enabled"].0.as_bool() == Some(false)
    {
        return Err(ConfigError::Together(
            "rooms.preset is cloud-chat, which needs the relay, but relay.enabled is false",
        ));
    }
    let files = has("tls.cert");
    let mut table = Table::new();
    for (path, (value, _)) in &values {
        let (section, key) = path
            .split_once('.')
            .map_or((None, *path), |(section, key)| (Some(section), key));
        let target = match section {
            Some(section) => {
                let section = table
                    .entry(section)
                    .or_insert_with(|| Value::Table(Table::new()));
                section.as_table_mut().expect("a section is a table")
            }
            None => &mut table,
        };
        target.insert(key.to_owned(), value.clone());
    }
    table.insert("listen".to_owned(), Value::String(listen));
    table.insert("public_url".to_owned(), Value::String(public_url));
    let mut config: Config = table
        .try_into()
        .expect("every value was checked against its key");
    if files {
        config.tls.mode = TlsMode::Files;
    }
    Ok(config)
}

/// An address under which the relay is reached, on `port` unless it names another.
pub fn public_address(text: &str, port: u16) -> Option<SocketAddr> {
    let alone = || text.parse().ok().map(|ip| SocketAddr::new(ip, port));
    text.parse().ok().or_else(alone)
}

/// Without a port that goes without saying: browsers leave it out of `Origin`.
fn as_origin(url: &str) -> &str {
    let (scheme, port) = match url.split_once("://") {
        Some(("https", _)) => ("https", ":443"),
        _ => ("http", ":80"),
    };
    url.strip_suffix(port)
        .filter(|rest| rest.len() > scheme.len() + "://".len())
        .unwrap_or(url)
}

/// An empty text is no address.
fn address_or_none<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let address = (!text.is_empty()).then(|| text.parse()).transpose();
    address.map_err(serde::de::Error::custom)
}

/// No address is an empty text.
fn text_or_empty<S: serde::Serializer>(
    address: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = address.map(|address| address.to_string());
    serializer.serialize_str(&text.unwrap_or_default())
}

/// 0 is one for each core.
fn threads<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match usize::deserialize(deserializer)? {
        0 => cores(),
        threads => threads,
    };
    Ok(threads.min(grove_relay::MOST_THREADS))
}

/// `stun:host` or `stun:host:port`, also `stuns:`: what browsers take. One wrong address would keep them from making any
/// connection at all.
fn is_stun(address: &str) -> bool {
    let host = address
        .strip_prefix("stun:")
        .or_else(|| address.strip_prefix("stuns:"));
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-:[]".contains(&c);
    host.is_some_and(|host| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !host.ends_with(']') => {
                if port.parse::<u16>().is_err() {
                    return false;
                }
                name
            }
            _ => host,
        };
        !name.is_empty() && host.bytes().all(allowed)
    })
}

/// `scheme://host[:port]`, as browsers write it in `Origin`.
fn is_origin(url: &str) -> bool {
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_:[]".contains(&c);
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(allowed))
}

#[cfg(test)]
mod tests;
