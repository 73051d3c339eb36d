//! A running server, as commands ask it: over HTTP, or in a session.
//!
//! What a command does in a session stands with [`InSession`], so that the command line and the shell have the same commands:
//! there with [`OnServer`] or [`Elsewhere`] around it, here as it is.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use protocol::Event;
use protocol::client::{Client, ClientError, Options, Sender};
use reqwest::Response;

use crate::{output, progress};

/// Who asks, for the server's log.
pub(crate) const CLIENT: &str = concat!("pie/", env!("CARGO_PKG_VERSION"));

/// A command that can be done in a session.
pub(crate) trait InSession: Args {
    /// Does it, and prints what comes of it.
    ///
    /// # Errors
    /// When the server refuses it, or the session is over.
    async fn perform(self, client: &Client) -> Result<()>;

    /// Does it in a session of its own, which ends with it.
    ///
    /// # Errors
    /// Those of [`InSession::perform`].
    async fn perform_in(self, client: Client) -> Result<()> {
        let done = self.perform(&client).await;
        client.close().await;
        done
    }
}

/// A command that can be done on this machine as well.
pub(crate) trait Here: InSession {
    /// Does it on this machine, and prints what comes of it.
    ///
    /// # Errors
    /// Why it cannot be done.
    async fn perform_here(self) -> Result<()>;
}

/// A command, and the server for it.
#[derive(Args)]
pub(crate) struct OnServer<T: InSession> {
    #[command(flatten)]
    what: T,
    #[command(flatten)]
    server: ServerFlags,
}

impl<T: InSession> OnServer<T> {
    /// Does it on the server.
    ///
    /// # Errors
    /// When there is no server, or it refuses.
    pub(crate) async fn perform(self) -> Result<()> {
        self.what.perform_in(self.server.remote().session().await?).await
    }
}

/// A command, and the server for it where this machine is not meant.
#[derive(Args)]
pub(crate) struct Elsewhere<T: Here> {
    #[command(flatten)]
    what: T,
    /// Do it on a server: its address, for instance http://10.0.0.2:8080.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Key to show to the server, where it wants one. Also: PIE_KEY.
    #[arg(long, requires = "server")]
    key: Option<String>,
}

impl<T: Here> Elsewhere<T> {
    /// Does it there or here.
    ///
    /// # Errors
    /// When there is no server or it refuses, or it cannot be done here.
    pub(crate) async fn perform(self) -> Result<()> {
        match self.server {
            Some(server) => self.what.perform_in(Remote::new(&server, self.key).session().await?).await,
            None => self.what.perform_here().await,
        }
    }
}

/// Flags of commands that ask a server.
#[derive(Args)]
pub(crate) struct ServerFlags {
    /// Address of the server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// Key to show to the server, where it wants one. Also: PIE_KEY.
    #[arg(long)]
    key: Option<String>,
}

/// A server, and the key for it.
pub(crate) struct Remote {
    /// Its address, without a slash at its end.
    pub(crate) address: String,
    key: Option<String>,
}

impl ServerFlags {
    /// The server, with the key of the flag or the environment.
    pub(crate) fn remote(self) -> Remote {
        Remote::new(&self.server, self.key)
    }
}

/// Sends each line of stdin to an inferlet as a message. `ends`: whether its end ends the inferlet's input.
pub(crate) fn forward_stdin(input: Sender, ends: bool) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if runtime.block_on(input.send(line)).is_err() {
                return;
            }
        }
        if ends {
            // One that has ended takes none anyway.
            let _ = runtime.block_on(input.end());
        }
    });
}

/// The file of a program, uploaded in a session. Its hash.
///
/// # Errors
/// When it cannot be read, or the server refuses it.
pub(crate) async fn upload(client: &Client, component: &Path, keep: bool) -> Result<String> {
    let bar = progress::bytes(&format!("uploading {}", component.display()), Some(0));
    let report = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let uploaded = match keep {
        true => client.keep_file(component, report).await,
        false => client.upload_file(component, report).await,
    };
    bar.finish_and_clear();
    Ok(uploaded?)
}

/// Prints an event that is not the last, as `pie run` does; of the last, nothing.
pub(crate) fn print_event(event: &Event) -> Result<()> {
    output::event(match event {
        Event::Text { text } => output::Part::Text(text),
        Event::Stdout { data } => output::Part::Stdout(&data.0),
        Event::Stderr { data } => output::Part::Stderr(&data.0),
        Event::Blob { data } => output::Part::Blob(data.0.len()),
        Event::Result { .. } | Event::Error { .. } => return Ok(()),
    })
}

/// Prints what an inferlet sends until it ends.
///
/// # Errors
/// When it ends without a result, or the session is over.
pub(crate) async fn stream(inferlet: &mut protocol::client::Inferlet) -> Result<()> {
    while let Some(next) = inferlet.next().await? {
        print_event(&next.event)?;
    }
    output::result(inferlet.outcome().await?)
}

impl Remote {
    /// A server, and a key from a flag or the environment.
    pub(crate) fn new(server: &str, key: Option<String>) -> Remote {
        let key = key.or_else(|| std::env::var("PIE_KEY").ok()).filter(|key| !key.is_empty());
        Remote { address: server.trim_end_matches('/').to_string(), key }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When there is no server, or it refuses the key.
    pub(crate) async fn session(&self) -> Result<Client> {
        let client = CLIENT.to_string();
        let options = Options { key: self.key.clone(), client, ..Options::new(&self.address) };
        let way_out = |error: &ClientError| match error {
            ClientError::Key(_) => "give a key of `pie key add` with `--key` or in PIE_KEY".to_string(),
            _ => format!("is there a server at {}? Start one with `pie serve`", self.address),
        };
        Client::connect(options).await.map_err(|error| {
            let way_out = way_out(&error);
            anyhow::Error::from(error).context(way_out)
        })
    }

    /// Sends a GET: so long may it take to connect, and so long may nothing come.
    ///
    /// # Errors
    /// When the address is none, or nothing answers in time.
    pub(crate) async fn get(
        &self,
        path: &str,
        connect: Duration,
        read: Duration,
    ) -> Result<Response, reqwest::Error> {
        // Fails when a provider is already there, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(CLIENT)
            .connect_timeout(connect)
            .read_timeout(read)
            .build()?;
        let mut request = client.get(format!("{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        request.send().await
    }
}
