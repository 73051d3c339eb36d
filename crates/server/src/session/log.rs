//! The events of one inferlet: numbered, and kept until all who read them have acknowledged them.
//!
//! ```text
//! number    1   2   3   4   5   6   7
//!           gone    ├ kept ─────────┤
//! reader A      acknowledged: 2
//! reader B                      acknowledged: 6
//! ```
//! The log holds so many events and bytes, and all logs of a user so many bytes together; whoever appends beyond waits. A
//! single event that is larger goes when the log is empty.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use protocol::Event;
use tokio::sync::Notify;

use super::budget::{Budget, Held};

/// What an event counts beside its bytes: its place in the log.
const EVENT_OVERHEAD: usize = 128;

/// How large a log may be.
#[derive(Clone, Copy)]
pub(super) struct LogLimits {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

pub(super) struct Log {
    limits: LogLimits,
    budget: Budget,
    state: Mutex<State>,
    /// Told when there may be room, and when the log is closed.
    room: Notify,
}

struct State {
    /// The number of the first event that is kept, or of the next one.
    first: u64,
    events: VecDeque<Kept>,
    bytes: usize,
    readers: BTreeMap<String, Reader>,
    /// Since when there are none; not while there are some.
    unread_since: Option<Instant>,
    /// Whether somebody waits to append.
    is_waited_for: bool,
    has_last: bool,
    is_closed: bool,
}

struct Kept {
    event: Arc<Event>,
    bytes: usize,
    _held: Held,
}

struct Reader {
    acknowledged: u64,
    /// Tells it that there is another event; none while it has no connection.
    wake: Option<Wake>,
}

/// Tells somebody.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// Events that a reader wants and that are not kept any more, or not yet there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutOfReach {
    /// The first that is kept.
    Gone(u64),
    /// The last that there is.
    Future(u64),
}

impl State {
    /// The number that the next event will have.
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Drops what all readers have acknowledged; whether that is anything. Without readers nothing goes.
    fn trim(&mut self) -> bool {
        let Some(floor) = self.readers.values().map(|reader| reader.acknowledged).min() else { return false };
        let before = self.first;
        while self.first <= floor
            && let Some(kept) = self.events.pop_front()
        {
            self.bytes -= kept.bytes;
            self.first += 1;
        }
        self.first > before
    }
}

