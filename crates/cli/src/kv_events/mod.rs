//! Tells subscribers which blocks are in the prefix cache, in the format of vLLM's KV events, over a ZeroMQ PUB socket:
//! docs/kv-events.md.
//!
//! ```text
//! engine's thread ──changes──> queue of each model ──> hashes, MessagePack ──> [topic, number, batch] ──> subscribers
//! ```
//! The engine never waits: when the queue is full, what it would have told is lost, and once there is room all blocks are told
//! as cleared and stored again. With no endpoint nothing of this is there.

mod chain;
mod message;
mod zmtp;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use scheduler::{PrefixEvent, PrefixWatcher};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use chain::Chains;
use zmtp::PubSocket;

use crate::config::KvEventSettings;

/// Batches of changes that wait, of all models. Each has those of one batch of the engine.
const WAITING: usize = 1024;

/// The changes of a model.
type Changes = (usize, Vec<PrefixEvent>);

/// What the engine of one model tells.
struct Watcher {
    model: usize,
    changes: mpsc::Sender<Changes>,
}

impl PrefixWatcher for Watcher {
    fn has_room(&self) -> bool {
        self.changes.capacity() > 0
    }

    fn tell(&mut self, events: Vec<PrefixEvent>) -> bool {
        self.changes.try_send((self.model, events)).is_ok()
    }
}

/// The publisher, while models are loaded.
pub(crate) struct Publisher {
    socket: PubSocket,
    topic: String,
    sender: mpsc::Sender<Changes>,
    changes: mpsc::Receiver<Changes>,
    /// The topic of each model, and its blocks.
    models: Vec<(String, Chains)>,
}

impl Publisher {
    /// Listens, if the operator wants it.
    ///
    /// # Errors
    /// When the endpoint cannot be listened on.
    pub(crate) async fn bind(settings: &KvEventSettings) -> Result<Option<Publisher>> {
        let Some(address) = settings.address() else { return Ok(None) };
        let listener = TcpListener::bind(&address).await;
        let listener =
            listener.with_context(|| format!("`kv_events.endpoint`: cannot listen on {address}"))?;
        tracing::info!(address, "publishing KV events");
        let (sender, changes) = mpsc::channel(WAITING);
        let (socket, topic) = (PubSocket::new(listener), settings.topic.clone());
        Ok(Some(Publisher { socket, topic, sender, changes, models: Vec::new() }))
    }

    /// Who is to watch the engine of a model.
    pub(crate) fn watcher(&self) -> Box<dyn PrefixWatcher> {
        Box::new(Watcher { model: self.models.len(), changes: self.sender.clone() })
    }

    /// Says what the model of the last watcher is.
    pub(crate) fn add_model(&mut self, name: &str, fingerprint: &str) {
        self.models.push((self.topic.replace("{model}", name), Chains::new(fingerprint.to_string())));
    }

    /// Publishes from now on, until the task is aborted.
    pub(crate) fn start(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut number = 0u64;
            while let Some((model, changes)) = self.changes.recv().await {
                let (topic, chains) = &mut self.models[model];
                let events = chains.events(changes);
                if events.is_empty() {
                    continue;
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let batch = message::encode(now.as_secs_f64(), &events);
                self.socket.send([topic.clone().into_bytes(), number.to_be_bytes().to_vec(), batch]);
                number += 1;
            }
        })
    }
}
