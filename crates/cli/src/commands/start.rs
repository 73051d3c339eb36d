//! `pie start`: the engine, and a shell to run inferlets in it.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use reedline::{DefaultPrompt, DefaultPromptSegment, ExternalPrinter, Reedline, Signal};
use runtime::{AllowedHosts, Event, Inferlet, LaunchOptions};
use server::Mounts;

use super::run::find_program;
use crate::assemble::Assembly;
use crate::config::{self, ModelSettings, Place, ServiceSettings, Settings};

/// Flags of `pie start`.
#[derive(Args)]
pub(crate) struct StartFlags {
    /// Settings; see docs/config.md.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Model to serve when the config names none.
    #[arg(short, long, default_value = model_store::DEFAULT_MODEL)]
    model: String,
    /// Address to listen on.
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 takes any that is free.
    #[arg(long)]
    port: Option<u16>,
    /// A host that programs may send HTTP requests to: example.com, *.example.com, 127.0.0.1:8000 or *.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Let a program answer HTTP requests below a path, for instance /hello=http-server.
    #[arg(long, value_name = "PATH=PROGRAM")]
    serve: Vec<String>,
    /// When a batch is fired: adaptive, eager, k, t or kort.
    #[arg(long)]
    batching_strategy: Option<String>,
    /// Passes of a batch for k and kort.
    #[arg(long, requires = "batching_strategy")]
    batching_strategy_k: Option<u32>,
    /// Milliseconds to wait for t and kort.
    #[arg(long, requires = "batching_strategy")]
    batching_strategy_t: Option<u64>,
}

const HELP: &str = "\
run [--detach] FILE|NAME [-- ARGS]   run an inferlet; detached, its output is kept for `logs`
ps                                   running inferlets
kill ID                              end one (the beginning of its id is enough)
logs ID                              output of a detached inferlet
serve FILE|NAME PATH|PORT [-- ARGS]  let a program answer HTTP requests, below a path or on a port of its own
unserve PATH                         end that for a path
services                             what is served below which path
models                               models served
programs                             programs known by name
stats                                what the engines do
help                                 this
exit                                 stop the engine and leave";

pub(crate) async fn start(flags: StartFlags) -> Result<()> {
    let mut settings = match &flags.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    if let Some(name) = &flags.batching_strategy {
        settings.policy = config::policy(name, flags.batching_strategy_k, flags.batching_strategy_t)?;
    }
    if settings.models.is_empty() {
        settings.models.push(ModelSettings::new(&flags.model));
    }
    settings.host = flags.host.unwrap_or(settings.host);
    settings.port = flags.port.unwrap_or(settings.port);
    if !flags.allow_host.is_empty() {
        settings.allowed_hosts = AllowedHosts::parse(&flags.allow_host).context("`--allow-host`")?;
    }
    for entry in &flags.serve {
        let (path, program) = entry.split_once('=').with_context(|| {
            format!("`--serve {entry}`: expected PATH=PROGRAM, for instance /hello=http-server")
        })?;
        let place = Place::Path(path.to_string());
        settings.services.push(ServiceSettings {
            program: program.to_string(),
            place,
            arguments: Vec::new(),
        });
    }
    let mounts = Mounts::default();
    let address = server::listen(&settings.host, settings.port, mounts.clone()).await;
    let address = address.map_err(|error| anyhow!("{error} with `--port`"))?;
    let assembly = Assembly::start(&settings).await?;
    let host = settings.host.clone();
    let shell = Shell { assembly: Arc::new(assembly), logs: Arc::default(), mounts: mounts.clone(), host };
    for service in settings.services {
        shell.serve(service).await?;
    }
    mounts.set_ready();
    eprintln!("engine started, http://{address}/health answers; `help` lists the commands");
    shell.run().await?;
    match Arc::try_unwrap(shell.assembly) {
        Ok(assembly) => assembly.stop(),
        Err(_) => bail!("the engine is still in use"),
    }
    Ok(())
}

/// What a detached inferlet wrote; the last megabyte.
type Logs = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

const LOG_BYTES: usize = 1 << 20;

struct Shell {
    assembly: Arc<Assembly>,
    logs: Logs,
    mounts: Mounts,
    host: String,
}

/// Where lines go. A command that runs in the foreground prints as usual, since nobody edits a line meanwhile; what
/// happens in the background is shown above the line being edited.
#[derive(Clone)]
struct Printer(Option<SyncSender<String>>);