impl Log {
    pub(super) fn new(limits: LogLimits, budget: Budget) -> Log {
        let state = State {
            first: 1,
            events: VecDeque::new(),
            bytes: 0,
            readers: BTreeMap::new(),
            unread_since: Some(Instant::now()),
            is_waited_for: false,
            has_last: false,
            is_closed: false,
        };
        Log { limits, budget, state: Mutex::new(state), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event when there is room; whether the log is still open. Only one may append at a time.
    pub(super) async fn append(&self, event: Event) -> bool {
        let bytes = event.bytes() + EVENT_OVERHEAD;
        loop {
            {
                let mut state = self.lock();
                let fits =
                    state.events.len() < self.limits.events && state.bytes + bytes <= self.limits.bytes;
                if state.is_closed || fits || state.events.is_empty() {
                    break;
                }
                state.is_waited_for = true;
            }
            self.room.notified().await;
        }
        let held = tokio::select! {
            biased;
            () = self.closed() => return false,
            held = self.budgeted(bytes) => held,
        };
        let wakes: Vec<Wake> = {
            let mut state = self.lock();
            state.is_waited_for = false;
            state.has_last |= event.is_last();
            state.bytes += bytes;
            state.events.push_back(Kept { event: Arc::new(event), bytes, _held: held });
            state.readers.values().filter_map(|reader| reader.wake.clone()).collect()
        };
        wakes.iter().for_each(|wake| wake());
        true
    }

    async fn budgeted(&self, bytes: usize) -> Held {
        let take = self.budget.take(bytes);
        tokio::pin!(take);
        // Counted as waiting only where it does.
        if let std::task::Poll::Ready(held) = futures_poll(&mut take).await {
            return held;
        }
        self.lock().is_waited_for = true;
        take.await
    }

    /// Returns once the log is closed.
    async fn closed(&self) {
        while !self.lock().is_closed {
            self.room.notified().await;
        }
    }

    /// Closes the log: what is appended from now on is dropped.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.bytes = 0;
        state.first += state.events.len() as u64;
        state.events.clear();
        state.readers.clear();
        drop(state);
        self.room.notify_one();
    }

    /// Adds a reader, or moves one: it has the events up to `after`, or none of those that are kept. Gives the numbers of
    /// its first event and of the last that is there.
    pub(super) fn attach(
        &self,
        reader: &str,
        after: Option<u64>,
        wake: Wake,
    ) -> Result<(u64, u64), OutOfReach> {
        let mut state = self.lock();
        let next = after.map_or(state.first, |after| after.saturating_add(1));
        if next < state.first {
            return Err(OutOfReach::Gone(state.first));
        }
        let last = state.next() - 1;
        if next > last + 1 {
            return Err(OutOfReach::Future(last));
        }
        state.unread_since = None;
        let new = Reader { acknowledged: next - 1, wake: None };
        let reader = state.readers.entry(reader.to_string()).or_insert(new);
        reader.wake = Some(wake);
        Ok((next, last))
    }

    /// A reader has no connection for the moment. It keeps its events.
    pub(super) fn pause(&self, reader: &str) {
        if let Some(reader) = self.lock().readers.get_mut(reader) {
            reader.wake = None;
        }
    }

    /// Takes a reader away. Gives how many are left.
    pub(super) fn detach(&self, reader: &str) -> usize {
        let mut state = self.lock();
        state.readers.remove(reader);
        if state.readers.is_empty() {
            state.unread_since.get_or_insert_with(Instant::now);
        }
        let (trimmed, left) = (state.trim(), state.readers.len());
        drop(state);
        if trimmed {
            self.room.notify_one();
        }
        left
    }

    /// A reader has taken all events up to a number. Whether it has the last one.
    pub(super) fn acknowledge(&self, reader: &str, number: u64) -> bool {
        let mut state = self.lock();
        let last = state.next() - 1;
        let Some(reader) = state.readers.get_mut(reader) else { return false };
        reader.acknowledged = reader.acknowledged.max(number.min(last));
        let is_done = reader.acknowledged == last;
        let (trimmed, is_done) = (state.trim(), is_done && state.has_last);
        drop(state);
        if trimmed {
            self.room.notify_one();
        }
        is_done
    }

    /// The event of a number, if it is there.
    pub(super) fn event(&self, number: u64) -> Option<Arc<Event>> {
        let state = self.lock();
        let index = number.checked_sub(state.first)?;
        state.events.get(usize::try_from(index).ok()?).map(|kept| kept.event.clone())
    }

    /// How many read it.
    pub(super) fn readers(&self) -> usize {
        self.lock().readers.len()
    }

    /// Whether its inferlet has ended.
    pub(super) fn has_last(&self) -> bool {
        self.lock().has_last
    }

    /// Whether nothing is kept and nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.is_closed || (state.has_last && state.events.is_empty())
    }

