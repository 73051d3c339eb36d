//! Topics and queues between the inferlets of a user.
//!
//! A topic reaches every subscription that exists when a message is broadcast; `keep` also keeps it for later ones.
//! A queue gives each message to one taker, and holds it until somebody takes it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, mpsc};

use crate::account::{Account, Taken};
use crate::error::{ApiError, check_length};

/// Messages that wait for one subscription; the oldest is dropped for a new one, and the loss reported.
const SUBSCRIPTION_MESSAGES: usize = 4096;
/// Messages kept for a topic; the oldest is dropped for a new one.
const KEPT_MESSAGES: usize = 1024;
/// Messages in a queue; a push waits while it is full.
const QUEUE_MESSAGES: usize = 4096;
/// Topics, and queues, that hold something.
const NAMES: usize = 4096;
/// Subscriptions, of all topics.
const SUBSCRIPTIONS: usize = 16384;
/// Bytes of a message and of a name.
const MESSAGE_BYTES: usize = 1 << 20;
const NAME_BYTES: usize = 256;

/// The topics and queues of one user. What they hold counts as the user's host memory.
pub(crate) struct Broker {
    memory: Arc<Account>,
    topics: Mutex<HashMap<String, Topic>>,
    queues: Mutex<HashMap<String, Queue>>,
}

/// A message, and its bytes in the user's account.
struct Message {
    text: Box<str>,
    _held: Taken,
}

#[derive(Default)]
struct Topic {
    kept: VecDeque<Arc<Message>>,
    listeners: Vec<Weak<Listener>>,
}

#[derive(Clone)]
struct Queue {
    push: mpsc::Sender<Message>,
    pull: Arc<tokio::sync::Mutex<mpsc::Receiver<Message>>>,
}

/// A subscription's own queue.
#[derive(Default)]
pub(crate) struct Listener {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    lost: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The collections are valid at any moment; a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    fn deliver(&self, message: Arc<Message>) {
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
                    return Ok(message.text.to_string());
                }
            }
            self.arrived.notified().await;
        }
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    check_length("the name", name.len(), NAME_BYTES)
}

fn room<T>(map: &HashMap<String, T>, name: &str) -> Result<(), ApiError> {
    match map.len() >= NAMES && !map.contains_key(name) {
        true => Err(ApiError::LimitExceeded(format!("the user has {NAMES} topics or queues already"))),
        false => Ok(()),
    }
}

impl Broker {
    /// What the topics and queues hold is taken from this account.
    pub(crate) fn new(memory: Arc<Account>) -> Broker {
        Broker { memory, topics: Mutex::default(), queues: Mutex::default() }
    }

    fn message(&self, text: &str) -> Result<Message, ApiError> {
        check_length("the message", text.len(), MESSAGE_BYTES)?;
        let held = self.memory.take((text.len() + size_of::<Message>()) as u64)?;
        Ok(Message { text: text.into(), _held: held })
    }

