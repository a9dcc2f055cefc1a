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
            "rooms.max in grove.toml is \"many\", but must be a whole number from 0",
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
            "GROVE_ROOMS_MAX is -1, but must be a whole number from 0",
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
fn numbers_out_of_range_are_refused() {
    assert!(load(None, &[], &[("rooms.slots", "70000")]).is_err());
}
