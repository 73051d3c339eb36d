//! The shell of `pie start`: its commands.

use anyhow::{Context, Result, bail};
use runtime::LaunchOptions;
use server::Front;

use super::follow::{Destination, Logs, follow};
use super::signals::StopSignals;
use super::terminal::{self, Printer};
use crate::assemble::Assembly;
use crate::commands::run::find_program;
use crate::commands::stats::tables;
use crate::config::{LOCAL_USER, Mount};

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
stats                                what the models, programs and routes do, as `pie stats`
help                                 this
exit                                 stop the server and leave, when what runs has ended or `shutdown_ms` is over";

/// What the commands work on.
pub(super) struct Shell<'a> {
    assembly: &'a Assembly,
    /// Output of detached inferlets.
    logs: Logs,
    front: Front,
    /// Address of programs that get a port of their own.
    host: String,
}

impl<'a> Shell<'a> {
    pub(super) fn new(assembly: &'a Assembly, front: Front, host: String) -> Shell<'a> {
        Shell { assembly, logs: Logs::default(), front, host }
    }

    /// Takes lines until one says to leave or the server is to stop. At the end of the input it only waits
    /// for that.
    pub(super) async fn run(&self, stop: &StopSignals) {
        let (mut lines, printer) = terminal::open();
        let commands = async {
            while let Some(line) = lines.next().await {
                match self.command(&line, &printer).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => printer.line(&format!("error: {error:#}")),
                }
            }
            stop.requested().await;
        };
        tokio::select! {
            () = commands => {}
            () = stop.requested() => {}
        }
    }

    /// Runs one line; whether to go on.
    async fn command(&self, line: &str, printer: &Printer) -> Result<bool> {
        let (words, arguments) = words(line)?;
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
                let log = self.logs.find(id);
                let log =
                    log.with_context(|| format!("no detached inferlet has an id that begins with `{id}`"))?;
                printer.line(&log);
            }
            ["serve", program, place] => {
                let mount = match place.parse() {
                    Ok(port) => Mount::Port(port),
                    Err(_) => Mount::Path(place.to_string()),
                };
                printer.line(&self.serve(program, mount, LOCAL_USER, arguments).await?);
            }
            ["serve", ..] => bail!("expected `serve FILE|NAME PATH|PORT [-- ARGS]`"),
            ["unserve", path] if self.front.mounts().unmount(path) => {}
            ["unserve", path] => bail!("nothing is served below `{path}`; see `services`"),
            ["services"] => {
                for (path, program) in self.front.mounts().list() {
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
            ["stats"] => printer.line(&tables(&self.front.metrics().await)),
            [command, ..] => bail!("unknown command `{command}`; `help` lists the commands"),
        }
        Ok(true)
    }

    /// Lets a program answer HTTP requests; says where.
    pub(super) async fn serve(
        &self,
        program: &str,
        mount: Mount,
        user: &str,
        arguments: Vec<String>,
    ) -> Result<String> {
        let found = find_program(&self.assembly.runtime, program).await?;
        let options = LaunchOptions { arguments, user: user.into(), limits: None };
        let service = self.assembly.runtime.serve(&found, options)?;
        match mount {
            Mount::Path(path) => {
                self.front.mounts().mount(&path, service)?;
                Ok(format!("`{program}` answers below {path}"))
            }
            Mount::Port(port) => {
                let address = self.front.listen_for(&self.host, port, service).await?;
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
        let options = LaunchOptions { arguments, user: LOCAL_USER.into(), limits: None };
        let mut inferlet = self.assembly.runtime.launch(&program, options)?;
        // The shell's lines are commands; the program's input is at its end.
        inferlet.take_input();
        printer.line(&format!("✅ Inferlet launched with ID: {}", inferlet.id()));
        let (logs, printer) = (self.logs.clone(), printer.clone());
        // On a task of its own: when the server is to stop, the shell ends before the inferlet.
        match detach {
            true => drop(tokio::spawn(follow(inferlet, Destination::Log(logs), printer))),
            false => tokio::spawn(follow(inferlet, Destination::Lines, printer)).await?,
        }
        Ok(())
    }
}

/// The words of a line, and those after `--`: the arguments of a program. Quotes, backslashes and comments
/// (`#`) are as in a POSIX shell.
fn words(line: &str) -> Result<(Vec<String>, Vec<String>)> {
    let mut words = shlex::split(line).context("the line ends within quotes or after a `\\`")?;
    let arguments = match words.iter().position(|word| word == "--") {
        Some(at) => words.split_off(at).split_off(1),
        None => Vec::new(),
    };
    Ok((words, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        let (before, after) = words(r#"run x -- --prompt "What is it?"  'a "b"' c\ d "" "#).unwrap();
        assert_eq!(before, ["run", "x"]);
        assert_eq!(after, ["--prompt", "What is it?", "a \"b\"", "c d", ""]);
        assert_eq!(words("help --").unwrap(), (vec!["help".to_string()], Vec::new()));
        assert!(words("'open").is_err());
    }
}
