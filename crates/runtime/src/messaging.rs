//! Topics and queues between the inferlets of a user.
//!
//! A topic reaches every subscription that exists when a message is broadcast; `keep` also keeps it for later ones.
//! A queue gives each message to one taker, and holds it until somebody takes it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, mpsc};

use crate::error::{ApiError, check_length};

/// Messages that wait for one subscription; the oldest is dropped for a new one, and the loss reported.
const SUBSCRIPTION_MESSAGES: usize = 4096;
/// Messages kept for a topic; the oldest is dropped for a new one.
const KEPT_MESSAGES: usize = 1024;
/// Messages in a queue; a push waits while it is full.
const QUEUE_MESSAGES: usize = 4096;
/// Topics and queues of one user that hold something.
const NAMES: usize = 4096;
/// Bytes of a message and of a name.
const MESSAGE_BYTES: usize = 1 << 20;
const NAME_BYTES: usize = 256;

type Name = (String, String);

/// The topics and queues of all users.
#[derive(Default)]
pub(crate) struct Broker {
    topics: Mutex<HashMap<Name, Topic>>,
    queues: Mutex<HashMap<Name, Queue>>,
}

#[derive(Default)]
struct Topic {
    kept: VecDeque<Arc<str>>,
    listeners: Vec<Weak<Listener>>,
}

#[derive(Clone)]
struct Queue {
    push: mpsc::Sender<String>,
    pull: Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>,
}

/// A subscription's own queue.
#[derive(Default)]
pub(crate) struct Listener {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<str>>,
    lost: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The collections are valid at any moment; a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    fn deliver(&self, message: Arc<str>) {
        let mut waiting = lock(&self.waiting);
        if waiting.messages.len() == SUBSCRIPTION_MESSAGES {
            waiting.messages.pop_front();
            waiting.lost += 1;
        }
        waiting.messages.push_back(message);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The next message; waits for one.
    pub(crate) async fn next(&self) -> Result<String, ApiError> {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                if waiting.lost > 0 {
                    let lost = std::mem::take(&mut waiting.lost);
                    return Err(ApiError::LimitExceeded(format!(
                        "{lost} messages were dropped for this listener"
                    )));
                }
                if let Some(message) = waiting.messages.pop_front() {
                    if !waiting.messages.is_empty() {
                        self.arrived.notify_one();
                    }
                    return Ok(message.to_string());
                }
            }
            self.arrived.notified().await;
        }
    }
}

fn name(user: &str, name: String) -> Result<Name, ApiError> {
    check_length("the name", name.len(), NAME_BYTES)?;
    Ok((user.to_string(), name))
}

fn room<T>(user: &str, map: &HashMap<Name, T>, key: &Name) -> Result<(), ApiError> {
    let full = !map.contains_key(key) && map.keys().filter(|(u, _)| u == user).count() >= NAMES;
    match full {
        true => Err(ApiError::LimitExceeded(format!("the user has {NAMES} topics or queues already"))),
        false => Ok(()),
    }
}

