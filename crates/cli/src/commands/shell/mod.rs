//! The shell: the commands that work in a session, a line each. `pie shell` has one for a server elsewhere, `pie start` one
//! for its own, with the commands of its `operator` besides.
//!
//! Each command has a session of its own, as on the command line: what a lost connection breaks is one command. `follow`
//! prints what an inferlet says, `terminal` reads the lines. They are commands and nothing else: a program that is run here
//! gets no lines, but `send` gives a detached one what it waits for.

mod follow;
mod foreground;
mod operator;
mod terminal;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use protocol::client::Client;
use tokio::sync::{Notify, oneshot};

use super::attach::Attach;
use super::install::Install;
use super::kill::Kill;
use super::logs::Logs;
use super::programs::Programs;
use super::ps::Ps;
use super::remote::{CLIENT, InSession, Remote, ServerFlags};
use super::remove::Remove;
use super::run::prepared_on;
use super::start::{INTERRUPT, Signals};
use super::stats::Stats;
use crate::output;
use follow::{Lines, Out, follow, print_kept};
pub(crate) use foreground::Foreground;
pub(crate) use operator::Operator;
use operator::OperatorLine;
pub(crate) use terminal::restore;

/// Flags of `pie shell`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie shell
  pie shell --server http://10.0.0.2:8080 --key sk-pie-...
  echo 'run text-completion -- --prompt Hello' | pie shell

Its commands are those that take --server, without it: `help` lists them. Ctrl-C ends the inferlet that runs in the
foreground, and a second one the shell; Ctrl-D or `exit` leaves. Where lines do not come from a terminal, the exit code is 1
when one of them failed.")]
pub(crate) struct ShellFlags {
    #[command(flatten)]
    server: ServerFlags,
}

/// `pie shell`.
pub(crate) async fn shell(flags: ShellFlags) -> Result<()> {
    let remote = flags.server.remote();
    let client = remote.session().await?;
    eprintln!("{} answers, as user `{}`; `help` lists the commands", remote.address, client.user());
    client.close().await;
    let shell = Shell { server: Server::Elsewhere(remote), foreground: Foreground::default() };
    let (foreground, left) = (shell.foreground.clone(), Arc::new(Notify::new()));
    let leave = left.clone();
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        loop {
            let code = signals.next().await;
            if code != INTERRUPT {
                restore();
                std::process::exit(code);
            }
            if !foreground.interrupt() {
                leave.notify_one();
            }
        }
    });
    let stop = move || {
        let left = left.clone();
        async move { left.notified().await }
    };
    let ended = shell.run(stop).await;
    restore();
    match ended? {
        (End::Stopped, _) => bail!("interrupted"),
        (_, failed) if failed > 0 && !std::io::stdin().is_terminal() => {
            bail!("{failed} of the commands failed")
        }
        _ => Ok(()),
    }
}

/// Commands for a server and what runs on it.
#[derive(Parser)]
#[command(multicall = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an inferlet and print what it says.
    Run(Run),
    /// The inferlets.
    Ps(Ps),
    /// What an inferlet has said and nobody has taken yet.
    Logs(Logs),
    /// Go on with an inferlet until it ends.
    Attach(Attach),
    /// Send an inferlet a message.
    Send(Send),
    /// End an inferlet.
    Kill(Kill),
    /// Install a program under a name and a version.
    Install(Install),
    /// List the programs that can be launched by name.
    Programs(Programs),
    /// Remove an installed program.
    Remove(Remove),
    /// What the models, programs and routes do.
    Stats(Stats),
    /// Leave the shell. With that of `pie start` the server stops, when what runs has ended or `shutdown_ms` is over.
    #[command(alias = "quit")]
    Exit,
}

