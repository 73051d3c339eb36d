//! What only the shell of `pie start` can do: it is in the process of the server, whose operator sees all users.

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use protocol::{ListedInferlet, State};
use runtime::{LaunchOptions, Runtime};
use server::Front;

use super::{Command, Done, Interrupted, Shell, unless};
use crate::commands::kill::Kill;
use crate::commands::ps::Row;
use crate::commands::run::find_program;
use crate::config::{LOCAL_USER, Mount};
use crate::output;

/// The server of this process.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) runtime: Runtime,
    pub(crate) front: Front,
    /// Address of programs that get a port of their own.
    pub(crate) host: String,
}

/// Commands for this server and what runs on it.
#[derive(Parser)]
#[command(multicall = true)]
pub(super) struct OperatorLine {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Subcommand)]
enum OperatorCommand {
    #[command(flatten)]
    InSession(Command),
    /// Let a program answer HTTP requests, below a path or on a port of its own.
    Serve(Serve),
    /// End that for a path.
    Unserve {
        /// The path.
        path: String,
    },
    /// What is served below which path.
    Services,
    /// The models that are served.
    Models,
}

/// What `serve` takes.
#[derive(Args)]
struct Serve {
    /// A program: a name, or a `.wasm` file.
    program: String,
    /// Where it answers, for instance /hello or 8081.
    #[arg(value_name = "PATH|PORT")]
    place: String,
    /// Arguments of the program, after `--`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Operator {
    /// Runs one line.
    pub(super) async fn line(
        &self,
        line: OperatorLine,
        shell: &Shell,
        interrupted: &mut Interrupted,
    ) -> Result<Done> {
        match line.command {
            OperatorCommand::InSession(Command::Ps(what)) => {
                what.print(&unless(interrupted, self.inferlets(shell)).await?)?;
            }
            OperatorCommand::InSession(Command::Kill(Kill { id })) => {
                unless(interrupted, self.kill(&id, shell)).await?;
            }
            OperatorCommand::InSession(command) => return shell.command(command, interrupted).await,
            OperatorCommand::Serve(Serve { program, place, arguments }) => {
                let mount = match place.parse() {
                    Ok(port) => Mount::Port(port),
                    Err(_) => Mount::Path(place),
                };
                let served = self.serve(&program, mount, LOCAL_USER, arguments);
                output::line(unless(interrupted, served).await?)?;
            }
            OperatorCommand::Unserve { path } => {
                if !self.front.mounts().unmount(&path) {
                    bail!("nothing is served below `{path}`; see `services`");
                }
            }
            OperatorCommand::Services => {
                for (path, program) in self.front.mounts().list() {
                    output::line(format_args!("{path}  {program}"))?;
                }
            }
            OperatorCommand::Models => {
                for model in self.runtime.models() {
                    let facts = model.facts();
                    let (name, architecture) = (model.name(), &facts.architecture);
                    let length = facts.context_length;
                    output::line(format_args!("{name}  {architecture}, context of {length} tokens"))?;
                }
            }
        }
        Ok(Done::Well)
    }

    /// Lets a program answer HTTP requests; says where.
    ///
    /// # Errors
    /// When there is no such program or it answers none, or the place is not free.
    pub(crate) async fn serve(
        &self,
        program: &str,
        mount: Mount,
        user: &str,
        arguments: Vec<String>,
    ) -> Result<String> {
        let found = find_program(&self.runtime, program).await?;
        let options = LaunchOptions { arguments, user: user.into(), limits: None };
        let service = self.runtime.serve(&found, options)?;
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

    /// The inferlets of all users: those of sessions of the operator, and those of others that run.
    async fn inferlets(&self, shell: &Shell) -> Result<Vec<Row>> {
        let client = shell.server.session().await?;
        let own = client.list().await;
        client.close().await;
        let own = own?.into_iter().map(|inferlet| Row { inferlet, user: Some(LOCAL_USER.to_string()) });
        let others = self.runtime.list().into_iter().filter(|info| info.user != LOCAL_USER);
        let others = others.map(|info| Row {
            inferlet: ListedInferlet {
                id: info.id,
                program: info.program,
                arguments: info.arguments,
                state: State::Running,
                attachable: false,
                clients: 0,
                age_ms: info.running.as_millis() as u64,
                cpu_ms: info.cpu.as_millis() as u64,
            },
            user: Some(info.user),
        });
        Ok(own.chain(others).collect())
    }

    /// Ends the inferlet whose id begins so, of whichever user.
    async fn kill(&self, id: &str, shell: &Shell) -> Result<()> {
        let inferlets = self.inferlets(shell).await?;
        let matching = inferlets.iter().filter(|row| !id.is_empty() && row.inferlet.id.starts_with(id));
        match &matching.collect::<Vec<_>>()[..] {
            [Row { inferlet, .. }] if inferlet.state == State::Ended => {
                bail!("inferlet {} has ended; `attach` takes what it said", inferlet.id)
            }
            // One that has ended meanwhile needs no end.
            [Row { inferlet, .. }] => {
                self.runtime.kill(&inferlet.id);
                Ok(())
            }
            _ => bail!("no single inferlet has an id that begins with `{id}`; `ps` shows those there are"),
        }
    }
}
