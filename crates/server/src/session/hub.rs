//! All sessions of a server, and the inferlets that they have launched.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use protocol::{ErrorCode, Failure};
use runtime::{Inferlet, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::SessionOptions;
use super::budget::Budgets;
use super::hosted::{Hosted, pump};
use super::log::{Log, LogLimits};
use super::outbox::Outbox;
use super::state::Session;
use crate::auth::Client;

/// The sessions. Cloning the `Arc` around it gives another handle to the same ones.
pub(crate) struct Hub {
    pub(super) options: SessionOptions,
    pub(super) runtime: Runtime,
    budgets: Budgets,
    state: Mutex<State>,
    compiles: Arc<Semaphore>,
}

/// Uploads that are compiled at once, of all users; of one user it is one.
const COMPILES: usize = 2;

#[derive(Default)]
struct State {
    users: HashMap<String, OfUser>,
    sessions: BTreeMap<String, Arc<Session>>,
    inferlets: BTreeMap<String, Arc<Hosted>>,
}

struct OfUser {
    /// Inferlets whose events are kept.
    inferlets: usize,
    compiles: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Default for OfUser {
    fn default() -> OfUser {
        let one = || Arc::new(Semaphore::new(1));
        OfUser { inferlets: 0, compiles: one(), looks: one() }
    }
}

/// What a hub holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions, those that wait for their client among them.
    pub sessions: u64,
    /// Of these, those with a connection.
    pub connected: u64,
    /// Inferlets whose events are kept.
    pub inferlets: u64,
    /// Of these, those that nobody is attached to.
    pub detached: u64,
    /// Bytes of events that are kept.
    pub event_bytes: u64,
}

impl Hub {
    /// A hub, and the task that ends what nobody comes back for.
    pub(crate) fn start(options: SessionOptions, runtime: Runtime) -> Arc<Hub> {
        let budgets = Budgets::new(options.user_log_bytes, options.total_log_bytes);
        let every = (options.lease.min(options.detached) / 4).clamp(LOOK_LEAST, LOOK_MOST);
        let compiles = Arc::new(Semaphore::new(COMPILES));
        let hub = Arc::new(Hub { options, runtime, budgets, state: Mutex::default(), compiles });
        tokio::spawn(look_after(Arc::downgrade(&hub), every));
        hub
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> SessionCounts {
        let state = self.lock();
        SessionCounts {
            sessions: state.sessions.len() as u64,
            connected: state.sessions.values().filter(|session| session.is_connected()).count() as u64,
            inferlets: state.inferlets.len() as u64,
            detached: state.inferlets.values().filter(|hosted| hosted.log.readers() == 0).count() as u64,
            event_bytes: self.budgets.taken(),
        }
    }

    /// Bytes of events of a user that are kept, and how many may be.
    pub(crate) fn event_bytes(&self, user: &str) -> (u64, u64) {
        (self.budgets.used(user), self.budgets.limit())
    }

    /// The session of a connection: the one to be resumed, if it is there and this user's, or a new one. Whether it was
    /// there. `is_own`: it is this process's own, whom the number of sessions of the user does not bound.
    pub(super) fn open(
        &self,
        user: &str,
        client: Option<Arc<Client>>,
        resume: Option<&str>,
        is_own: bool,
        outbox: &Arc<Outbox>,
    ) -> Result<(Arc<Session>, bool), Failure> {
        let known = resume.and_then(|id| self.lock().sessions.get(id).cloned());
        if let Some(session) = known.filter(|session| session.user == user && session.is_own == is_own)
            && session.connect(client.clone(), outbox)
        {
            return Ok((session, true));
        }
        let session = Arc::new(Session::new(Uuid::new_v4().to_string(), user.to_string(), is_own));
        session.connect(client, outbox);
        let gone = {
            let mut state = self.lock();
            let is_counted = |session: &&Arc<Session>| session.user == user && !session.is_own;
            let of_user = || state.sessions.values().filter(is_counted);
            let gone = if !is_own && of_user().count() >= self.options.user_sessions as usize {
                let away = of_user().filter_map(|session| Some((session.left_since()?, session.clone())));
                let Some((_, oldest)) = away.min_by_key(|(since, _)| *since) else {
                    let most = self.options.user_sessions;
                    let words = format!("the user has {most} sessions, as many as may be; close one first");
                    return Err(Failure::new(ErrorCode::LimitExceeded, words));
                };
                Some(oldest)
            } else {
                None
            };
            state.sessions.insert(session.id.clone(), session.clone());
            gone
        };
        if let Some(gone) = gone {
            self.end(&gone);
        }
        Ok((session, false))
    }

    /// Ends a session, and the inferlets that only it is attached to, unless they are detached.
    pub(super) fn end(&self, session: &Session) {
        self.lock().sessions.remove(&session.id);
        for hosted in session.end() {
            if hosted.log.detach(&session.id) == 0 && !hosted.outlives_its_sessions() {
                self.remove(&hosted);
            }
        }
    }

    /// Whether a user may have one inferlet more whose events are kept.
    pub(super) fn check_room(&self, user: &str) -> Result<(), Failure> {
        let most = self.options.user_inferlets as usize;
        let kept = self.lock().users.get(user).map_or(0, |of_user| of_user.inferlets);
        if kept < most {
            return Ok(());
        }
        let words = format!(
            "the events of {kept} inferlets of the user are kept, as many as may be; acknowledge what was taken, or end some"
        );
        Err(Failure::new(ErrorCode::LimitExceeded, words))
    }

    /// Takes over an inferlet that was launched. Its events are kept from now on.
    pub(super) fn host(
        &self,
        mut inferlet: Inferlet,
        user: &str,
        program: &str,
        arguments: Vec<String>,
        is_detached: bool,
    ) -> Arc<Hosted> {
        let limits = LogLimits { events: self.options.log_events, bytes: self.options.log_bytes };
        let log = Log::new(limits, self.budgets.of(user));
        let (user, program) = (user.to_string(), program.to_string());
        let hosted = Arc::new(Hosted::new(&mut inferlet, user, program, arguments, is_detached, log));
        let mut state = self.lock();
        state.users.entry(hosted.user.clone()).or_default().inferlets += 1;
        state.inferlets.insert(hosted.id.clone(), hosted.clone());
        drop(state);
        tokio::spawn(pump(inferlet, hosted.clone()));
        hosted
    }

    /// The inferlet of a user whose id begins so, if there is exactly one.
    pub(super) fn find(&self, user: &str, beginning: &str) -> Option<Arc<Hosted>> {
        let state = self.lock();
        let from = state.inferlets.range(beginning.to_string()..);
        let among = from.take_while(|(id, _)| id.starts_with(beginning)).map(|(_, hosted)| hosted);
        let mut among = among.filter(|hosted| hosted.user == user);
        let found = among.next()?;
        (among.next().is_none() || found.id == beginning).then(|| found.clone())
    }

    /// Those of a user.
    pub(super) fn inferlets(&self, user: &str) -> Vec<Arc<Hosted>> {
        self.lock().inferlets.values().filter(|hosted| hosted.user == user).cloned().collect()
    }

    /// Forgets an inferlet: its events are not needed any more.
    pub(super) fn remove(&self, hosted: &Hosted) {
        let mut state = self.lock();
        if state.inferlets.remove(&hosted.id).is_some()
            && let Some(of_user) = state.users.get_mut(&hosted.user)
        {
            of_user.inferlets -= 1;
        }
        drop(state);
        hosted.log.close();
    }

    /// Waits for the turn of a user to have a program compiled, which takes processors for seconds.
    pub(super) async fn compile_turn(&self, user: &str) -> [OwnedSemaphorePermit; 2] {
        let of_user = self.lock().users.entry(user.to_string()).or_default().compiles.clone();
        let take = |places: Arc<Semaphore>| places.acquire_owned();
        let never_closed = "the semaphores are never closed";
        // The user's first: who waits for that holds none of the server's.
        let of_user = take(of_user).await.expect(never_closed);
        [of_user, take(self.compiles.clone()).await.expect(never_closed)]
    }

    /// Engines answer a user what its inferlets hold one question after the other, so between two batches there is one.
    pub(super) async fn look_turn(&self, user: &str) -> OwnedSemaphorePermit {
        let looks = self.lock().users.entry(user.to_string()).or_default().looks.clone();
        looks.acquire_owned().await.expect("the semaphores are never closed")
    }

    /// Ends what nobody has come back for in time.
    fn end_abandoned(&self) {
        let now = Instant::now();
        let is_over = |since: Instant, lease: Duration| now.saturating_duration_since(since) >= lease;
        let (sessions, inferlets) = {
            let state = self.lock();
            let away = |session: &&Arc<Session>| {
                session.left_since().is_some_and(|since| is_over(since, self.options.lease))
            };
            let abandoned = |hosted: &&Arc<Hosted>| {
                hosted.log.abandoned_since().is_some_and(|since| is_over(since, self.options.detached))
            };
            let sessions: Vec<_> = state.sessions.values().filter(away).cloned().collect();
            let inferlets: Vec<_> = state.inferlets.values().filter(abandoned).cloned().collect();
            (sessions, inferlets)
        };
        for session in sessions {
            tracing::debug!(session = session.id, user = session.user, "a session was not resumed in time");
            self.end(&session);
        }
        for hosted in inferlets {
            tracing::info!(
                id = hosted.id,
                user = hosted.user,
                "nobody came for the events of an inferlet: it ends"
            );
            hosted.control.kill();
            self.remove(&hosted);
        }
    }
}

/// Between two looks at what is abandoned.
const LOOK_LEAST: Duration = Duration::from_millis(10);
const LOOK_MOST: Duration = Duration::from_secs(1);

async fn look_after(hub: Weak<Hub>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(hub) = hub.upgrade() else { return };
        hub.end_abandoned();
    }
}
