//! A running server, as commands ask it: over HTTP, or in a session.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use protocol::Event;
use protocol::client::{Client, ClientError, Options, Sender};
use reqwest::Response;

use crate::output;

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

/// Flags of commands that do something on this machine, or on a server.
#[derive(Args)]
pub(crate) struct ElsewhereFlags {
    /// Do it on a server: its address, for instance http://10.0.0.2:8080.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Key to show to the server, where it wants one. Also: PIE_KEY.
    #[arg(long, requires = "server")]
    key: Option<String>,
}

impl ElsewhereFlags {
    /// A session on the server; none where this machine is meant.
    ///
    /// # Errors
    /// When there is no server, or it refuses the key.
    pub(crate) async fn session(self) -> Result<Option<Client>> {
        match self.server {
            Some(server) => Remote::new(&server, self.key).session().await.map(Some),
            None => Ok(None),
        }
    }
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

    /// A session there.
    ///
    /// # Errors
    /// When there is no server, or it refuses the key.
    pub(crate) async fn session(self) -> Result<Client> {
        self.remote().session().await
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
    pub(crate) async fn session(self) -> Result<Client> {
        let client = concat!("pie/", env!("CARGO_PKG_VERSION")).to_string();
        let options = Options { key: self.key, client, ..Options::new(&self.address) };
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
            .user_agent(concat!("pie/", env!("CARGO_PKG_VERSION")))
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
