//! What a server that runs does with a configuration that was read again: a decision, carried out by [`crate::reload`].

use super::Config;
use super::key::KEYS;
use crate::relay::udp::Wanted;
use std::net::IpAddr;
use toml::{Table, Value};

/// When a key that has changed takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At once, and nobody notices.
    AtOnce,
    /// At once, with a new start of the relay.
    Relay,
    /// For rooms that are made from now on.
    NewRooms,
    /// When the server is started again.
    Restart,
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Effect::AtOnce => "at once",
            Effect::Relay => "the relay starts anew",
            Effect::NewRooms => "for new rooms",
            Effect::Restart => "after a restart",
        })
    }
}

impl Effect {
    /// Of the key with this path.
    pub fn of(path: &str) -> Effect {
        match (path, path.split_once('.')) {
            ("log.level" | "tls.cert" | "tls.key" | "rooms.max", _) => Effect::AtOnce,
            (_, Some(("relay", _))) => Effect::Relay,
            (_, Some(("rooms" | "links", _))) => Effect::NewRooms,
            _ => Effect::Restart,
        }
    }
}

/// What becomes of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// It goes on, or there is none and will be none.
    Keep,
    /// It starts, or starts anew. With another port the new one is taken while the old one still runs, so that nothing has
    /// happened when it cannot be had; with the same port the old one has to end first.
    Start {
        /// The old one holds the port.
        end_first: bool,
    },
    /// It ends.
    End,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What holds from now on: what was read, with the old values of keys that need a restart.
    pub config: Config,
    /// Keys that have changed, each with its effect, in the order of the documents.
    pub keys: Vec<(&'static str, Effect)>,
    /// Addresses of the machine on which the relay is to take media and does not.
    pub appeared: Vec<IpAddr>,
    /// What becomes of the relay.
    pub relay: Relay,
}

impl Change {
    /// From the configuration that holds, and the relay's sockets that go with it, to the one that was read.
    pub fn between(
        old: &Config,
        old_udp: Option<&Wanted>,
        new: &Config,
        new_udp: Option<&Wanted>,
    ) -> Change {
        let (was, read) = (table(old), table(new));
        let mut holds = was.clone();
        let mut keys = Vec::new();
        for key in KEYS {
            let (before, now) = (get(&was, key.path), get(&read, key.path));
            if before == now {
                continue;
            }
            let effect = match Effect::of(key.path) {
                // Files without the mode that they belong to are of no use.
                Effect::AtOnce if key.path.starts_with("tls.") && old.tls.mode != new.tls.mode => {
                    Effect::Restart
                }
                effect => effect,
            };
            keys.push((key.path, effect));
            if effect != Effect::Restart
                && let Some(value) = now
            {
                set(&mut holds, key.path, value.clone());
            }
        }
        let before = old_udp.map_or(&[][..], |udp| &udp.addresses);
        let appeared = new_udp.iter().flat_map(|udp| &udp.addresses);
        let appeared: Vec<IpAddr> = appeared
            .filter(|ip| !before.contains(ip))
            .copied()
            .collect();
        let changed = keys.iter().any(|(_, effect)| *effect == Effect::Relay);
        let relay = match (old.relay.enabled, new.relay.enabled) {
            (true, false) => Relay::End,
            (false, false) => Relay::Keep,
            (false, true) => Relay::Start { end_first: false },
            (true, true) if !changed && appeared.is_empty() => Relay::Keep,
            (true, true) => Relay::Start {
                end_first: old_udp
                    .zip(new_udp)
                    .is_some_and(|(old, new)| old.port == new.port && new.port != 0),
            },
        };
        Change {
            config: holds
                .try_into()
                .expect("values of configurations are a configuration"),
            keys,
            appeared,
            relay,
        }
    }

    /// Keys whose change has this effect.
    pub fn with(&self, effect: Effect) -> impl Iterator<Item = &'static str> {
        let of = move |(key, its): &(&'static str, Effect)| (*its == effect).then_some(*key);
        self.keys.iter().filter_map(of)
    }
}

fn table(config: &Config) -> Table {
    Table::try_from(config).expect("a configuration is a table")
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((section, key)) => table.get(section)?.get(key),
        None => table.get(path),
    }
}

