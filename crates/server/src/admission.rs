//! How many requests programs answer at once, and who is next.
//!
//! A request runs from its place to the last byte of its answer, and for as long as its program goes on behind it. When
//! all places are taken it waits in the queue of its client (a key, or all who have none), and when that is full, or it
//! has waited for too long, it is refused with 429.
//!
//! The plain algorithm is a queue for all. This one has a queue for each client, and gives a place that is free to the
//! client that was served least: start-time fair queueing by the tokens that were computed for it. Whoever comes anew
//! starts at the count of the least served of the others, so nobody saves up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::TokenCount;
use tokio::sync::oneshot;

/// Bounds of the whole server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Requests that run at once. Default: 256.
    pub running: u32,
    /// Of these, those of one key; without keys there is one client, which has all. Default: seven eighths.
    pub client_running: Option<u32>,
    /// Requests that wait for a place. Default: 1024.
    pub waiting: u32,
    /// Of these, those of one key. Default: half.
    pub client_waiting: Option<u32>,
    /// How long a request waits for a place; then it is refused. Default: 30 s.
    pub wait: Duration,
}

impl Default for AdmissionLimits {
    fn default() -> AdmissionLimits {
        AdmissionLimits {
            running: 256,
            client_running: None,
            waiting: 1024,
            client_waiting: None,
            wait: Duration::from_secs(30),
        }
    }
}

/// What one client may have, where its key says so; else what the server's limits say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientBounds {
    /// Requests that run at once.
    pub running: Option<u32>,
    /// Requests that wait.
    pub waiting: Option<u32>,
}

/// Why a request is not admitted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("all places are taken, and {0} requests wait, as many as may")]
    ServerFull(u32),
    #[error("all places are taken, and {0} requests of this client wait, as many as may")]
    ClientFull(u32),
    #[error("the server has been busy for {0:?}, and the request waited no longer")]
    Late(Duration),
}

/// Requests that run and that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionCounts {
    /// With a place: being answered by programs, or their program goes on behind the answer.
    pub running: u32,
    /// Waiting for a place.
    pub waiting: u32,
}

/// The places of the server.
pub(crate) struct Admission(Mutex<State>);

struct State {
    limits: AdmissionLimits,
    counts: AdmissionCounts,
    /// Those with requests that run or wait, by the id of their key.
    clients: BTreeMap<String, Client>,
    /// Waiters so far: the older has the lower number.
    arrivals: u64,
}

struct Client {
    bounds: ClientBounds,
    running: u32,
    queue: VecDeque<Waiter>,
    /// None where there are no keys: then there is one client.
    tokens: Option<TokenCount>,
    /// Its count of tokens when it came, and the count of the least served of the others then.
    tokens_at_start: u64,
    base: u64,
}

struct Waiter {
    arrival: u64,
    admitted: oneshot::Sender<()>,
}

impl Client {
    /// How much it was served, on the scale of all clients.
    fn served(&self) -> u64 {
        let tokens = self.tokens.as_ref().map_or(0, TokenCount::get);
        self.base + tokens.saturating_sub(self.tokens_at_start)
    }
}

impl State {
    /// Requests of a client that may run: never none, never more than the server has.
    fn most_running(&self, client: &Client) -> u32 {
        let all = self.limits.running;
        let share = match client.tokens {
            Some(_) => self.limits.client_running.unwrap_or(all - all / 8),
            None => all,
        };
        client.bounds.running.unwrap_or(share).clamp(1, all.max(1))
    }

    fn most_waiting(&self, client: &Client) -> u32 {
        let all = self.limits.waiting;
        let share = match client.tokens {
            Some(_) => self.limits.client_waiting.unwrap_or(all.div_ceil(2)),
            None => all,
        };
        client.bounds.waiting.unwrap_or(share).min(all)
    }

    fn has_place(&self, client: &Client) -> bool {
        self.counts.running < self.limits.running && client.running < self.most_running(client)
    }

    /// The client with this key, which is there from now on.
    fn client(&mut self, key: &str, bounds: ClientBounds, tokens: Option<&TokenCount>) -> &mut Client {
        let least = self.clients.values().map(Client::served).min().unwrap_or(0);
        let client = self.clients.entry(key.to_string()).or_insert_with(|| Client {
            bounds,
            running: 0,
            queue: VecDeque::new(),
            tokens: tokens.cloned(),
            tokens_at_start: tokens.map_or(0, TokenCount::get),
            base: least,
        });
        client.bounds = bounds;
        // Another count, where the key was changed: it goes on from here.
        if let Some(next) = tokens.filter(|next| client.tokens.as_ref().is_none_or(|now| !now.is_same(next)))
        {
            client.base = client.served();
            client.tokens_at_start = next.get();
            client.tokens = Some(next.clone());
        }
        client
    }

