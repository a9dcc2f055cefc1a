//! The `grove` command.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    grove_server::cmd::run(std::env::args_os(), std::env::vars_os()).await
}
