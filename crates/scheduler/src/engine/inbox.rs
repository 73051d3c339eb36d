//! The bounded queue between the engine's thread and everybody else.
//!
//! One lock, held for a push or a swap. Operations are pushed quietly; passes and calls wake the thread if it sleeps. A
//! message counts until it is handled, which may be some time after it was taken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backend::Backend;
use futures_channel::oneshot;
use rustc_hash::FxHashMap;

use crate::ops::{CallError, ContextOp};
use crate::request::{ForwardError, ForwardReply, ForwardRequest, OwnerId};
use crate::state::Scheduler;

/// Where an answer goes.
pub(super) type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// A message to the thread.
pub(super) enum Message {
    /// A pass; apart, so that the many small operations do not take its room in the queue.
    Forward(Box<ForwardRequest>, Answer<ForwardReply, ForwardError>),
    /// An operation without a reply.
    Op(ContextOp),
    /// An operation with a reply.
    Call(Call),
}

impl Message {
    /// Whether there must be room for it, in all and on its owner's share.
    fn counts(&self) -> bool {
        !matches!(self, Message::Op(op) if op.ends())
    }
}

/// An operation with a reply. It is called once, with the scheduler and the backend or with the reason for a refusal,
/// and sends its answer itself.
pub(super) type Call = Box<dyn FnOnce(Result<(&mut Scheduler, &mut dyn Backend), CallError>) + Send>;

/// A message in the queue.
pub(super) struct Queued {
    /// Who sent it; none for the server itself.
    pub(super) owner: Option<OwnerId>,
    pub(super) message: Message,
}

/// Messages that were handled and no longer count.
#[derive(Default)]
pub(super) struct Handled {
    total: usize,
    by_owner: FxHashMap<OwnerId, usize>,
}

impl Handled {
    pub(super) fn add(&mut self, queued: &Queued) {
        self.total += 1;
        if let Some(owner) = queued.owner.filter(|_| queued.message.counts()) {
            *self.by_owner.entry(owner).or_default() += 1;
        }
    }
}

/// Why a message was not queued; the message comes back with it.
pub(super) enum Refused {
    Full(Box<Message>),
    Closed(Box<Message>),
}

/// See the module docs.
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
    /// Weight of what is queued, for the thread to spin on without the lock.
    weight: AtomicUsize,
    capacity: usize,
    capacity_of_owner: usize,
}

struct State {
    messages: VecDeque<Queued>,
    /// Messages that are not handled yet: those above, and those that the thread took.
    unhandled: usize,
    /// Of these, those of each owner that are counted against its share.
    by_owner: FxHashMap<OwnerId, usize>,
    /// The weight that wakes the sleeping thread.
    sleeping: Option<usize>,
    closed: bool,
}

/// What wakes the thread.
pub(super) struct Wait {
    /// This time.
    pub(super) until: Option<Instant>,
    /// So many passes in the queue, or one call.
    pub(super) arrivals: usize,
    /// Any message.
    pub(super) wake_on_any: bool,
    /// Spin time before sleeping.
    pub(super) spin: Duration,
}

/// Weight of a pass: a fine unit, so that operations weigh something.
const PASS: usize = 1024;
/// Weight of what must not wait: more than any number of passes.
const URGENT: usize = 1 << 40;

fn weight(message: &Message) -> usize {
    match message {
        Message::Forward(..) => PASS,
        // The cancelled passes are waited for.
        Message::Call(_)
        | Message::Op(ContextOp::Cancel { .. } | ContextOp::Abandon { .. } | ContextOp::OwnerGone { .. }) => {
            URGENT
        }
        // 1024 that pile up weigh like a pass and wake the thread, so that memory is given back.
        Message::Op(_) => 1,
    }
}