    /// Sends to every subscription; with `keep`, also to those who come later and ask.
    pub(crate) fn broadcast(&self, topic: String, message: &str, keep: bool) -> Result<(), ApiError> {
        check_name(&topic)?;
        let message = Arc::new(self.message(message)?);
        let mut topics = lock(&self.topics);
        if !keep && !topics.contains_key(&topic) {
            return Ok(());
        }
        room(&topics, &topic)?;
        let entry = topics.entry(topic).or_default();
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
    pub(crate) fn subscribe(&self, topic: String, kept: bool) -> Result<Arc<Listener>, ApiError> {
        check_name(&topic)?;
        let mut topics = lock(&self.topics);
        // A kept topic stays, but not what is left of listeners that were dropped.
        topics.retain(|_, topic| {
            topic.listeners.retain(|listener| listener.strong_count() > 0);
            !topic.kept.is_empty() || !topic.listeners.is_empty()
        });
        room(&topics, &topic)?;
        if topics.values().map(|topic| topic.listeners.len()).sum::<usize>() >= SUBSCRIPTIONS {
            let reason = format!("the user has {SUBSCRIPTIONS} subscriptions already");
            return Err(ApiError::LimitExceeded(reason));
        }
        let entry = topics.entry(topic).or_default();
        let listener = Arc::new(Listener::default());
        if kept {
            lock(&listener.waiting).messages.extend(entry.kept.iter().cloned());
            listener.arrived.notify_one();
        }
        entry.listeners.push(Arc::downgrade(&listener));
        Ok(listener)
    }

    /// Drops what is kept of a topic. Subscriptions get what they have not taken yet all the same.
    pub(crate) fn forget(&self, topic: &str) -> Result<(), ApiError> {
        check_name(topic)?;
        if let Some(topic) = lock(&self.topics).get_mut(topic) {
            topic.kept = VecDeque::new();
        }
        Ok(())
    }

    fn queue(&self, name: String) -> Result<Queue, ApiError> {
        check_name(&name)?;
        let mut queues = lock(&self.queues);
        // A queue nobody waits on and with nothing in it is forgotten.
        queues.retain(|_, q| q.push.capacity() < QUEUE_MESSAGES || Arc::strong_count(&q.pull) > 1);
        room(&queues, &name)?;
        let new = || {
            let (push, pull) = mpsc::channel(QUEUE_MESSAGES);
            Queue { push, pull: Arc::new(tokio::sync::Mutex::new(pull)) }
        };
        Ok(queues.entry(name).or_insert_with(new).clone())
    }

    /// Appends to a queue; waits while it is full.
    pub(crate) async fn push(&self, queue: String, message: String) -> Result<(), ApiError> {
        let message = self.message(&message)?;
        let queue = self.queue(queue)?;
        queue.push.send(message).await.map_err(|_| ApiError::Closed("the queue is gone".into()))
    }

    /// Takes the oldest message; waits for one. Cancelled, it takes none.
    pub(crate) async fn pull(&self, queue: String) -> Result<String, ApiError> {
        let queue = self.queue(queue)?;
        let message = queue.pull.lock().await.recv().await;
        message.map(|message| message.text.into()).ok_or_else(|| ApiError::Closed("the queue is gone".into()))
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

    fn broker(bytes: u64) -> Broker {
        Broker::new(Account::root("the user", "bytes", bytes))
    }

    #[tokio::test]
    async fn a_late_subscription_gets_what_was_kept_in_order() {
        let broker = broker(1 << 30);
        broker.broadcast("t".into(), "lost", false).unwrap();
        broker.broadcast("t".into(), "one", true).unwrap();
        let late = broker.subscribe("t".into(), true).unwrap();
        broker.broadcast("t".into(), "two", false).unwrap();
        assert_eq!((late.next().await.unwrap(), late.next().await.unwrap()), ("one".into(), "two".into()));
    }

    #[tokio::test]
    async fn a_slow_subscription_is_told_what_it_lost() {
        let broker = broker(1 << 30);
        let slow = broker.subscribe("t".into(), false).unwrap();
        for i in 0..SUBSCRIPTION_MESSAGES + 3 {
            broker.broadcast("t".into(), &i.to_string(), false).unwrap();
        }
        assert!(matches!(slow.next().await, Err(ApiError::LimitExceeded(text)) if text.starts_with('3')));
        assert_eq!(slow.next().await.unwrap(), "3");
    }

    #[test]
    fn subscriptions_that_come_and_go_leave_nothing() {
        let broker = broker(1 << 20);
        broker.broadcast("t".into(), "kept", true).unwrap();
        for _ in 0..1000 {
            drop(broker.subscribe("t".into(), true).unwrap());
        }
        let listeners: usize = lock(&broker.topics).values().map(|topic| topic.listeners.len()).sum();
        assert!(listeners <= 1, "{listeners} listeners of a topic that nobody hears");
    }

    #[tokio::test]
    async fn a_cancelled_pull_loses_nothing() {
        let broker = Arc::new(broker(1 << 30));
        let pull = tokio::spawn({
            let broker = broker.clone();
            async move { broker.pull("q".into()).await }
        });
        tokio::task::yield_now().await;
        pull.abort();
        pull.await.unwrap_err();
        broker.push("q".into(), "m".into()).await.unwrap();
        assert_eq!(broker.pull("q".into()).await.unwrap(), "m");
    }

    #[tokio::test]
    async fn what_is_kept_is_paid_for_until_it_is_taken_or_forgotten() {
        let broker = broker(1 << 20);
        let half = "m".repeat(500 << 10);
        let refused = |result| assert!(matches!(result, Err(ApiError::LimitExceeded(_))), "{result:?}");
        broker.broadcast("t".into(), &half, true).unwrap();
        broker.push("q".into(), half.clone()).await.unwrap();
        refused(broker.broadcast("t".into(), &half, false));
        refused(broker.push("q".into(), half.clone()).await);
        broker.pull("q".into()).await.unwrap();
        broker.push("q".into(), half.clone()).await.unwrap();
        broker.forget("t").unwrap();
        broker.broadcast("t".into(), &half, true).unwrap();
        // One message, however many wait for it.
        let listeners = [(); 3].map(|()| broker.subscribe("t".into(), true).unwrap());
        broker.forget("t").unwrap();
        refused(broker.broadcast("t".into(), &half, true));
        drop(listeners);
        broker.broadcast("t".into(), &half, true).unwrap();
    }
}