impl Printer {
    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A terminal that is gone shows nothing; the commands go on.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn background(&self, text: String) {
        match self.0.as_ref().map(|editor| editor.try_send(text.clone())) {
            Some(Ok(())) => {}
            _ => self.line(&text),
        }
    }
}

impl Shell {
    async fn run(&self) -> Result<()> {
        let (lines, mut next) = tokio::sync::mpsc::channel::<String>(1);
        let (ready, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let terminal = std::io::stdin().is_terminal();
        let external = terminal.then(ExternalPrinter::<String>::default);
        let printer = Printer(external.as_ref().map(ExternalPrinter::sender));
        // Reading a line blocks; the thread reads the next one when the last is done with.
        std::thread::spawn(move || match external {
            Some(external) => read_terminal(external, &lines, &wait),
            None => read_lines(&lines, &wait),
        });
        while let Some(line) = next.recv().await {
            match self.command(line.trim(), &printer).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => printer.line(&format!("error: {error:#}")),
            }
            let _ = ready.send(());
        }
        Ok(())
    }

    /// Runs one line; whether to go on.
    async fn command(&self, line: &str, printer: &Printer) -> Result<bool> {
        let (before, arguments) = match line.split_once(" -- ") {
            Some((before, arguments)) => (before, split(arguments)?),
            None => (line.strip_suffix(" --").unwrap_or(line), Vec::new()),
        };
        let words = split(before)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let runtime = &self.assembly.runtime;
        match words.as_slice() {
            [] => {}
            ["exit" | "quit"] => return Ok(false),
            ["help"] => printer.line(HELP),
            ["run", "--detach" | "-d", program] => self.launch(program, arguments, true, printer).await?,
            ["run", program] => self.launch(program, arguments, false, printer).await?,
            ["run", ..] => {
                bail!("expected `run [--detach] FILE|NAME [-- ARGS]`: arguments of the program go after `--`")
            }
            ["ps"] => {
                for info in runtime.list() {
                    let (id, running, cpu) = (&info.id, info.running, info.cpu);
                    printer.line(&format!("{id}  {:20} {running:>8.1?}  cpu {cpu:.1?}", info.program));
                }
            }
            ["kill", id] if runtime.kill(id) => {}
            ["kill", id] => bail!("no single running inferlet has an id that begins with `{id}`; see `ps`"),
            ["logs", id] => {
                let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
                let (_, log) = logs
                    .iter()
                    .find(|(known, _)| known.starts_with(id))
                    .with_context(|| format!("no detached inferlet has an id that begins with `{id}`"))?;
                printer.line(&String::from_utf8_lossy(log));
            }
            ["serve", program, place] => {
                let place = match place.parse() {
                    Ok(port) => Place::Port(port),
                    Err(_) => Place::Path(place.to_string()),
                };
                let program = program.to_string();
                printer.line(&self.serve(ServiceSettings { program, place, arguments }).await?);
            }
            ["serve", ..] => bail!("expected `serve FILE|NAME PATH|PORT [-- ARGS]`"),
            ["unserve", path] if self.mounts.unmount(path) => {}
            ["unserve", path] => bail!("nothing is served below `{path}`; see `services`"),
            ["services"] => {
                for (path, program) in self.mounts.list() {
                    printer.line(&format!("{path}  {program}"));
                }
            }
            ["models"] => {
                for model in runtime.models() {
                    let facts = model.facts();
                    let (name, architecture) = (model.name(), &facts.architecture);
                    printer
                        .line(&format!("{name}  {architecture}, context of {} tokens", facts.context_length));
                }
            }
            ["programs"] => printer.line(&runtime.programs().join("\n")),
            ["stats"] => {
                for model in runtime.models() {
                    let stats = model.engine().stats().await??;
                    printer.line(&format!("{}\n{stats:#?}", model.name()));
                }
            }
            [command, ..] => bail!("unknown command `{command}`; `help` lists the commands"),
        }
        Ok(true)
    }

    /// Lets a program answer HTTP requests; says where.
    async fn serve(&self, settings: ServiceSettings) -> Result<String> {
        let ServiceSettings { program, place, arguments } = settings;
        let found = find_program(&self.assembly.runtime, &program).await?;
        let options = LaunchOptions { arguments, user: "local".into(), limits: None };
        let service = self.assembly.runtime.serve(&found, options)?;
        match place {
            Place::Path(path) => {
                self.mounts.mount(&path, service)?;
                Ok(format!("`{program}` answers below {path}"))
            }
            Place::Port(port) => {
                let address = server::listen_for(&self.host, port, service).await?;
                Ok(format!("`{program}` answers on http://{address}"))
            }
        }
    }

