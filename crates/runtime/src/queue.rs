//! Queues between an inferlet and its client, bounded in messages and in bytes: the faster side waits.

use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::apart::apart;

/// Messages that wait in one queue.
pub(crate) const MESSAGES: usize = 1024;
/// Their bytes. A longer message waits until it is alone.
const BYTES: usize = 4 << 20;

/// Makes a queue.
pub(crate) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let (messages, received) = mpsc::channel(MESSAGES);
    (Sender { messages, bytes: Arc::new(Semaphore::new(BYTES)) }, Receiver(received))
}

/// The sending end.
pub(crate) struct Sender<T> {
    messages: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { messages: self.messages.clone(), bytes: self.bytes.clone() }
    }
}

/// Room in a queue for one message.
pub(crate) struct Slot<T> {
    message: mpsc::OwnedPermit<(T, OwnedSemaphorePermit)>,
    bytes: OwnedSemaphorePermit,
}

impl<T> Slot<T> {
    pub(crate) fn send(self, message: T) {
        self.message.send((message, self.bytes));
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Waits for room for a message of so many bytes; `None` when nobody can receive it any more.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<Slot<T>> {
        // An empty message is bounded by the number of messages.
        let bytes = self.bytes.clone().acquire_many_owned(bytes.min(BYTES) as u32).await;
        let bytes = bytes.expect("the semaphore is never closed");
        let message = self.messages.clone().reserve_owned().await.ok()?;
        Some(Slot { message, bytes })
    }

    /// Sends a message of so many bytes when there is room; whether it can still be received.
    pub(crate) async fn send(&self, message: T, bytes: usize) -> bool {
        let sender = self.clone();
        let mut send = Box::pin(async move {
            let slot = sender.reserve(bytes).await;
            slot.map(|slot| slot.send(message)).is_some()
        });
        match send.as_mut().now_or_never() {
            Some(sent) => sent,
            None => apart(send).await.unwrap_or(false),
        }
    }
}

/// The receiving end.
pub(crate) struct Receiver<T>(mpsc::Receiver<(T, OwnedSemaphorePermit)>);

impl<T> Receiver<T> {
    /// The next message; `None` when there are no senders any more.
    pub(crate) async fn receive(&mut self) -> Option<T> {
        self.0.recv().await.map(|(message, _)| message)
    }

    /// Refuses what is sent from now on, and drops what nobody has received: whoever waits for room then learns it.
    pub(crate) fn close(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_send_that_is_not_polled_keeps_no_room_from_another() {
        let (sender, mut receiver) = queue();
        assert!(sender.send(0, BYTES).await);
        let mut unpolled = Box::pin(sender.send(1, BYTES));
        assert!(unpolled.as_mut().now_or_never().is_none());
        let next = sender.send(2, 1);
        let (sent, received) = futures::join!(next, async {
            [receiver.receive().await, receiver.receive().await, receiver.receive().await]
        });
        assert_eq!((sent, received), (true, [Some(0), Some(1), Some(2)]));
        assert!(unpolled.await);
        // One that is given up sends nothing.
        assert!(sender.send(3, BYTES).await);
        assert_eq!(Box::pin(sender.send(4, BYTES)).as_mut().now_or_never(), None);
        assert!(sender.send(5, 0).await);
        assert_eq!([receiver.receive().await, receiver.receive().await], [Some(3), Some(5)]);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_learns_that_the_queue_is_closed() {
        let (sender, mut receiver) = queue();
        assert!(sender.send(0, BYTES).await);
        let mut waits = Box::pin(sender.send(1, 1));
        assert!(waits.as_mut().now_or_never().is_none());
        receiver.close();
        assert!(!waits.await && !sender.send(2, BYTES).await);
    }

    #[tokio::test]
    async fn the_sender_waits_for_room_in_messages_and_in_bytes() {
        let (sender, mut receiver) = queue();
        assert!(sender.send(0, BYTES - 1).await && sender.send(1, 1).await);
        assert!(sender.send(2, 0).await && sender.send(2, 1).now_or_never().is_none());
        assert_eq!(receiver.receive().await, Some(0));
        // Longer than the queue: it goes when the queue is empty.
        let mut long = Box::pin(sender.send(3, 2 * BYTES));
        assert!(long.as_mut().now_or_never().is_none());
        assert_eq!((receiver.receive().await, receiver.receive().await), (Some(1), Some(2)));
        assert!(long.await);
        assert!(sender.send(4, 0).await && sender.send(5, 1).now_or_never().is_none());
        assert_eq!(receiver.receive().await, Some(3));
        for _ in 0..MESSAGES - 1 {
            assert!(sender.send(6, 0).await);
        }
        assert!(sender.send(7, 0).now_or_never().is_none());
        drop(receiver);
        assert!(!sender.send(8, 1).await);
    }
}
