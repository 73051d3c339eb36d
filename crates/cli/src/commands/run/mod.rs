//! `pie run`: one inferlet on models loaded for it alone.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use runtime::{Event, Inferlet, InferletError, Input, LaunchOptions, Program, Runtime};

use crate::assemble::Assembly;
use crate::config::{CommonFlags, LOCAL_USER};
use crate::{logging, output};

/// Flags of `pie run`.
#[derive(Args)]
#[command(after_help = "Lines of stdin reach the program as messages (session.receive).")]
pub(crate) struct RunFlags {
    /// A program: a `.wasm` file, or a name (see PIE_PROGRAMS).
    program: String,
    #[command(flatten)]
    common: CommonFlags,
    /// Arguments of the program, after `--`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) async fn run(flags: RunFlags, verbose: u8) -> Result<()> {
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

/// A program by file or by name.
pub(crate) async fn find_program(runtime: &Runtime, program: &str) -> Result<Arc<Program>> {
    let is_file = program.ends_with(".wasm") || program.contains(std::path::MAIN_SEPARATOR);
    Ok(match is_file {
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

/// Messages and stdout go to stdout as they are, stderr to stderr; blobs are announced.
pub(crate) fn print_event(event: &Event) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = match event {
        Event::Text(text) => out.write_all(text.as_bytes()),
        Event::Stdout(bytes) => out.write_all(bytes),
        Event::Stderr(bytes) => return Ok(std::io::stderr().lock().write_all(bytes)?),
        Event::Blob(bytes) => writeln!(out, "[{} bytes]", bytes.len()),
    };
    output::written(printed.and_then(|()| out.flush()))
}