impl Broker {
    /// Sends to every subscription; with `keep`, also to those who come later and ask.
    pub(crate) fn broadcast(
        &self,
        user: &str,
        topic: String,
        message: &str,
        keep: bool,
    ) -> Result<(), ApiError> {
        check_length("the message", message.len(), MESSAGE_BYTES)?;
        let key = name(user, topic)?;
        let message: Arc<str> = message.into();
        let mut topics = lock(&self.topics);
        if !keep && !topics.contains_key(&key) {
            return Ok(());
        }
        room(user, &topics, &key)?;
        let entry = topics.entry(key).or_default();
        entry.listeners.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                listener.deliver(message.clone());
                true
            }
            None => false,
        });
        if keep {
            if entry.kept.len() == KEPT_MESSAGES {
                entry.kept.pop_front();
            }
            entry.kept.push_back(message);
        }
        Ok(())
    }

    /// A new subscription; with `kept`, it begins with what was kept.
    pub(crate) fn subscribe(&self, user: &str, topic: String, kept: bool) -> Result<Arc<Listener>, ApiError> {
        let key = name(user, topic)?;
        let mut topics = lock(&self.topics);
        // A kept topic stays, but not what is left of listeners that were dropped.
        topics.retain(|_, topic| {
            topic.listeners.retain(|listener| listener.strong_count() > 0);
            !topic.kept.is_empty() || !topic.listeners.is_empty()
        });
        room(user, &topics, &key)?;
        let entry = topics.entry(key).or_default();
        let listener = Arc::new(Listener::default());
        if kept {
            lock(&listener.waiting).messages.extend(entry.kept.iter().cloned());
            listener.arrived.notify_one();
        }
        entry.listeners.push(Arc::downgrade(&listener));
        Ok(listener)
    }

    fn queue(&self, user: &str, queue: String) -> Result<Queue, ApiError> {
        let key = name(user, queue)?;
        let mut queues = lock(&self.queues);
        // A queue nobody waits on and with nothing in it is forgotten.
        queues.retain(|_, q| q.push.capacity() < QUEUE_MESSAGES || Arc::strong_count(&q.pull) > 1);
        room(user, &queues, &key)?;
        let new = || {
            let (push, pull) = mpsc::channel(QUEUE_MESSAGES);
            Queue { push, pull: Arc::new(tokio::sync::Mutex::new(pull)) }
        };
        Ok(queues.entry(key).or_insert_with(new).clone())
    }

    /// Appends to a queue; waits while it is full.
    pub(crate) async fn push(&self, user: &str, queue: String, message: String) -> Result<(), ApiError> {
        check_length("the message", message.len(), MESSAGE_BYTES)?;
        let queue = self.queue(user, queue)?;
        queue.push.send(message).await.map_err(|_| ApiError::Closed("the queue is gone".into()))
    }

    /// Takes the oldest message; waits for one. Cancelled, it takes none.
    pub(crate) async fn pull(&self, user: &str, queue: String) -> Result<String, ApiError> {
        let queue = self.queue(user, queue)?;
        let message = queue.pull.lock().await.recv().await;
        message.ok_or_else(|| ApiError::Closed("the queue is gone".into()))
    }

    /// Subscriptions that somebody holds, and calls that use a queue.
    pub(crate) fn held(&self) -> (usize, usize) {
        let of_topic = |topic: &Topic| topic.listeners.iter().filter(|l| l.strong_count() > 0).count();
        let listeners = lock(&self.topics).values().map(of_topic).sum();
        let calls = lock(&self.queues).values().map(|queue| Arc::strong_count(&queue.pull) - 1).sum();
        (listeners, calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_subscription_gets_what_was_kept_in_order() {
        let broker = Broker::default();
        broker.broadcast("ann", "t".into(), "lost", false).unwrap();
        broker.broadcast("ann", "t".into(), "one", true).unwrap();
        let late = broker.subscribe("ann", "t".into(), true).unwrap();
        broker.broadcast("ann", "t".into(), "two", false).unwrap();
        broker.broadcast("bob", "t".into(), "not for ann", true).unwrap();
        assert_eq!((late.next().await.unwrap(), late.next().await.unwrap()), ("one".into(), "two".into()));
    }

    #[tokio::test]
    async fn a_slow_subscription_is_told_what_it_lost() {
        let broker = Broker::default();
        let slow = broker.subscribe("ann", "t".into(), false).unwrap();
        for i in 0..SUBSCRIPTION_MESSAGES + 3 {
            broker.broadcast("ann", "t".into(), &i.to_string(), false).unwrap();
        }
        assert!(matches!(slow.next().await, Err(ApiError::LimitExceeded(text)) if text.starts_with('3')));
        assert_eq!(slow.next().await.unwrap(), "3");
    }

    #[test]
    fn subscriptions_that_come_and_go_leave_nothing() {
        let broker = Broker::default();
        broker.broadcast("ann", "t".into(), "kept", true).unwrap();
        for _ in 0..1000 {
            drop(broker.subscribe("ann", "t".into(), true).unwrap());
        }
        let listeners: usize = lock(&broker.topics).values().map(|topic| topic.listeners.len()).sum();
        assert!(listeners <= 1, "{listeners} listeners of a topic that nobody hears");
    }

    #[tokio::test]
    async fn a_cancelled_pull_loses_nothing() {
        let broker = Arc::new(Broker::default());
        let pull = tokio::spawn({
            let broker = broker.clone();
            async move { broker.pull("ann", "q".into()).await }
        });
        tokio::task::yield_now().await;
        pull.abort();
        pull.await.unwrap_err();
        broker.push("ann", "q".into(), "m".into()).await.unwrap();
        assert_eq!(broker.pull("ann", "q".into()).await.unwrap(), "m");
    }
}
