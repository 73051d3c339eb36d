//! `pie run`: one inferlet on models loaded for it alone, or with `--server` on a server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use protocol::client::Client;
use runtime::{Event, Inferlet, InferletError, Input, LaunchOptions, Program, Runtime};

use super::remote::{self, Remote};
use crate::assemble::Assembly;
use crate::config::{CommonFlags, LOCAL_USER};
use crate::{logging, output, progress};

/// Flags of `pie run`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunFlags {
    /// A program: a `.wasm` file, or a name (see PIE_PROGRAMS).
    program: String,
    #[command(flatten)]
    common: CommonFlags,
    /// Run it on a server: its address, for instance http://10.0.0.2:8080. A file is uploaded where it is not there yet.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "model"])]
    server: Option<String>,
    /// Key to show to the server, where it wants one. Also: PIE_KEY.
    #[arg(long, requires = "server")]
    key: Option<String>,
    /// On a server: print the inferlet's id and leave it running.
    #[arg(long, requires = "server")]
    detach: bool,
    /// Arguments of the program, after `--`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  pie run text-completion -- --prompt Hello
  pie run --server http://10.0.0.2:8080 my_program.wasm -- --my-flag 3
  pie run --server http://10.0.0.2:8080 --detach my-program

Lines of stdin reach the program as messages (session.receive).";

pub(crate) async fn run(flags: RunFlags, verbose: u8) -> Result<()> {
    if let Some(server) = &flags.server {
        logging::start(verbose, logging::LogFormat::Text);
        let client = Remote::new(server, flags.key.clone()).session().await?;
        return run_remotely(&client, &flags).await;
    }
    let settings = flags.common.settings(&[])?;
    logging::start(verbose, settings.server.log_format());
    let assembly = Assembly::start(&settings).await?;
    let program = find_program(&assembly.runtime, &flags.program).await?;
    let options = LaunchOptions { arguments: flags.arguments, user: LOCAL_USER.into(), limits: None };
    let mut inferlet = assembly.runtime.launch(&program, options)?;
    if let Some(input) = inferlet.take_input() {
        forward_stdin(input);
    }
    let ended = tokio::select! {
        ended = stream(&mut inferlet) => ended?,
        _ = tokio::signal::ctrl_c() => {
            inferlet.kill();
            stream(&mut inferlet).await?
        }
    };
    let stopped = assembly.stop().await;
    match ended {
        Ok(result) if result.is_empty() => {}
        Ok(result) => output::line(result)?,
        Err(error) => bail!("{error}"),
    }
    stopped
}

/// Runs the program on a server.
async fn run_remotely(client: &Client, flags: &RunFlags) -> Result<()> {
    let program = match is_file(&flags.program) {
        true => {
            let bar = progress::bytes(&format!("uploading {}", flags.program), Some(0));
            let uploaded = client.upload_file(Path::new(&flags.program), |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            });
            let uploaded = uploaded.await;
            bar.finish_and_clear();
            uploaded?
        }
        false => flags.program.clone(),
    };
    if flags.detach {
        return output::line(client.launch_detached(&program, &flags.arguments).await?);
    }
    let mut inferlet = client.launch(&program, &flags.arguments).await?;
    remote::forward_stdin(inferlet.sender(), true);
    let ended = tokio::select! {
        ended = remote::stream(&mut inferlet) => ended,
        _ = tokio::signal::ctrl_c() => {
            inferlet.terminate().await?;
            remote::stream(&mut inferlet).await
        }
    };
    client.clone().close().await;
    ended
}

/// Sends each line of stdin to the inferlet as a message; its end closes the inferlet's input.
fn forward_stdin(input: Input) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if !runtime.block_on(input.send(line)) {
                break;
            }
        }
    });
}

/// Whether a program is meant as a file, and not as a name.
pub(crate) fn is_file(program: &str) -> bool {
    program.ends_with(".wasm") || program.contains(std::path::MAIN_SEPARATOR)
}

/// A program by file or by name.
pub(crate) async fn find_program(runtime: &Runtime, program: &str) -> Result<Arc<Program>> {
    Ok(match is_file(program) {
        true => runtime.load_file(Path::new(program)).await?,
        false => runtime.find(program).await?,
    })
}

/// Prints what the inferlet sends until it ends.
pub(crate) async fn stream(inferlet: &mut Inferlet) -> Result<Result<String, InferletError>> {
    while let Some(event) = inferlet.next_event().await {
        print_event(&event)?;
    }
    Ok(inferlet.outcome().await)
}

/// Prints an event.
pub(crate) fn print_event(event: &Event) -> Result<()> {
    output::event(match event {
        Event::Text(text) => output::Part::Text(text),
        Event::Stdout(bytes) => output::Part::Stdout(bytes),
        Event::Stderr(bytes) => output::Part::Stderr(bytes),
        Event::Blob(bytes) => output::Part::Blob(bytes.len()),
    })
}
