//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match plumb::cli::Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            anstream::eprintln!("plumb: {}", plumb::cli::words(&error));
            ExitCode::FAILURE
        }
    }
}