/// What `run` takes.
#[derive(Args)]
struct Run {
    /// A program: a name, or a `.wasm` file or the folder of its source, which is uploaded where it is not there yet.
    program: String,
    /// Print its id and leave it running: `logs` and `attach` show what it says, `send` gives it messages. What it says
    /// is kept until it is taken, and when that is much it waits.
    #[arg(long, short)]
    detach: bool,
    /// Arguments of the program, after `--`; `-- --help` shows what it takes.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// What `send` takes.
#[derive(Args)]
struct Send {
    /// Its id; a beginning that no other has is enough.
    id: String,
    /// The message.
    text: String,
}

impl InSession for Send {
    async fn perform(self, client: &Client) -> Result<()> {
        Ok(client.send(&self.id, self.text).await?)
    }
}

/// The server that the commands are for.
enum Server {
    Elsewhere(Remote),
    /// That of this process.
    Own(Operator),
}

impl Server {
    async fn session(&self) -> Result<Client> {
        match self {
            Server::Elsewhere(remote) => remote.session().await,
            Server::Own(operator) => {
                let stream = operator.front.own_session().context("the server does not run yet")?;
                Ok(Client::over(stream, CLIENT).await?)
            }
        }
    }
}

/// Why a shell has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A command says so.
    Left,
    /// No more lines come.
    InputOver,
    /// It was told to.
    Stopped,
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Well,
    /// What it ran failed, which it has said.
    Badly,
    /// It says to leave.
    Leave,
}

/// What runs the commands.
pub(crate) struct Shell {
    server: Server,
    foreground: Foreground,
}

impl Shell {
    /// A shell for the server of this process.
    pub(crate) fn of(operator: Operator, foreground: Foreground) -> Shell {
        Shell { server: Server::Own(operator), foreground }
    }

    /// Takes lines until one says to leave, none is left, or `stop` returns; a command at work is then given up, but where
    /// the server is that of this process, so that the last words of what it runs are printed. Also gives how many failed.
    ///
    /// # Errors
    /// When nobody reads stdout any more; where the server is that of this process, it goes on all the same.
    pub(crate) async fn run<F: Future<Output = ()>>(self, stop: impl Fn() -> F) -> Result<(End, usize)> {
        let (mut lines, out) = (terminal::open(self.names()), self.out());
        let mut failed = 0;
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = stop() => return Ok((End::Stopped, failed)),
            };
            let Some(line) = line else { return Ok((End::InputOver, failed)) };
            let done = match self.server {
                Server::Own(_) => self.line(&line).await,
                Server::Elsewhere(_) => tokio::select! {
                    done = self.line(&line) => done,
                    () = stop() => return Ok((End::Stopped, failed)),
                },
            };
            match done {
                Ok(Done::Well) => {}
                Ok(Done::Badly) => failed += 1,
                Ok(Done::Leave) => return Ok((End::Left, failed)),
                Err(error) if error.is::<output::Closed>() && !out.forgives => return Err(error),
                Err(error) => {
                    failed += 1;
                    // Among the answers, where whoever reads them finds which command it is.
                    out.line(format_args!("error: {error:#}"))?;
                }
            }
        }
    }

    fn out(&self) -> Out {
        Out { forgives: matches!(self.server, Server::Own(_)) }
    }

    /// The names of the commands.
    fn names(&self) -> Vec<String> {
        let mut commands = match self.server {
            Server::Elsewhere(_) => Line::command(),
            Server::Own(_) => OperatorLine::command(),
        };
        commands.build();
        commands.get_subcommands().map(|command| command.get_name().to_string()).collect()
    }

    /// Runs one line.
    async fn line(&self, line: &str) -> Result<Done> {
        // Quotes, backslashes and comments (`#`) are as in a POSIX shell.
        let words = shlex::split(line).context("the line ends within quotes or after a `\\`")?;
        if words.is_empty() {
            return Ok(Done::Well);
        }
        let mut interrupted = self.foreground.claim();
        match &self.server {
            Server::Elsewhere(_) => match parsed::<Line>(&words)? {
                Some(Line { command }) => self.command(command, &mut interrupted).await,
                None => Ok(Done::Well),
            },
            Server::Own(operator) => match parsed::<OperatorLine>(&words)? {
                Some(line) => operator.line(line, self, &mut interrupted).await,
                None => Ok(Done::Well),
            },
        }
    }

    /// Runs one command in a session of its own.
    async fn command(&self, command: Command, interrupted: &mut Interrupted) -> Result<Done> {
        if let Command::Exit = command {
            return Ok(Done::Leave);
        }
        let client = unless(interrupted, self.server.session()).await?;
        let out = self.out();
        let done = match command {
            // In the foreground until they end, which these two know how to hasten.
            Command::Run(run) => launch(run, &client, interrupted, out).await,
            Command::Attach(Attach { id }) => attach(&id, &client, interrupted, out).await,
            command => unless(interrupted, in_session(command, &client, out)).await.map(|()| true),
        };
        client.close().await;
        done.map(|is_well| if is_well { Done::Well } else { Done::Badly })
    }
}

