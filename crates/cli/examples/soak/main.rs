//! A server under what months bring, in minutes: clients that leave, kill and lie, more work than it can do, many idle streams,
//! and a process that is killed again and again.
//!
//! `cargo run --release --workspace --example soak -- MODEL clients|streams|overload|kills|writes [--seconds 180] …`
//!
//! Each starts a `pie` of its own (built beside this example) with a home of its own, and says at the end what it found. What
//! must hold is checked: then this ends with an error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report for the terminal")]

mod clients;
#[path = "../common/http.rs"]
mod http;
mod kills;
mod overload;
mod server;
mod streams;
mod writes;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What a server bears.
#[derive(Parser)]
struct Options {
    /// A file of the model.
    model: PathBuf,
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Clients in a closed loop, which leave in the middle, send damaged requests and have their inferlets killed.
    Clients(clients::Options),
    /// Streams that are open and idle.
    Streams(streams::Options),
    /// Four times the requests that the server can answer, and one client with another key.
    Overload(overload::Options),
    /// A server that is killed while it works.
    Kills(kills::Options),
    /// A server that is killed while it writes: uploads, names, stored values, saved contexts; and keys that are changed.
    Writes(writes::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    match options.load {
        Load::Clients(load) => clients::run(&options.model, &load).await,
        Load::Streams(load) => streams::run(&options.model, &load).await,
        Load::Overload(load) => overload::run(&options.model, &load).await,
        Load::Kills(load) => kills::run(&options.model, &load).await,
        Load::Writes(load) => writes::run(&options.model, &load).await,
    }
}
