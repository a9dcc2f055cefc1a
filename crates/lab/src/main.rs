//! `grove-lab`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    grove_lab::run()
}
