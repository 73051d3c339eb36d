//! The Rust client: a [`Client`] is a session, an [`Inferlet`] one of its inferlets.
//!
//! A task owns the connection. When that is lost it connects anew and resumes the session: calls that were under way are
//! answered, events go on behind the last that came, none is missed and none comes twice. Only when the session itself is over do
//! calls fail with [`ClientError::Lost`].
//!
//! Events are acknowledged when they are taken. Who takes none fills their log at the server, which then holds the program
//! up: nothing waits here but what the server keeps too.

mod connection;
mod inferlet;
mod link;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Answer, Call, DescribedProgram, ErrorCode, Failure, Input, Limits, ListedInferlet, ListedProgram,
    ModelPages, Numbered, Usage,
};
use connection::Command;
pub use inferlet::{Inferlet, Sender};

/// Where a server is, and how to come to it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its address: `http://127.0.0.1:8080`, or with `https`, `ws` or `wss`.
    pub server: String,
    /// The key, where the server wants one.
    pub key: Option<String>,
    /// Who the client is, for the server's log.
    pub client: String,
    /// How long one attempt to connect may take. Default: 10 s.
    pub connect: Duration,
    /// How long to go on trying when the connection is lost; the server's lease is the other bound. Default: 60 s.
    pub patience: Duration,
}

impl Options {
    /// The usual options for a server.
    pub fn new(server: impl Into<String>) -> Options {
        Options {
            server: server.into(),
            key: None,
            client: concat!("pie-rust/", env!("CARGO_PKG_VERSION")).into(),
            connect: Duration::from_secs(10),
            patience: Duration::from_secs(60),
        }
    }
}

/// Why a client cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{0}` is no address of a server: expected for instance `http://127.0.0.1:8080`")]
    Address(String),
    /// Nothing answers there, or no session.
    #[error("cannot open a session at {server}: {reason}")]
    Connect {
        /// The address.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The server refused the key.
    #[error("the server refused the key: {0}")]
    Key(String),
    /// The session is over: the connection was lost for too long, or another client has resumed it.
    #[error("the session is over: {0}")]
    Lost(String),
    /// The server refused a call, or failed.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// What the server says is not of this protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(String),
    /// A file cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    File {
        /// The file.
        path: String,
        /// The system's error.
        reason: String,
    },
}

impl ClientError {
    /// The code of the server's error, if it is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused(failure) => Some(failure.code),
            _ => None,
        }
    }
}

/// A session. Cloning gives another handle to the same one; with the last handle, and the last of its inferlets, it ends.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

/// What handles and inferlets share.
struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    user: String,
    limits: Limits,
}

impl Client {
    /// Opens a session.
    ///
    /// # Errors
    /// When nothing answers at the address, or the server refuses the key or the version.
    pub async fn connect(options: Options) -> Result<Client, ClientError> {
        let opened = link::open(&options, None).await?;
        Ok(Client::of(options, opened))
    }