    /// Gives free places to those that wait.
    fn dispatch(&mut self) {
        loop {
            let waiting = self.clients.iter().filter(|(_, client)| self.has_place(client));
            let waiting = waiting.filter_map(|(key, client)| {
                let first = client.queue.front()?;
                Some((client.served(), client.running, first.arrival, key.clone()))
            });
            let Some((_, _, _, key)) = waiting.min() else { return };
            let client = self.clients.get_mut(&key).expect("just found");
            let waiter = client.queue.pop_front().expect("just found");
            self.counts.waiting -= 1;
            client.running += 1;
            self.counts.running += 1;
            // A waiter that gives up takes itself off the list first.
            let _ = waiter.admitted.send(());
        }
    }

    fn forget_idle(&mut self, key: &str) {
        if self.clients.get(key).is_some_and(|client| client.running == 0 && client.queue.is_empty()) {
            self.clients.remove(key);
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Admission {
        let counts = AdmissionCounts::default();
        Admission(Mutex::new(State { limits, counts, clients: BTreeMap::new(), arrivals: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other bounds from now on. What runs and waits beyond them goes on.
    pub(crate) fn set_limits(&self, limits: AdmissionLimits) {
        let mut state = self.lock();
        state.limits = limits;
        state.dispatch();
    }

    pub(crate) fn counts(&self) -> AdmissionCounts {
        self.lock().counts
    }

    /// Waits for a place of a client: of the key `key`, empty for all who have none.
    ///
    /// # Errors
    /// When too many wait, or it has waited for too long.
    pub(crate) async fn enter(
        self: &Arc<Admission>,
        key: &str,
        bounds: ClientBounds,
        tokens: Option<&TokenCount>,
    ) -> Result<Place, NotAdmitted> {
        let (turn, wait) = {
            let mut state = self.lock();
            state.client(key, bounds, tokens);
            let client = &state.clients[key];
            let place = || Place { admission: self.clone(), key: key.to_string() };
            if client.queue.is_empty() && state.has_place(client) {
                state.counts.running += 1;
                state.clients.get_mut(key).expect("just made").running += 1;
                return Ok(place());
            }
            let (all, own) = (state.limits.waiting, state.most_waiting(client));
            let full = match client.queue.len() as u32 >= own {
                true => Some(NotAdmitted::ClientFull(own)),
                false => (state.counts.waiting >= all).then_some(NotAdmitted::ServerFull(all)),
            };
            if let Some(full) = full {
                state.forget_idle(key);
                return Err(full);
            }
            let (admitted, told) = oneshot::channel();
            state.arrivals += 1;
            let arrival = state.arrivals;
            state.counts.waiting += 1;
            let client = state.clients.get_mut(key).expect("just made");
            client.queue.push_back(Waiter { arrival, admitted });
            (Turn { place: Some(place()), arrival, told }, state.limits.wait)
        };
        match tokio::time::timeout(wait, turn).await {
            Ok(place) => Ok(place),
            Err(_) => Err(NotAdmitted::Late(wait)),
        }
    }
}

/// A request that waits. Dropped, it leaves the queue, or gives back the place that it was given and did not take.
struct Turn {
    place: Option<Place>,
    arrival: u64,
    told: oneshot::Receiver<()>,
}

impl Future for Turn {
    type Output = Place;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Place> {
        std::pin::Pin::new(&mut self.told).poll(context).map(|told| {
            told.expect("a waiter is told, or leaves by itself");
            self.place.take().expect("polled once to its end")
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // With a place in it, it was not taken: dropping the place frees one, so one must have been given.
        let Some(place) = self.place.take() else { return };
        let admission = place.admission.clone();
        let mut state = admission.lock();
        self.told.close();
        if self.told.try_recv().is_ok() {
            drop(state);
            drop(place);
            return;
        }
        let key = place.key.clone();
        std::mem::forget(place);
        if let Some(client) = state.clients.get_mut(&key)
            && let Some(at) = client.queue.iter().position(|waiter| waiter.arrival == self.arrival)
        {
            client.queue.remove(at);
            state.counts.waiting -= 1;
        }
        state.forget_idle(&key);
    }
}

/// A place among the requests that run, until it is dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
    key: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.counts.running -= 1;
        if let Some(client) = state.clients.get_mut(&self.key) {
            client.running -= 1;
        }
        state.dispatch();
        state.forget_idle(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::StreamExt;

    use super::*;

    fn admission(running: u32, waiting: u32) -> Arc<Admission> {
        let wait = Duration::from_secs(60);
        let limits = AdmissionLimits { running, waiting, wait, ..AdmissionLimits::default() };
        Arc::new(Admission::new(limits))
    }

    const NONE: ClientBounds = ClientBounds { running: None, waiting: None };

    #[tokio::test]
    async fn beyond_the_places_requests_wait_in_order_and_beyond_that_they_are_refused() {
        let admission = admission(2, 2);
        let enter = || Box::pin(admission.enter("", NONE, None));
        let (first, _second) = (enter().await.unwrap(), enter().await.unwrap());
        let (mut third, mut fourth) = (enter(), enter());
        assert!(futures::poll!(&mut third).is_pending() && futures::poll!(&mut fourth).is_pending());
        assert_eq!(admission.counts(), AdmissionCounts { running: 2, waiting: 2 });
        assert_eq!(enter().await.err(), Some(NotAdmitted::ClientFull(2)));
        drop(first);
        assert!(futures::poll!(&mut fourth).is_pending(), "the third is first");
        assert!(matches!(futures::poll!(&mut third), Poll::Ready(Ok(_))));
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_its_place_to_others() {
        let admission = admission(1, 8);
        let enter = || Box::pin(admission.enter("", NONE, None));
        let first = enter().await.unwrap();
        let (mut second, mut third, mut fourth) = (enter(), enter(), enter());
        for waiting in [&mut second, &mut third, &mut fourth] {
            assert!(futures::poll!(waiting).is_pending());
        }
        drop(second);
        assert_eq!(admission.counts().waiting, 2);
        // The third is given the place, and goes without having taken it.
        drop(first);
        assert_eq!(admission.counts(), AdmissionCounts { running: 1, waiting: 1 });
        drop(third);
        let fourth = fourth.await.unwrap();
        drop(fourth);
        assert_eq!(admission.counts(), AdmissionCounts::default());
        assert!(admission.lock().clients.is_empty(), "nothing is kept of clients that left");
    }

    #[tokio::test]
    async fn nobody_waits_for_longer_than_the_limit() {
        let limits =
            AdmissionLimits { running: 1, wait: Duration::from_millis(20), ..AdmissionLimits::default() };
        let admission = Arc::new(Admission::new(limits));
        let _first = admission.enter("", NONE, None).await.unwrap();
        let late = admission.enter("", NONE, None).await;
        assert_eq!(late.err(), Some(NotAdmitted::Late(Duration::from_millis(20))));
        assert_eq!(admission.counts().waiting, 0);
    }

    #[tokio::test]
    async fn bounds_of_a_key_hold_for_it_and_none_other() {
        let admission = admission(8, 8);
        let bounds = ClientBounds { running: Some(1), waiting: Some(1) };
        let _one = admission.enter("a", bounds, None).await.unwrap();
        let mut two = Box::pin(admission.enter("a", bounds, None));
        assert!(futures::poll!(&mut two).is_pending(), "a place is free, but not for this key");
        assert_eq!(admission.enter("a", bounds, None).await.err(), Some(NotAdmitted::ClientFull(1)));
        assert!(admission.enter("b", NONE, None).await.is_ok());
    }

    #[tokio::test]
    async fn with_other_limits_those_that_wait_go_on() {
        let admission = admission(1, 8);
        let _first = admission.enter("", NONE, None).await.unwrap();
        let mut second = Box::pin(admission.enter("", NONE, None));
        assert!(futures::poll!(&mut second).is_pending());
        admission.set_limits(AdmissionLimits { running: 2, ..AdmissionLimits::default() });
        assert!(matches!(futures::poll!(&mut second), Poll::Ready(Ok(_))));
    }

    /// Places go to the client that was served least, and who comes later has no credit for the time before.
    #[tokio::test]
    async fn places_are_shared_by_the_tokens_that_each_client_gets() {
        let admission = admission(1, 64);
        let (greedy, modest) = (TokenCount::default(), TokenCount::default());
        modest.add(1_000_000);
        let enter = |key, tokens| {
            let admission = admission.clone();
            async move { (key, admission.enter(key, NONE, Some(tokens)).await.unwrap()) }
        };
        let (_, mut place) = enter("greedy", &greedy).await;
        let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(enter("greedy", &greedy))).collect();
        for waiter in &mut waiting {
            assert!(futures::poll!(waiter).is_pending());
        }
        greedy.add(500);
        let mut waiting: futures::stream::FuturesUnordered<_> =
            waiting.into_iter().map(|waiter| waiter as std::pin::Pin<Box<dyn Future<Output = _>>>).collect();
        waiting.extend((0..8).map(|_| Box::pin(enter("modest", &modest)) as std::pin::Pin<Box<_>>));
        assert!(futures::poll!(waiting.next()).is_pending());
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(place);
            let (key, next) = waiting.next().await.unwrap();
            place = next;
            order.push(key);
            // A request of the greedy one costs four times as much.
            if key == "greedy" { greedy.add(400) } else { modest.add(100) }
        }
        // Where the modest one came, both were at 500. As long as both wait, none is ahead by more than a request.
        let (mut of_greedy, mut of_modest) = (0i64, 0i64);
        for key in &order {
            if *key == "greedy" {
                of_greedy += 400
            } else {
                of_modest += 100
            }
            let both_wait = of_modest < 800;
            assert!(!both_wait || (of_greedy - of_modest).abs() <= 400, "{order:?}");
        }
        assert_eq!((of_greedy, of_modest), (3200, 800), "all had their turn");
    }
}
