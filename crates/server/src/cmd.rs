//! The command line: `grove serve`, `grove config show`, `grove config defaults`.

use crate::config::key::{KEYS, Kind};
use crate::config::{Config, Flags};
use crate::server::Server;
use crate::{log, reload};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// What a command could not do, in words for the one who typed it.
type Failure = Box<dyn std::error::Error>;

/// The command line, as clap knows it.
pub fn command() -> Command {
    let flags = || {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("TOML file with any of these")
            .value_parser(value_parser!(PathBuf));
        let keys = KEYS.iter().map(|key| {
            let arg = Arg::new(key.path).long(key.flag).help(format!(
                "{} [{}, {}]",
                key.help,
                key.path,
                key.variable()
            ));
            let arg = match key.kind {
                Kind::Text => arg.value_name("TEXT"),
                Kind::Word(words) => arg.value_name(words.join("|")),
                Kind::Number(..) => arg.value_name("NUMBER"),
                Kind::Switch => arg.value_name("true|false"),
                Kind::List => arg.value_name("TEXT,...").action(ArgAction::Append),
            };
            arg.help_heading(match key.path.split_once('.') {
                Some((section, _)) => format!("[{section}]"),
                None => "Options".to_owned(),
            })
        });
        std::iter::once(file).chain(keys)
    };
    Command::new("grove")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Video rooms in the browser over streaming trees")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve")
                .about("Serve the app and the rooms")
                .args(flags()),
        )
        .subcommand(
            Command::new("config")
                .about("Look at the configuration")
                .subcommand_required(true)
                .subcommand(
                    Command::new("show")
                        .about("What holds with these flags, file and environment")
                        .args(flags()),
                )
                .subcommand(
                    Command::new("defaults").about("A file with every key and its default"),
                ),
        )
}

fn flags(matches: &ArgMatches) -> Flags {
    let value = |key: &crate::config::key::Key| {
        let values: Vec<String> = matches.get_many::<String>(key.path)?.cloned().collect();
        Some((key.path, values.join(",")))
    };
    Flags {
        file: matches.get_one::<PathBuf>("config").cloned(),
        values: KEYS.iter().filter_map(value).collect(),
    }
}

/// A TOML file with every key, its default and what it does.
pub fn defaults() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let (own, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if own != section {
            text.push_str(&format!("\n[{own}]\n"));
            section = own;
        }
        text.push_str(&format!("# {}.\n{name} = {}\n", key.help, key.default));
    }
    text
}

/// Runs what the arguments ask for, and says on standard error what went wrong.
pub async fn run(
    arguments: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    // What is not Unicode cannot be one of ours.
    let variables = variables
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version come this way too; a closed standard output has nobody to tell.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match obey(&matches, variables).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("grove: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A line on standard output. A reader who has closed it wants no more, and is nobody's fault.
fn say(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

async fn obey(
    matches: &ArgMatches,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", matches)) => {
            let (flags, variables) = (flags(matches), variables.collect::<Vec<_>>());
            let read = move || Config::load(&flags, variables.iter().cloned());
            let config = read()?;
            let level = log::start(&config.log);
            // Ahead of everything that takes time: until somebody listens the signal ends the process.
            let hangup = signal(SignalKind::hangup())?;
            let server = Server::load(config)?;
            let reloads = reload::at_each(hangup, server.reloader(level), read);
            let stopper = server.stopper();
            tokio::spawn(async move {
                reloads.await;
                stopper.drain().await;
            });
            say(&server.greeting())?;
            server.run_until_signal().await?;
        }
        Some(("config", matches)) => match matches.subcommand() {
            Some(("show", matches)) => {
                say(&format!("{:#?}", Config::load(&flags(matches), variables)?))?
            }
            _ => say(defaults().trim_end())?,
        },
        _ => unreachable!("clap asks for a subcommand"),
    }
    Ok(())
}