    async fn launch(
        &self,
        program: &str,
        arguments: Vec<String>,
        detach: bool,
        printer: &Printer,
    ) -> Result<()> {
        let program = find_program(&self.assembly.runtime, program).await?;
        let options = LaunchOptions { arguments, user: "local".into(), limits: None };
        let mut inferlet = self.assembly.runtime.launch(&program, options)?;
        // The shell's lines are commands; the program's input is at its end.
        inferlet.take_input();
        printer.line(&format!("✅ Inferlet launched with ID: {}", inferlet.id()));
        let (logs, printer) = (self.logs.clone(), printer.clone());
        match detach {
            true => drop(tokio::spawn(follow(inferlet, Output::Log(logs), printer))),
            false => follow(inferlet, Output::Lines, printer).await,
        }
        Ok(())
    }
}

enum Output {
    Lines,
    Log(Logs),
}

/// Takes an inferlet's events until it ends, and says how it ended.
async fn follow(mut inferlet: Inferlet, output: Output, printer: Printer) {
    let (id, start) = (inferlet.id().to_string(), Instant::now());
    let short = id[..8].to_string();
    let mut line = Vec::new();
    while let Some(event) = inferlet.next_event().await {
        let bytes = match event {
            Event::Text(text) => text.into_bytes(),
            Event::Stdout(bytes) | Event::Stderr(bytes) => bytes,
            Event::Blob(bytes) => format!("[{} bytes]\n", bytes.len()).into_bytes(),
        };
        match &output {
            Output::Lines => {
                line.extend(bytes);
                while let Some(end) = line.iter().position(|b| *b == b'\n') {
                    let whole: Vec<u8> = line.drain(..=end).collect();
                    printer.line(&format!("[Inst {short}] {}", String::from_utf8_lossy(&whole[..end])));
                }
            }
            Output::Log(logs) => {
                let mut logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
                let log = logs.entry(id.clone()).or_default();
                log.extend(bytes);
                let excess = log.len().saturating_sub(LOG_BYTES);
                log.drain(..excess);
            }
        }
    }
    if !line.is_empty() {
        printer.line(&format!("[Inst {short}] {}", String::from_utf8_lossy(&line)));
    }
    let elapsed = start.elapsed();
    let (result, reason) = match inferlet.outcome().await {
        Ok(result) => (result, "instance normally finished".to_string()),
        Err(error) => (String::new(), error.to_string()),
    };
    let mut ending = format!("[Inferlet {id}] Terminated. Reason: {reason} ({elapsed:.1?})");
    if !result.is_empty() {
        ending = format!("[Inst {short}] Result: {result}\n{ending}");
    }
    match output {
        Output::Lines => printer.line(&ending),
        Output::Log(_) => printer.background(ending),
    }
}

fn read_terminal(
    external: ExternalPrinter<String>,
    lines: &tokio::sync::mpsc::Sender<String>,
    wait: &std::sync::mpsc::Receiver<()>,
) {
    let mut editor = Reedline::create().with_external_printer(external);
    let left = DefaultPromptSegment::Basic("pie".into());
    let prompt = DefaultPrompt::new(left, DefaultPromptSegment::Empty);
    loop {
        let line = match editor.read_line(&prompt) {
            Ok(Signal::Success(line)) => line,
            Ok(Signal::CtrlC) => continue,
            _ => "exit".to_string(),
        };
        if lines.blocking_send(line).is_err() || wait.recv().is_err() {
            return;
        }
    }
}

fn read_lines(lines: &tokio::sync::mpsc::Sender<String>, wait: &std::sync::mpsc::Receiver<()>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if lines.blocking_send(line).is_err() || wait.recv().is_err() {
            return;
        }
    }
}

/// Words of a line: separated by spaces, with single and double quotes around what holds them.
fn split(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        bail!("the line ends within {open}…{open}");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(
            split(r#"--prompt "What is it?"  'a "b"' c\ d "" "#).unwrap(),
            ["--prompt", "What is it?", "a \"b\"", "c d", ""]
        );
        assert!(split("'open").is_err());
    }
}
