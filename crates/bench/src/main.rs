//! The `pie-bench` binary: load for servers of language models, and what it shows.

#![expect(clippy::print_stderr, reason = "this is the program that talks to a terminal")]

use std::process::ExitCode;

use bench::commands::Flags;
use clap::Parser;

fn main() -> ExitCode {
    // A reader of the output that has seen enough, such as `head`, ends the program without a word.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>();
        if said.is_some_and(|said| said.starts_with("failed printing to stdout")) {
            std::process::exit(141);
        }
        usual(panic);
    }));
    let flags = Flags::parse_from(bench::commands::with_dashes(std::env::args_os()));
    match flags.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
