//! The shell: the commands that work in a session, a line each. `pie shell` has one for a server elsewhere, `pie start` one
//! for its own, with the commands of its `operator` besides.
//!
//! Each command has a session of its own, as on the command line: what a lost connection breaks is one command. `follow`
//! prints what an inferlet says, `terminal` reads the lines. They are commands and nothing else: a program that is run here
//! gets no lines, but `send` gives a detached one what it waits for.

mod follow;
mod operator;
mod terminal;

use std::io::IsTerminal;
use std::pin::{Pin, pin};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use protocol::client::Client;

use super::attach::Attach;
use super::install::Install;
use super::kill::Kill;
use super::logs::Logs;
use super::programs::Programs;
use super::ps::Ps;
use super::remote::{CLIENT, InSession, Remote, ServerFlags};
use super::remove::Remove;
use super::run::prepared_on;
use super::stats::Stats;
use crate::output;
use follow::{follow, print_kept};
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
foreground, Ctrl-D or `exit` leaves. Where lines do not come from a terminal, the exit code is 1 when one of them failed.")]
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
    let shell = Shell(Server::Elsewhere(remote));
    // Whoever cannot be told of signals goes on until the input ends.
    let interrupted = async || drop(tokio::signal::ctrl_c().await);
    let (_, failed) = shell.run(interrupted).await?;
    restore();
    match failed {
        0 => Ok(()),
        _ if std::io::stdin().is_terminal() => Ok(()),
        failed => bail!("{failed} of the commands failed"),
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
    /// Leave.
    #[command(alias = "quit")]
    Exit,
}

/// What `run` takes.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Run {
    /// A program: a name, or a `.wasm` file or the folder of its source, which is uploaded where it is not there yet.
    program: String,
    /// Print its id and leave it running: `logs` and `attach` show what it says, `send` gives it messages.
    #[arg(long, short)]
    detach: bool,
    /// What the program takes.
    #[arg(long, short)]
    help: bool,
    /// Arguments of the program, after `--`.
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

/// What runs the commands.
pub(crate) struct Shell(Server);

impl Shell {
    /// A shell for the server of this process.
    pub(crate) fn of(operator: Operator) -> Shell {
        Shell(Server::Own(operator))
    }

    /// Takes lines until one says to leave, none is left, or `stop` returns, which a command at work does not notice. Also
    /// gives how many have failed.
    ///
    /// # Errors
    /// When nobody reads stdout any more; where the server is that of this process, it goes on all the same.
    pub(crate) async fn run<F: Future<Output = ()>>(self, stop: impl Fn() -> F) -> Result<(End, usize)> {
        let mut lines = terminal::open(self.names());
        let mut failed = 0;
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = stop() => return Ok((End::Stopped, failed)),
            };
            let Some(line) = line else { return Ok((End::InputOver, failed)) };
            let printed = match self.line(&line).await {
                Ok(true) => Ok(()),
                Ok(false) => return Ok((End::Left, failed)),
                Err(error) if error.is::<output::Closed>() => Err(error),
                Err(error) => {
                    failed += 1;
                    // Among the answers, where whoever reads them finds which command it is.
                    output::line(format_args!("error: {error:#}"))
                }
            };
            if matches!(self.0, Server::Elsewhere(_)) {
                printed?;
            }
        }
    }

    /// The names of the commands.
    fn names(&self) -> Vec<String> {
        let commands = match self.0 {
            Server::Elsewhere(_) => Line::command(),
            Server::Own(_) => OperatorLine::command(),
        };
        commands.get_subcommands().map(|command| command.get_name().to_string()).collect()
    }

    /// Runs one line; whether to go on.
    async fn line(&self, line: &str) -> Result<bool> {
        // Quotes, backslashes and comments (`#`) are as in a POSIX shell.
        let words = shlex::split(line).context("the line ends within quotes or after a `\\`")?;
        if words.is_empty() {
            return Ok(true);
        }
        match &self.0 {
            Server::Elsewhere(_) => match parsed::<Line>(&words)? {
                Some(Line { command }) => self.command(command).await,
                None => Ok(true),
            },
            Server::Own(operator) => match parsed::<OperatorLine>(&words)? {
                Some(line) => operator.line(line, self).await,
                None => Ok(true),
            },
        }
    }

    /// Runs one command; whether to go on.
    async fn command(&self, command: Command) -> Result<bool> {
        if let Command::Exit = command {
            return Ok(false);
        }
        // One for the whole command: a signal between two waits is not missed.
        let mut interrupted = pin!(self.interrupted());
        let client = unless(interrupted.as_mut(), self.0.session()).await?;
        let done = match command {
            // In the foreground until they end, which these two know how to hasten.
            Command::Run(run) => launch(run, &client, interrupted).await,
            Command::Attach(Attach { id }) => attach(&id, &client, interrupted).await,
            command => unless(interrupted, in_session(command, &client)).await,
        };
        client.close().await;
        done.map(|()| true)
    }

    /// Returns when what runs in the foreground is to end. Where the server is that of this process, the signal is for that.
    async fn interrupted(&self) {
        match self.0 {
            Server::Elsewhere(_) if tokio::signal::ctrl_c().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}

/// Does it until it is interrupted.
async fn unless<T>(
    interrupted: Pin<&mut impl Future<Output = ()>>,
    what: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        done = what => done,
        () = interrupted => bail!("interrupted"),
    }
}

