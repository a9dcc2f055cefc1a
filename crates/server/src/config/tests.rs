use super::*;

fn load(
    file: Option<&str>,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = directory.path().join("grove.toml");
    let mut all = Flags {
        values: flags
            .iter()
            .map(|(path, text)| (*path, (*text).to_owned()))
            .collect(),
        file: None,
    };
    if let Some(text) = file {
        std::fs::write(&path, text).expect("the file can be written");
        all.file = Some(path.clone());
    }
    let variables = variables
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let shown = path.display().to_string();
    Config::load(&all, variables).map_err(|error| error.to_string().replace(&shown, "grove.toml"))
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let file = "[rooms]\nmax = 1\nslots = 2\nmax_people = 3\n";
    let config = load(
        Some(file),
        &[
            ("GROVE_ROOMS_SLOTS", "20"),
            ("GROVE_ROOMS_MAX_PEOPLE", "30"),
            ("PATH", "/bin"),
        ],
        &[("rooms.max_people", "300")],
    )
    .expect("this is a configuration");
    let rooms = config.rooms;
    assert_eq!(
        (
            rooms.max,
            rooms.slots,
            rooms.max_people,
            rooms.resume_seconds
        ),
        (1, 20, 300, 30)
    );
}

#[test]
fn every_refusal_names_the_place_and_the_remedy() {
    let table = [
        (
            Some("[rooms]\nslot = 1"),
            vec![],
            vec![],
            "unknown key in grove.toml: rooms.slot: did you mean rooms.slots?; `grove config defaults` lists all",
        ),
        (
            Some("lissten = \"x\""),
            vec![],
            vec![],
            "unknown key in grove.toml: lissten: did you mean listen?; `grove config defaults` lists all",
        ),
        (
            Some("[zebra]\nx = 1"),
            vec![],
            vec![],
            "unknown key in grove.toml: zebra; `grove config defaults` lists all",
        ),
        (
            Some("[rooms]\nmax = \"many\""),
            vec![],
            vec![],
            "rooms.max in grove.toml is \"many\", but must be a whole number from 0 to 1000000000",
        ),
        (
            None,
            vec![("GROVE_ROOM_MAX", "1")],
            vec![],
            "unknown variable GROVE_ROOM_MAX: did you mean GROVE_ROOMS_MAX?; `grove config defaults` lists all",
        ),
        (
            None,
            vec![("GROVE_ROOMS_MAX", "-1")],
            vec![],
            "GROVE_ROOMS_MAX is -1, but must be a whole number from 0 to 1000000000",
        ),
        (
            None,
            vec![],
            vec![("log.format", "xml")],
            "--log-format is \"xml\", but must be text or json",
        ),
        (
            None,
            vec![],
            vec![("listen", "8080")],
            "listen (--listen) is \"8080\", but must be an address with a port, e.g. 127.0.0.1:8080 or [::]:8080",
        ),
        (
            None,
            vec![],
            vec![("public_url", "https://a.b/c")],
            "public_url (--public-url) is \"https://a.b/c\", but must be http:// or https:// with a host and nothing behind it, in lower case",
        ),
        (
            None,
            vec![],
            vec![("tls.cert", "a.pem")],
            "tls.cert and tls.key go together: give both or neither",
        ),
        (
            None,
            vec![],
            vec![("tls.mode", "files")],
            "tls.mode is files, so tls.cert and tls.key must name them",
        ),
        (
            None,
            vec![("GROVE_TLS_CERT", "a.pem"), ("GROVE_TLS_KEY", "b.pem")],
            vec![("tls.mode", "off")],
            "tls.mode is off, but tls.cert names a certificate: choose one",
        ),
        (
            None,
            vec![],
            vec![("relay.threads", "65")],
            "--relay-threads is 65, but must be a whole number from 0 to 64",
        ),
        (
            None,
            vec![],
            vec![("relay.quic_listen", "4433")],
            "relay.quic_listen (--relay-quic-listen) is \"4433\", but must be an address with a port, e.g. [::]:4433, or nothing",
        ),
        (
            None,
            vec![],
            vec![("links.stun", "stun:a:1,b:2")],
            "links.stun (--stun) is \"b:2\", but must be stun: and a host with or without a port, e.g. stun:stun.example.org:3478",
        ),
        (
            None,
            vec![],
            vec![("relay.udp_listen", "3478")],
            "relay.udp_listen (--relay-udp) is \"3478\", but must be an address with a port, e.g. [::]:3478, or off, or empty",
        ),
        (
            None,
            vec![],
            vec![("relay.public_addresses", "203.0.113.7,host")],
            "relay.public_addresses (--relay-public-addresses) is \"host\", but must be IP addresses with or without a port, e.g. 203.0.113.7",
        ),
    ];
    for (file, variables, flags, words) in table {
        assert_eq!(load(file, &variables, &flags), Err(words.to_owned()));
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let error = load(Some("listen = \n"), &[], &[]).expect_err("this is not TOML");
    assert!(
        error.starts_with("grove.toml is not TOML: TOML parse error at line 1"),
        "{error}"
    );
}

#[test]
fn certificate_files_turn_tls_on_and_lists_are_split_at_commas() {
    let flags = [
        ("tls.cert", "a.pem"),
        ("tls.key", "b.pem"),
        ("links.stun", "stun:a:1, stun:b:2"),
    ];
    let config = load(None, &[], &flags).expect("this is a configuration");
    assert_eq!(config.tls.mode, TlsMode::Files);
    assert_eq!(config.links.stun, ["stun:a:1", "stun:b:2"]);
}

#[test]
fn a_public_address_is_on_the_relays_port_unless_it_names_another() {
    let found = [
        "203.0.113.7",
        "203.0.113.7:9",
        "2001:db8::1",
        "[2001:db8::1]:9",
    ]
    .map(|text| public_address(text, 3478).map(|address| address.to_string()));
    let expected = [
        "203.0.113.7:3478",
        "203.0.113.7:9",
        "[2001:db8::1]:3478",
        "[2001:db8::1]:9",
    ];
    assert_eq!(found, expected.map(|text| Some(text.to_owned())));
}

#[test]
fn every_number_is_taken_up_to_its_bounds_and_no_further() {
    for key in KEYS {
        let Kind::Number(least, most) = key.kind else {
            continue;
        };
        let set = |number: u64| load(None, &[], &[(key.path, &number.to_string())]);
        assert!(set(least).is_ok() && set(most).is_ok(), "{}", key.path);
        let refused = Err(format!(
            "--{} is {}, but must be a whole number from {least} to {most}",
            key.flag,
            most + 1
        ));
        assert_eq!(set(most + 1), refused);
        assert!(least == 0 || set(least - 1).is_err(), "{}", key.path);
    }
}

#[test]
fn a_public_address_is_kept_as_browsers_write_it_in_origin() {
    let table = [
        ("https://a.b:443", "https://a.b"),
        ("http://a.b:80/", "http://a.b"),
        ("https://a.b:80", "https://a.b:80"),
        ("http://a.b:8080", "http://a.b:8080"),
        ("https://[::1]:443", "https://[::1]"),
    ];
    for (given, kept) in table {
        let config = load(None, &[], &[("public_url", given)]).expect("this is a configuration");
        assert_eq!(config.public_url, kept);
    }
}

#[test]
fn only_addresses_that_browsers_take_are_stun_servers() {
    for good in [
        "stun:a",
        "stun:a.b:3478",
        "stuns:a:1",
        "stun:[::1]",
        "stun:[::1]:3478",
    ] {
        assert!(is_stun(good), "{good}");
    }
    for bad in [
        "",
        "a:1",
        "stun:",
        "stun::1",
        "stun:a:",
        "stun:a:99999",
        "stun://a",
        "turn:a",
        "stun:a b",
    ] {
        assert!(!is_stun(bad), "{bad}");
    }
}