impl Inbox {
    pub(super) fn new(capacity: usize, capacity_of_owner: usize) -> Inbox {
        let (messages, by_owner) = Default::default();
        let state = State { messages, unhandled: 0, by_owner, sleeping: None, closed: false };
        Inbox {
            state: Mutex::new(state),
            wake: Condvar::new(),
            weight: AtomicUsize::new(0),
            capacity,
            capacity_of_owner,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while the lock is held, and a queue is valid at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message of an owner, or of none, and wakes the thread if that is enough.
    pub(super) fn push(&self, owner: Option<OwnerId>, message: Message) -> Result<(), Refused> {
        let counts = message.counts();
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(Box::new(message)));
        }
        if counts {
            if state.unhandled >= self.capacity {
                return Err(Refused::Full(Box::new(message)));
            }
            if let Some(owner) = owner {
                match state.by_owner.get_mut(&owner) {
                    Some(queued) if *queued >= self.capacity_of_owner => {
                        return Err(Refused::Full(Box::new(message)));
                    }
                    Some(queued) => *queued += 1,
                    None => drop(state.by_owner.insert(owner, 1)),
                }
            }
        }
        let added = weight(&message);
        state.unhandled += 1;
        state.messages.push_back(Queued { owner, message });
        let weight = self.weight.fetch_add(added, Ordering::Release) + added;
        let notify = state.sleeping.take_if(|enough| weight >= *enough).is_some();
        drop(state);
        if notify {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Refuses everything from now on and wakes the thread.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.sleeping = None;
        self.weight.fetch_add(URGENT, Ordering::Release);
        drop(state);
        self.wake.notify_one();
    }

    /// Whether messages are taken.
    pub(super) fn is_open(&self) -> bool {
        !self.lock().closed
    }

    /// Takes all messages into `into`, which must be empty. False once closed.
    pub(super) fn take(&self, into: &mut VecDeque<Queued>) -> bool {
        let mut state = self.lock();
        std::mem::swap(&mut state.messages, into);
        self.weight.store(0, Ordering::Release);
        !state.closed
    }

    /// Makes room for others in place of these, which were taken before.
    pub(super) fn handled(&self, handled: &mut Handled) {
        if handled.total == 0 {
            return;
        }
        let mut state = self.lock();
        state.unhandled -= std::mem::take(&mut handled.total);
        for (owner, count) in handled.by_owner.drain() {
            let left = state.by_owner.get_mut(&owner).expect("it was counted when it came in");
            *left -= count;
            if *left == 0 {
                state.by_owner.remove(&owner);
            }
        }
    }

    /// Returns when one of the conditions holds.
    pub(super) fn wait(&self, wait: &Wait) {
        let enough = if wait.wake_on_any { 1 } else { wait.arrivals.saturating_mul(PASS).clamp(1, URGENT) };
        let start = Instant::now();
        loop {
            if self.weight.load(Ordering::Acquire) >= enough {
                return;
            }
            let now = Instant::now();
            if wait.until.is_some_and(|until| now >= until) {
                return;
            }
            if now - start >= wait.spin {
                break;
            }
            // The inferlet it waits for may have been woken on this core.
            std::thread::yield_now();
        }
        let mut state = self.lock();
        if state.closed || self.weight.load(Ordering::Acquire) >= enough {
            return;
        }
        state.sleeping = Some(enough);
        while state.sleeping.is_some() {
            let left = wait.until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.sleeping = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ContextId, Priority, TenantId, Ticket};

    fn forward() -> Message {
        let request = ForwardRequest::new(Ticket(1), ContextId(1), vec![1]);
        Message::Forward(Box::new(request), oneshot::channel().0)
    }

    fn create() -> Message {
        let (context, owner) = (ContextId(1), OwnerId(1));
        Message::Op(ContextOp::Create { context, owner, priority: Priority::Normal, tenant: TenantId(1) })
    }

    #[test]
    fn no_owner_fills_the_inbox_for_others() {
        let inbox = Inbox::new(100, 3);
        let (greedy, other) = (Some(OwnerId(1)), Some(OwnerId(2)));
        (0..3).for_each(|_| inbox.push(greedy, create()).ok().unwrap());
        assert!(matches!(inbox.push(greedy, create()), Err(Refused::Full(_))));
        assert!(inbox.push(greedy, Message::Op(ContextOp::Drop { context: ContextId(1) })).is_ok());
        assert!(inbox.push(other, create()).is_ok() && inbox.push(None, create()).is_ok());
        let (mut taken, mut handled) = (VecDeque::new(), Handled::default());
        inbox.take(&mut taken);
        assert!(matches!(inbox.push(greedy, create()), Err(Refused::Full(_))), "taken is not handled");
        taken.iter().for_each(|queued| handled.add(queued));
        inbox.handled(&mut handled);
        assert!(inbox.push(greedy, create()).is_ok());
    }

    fn returns_at_once(inbox: &Inbox, arrivals: usize, wake_on_any: bool) -> bool {
        let until = Instant::now() + Duration::from_millis(20);
        inbox.wait(&Wait { until: Some(until), arrivals, wake_on_any, spin: Duration::ZERO });
        Instant::now() < until
    }

    #[test]
    fn wakes_for_enough_passes_or_anything_urgent() {
        let inbox = Inbox::new(100, 100);
        let quiet = || Message::Op(ContextOp::Drop { context: ContextId(1) });
        inbox.push(None, quiet()).ok().unwrap();
        assert!(!returns_at_once(&inbox, 1, false));
        assert!(returns_at_once(&inbox, 1, true));
        inbox.push(None, forward()).ok().unwrap();
        assert!(returns_at_once(&inbox, 1, false) && !returns_at_once(&inbox, 2, false));
        inbox.push(None, Message::Op(ContextOp::Cancel { ticket: Ticket(1) })).ok().unwrap();
        assert!(returns_at_once(&inbox, 1000, false));
        let mut taken = VecDeque::new();
        assert!(inbox.take(&mut taken));
        assert_eq!(taken.len(), 3);
        assert!(!returns_at_once(&inbox, 1, true));
        inbox.close();
        assert!(returns_at_once(&inbox, 1000, false));
        assert!(matches!(inbox.push(None, forward()), Err(Refused::Closed(_))));
    }

    #[test]
    fn is_bounded_for_what_takes() {
        let inbox = Inbox::new(1, 1);
        inbox.push(None, forward()).ok().unwrap();
        assert!(matches!(inbox.push(None, forward()), Err(Refused::Full(_))));
        assert!(inbox.push(None, Message::Op(ContextOp::Drop { context: ContextId(1) })).is_ok());
    }
}
