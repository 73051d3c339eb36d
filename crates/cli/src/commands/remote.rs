//! A running server, as commands ask it over HTTP.

use std::time::Duration;

use clap::Args;
use reqwest::Response;

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
        let key = self.key.or_else(|| std::env::var("PIE_KEY").ok()).filter(|key| !key.is_empty());
        Remote { address: self.server.trim_end_matches('/').to_string(), key }
    }
}

impl Remote {
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