async fn launch(
    run: Run,
    client: &Client,
    mut interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<()> {
    let Run { program, detach, help, mut arguments } = run;
    if help {
        arguments.insert(0, "--help".to_string());
    }
    let prepared = unless(interrupted.as_mut(), prepared_on(client, &program, &arguments)).await?;
    let Some((program, arguments)) = prepared else { return Ok(()) };
    let launched = |id: &str| output::line(format_args!("✅ Inferlet launched with ID: {id}"));
    if detach {
        return launched(&client.launch_detached(&program, &arguments).await?);
    }
    let start = Instant::now();
    // One that is launched and not taken ends with its session.
    let launching = async { Ok(client.launch(&program, &arguments).await?) };
    let mut inferlet = unless(interrupted.as_mut(), launching).await?;
    launched(inferlet.id())?;
    // The shell's lines are commands. One that has ended already takes no end.
    let _ = inferlet.sender().end().await;
    tokio::select! {
        followed = follow(&mut inferlet, start) => followed,
        () = interrupted => {
            inferlet.terminate().await?;
            follow(&mut inferlet, start).await
        }
    }
}

async fn attach(
    id: &str,
    client: &Client,
    mut interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<()> {
    let start = Instant::now();
    let attaching = async { Ok(client.attach(id, None).await?) };
    let mut inferlet = unless(interrupted.as_mut(), attaching).await?;
    tokio::select! {
        followed = follow(&mut inferlet, start) => followed,
        () = interrupted => Ok(inferlet.detach().await?),
    }
}

/// Performs a command that is over when it is done.
async fn in_session(command: Command, client: &Client) -> Result<()> {
    match command {
        Command::Ps(what) => what.perform(client).await,
        Command::Logs(Logs { id }) => print_kept(&id, &client.peek(&id).await?),
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
    // What the commands say at the end of their help is for the command line.
    let command = L::command().mut_subcommands(|command| command.after_help(None::<&str>));
    match command.try_get_matches_from(words).and_then(|matches| L::from_arg_matches(&matches)) {
        Ok(line) => Ok(Some(line)),
        Err(error) if !error.use_stderr() => {
            output::line(error.to_string().trim_end())?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            let near = error.get(ContextKind::SuggestedSubcommand);
            let near = near.map_or_else(String::new, |near| format!(" (is it `{near}`?)"));
            bail!("unknown command `{}`{near}; `help` lists the commands", words[0])
        }
        Err(error) => {
            let words = error.to_string();
            bail!("{}", words.trim_start_matches("error: ").trim_end())
        }
    }
}