    /// Opens a session over a stream that the server's side has already, as one within a process. When the stream ends, the
    /// session is over: there is no address to come back to.
    ///
    /// # Errors
    /// When the other side refuses the session, or says nothing in 10 s.
    pub async fn over<S>(stream: S, client: &str) -> Result<Client, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let options =
            Options { client: client.into(), patience: Duration::ZERO, ..Options::new("this process") };
        let opened = tokio::time::timeout(options.connect, link::over(&options, Box::new(stream))).await;
        let silent = |_| ClientError::Lost(format!("nothing came in {:?}", options.connect));
        let opened = opened.map_err(silent)??;
        Ok(Client::of(options, opened))
    }

    fn of(options: Options, opened: link::Opened) -> Client {
        let (commands, received) = mpsc::unbounded_channel();
        let handle = Handle { commands, user: opened.user.clone(), limits: opened.limits.clone() };
        tokio::spawn(connection::run(options, opened, received));
        Client(Arc::new(handle))
    }

    /// The user of the session.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// What the server allows.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// When the server refuses it, or the session is over.
    pub async fn call(&self, call: Call) -> Result<Answer, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Call { call, answer })?;
        answered.await.map_err(|_| over())?
    }

    /// Asks something of the task. What it answers bounds how much is asked.
    fn command(&self, command: Command) -> Result<(), ClientError> {
        self.0.commands.send(command).map_err(|_| over())
    }

    /// Starts a program, by name or by hash.
    ///
    /// # Errors
    /// When the server refuses it, or the session is over.
    pub async fn launch(&self, program: &str, arguments: &[String]) -> Result<Inferlet, ClientError> {
        let (program, arguments) = (program.to_string(), arguments.to_vec());
        self.watched(Call::Launch { program, arguments, detached: false }).await
    }

    /// Starts a program that goes on without this session. Gives its id.
    ///
    /// # Errors
    /// As [`Client::launch`].
    pub async fn launch_detached(&self, program: &str, arguments: &[String]) -> Result<String, ClientError> {
        let (program, arguments) = (program.to_string(), arguments.to_vec());
        match self.call(Call::Launch { program, arguments, detached: true }).await? {
            Answer::Launched { inferlet } => Ok(inferlet),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes the events of an inferlet, behind number `after` or from the first that are kept.
    ///
    /// # Errors
    /// When there is no such inferlet or some events are gone, or the session is over.
    pub async fn attach(&self, inferlet: &str, after: Option<u64>) -> Result<Inferlet, ClientError> {
        self.watched(Call::Attach { inferlet: inferlet.to_string(), after }).await
    }

    /// Makes a call that gives an inferlet.
    async fn watched(&self, call: Call) -> Result<Inferlet, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Watch { call, answer })?;
        let begun = answered.await.map_err(|_| over())??;
        Ok(Inferlet::new(self.clone(), begun))
    }

    /// The events of an inferlet that are kept now. They stay: nothing is acknowledged. The session remains attached until it
    /// ends, so it is best one of its own.
    ///
    /// # Errors
    /// As [`Client::attach`].
    pub async fn peek(&self, inferlet: &str) -> Result<Vec<Numbered>, ClientError> {
        let mut inferlet = self.attach(inferlet, None).await?;
        inferlet.peek().await
    }

    /// Ends an inferlet of the user, by its id or a beginning of it.
    ///
    /// # Errors
    /// When there is no such inferlet, or the session is over.
    pub async fn terminate(&self, inferlet: &str) -> Result<(), ClientError> {
        self.done(Call::Terminate { inferlet: inferlet.to_string() }).await
    }

    /// The inferlets of the user.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn list(&self) -> Result<Vec<ListedInferlet>, ClientError> {
        match self.call(Call::List).await? {
            Answer::Inferlets { inferlets } => Ok(inferlets),
            other => Err(unexpected(&other)),
        }
    }

    /// Pages of each model's pool that the user's inferlets hold, and the contexts of one of them.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn pages(&self, inferlet: Option<&str>) -> Result<Vec<ModelPages>, ClientError> {
        match self.call(Call::Pages { inferlet: inferlet.map(str::to_string) }).await? {
            Answer::Pages { models } => Ok(models),
            other => Err(unexpected(&other)),
        }
    }

    /// The programs that the user can launch.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn programs(&self) -> Result<Vec<ListedProgram>, ClientError> {
        match self.call(Call::Programs).await? {
            Answer::Programs { programs } => Ok(programs),
            other => Err(unexpected(&other)),
        }
    }

    /// What a program says of itself, by name or by hash.
    ///
    /// # Errors
    /// When there is none, or the session is over.
    pub async fn describe(&self, program: &str) -> Result<DescribedProgram, ClientError> {
        match self.call(Call::Describe { program: program.to_string() }).await? {
            Answer::Described(described) => Ok(described),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives an uploaded program a name, `NAME@VERSION`.
    ///
    /// # Errors
    /// When the server refuses it, or the session is over.
    pub async fn install(&self, hash: &str, name: &str) -> Result<(), ClientError> {
        self.done(Call::Install { hash: hash.to_string(), name: name.to_string() }).await
    }

    /// Takes away a name, or by its hash a program.
    ///
    /// # Errors
    /// When there is none, or the session is over.
    pub async fn remove(&self, program: &str) -> Result<(), ClientError> {
        self.done(Call::Remove { program: program.to_string() }).await
    }

    /// What the user has taken.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn usage(&self) -> Result<Usage, ClientError> {
        match self.call(Call::Usage).await? {
            Answer::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// The metrics of the server: an object with `metrics`, as its `/stats` has them.
    ///
    /// # Errors
    /// When the key does not show them, or the session is over.
    pub async fn stats(&self) -> Result<serde_json::Value, ClientError> {
        match self.call(Call::Stats).await? {
            Answer::Stats { stats } => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a text to an inferlet of the user, by its id or a beginning of it; waits until it is in the inferlet's queue.
    ///
    /// # Errors
    /// When there is no such inferlet or it has ended, or the session is over.
    pub async fn send(&self, inferlet: &str, text: impl Into<String>) -> Result<(), ClientError> {
        let (inferlet, message) = (inferlet.to_string(), Input::Text { text: text.into() });
        self.done(Call::Send { inferlet, message }).await
    }

    /// Makes a call whose answer is that it is done.
    async fn done(&self, call: Call) -> Result<(), ClientError> {
        match self.call(call).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the session, and waits until the server has been told: what it has launched and not detached ends.
    pub async fn close(self) {
        let (told, done) = oneshot::channel();
        if self.command(Command::Close { told }).is_ok() {
            // Lost: then the server ends it when the lease is over.
            let _ = done.await;
        }
    }

    /// Drops the connection and lets the session be resumed, as if it had been lost.
    #[doc(hidden)]
    pub fn interrupt(&self) {
        // When the session is over there is nothing to interrupt.
        let _ = self.command(Command::Interrupt);
    }
}

fn over() -> ClientError {
    ClientError::Lost("its task has ended".into())
}

fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Protocol(format!("an answer of another kind came: {answer:?}"))
}
