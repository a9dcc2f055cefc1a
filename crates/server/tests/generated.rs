//! What is generated from the Rust types of the protocol: the TypeScript types of the web client.
//!
//! `GROVE_UPDATE=1 cargo test -p grove-server --test generated` writes the files; without the variable the tests fail
//! when a file is not what the types say.

use grove_server::signal::message::{ClientMessage, SUBPROTOCOL, ServerMessage, VERSION};
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

/// Every named type that the two roots reach, dependencies after those who need them, each once.
struct Declarations {
    config: Config,
    seen: Vec<String>,
    text: String,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        let name = T::ident(&self.config);
        if T::output_path().is_none() || self.seen.contains(&name) {
            T::visit_generics(self);
            return;
        }
        self.seen.push(name);
        if let Some(docs) = T::docs() {
            self.text.push_str(docs.trim_end());
            self.text.push('\n');
        }
        self.text
            .push_str(&format!("export {}\n\n", laid_out(&T::decl(&self.config))));
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

fn declarations() -> String {
    let mut all = Declarations {
        config: Config::new(),
        seen: Vec::new(),
        text: String::new(),
    };
    all.visit::<ClientMessage>();
    all.visit::<ServerMessage>();
    all.text
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
