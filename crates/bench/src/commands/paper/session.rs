//! Launches over the wire: one session, WebSocket at `/v1/session`, as an application that launches programs has it.

use std::time::Instant;

use anyhow::{anyhow, ensure};
use futures::future::try_join_all;
use protocol::client::Client;
use tokio::runtime::{Builder, Runtime};

use super::pie::Pie;

/// A session with a server.
pub struct Session {
    runtime: Runtime,
    client: Client,
}

/// Seconds of launches at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launched {
    /// Until the server has answered the last launch.
    pub answered: f64,
    /// Until the last program has ended.
    pub ended: f64,
}

impl Session {
    /// Opens one.
    ///
    /// # Errors
    /// When nothing answers, or the server refuses the key.
    pub fn open(pie: &Pie) -> anyhow::Result<Session> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(pie.session_options()))?;
        Ok(Session { runtime, client })
    }

    /// Launches a program so often at once, and waits until all have ended with an empty result.
    ///
    /// # Errors
    /// The first that was refused, failed or has another result.
    pub fn launches(&self, program: &str, count: usize) -> anyhow::Result<Launched> {
        let client = &self.client;
        let start = Instant::now();
        let launch = || async move {
            let mut inferlet = client.launch(program, &[]).await?;
            let answered = start.elapsed();
            let result = inferlet.outcome().await?.map_err(|failure| anyhow!("`{program}`: {failure}"))?;
            ensure!(result.is_empty(), "`{program}`: found the result `{result}`, expected none");
            anyhow::Ok(answered)
        };
        let answered = self.runtime.block_on(try_join_all((0..count).map(|_| launch())))?;
        let ended = start.elapsed().as_secs_f64();
        let answered = answered.into_iter().max().unwrap_or_default().as_secs_f64();
        Ok(Launched { answered, ended })
    }
}
