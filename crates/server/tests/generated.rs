//! What is generated from Rust: the TypeScript types of the web client, the reference part of `docs/ref/protocol.md`,
//! and `docs/ref/configuration.md`.
//!
//! `GROVE_UPDATE=1 cargo test -p grove-server --test generated` writes the files; without the variable the tests fail
//! when a file is not what the types say.

use grove_server::cmd;
use grove_server::config::change::Effect;
use grove_server::config::key::{KEYS, Kind};
use grove_server::relay;
use grove_server::signal::close::Close;
use grove_server::signal::message::{ClientMessage, SUBPROTOCOL, ServerMessage, VERSION};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use ts_rs::{Config, TS, TypeVisitor};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares, or writes where `GROVE_UPDATE` is set.
fn settle(path: &str, wanted: &str) {
    let file = repository().join(path);
    if std::env::var_os("GROVE_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().expect("files have a directory"))
            .expect("the directory can be made");
        std::fs::write(&file, wanted).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is out of date: GROVE_UPDATE=1 cargo test -p grove-server --test generated"
    );
}

/// Every named type that the two roots reach, by name: the order in which they are found changes from build to build.
struct Declarations {
    config: Config,
    found: BTreeMap<String, String>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        let name = T::ident(&self.config);
        if T::output_path().is_none() || self.found.contains_key(&name) {
            T::visit_generics(self);
            return;
        }
        let docs = T::docs().map_or(String::new(), |docs| format!("{}\n", docs.trim_end()));
        let declaration = laid_out(&T::decl(&self.config));
        self.found
            .insert(name, format!("{docs}export {declaration}\n"));
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

/// One field and one alternative per line: the generator writes whole types on one.
fn laid_out(declaration: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    let mut rest = declaration;
    let line = |out: &mut String, depth: usize| {
        out.truncate(out.trim_end().len());
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(c) = rest.chars().next() {
        if let Some(end) = rest
            .strip_prefix("/**")
            .and_then(|comment| comment.find("*/"))
        {
            line(&mut out, depth);
            let words = rest[3..end + 3]
                .lines()
                .map(|l| l.trim().trim_start_matches("* "))
                .collect::<Vec<_>>();
            out.push_str(&format!("/** {} */", words.join(" ").trim()));
            line(&mut out, depth);
            rest = rest[end + 5..].trim_start();
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '{' => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
                rest = rest.trim_start();
            }
            '}' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(';');
                line(&mut out, depth);
                rest = rest.trim_start();
            }
            '|' if depth == 0 => {
                line(&mut out, 1);
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// The two roots, then everything that they need.
fn declarations() -> String {
    let mut all = Declarations {
        config: Config::new(),
        found: BTreeMap::new(),
    };
    all.visit::<ClientMessage>();
    all.visit::<ServerMessage>();
    let roots = ["ClientMessage", "ServerMessage"]
        .map(|root| all.found.remove(root).expect("it was visited"));
    roots
        .into_iter()
        .chain(all.found.into_values())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_types_of_the_web_client_are_those_of_the_server() {
    let text = format!(
        "// Generated from crates/server/src/signal/message.rs by\n\
         // `GROVE_UPDATE=1 cargo test -p grove-server --test generated`. Do not edit.\n\n\
         /** The protocol version of these types. */\n\
         export const VERSION = {VERSION};\n\n\
         /** The WebSocket subprotocol that names it. */\n\
         export const SUBPROTOCOL = \"{SUBPROTOCOL}\";\n\n\
         {}\n",
        declarations().trim_end()
    );
    settle("web/client/src/signal/messages.ts", &text);
}

const BEGIN: &str =
    "<!-- generated from here by `GROVE_UPDATE=1 cargo test -p grove-server --test generated` -->";

#[test]
fn the_reference_of_the_protocol_names_its_codes_and_types() {
    let path = "docs/ref/protocol.md";
    let text =
        std::fs::read_to_string(repository().join(path)).expect("the protocol is documented");
    let (written, _) = text
        .split_once(BEGIN)
        .expect("the document has a generated part");
    let mut reference = String::from("## Close codes\n\n| code | reason |\n|---|---|\n");
    for close in Close::ALL {
        reference.push_str(&format!("| {} | {} |\n", close.code(), close.reason()));
    }
    reference.push_str("\n## Close codes of links to the relay\n\n| code | reason |\n|---|---|\n");
    for close in relay::close::Close::ALL {
        reference.push_str(&format!("| {} | {} |\n", close.code(), close.reason()));
    }
    reference.push_str("\n## Messages\n\n```ts\n");
    reference.push_str(declarations().replace("export ", "").trim_end());
    settle(path, &format!("{written}{BEGIN}\n\n{reference}\n```\n"));
}

#[test]
fn the_reference_of_the_configuration_lists_every_key() {
    let mut text = String::from(
        "# Configuration\n\n\
         `grove serve` takes each value from the first of these that has it: a flag, an environment variable, the TOML file \
         named by `--config` or `GROVE_CONFIG`, the default. Unknown keys and unknown variables that start with `GROVE_` \
         are refused with the nearest name (`GROVE_TEST_*`, `GROVE_E2E_*`, `GROVE_LAB_*`, `GROVE_BIN` and `GROVE_UPDATE` \
         belong to tests and tools). `grove config show` prints what holds, `grove config defaults` a file with every \
         key.\n\n\
         SIGHUP makes a server that runs read its configuration again; the last column says when a value that has changed takes \
         effect then (`docs/guide/operating.md`, Changing the configuration).\n\n\
         Generated by `GROVE_UPDATE=1 cargo test -p grove-server --test generated`.\n\n\
         | key | variable | flag | value | default | | changed |\n|---|---|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let kind = match key.kind {
            Kind::Text => "text".to_owned(),
            Kind::Word(words) => words.join(", "),
            Kind::Number(least, most) => format!("whole number, {least} to {most}"),
            Kind::Switch => "true or false".to_owned(),
            Kind::List => "list; commas outside the file".to_owned(),
        };
        let (path, flag, default) = (key.path, key.flag, key.default);
        let line = format!(
            "| `{path}` | `{}` | `--{flag}` | {kind} | `{default}` | {} | {} |\n",
            key.variable(),
            key.help,
            Effect::of(path)
        );
        text.push_str(&line);
    }
    settle("docs/ref/configuration.md", &text);
}

#[test]
fn the_defaults_are_a_file_that_changes_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file for the test");
    std::fs::write(file.path(), cmd::defaults()).expect("the file can be written");
    let flags = grove_server::config::Flags {
        file: Some(file.path().into()),
        ..Default::default()
    };
    let config = grove_server::config::Config::load(&flags, std::iter::empty())
        .expect("it is a configuration");
    assert_eq!(config, grove_server::config::Config::defaults());
}