    /// Since when the inferlet has ended or waits for room, and nobody reads.
    pub(super) fn abandoned_since(&self) -> Option<Instant> {
        let state = self.lock();
        state.unread_since.filter(|_| state.has_last || state.is_waited_for)
    }
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context)))
        .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt;

    use super::super::budget::Budgets;
    use super::*;

    fn text(bytes: usize) -> Event {
        Event::Text { text: "x".repeat(bytes) }
    }

    fn log(events: usize, bytes: usize, of_user: usize) -> (Log, Budgets) {
        let budgets = Budgets::new(of_user, 1 << 30);
        (Log::new(LogLimits { events, bytes }, budgets.of("ann")), budgets)
    }

    fn nobody() -> Wake {
        Arc::new(|| ())
    }

    #[tokio::test]
    async fn an_event_stays_until_all_have_acknowledged_it() {
        let (log, budgets) = log(100, 1 << 20, 1 << 20);
        assert_eq!(log.attach("a", None, nobody()), Ok((1, 0)));
        for _ in 0..4 {
            assert!(log.append(text(1)).await);
        }
        assert_eq!(log.attach("b", Some(2), nobody()), Ok((3, 4)));
        assert!(!log.acknowledge("b", 4));
        assert!(log.event(1).is_some(), "the other reader has it not");
        assert!(!log.acknowledge("a", 3));
        assert_eq!([3, 4, 5].map(|number| log.event(number).is_some()), [false, true, false]);
        assert_eq!(log.attach("a", Some(1), nobody()), Err(OutOfReach::Gone(4)));
        assert_eq!(log.attach("a", Some(9), nobody()), Err(OutOfReach::Future(4)));
        // One that is slow and leaves holds nothing back.
        assert_eq!(log.detach("a"), 1);
        assert!(log.event(4).is_none());
        // One that acknowledges what it cannot have has what there is.
        log.append(text(1)).await;
        log.acknowledge("b", 1000);
        log.append(text(1)).await;
        assert!(log.event(6).is_some() && !log.is_over());
        log.append(Event::Result { text: String::new() }).await;
        assert!(!log.acknowledge("b", 6) && log.acknowledge("b", 7) && log.is_over());
        assert_eq!(budgets.used("ann"), 0);
    }

    #[tokio::test]
    async fn whoever_appends_waits_for_events_and_for_bytes() {
        let (log, _budgets) = log(3, 1000 + 3 * EVENT_OVERHEAD, 1 << 20);
        log.attach("a", None, nobody()).unwrap();
        for _ in 0..3 {
            assert_eq!(log.append(text(0)).now_or_never(), Some(true));
        }
        let mut fourth = Box::pin(log.append(text(0)));
        assert_eq!(fourth.as_mut().now_or_never(), None);
        log.acknowledge("a", 1);
        assert!(fourth.await);
        log.acknowledge("a", 4);
        // Larger than the log, it goes when that is empty.
        assert_eq!(log.append(text(5000)).now_or_never(), Some(true));
        let mut next = Box::pin(log.append(text(0)));
        assert_eq!(next.as_mut().now_or_never(), None);
        log.acknowledge("a", 5);
        assert!(next.await);
    }

    #[tokio::test]
    async fn the_logs_of_a_user_share_its_bytes_and_no_others() {
        let (one, budgets) = log(100, 1 << 20, 1000);
        let two = Log::new(one.limits, budgets.of("ann"));
        let other = Log::new(one.limits, budgets.of("bob"));
        one.attach("a", None, nobody()).unwrap();
        assert_eq!(one.append(text(800)).now_or_never(), Some(true));
        let mut waits = Box::pin(two.append(text(100)));
        assert_eq!(waits.as_mut().now_or_never(), None);
        assert_eq!(other.append(text(100)).now_or_never(), Some(true));
        assert!(two.abandoned_since().is_some() && one.abandoned_since().is_none());
        one.acknowledge("a", 1);
        assert!(waits.await && two.abandoned_since().is_none());
    }

    #[tokio::test]
    async fn a_closed_log_takes_nothing_and_holds_nobody_up() {
        let (log, budgets) = log(1, 1 << 20, 1 << 20);
        log.append(text(0)).await;
        let mut waits = Box::pin(log.append(text(0)));
        assert_eq!(waits.as_mut().now_or_never(), None);
        log.close();
        assert!(!waits.await && !log.append(text(0)).await && log.is_over());
        assert_eq!(budgets.used("ann"), 0);
    }

    #[tokio::test]
    async fn readers_are_woken_unless_they_are_away() {
        let (log, _budgets) = log(100, 1 << 20, 1 << 20);
        let woken = Arc::new(AtomicU32::new(0));
        let counted = woken.clone();
        let wake: Wake = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        log.attach("a", None, wake).unwrap();
        log.append(text(0)).await;
        log.pause("a");
        log.append(text(0)).await;
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!(log.readers(), 1, "it comes back");
    }
}
