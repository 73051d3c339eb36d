//! The `pie-bench` binary: load for servers of language models, and what it shows.

#![expect(clippy::print_stderr, reason = "this is the program that talks to a terminal")]

use std::process::ExitCode;

use bench::commands::Flags;
use clap::Parser;

fn main() -> ExitCode {
    let flags = Flags::parse_from(bench::commands::with_dashes(std::env::args_os()));
    match flags.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