/// Tells a command that Ctrl-C was pressed.
type Interrupted = oneshot::Receiver<()>;

/// Does it until it is interrupted.
async fn unless<T>(interrupted: &mut Interrupted, what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = what => done,
        Ok(()) = interrupted => bail!("interrupted"),
    }
}

/// Whether the inferlet has a result, or none was to be waited for.
async fn launch(run: Run, client: &Client, interrupted: &mut Interrupted, out: Out) -> Result<bool> {
    let Run { program, detach, arguments } = run;
    let prepared = unless(interrupted, prepared_on(client, &program, &arguments)).await?;
    let Some((program, arguments)) = prepared else { return Ok(true) };
    let launched = |id: &str| out.line(format_args!("✅ Inferlet launched with ID: {id}"));
    if detach {
        let launching = async { Ok(client.launch_detached(&program, &arguments).await?) };
        return launched(&unless(interrupted, launching).await?).map(|()| true);
    }
    let start = Instant::now();
    // One that is launched and not taken ends with its session.
    let launching = async {
        let inferlet = client.launch(&program, &arguments).await?;
        // The shell's lines are commands. One that has ended already takes no end.
        let _ = inferlet.sender().end().await;
        Ok(inferlet)
    };
    let mut inferlet = unless(interrupted, launching).await?;
    launched(inferlet.id())?;
    let mut lines = Lines::of(inferlet.id(), out);
    tokio::select! {
        followed = follow(&mut inferlet, &mut lines, start) => return followed,
        Ok(()) = interrupted => inferlet.terminate().await?,
    }
    follow(&mut inferlet, &mut lines, start).await
}

/// Whether the inferlet has a result, or was left.
async fn attach(id: &str, client: &Client, interrupted: &mut Interrupted, out: Out) -> Result<bool> {
    let start = Instant::now();
    let attaching = async { Ok(client.attach(id, None).await?) };
    let mut inferlet = unless(interrupted, attaching).await?;
    let mut lines = Lines::of(inferlet.id(), out);
    tokio::select! {
        followed = follow(&mut inferlet, &mut lines, start) => followed,
        Ok(()) = interrupted => {
            inferlet.detach().await?;
            Ok(true)
        }
    }
}

/// Performs a command that is over when it is done.
async fn in_session(command: Command, client: &Client, out: Out) -> Result<()> {
    match command {
        Command::Ps(what) => what.perform(client).await,
        Command::Logs(Logs { id }) => print_kept(&id, &client.peek(&id).await?, out),
        Command::Send(what) => what.perform(client).await,
        Command::Kill(what) => what.perform(client).await,
        Command::Install(what) => what.perform(client).await,
        Command::Programs(what) => what.perform(client).await,
        Command::Remove(what) => what.perform(client).await,
        Command::Stats(what) => what.perform(client).await,
        Command::Run(_) | Command::Attach(_) | Command::Exit => unreachable!("the shell does these itself"),
    }
}

/// A line of words; none when it asks for help, which is printed.
fn parsed<L: Parser + CommandFactory + FromArgMatches>(words: &[String]) -> Result<Option<L>> {
    // As the name of a program, `x/exit.old` would be `exit`.
    if words[0].contains(['/', '.']) {
        bail!("unknown command `{}`; `help` lists the commands", words[0]);
    }
    // What the commands say at the end of their help is for the command line.
    let command = L::command().mut_subcommands(|command| command.after_help(None::<&str>));
    match command.try_get_matches_from(words).and_then(|matches| L::from_arg_matches(&matches)) {
        Ok(line) => Ok(Some(line)),
        Err(error) if !error.use_stderr() => {
            output::line(error.to_string().trim_end())?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            let context = |kind| error.get(kind).map(ToString::to_string);
            let unknown = context(ContextKind::InvalidSubcommand).unwrap_or_else(|| words[0].clone());
            let near = context(ContextKind::SuggestedSubcommand).map(|near| format!(" (is it `{near}`?)"));
            bail!("unknown command `{unknown}`{}; `help` lists the commands", near.unwrap_or_default())
        }
        Err(error) => {
            let words = error.to_string();
            bail!("{}", words.trim_start_matches("error: ").trim_end())
        }
    }
}
