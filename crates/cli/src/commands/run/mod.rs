//! `pie run`: one inferlet on models loaded for it alone, or with `--server` on a server.

mod arguments;
mod trace;
mod watch;

use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use protocol::client::Client;
use runtime::{Event, Inferlet, InferletError, Input, LaunchOptions, Program, Runtime};

use super::remote::{self, Remote};
use crate::assemble::Assembly;
use crate::config::{CommonFlags, LOCAL_USER};
use crate::develop::cargo::Package;
use crate::{logging, output};

/// Flags of `pie run`.
#[derive(Args)]
#[command(after_help = EXAMPLES, disable_help_flag = true)]
pub(crate) struct RunFlags {
    /// A program: a name, a `.wasm` file, or the folder of its source, which is built (`.`, or with a `/`).
    #[arg(required_unless_present = "help")]
    program: Option<String>,
    /// Print this help; behind a program, what the program takes.
    #[arg(short, long)]
    help: bool,
    /// After each edit in the folder, build and run the program again, on the model that is loaded already. It then gets no lines of stdin.
    #[arg(long)]
    watch: bool,
    /// Write every pass to a file, as a line of JSON: its tokens in and out, what was computed, what was cached, its time.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    common: CommonFlags,
    /// Run it on a server: its address, for instance http://10.0.0.2:8080. A file is uploaded where it is not there yet.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "model", "watch", "trace"])]
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
  pie run text-completion -- --prompt \"What is the capital of France?\"
  pie run text-completion --help
  pie run my_program.wasm -- --my-flag 3
  pie run --watch my-program -- --my-flag 3
  pie run --trace passes.jsonl beam-search
  pie run --server http://10.0.0.2:8080 ./my-program -- --my-flag 3
  pie run --server http://10.0.0.2:8080 --detach text-completion

Lines of stdin reach the program as messages (session.receive).

Programs known by name are those of `pie stats`: files NAME.wasm in the folders of PIE_PROGRAMS and in
PIE_HOME/programs (`pie install`), then those that come with pie; on a server, those of `pie programs --server URL`.";

impl RunFlags {
    /// Whether the help of this command is asked for, and not that of a program.
    pub(crate) fn asks_own_help(&self) -> bool {
        self.help && self.program.is_none()
    }
}

pub(crate) use arguments::library;

pub(crate) async fn run(mut flags: RunFlags, verbose: u8) -> Result<()> {
    let name = flags.program.take().expect("clap asks for it, and its own help is printed before");
    if flags.help {
        flags.arguments.insert(0, "--help".to_string());
    }
    if let Some(server) = &flags.server {
        logging::start(verbose, logging::LogFormat::Text);
        let client = Remote::new(server, flags.key.clone()).session().await?;
        let ended = run_remotely(&client, &name, &flags).await;
        client.close().await;
        return ended;
    }
    let settings = flags.common.settings(&[])?;
    logging::start(verbose, settings.server.log_format());
    let folder = (flags.watch || is_path(&name)).then(|| Path::new(&name));
    let folder = folder.filter(|path| flags.watch || path.is_dir());
    // Before the model: what does not build, or does not take its arguments, needs none.
    let component = match folder {
        Some(folder) if !flags.watch || flags.help => Some(Package::open(folder)?.build()?),
        _ => None,
    };
    if !flags.watch || flags.help {
        let found = component.as_deref().map_or_else(|| name.clone(), |path| path.display().to_string());
        let manifest = arguments::manifest(&found).await?;
        match arguments::prepare(manifest.as_ref(), &name, &flags.arguments)? {
            arguments::Prepared::Help(help) => return output::line(help.trim_end()),
            arguments::Prepared::Arguments(arguments) => flags.arguments = arguments,
        }
    }
    let passes = flags.trace.as_deref().map(trace::observer).transpose()?;
    let assembly = Assembly::start_observed(&settings, passes).await?;
    let options = LaunchOptions { arguments: flags.arguments, user: LOCAL_USER.into(), limits: None };
    if let Some(folder) = folder.filter(|_| flags.watch) {
        let watched = watch::watch(&assembly.runtime, folder, &options).await;
        return watched.and(assembly.stop().await);
    }
    let program = match component {
        Some(component) => assembly.runtime.load_file(&component).await?,
        None => find_program(&assembly.runtime, &name).await?,
    };
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
    output::result(ended)?;
    stopped
}

/// Whether the argument is a path, and no name of a program.
pub(crate) fn is_path(program: &str) -> bool {
    program.ends_with(".wasm") || program.contains(MAIN_SEPARATOR) || matches!(program, "." | "..")
}

/// A program on a server with its arguments, ready to be launched; it is uploaded where it is a file, and built where it is a
/// folder. None when its help was asked for, which is printed.
///
/// # Errors
/// When there is no such program, or it does not take the arguments.
pub(crate) async fn prepared_on(
    client: &Client,
    name: &str,
    given: &[String],
) -> Result<Option<(String, Vec<String>)>> {
    let path = Path::new(name);
    let program = match is_path(name) {
        true if path.is_dir() => remote::upload(client, &Package::open(path)?.build()?, false).await?,
        true => remote::upload(client, path, false).await?,
        false => name.to_string(),
    };
    // Without arguments there is nothing to prepare: the server says what is missing.
    let manifest = match given.is_empty() {
        true => None,
        false => client.describe(&program).await?.manifest,
    };
    match arguments::prepare(manifest.as_ref(), name, given)? {
        arguments::Prepared::Help(help) => output::line(help.trim_end()).map(|()| None),
        arguments::Prepared::Arguments(arguments) => Ok(Some((program, arguments))),
    }
}

/// Runs the program on a server.
async fn run_remotely(client: &Client, name: &str, flags: &RunFlags) -> Result<()> {
    let Some((program, arguments)) = prepared_on(client, name, &flags.arguments).await? else {
        return Ok(());
    };
    if flags.detach {
        return output::line(client.launch_detached(&program, &arguments).await?);
    }
    let mut inferlet = client.launch(&program, &arguments).await?;
    remote::forward_stdin(inferlet.sender(), true);
    tokio::select! {
        ended = remote::stream(&mut inferlet) => ended,
        _ = tokio::signal::ctrl_c() => {
            inferlet.terminate().await?;
            remote::stream(&mut inferlet).await
        }
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
    Ok(match is_path(program) {
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
