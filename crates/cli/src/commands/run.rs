//! `pie run`: one inferlet on models loaded for it alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use runtime::{AllowedHosts, Event, Inferlet, InferletError, Input, LaunchOptions, Program, Runtime};

use crate::assemble::Assembly;
use crate::config::{ModelSettings, Settings};

/// Flags of `pie run`.
#[derive(Args)]
#[command(after_help = "Lines of stdin reach the program as messages (session.receive).")]
pub(crate) struct RunFlags {
    /// A program: a `.wasm` file, or a name (see PIE_PROGRAMS).
    program: String,
    /// Model to run it on: a name of `pie model list`, or a file.
    #[arg(short, long, default_value = model_store::DEFAULT_MODEL)]
    model: String,
    /// Settings, as for `pie start`.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Compute threads; all cores by default.
    #[arg(short, long)]
    threads: Option<usize>,
    /// A host that the program may send HTTP requests to: example.com, *.example.com, 127.0.0.1:8000 or *.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Arguments of the program, after `--`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) async fn run(flags: RunFlags) -> Result<()> {
    let mut settings = match &flags.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    if settings.models.is_empty() {
        settings.models.push(ModelSettings::new(&flags.model));
    }
    if !flags.allow_host.is_empty() {
        settings.allowed_hosts = AllowedHosts::parse(&flags.allow_host).context("`--allow-host`")?;
    }
    for model in &mut settings.models {
        model.threads = flags.threads.or(model.threads);
    }
    let assembly = Assembly::start(&settings).await?;
    let program = find_program(&assembly.runtime, &flags.program).await?;
    let options = LaunchOptions { arguments: flags.arguments, user: "local".into(), limits: None };
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
    assembly.stop();
    match ended {
        Ok(result) if result.is_empty() => Ok(()),
        Ok(result) => {
            println!("{result}");
            Ok(())
        }
        Err(error) => bail!("{error}"),
    }
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
    match event {
        Event::Text(text) => out.write_all(text.as_bytes())?,
        Event::Stdout(bytes) => out.write_all(bytes)?,
        Event::Stderr(bytes) => std::io::stderr().lock().write_all(bytes)?,
        Event::Blob(bytes) => writeln!(out, "[{} bytes]", bytes.len())?,
    }
    Ok(out.flush()?)
}