fn set(table: &mut Table, path: &str, value: Value) {
    let (table, key) = match path.split_once('.') {
        Some((section, key)) => (table.get_mut(section).and_then(Value::as_table_mut), key),
        None => (Some(table), path),
    };
    if let Some(table) = table {
        table.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use crate::config::key::Kind;
    use crate::relay::udp;

    /// The configuration with these values.
    fn config(values: &[(&'static str, &str)]) -> Config {
        let flags = Flags {
            file: None,
            values: values
                .iter()
                .map(|(path, text)| (*path, (*text).to_owned()))
                .collect(),
        };
        Config::load(&flags, std::iter::empty()).expect("it is a configuration")
    }

    /// The decision, on a machine whose addresses were `before` and are `now`.
    fn between(old: &Config, before: &str, new: &Config, now: &str) -> Change {
        let wanted = |config: &Config, machine: &str| {
            let machine = machine.split_whitespace().map(str::parse);
            let machine: Vec<IpAddr> = machine.collect::<Result<_, _>>().expect("addresses");
            udp::wanted(config, config.listen, &machine)
        };
        let (before, now) = (wanted(old, before), wanted(new, now));
        Change::between(old, before.as_ref(), new, now.as_ref())
    }

    #[test]
    fn the_relay_goes_on_unless_its_settings_change_or_an_address_appears() {
        let (again, anew) = (
            Relay::Start { end_first: true },
            Relay::Start { end_first: false },
        );
        type Value = (&'static str, &'static str);
        const OFF: Value = ("relay.enabled", "false");
        const NO_UDP: Value = ("relay.udp_listen", "off");
        const OTHER: Value = ("relay.udp_listen", "[::]:3478");
        const ONE: Value = ("relay.udp_listen", "192.0.2.1:8080");
        const LESS: Value = ("relay.egress_bps", "5000000");
        let (home, both, v6) = ("192.0.2.1", "192.0.2.1 192.0.2.2", "192.0.2.1 2001:db8::1");
        // Values and addresses before and now; the decision, and which addresses appeared.
        type Case<'a> = (&'a [Value], &'a str, &'a [Value], &'a str, Relay, &'a str);
        let table: [Case<'_>; 18] = [
            (&[], home, &[], home, Relay::Keep, ""),
            (&[], both, &[], home, Relay::Keep, ""),
            (&[], home, &[], both, again, "192.0.2.2"),
            (&[], home, &[], v6, again, "2001:db8::1"),
            (&[ONE], home, &[ONE], both, Relay::Keep, ""),
            (&[NO_UDP], home, &[NO_UDP], both, Relay::Keep, ""),
            (&[], home, &[("rooms.slots", "7")], home, Relay::Keep, ""),
            (&[], home, &[("listen", "[::]:9")], home, Relay::Keep, ""),
            (&[], home, &[LESS], home, again, ""),
            (&[], home, &[OTHER], home, anew, ""),
            (&[], home, &[OTHER], both, anew, "192.0.2.2"),
            (&[], home, &[NO_UDP], home, anew, ""),
            (&[NO_UDP], home, &[LESS, NO_UDP], home, anew, ""),
            (&[NO_UDP], home, &[], home, anew, "192.0.2.1 127.0.0.1"),
            (&[ONE], home, &[], home, again, "127.0.0.1"),
            (&[], home, &[OFF], home, Relay::End, ""),
            (&[OFF], home, &[OFF, LESS], both, Relay::Keep, ""),
            (&[OFF], home, &[], home, anew, "192.0.2.1 127.0.0.1"),
        ];
        for (old, before, new, now, relay, appeared) in table {
            let words = format!("{old:?} at {before} to {new:?} at {now}");
            let change = between(&config(old), before, &config(new), now);
            assert_eq!(change.relay, relay, "{words}");
            let found: Vec<String> = change.appeared.iter().map(IpAddr::to_string).collect();
            assert_eq!(found.join(" "), appeared, "{words}");
        }
    }

    /// Another value of a key than its default.
    fn another(path: &str, kind: Kind, default: &str) -> String {
        match (path, kind) {
            ("tls.mode", _) => "self-signed".into(),
            ("relay.udp_listen" | "relay.quic_listen" | "listen", _) => "127.0.0.1:1".into(),
            ("relay.public_addresses", _) => "203.0.113.7".into(),
            ("links.stun", _) => "stun:stun.example.org".into(),
            ("public_url", _) => "https://meet.example.org".into(),
            (_, Kind::Text | Kind::List) => "other".into(),
            (_, Kind::Word(words)) => words
                .iter()
                .find(|word| !default.contains(*word))
                .map_or_else(String::new, |word| (*word).to_owned()),
            (_, Kind::Number(least, most)) => {
                let number = if default == least.to_string() {
                    most
                } else {
                    least
                };
                number.to_string()
            }
            (_, Kind::Switch) => (default != "true").to_string(),
        }
    }

    #[test]
    fn every_key_that_changes_is_named_and_holds_now_or_after_a_restart() {
        for key in KEYS {
            let other = another(key.path, key.kind, key.default);
            let files = |cert, private| config(&[("tls.cert", cert), ("tls.key", private)]);
            let (old, new) = match key.path {
                "tls.cert" | "tls.key" => (files("a", "b"), files("c", "d")),
                path => (Config::defaults(), config(&[(path, &other)])),
            };
            let change = between(&old, "", &new, "");
            let effect = Effect::of(key.path);
            assert!(change.keys.contains(&(key.path, effect)), "{}", key.path);
            let (holds, read) = (table(&change.config), table(&new));
            let is_new = get(&holds, key.path) == get(&read, key.path);
            assert_eq!(is_new, effect != Effect::Restart, "{}", key.path);
            // What needs a restart is named again each time, and the rest only once.
            let again = between(&change.config, "", &new, "");
            let later: Vec<_> = change.with(Effect::Restart).collect();
            assert_eq!(again.with(Effect::Restart).collect::<Vec<_>>(), later);
            assert_eq!(again.keys.len(), later.len(), "{}", key.path);
        }
    }

    #[test]
    fn certificate_files_belong_to_their_mode() {
        let (off, files) = (
            Config::defaults(),
            config(&[("tls.cert", "a"), ("tls.key", "b")]),
        );
        for (old, new) in [(&off, &files), (&files, &off)] {
            let change = between(old, "", new, "");
            let later: Vec<_> = change.with(Effect::Restart).collect();
            assert_eq!(later, ["tls.mode", "tls.cert", "tls.key"]);
            assert_eq!(&change.config, old);
        }
    }

    #[test]
    fn what_did_not_change_is_not_touched() {
        let old = config(&[("relay.quic_listen", "[::]:4433"), ("links.stun", "stun:a")]);
        let change = between(&old, "192.0.2.1", &old.clone(), "192.0.2.1");
        let nothing = Change {
            config: old,
            keys: Vec::new(),
            appeared: Vec::new(),
            relay: Relay::Keep,
        };
        assert_eq!(change, nothing);
    }
}
