//! Streams that are open and idle: each is an inferlet that has begun its answer and waits.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;

use crate::http::Client;
use crate::server::Home;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 2000)]
    streams: usize,
}

pub(crate) async fn run(model: &Path, options: &Options) -> Result<()> {
    let home = Home::new()?;
    let streams = options.streams;
    let config = format!(
        "[limits]\ninferlets = {places}\n[admission]\nrunning = {places}\n[http]\nconnections_per_address = {places}\n\
         [[serve]]\nprogram = 'test-programs'\npath = '/test'\n",
        places = streams * 5 / 4 + 16
    );
    let server = home.start(model, &config, false).await?;
    let client: Client = server.client.clone();
    // The first of a program costs what all share.
    drop(open(&client).await?);
    let before = server.quiet(&client).await?;
    let mut held = Vec::new();
    for _ in 0..streams {
        held.push(open(&client).await?);
    }
    let during = server.held(&client).await?;
    println!("before: {before:?}\nopen:   {during:?}");
    ensure!(during.inferlets >= streams as f64, "not all are open");
    drop(held);
    let after = server.quiet(&client).await?;
    println!("after:  {after:?}");
    let more = during.memory_mib - before.memory_mib;
    println!(
        "{streams} idle streams take {more:.0} MiB more, {:.0} KiB each; resident are {:.0} MiB more",
        more * 1024.0 / streams as f64,
        during.resident_mib - before.resident_mib
    );
    ensure!(after.files <= before.files + 2 && after.pages == before.pages, "something is left");
    ensure!(more < 400.0, "more than 400 MiB");
    server.stop()
}

/// Opens one, and reads the beginning of its answer.
async fn open(client: &Client) -> Result<tokio::net::TcpStream> {
    let mut stream = client.send(client.request("GET", "/test/idle", "").as_bytes()).await?;
    let mut beginning = vec![0; 12];
    stream.read_exact(&mut beginning).await.context("the beginning of an answer")?;
    ensure!(beginning == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&beginning));
    Ok(stream)
}
