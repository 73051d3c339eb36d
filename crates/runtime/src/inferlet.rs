//! One running inferlet, as all but its own store see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use scheduler::OwnerId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use trace::{InferletSpan, SpanParent};

use crate::account::{Account, Taken};
use crate::error::ApiError;
use crate::grant::Grant;
use crate::limits::InferletLimits;
use crate::queue::{Receiver, Sender, queue};
use crate::tallies::Tally;
use crate::users::User;
use crate::{InferletError, ServedModel, tools, work};

/// What an inferlet gives to the client that launched it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `session.send`.
    Text(String),
    /// `session.send-blob`.
    Blob(Vec<u8>),
    /// Written to stdout; a chunk, not a line.
    Stdout(Vec<u8>),
    /// Written to stderr; a chunk, not a line.
    Stderr(Vec<u8>),
}

/// Bytes of stderr kept to explain a trap: a panic's message goes there.
const STDERR_TAIL: usize = 2048;

/// Shared by the inferlet's store, its task, and the lists from which it is shown and ended.
pub(crate) struct InferletState {
    pub(crate) id: String,
    pub(crate) owner: OwnerId,
    /// The inferlet that launched it, on whose share it draws.
    pub(crate) parent: Option<Arc<InferletState>>,
    /// How many inferlets are above it.
    pub(crate) depth: u32,
    pub(crate) place: Place,
    pub(crate) program: String,
    pub(crate) user: Arc<User>,
    /// What it may do and take: its key's, or its user's own.
    pub(crate) grant: Arc<Grant>,
    /// Bytes that the host holds for it and those it launched.
    pub(crate) host_memory: Arc<Account>,
    /// Its calls of long work.
    pub(crate) calls: Arc<Semaphore>,
    /// Its calls of MCP servers.
    pub(crate) tool_calls: Arc<Semaphore>,
    pub(crate) arguments: Vec<String>,
    pub(crate) limits: InferletLimits,
    pub(crate) cpu: CpuMeter,
    /// Of its program.
    pub(crate) tally: Arc<Tally>,
    /// The model that it drew its first token from.
    drew_from: OnceLock<Weak<ServedModel>>,
    /// Whether it had its turn.
    begun: AtomicBool,
    /// Its span, where its request has one.
    pub(crate) span: OnceLock<InferletSpan>,
    /// None once it has ended: the client then sees the end of its events.
    events: Mutex<Option<Sender<Event>>>,
    pub(crate) texts: tokio::sync::Mutex<Receiver<String>>,
    pub(crate) blobs: tokio::sync::Mutex<Receiver<Vec<u8>>>,
    /// Its place among the inferlets of its grant and its user.
    _counted: Taken,
    started: Instant,
    /// When its request came, which may have waited before it was launched.
    arrived: OnceLock<Instant>,
    output: AtomicU64,
    stderr: Mutex<Vec<u8>>,
    killed: AtomicBool,
    failed: AtomicBool,
    kill: Notify,
    /// Whether it outlives the client of its request.
    detached: AtomicBool,
}

/// The client's ends of an inferlet's channels.
pub(crate) struct ClientEnds {
    pub(crate) events: Receiver<Event>,
    pub(crate) texts: Sender<String>,
    pub(crate) blobs: Sender<Vec<u8>>,
}

impl InferletState {
    /// # Errors
    /// `limit-exceeded` when the user has too many inferlets.
    pub(crate) fn new(
        owner: OwnerId,
        program: String,
        tally: Arc<Tally>,
        user: Arc<User>,
        grant: Arc<Grant>,
        arguments: Vec<String>,
        limits: InferletLimits,
        parent: Option<Arc<InferletState>>,
    ) -> Result<(InferletState, ClientEnds), ApiError> {
        let (events, client_events) = queue();
        let (client_texts, texts) = queue();
        let (client_blobs, blobs) = queue();
        let above = parent.as_ref().map_or(&grant.host_memory, |parent| &parent.host_memory);
        let inferlet = InferletState {
            id: uuid::Uuid::new_v4().to_string(),
            owner,
            depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
            place: Place::default(),
            program,
            host_memory: above.below("the inferlet", limits.host_memory_bytes),
            calls: work::calls(),
            tool_calls: tools::calls(),
            _counted: grant.inferlets.take(1)?,
            user,
            grant,
            parent,
            arguments,
            limits,
            cpu: CpuMeter::default(),
            tally,
            drew_from: OnceLock::new(),
            begun: AtomicBool::new(false),
            span: OnceLock::new(),
            events: Mutex::new(Some(events)),
            texts: tokio::sync::Mutex::new(texts),
            blobs: tokio::sync::Mutex::new(blobs),
            started: Instant::now(),
            arrived: OnceLock::new(),
            output: AtomicU64::new(0),
            stderr: Mutex::new(Vec::new()),
            killed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            kill: Notify::new(),
            detached: AtomicBool::new(false),
        };
        Ok((inferlet, ClientEnds { events: client_events, texts: client_texts, blobs: client_blobs }))
    }

    /// This inferlet and those above it that launched each other.
    fn path(&self) -> impl Iterator<Item = &InferletState> {
        std::iter::successors(Some(self), |inferlet| inferlet.parent.as_deref())
    }

    /// Counts processor time, for all above it as well.
    pub(crate) fn spend_cpu(&self, time: Duration) {
        let nanoseconds = time.as_nanos() as u64;
        self.tally.spent(nanoseconds);
        self.path().for_each(|inferlet| {
            inferlet.cpu.spent_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        });
    }

    /// This thread begins to run the program.
    pub(crate) fn runs(&self) {
        let mut run = self.run();
        run.began = Some((Instant::now(), run.long.then(thread_time)));
    }

    /// For how long this thread has run it, so far.
    pub(crate) fn has_run(&self) -> Duration {
        self.run().began.map_or(Duration::ZERO, |(start, _)| start.elapsed())
    }

    /// This thread has run the program, for the moment.
    pub(crate) fn pauses(&self) {
        let mut run = self.run();
        let Some((start, thread)) = run.began.take() else { return };
        let elapsed = start.elapsed();
        run.long = elapsed > crate::TICK / 2;
        let time = match thread {
            Some(before) => thread_time().saturating_sub(before),
            // Perhaps others had the processor meanwhile: nobody is charged for more than it takes to be interrupted.
            None => elapsed.min(2 * crate::TICK),
        };
        drop(run);
        self.spend_cpu(time);
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.cpu.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it, or one above it, has used up its processor time.
    pub(crate) fn is_out_of_cpu(&self) -> bool {
        self.path().any(|inferlet| inferlet.limits.cpu.is_some_and(|limit| inferlet.cpu.spent() > limit))
    }

    /// Begins its span, below that of a request or of the inferlet that launched it.
    pub(crate) fn begin_span(&self, parent: &SpanParent) {
        self.span.get_or_init(|| parent.inferlet(&self.id, &self.program, &self.user.name));
    }

    /// Its request came at a time before its launch: it has waited since then.
    pub(crate) fn set_arrived(&self, arrived: Instant) {
        // Said once.
        let _ = self.arrived.set(arrived);
    }

    /// When its request came, or it was launched without one.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived.get().copied().unwrap_or(self.started)
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// It has its turn.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
        self.tally.begins();
    }

    /// It is taken off the list.
    pub(crate) fn gone(&self) {
        self.tally.gone(self.begun.load(Ordering::Relaxed));
    }

    /// It draws a token; whether that is its first.
    pub(crate) fn drew_from(&self, model: &Arc<ServedModel>) -> bool {
        self.drew_from.get().is_none() && self.drew_from.set(Arc::downgrade(model)).is_ok()
    }

    /// It has ended: counts it.
    pub(crate) fn ended<T>(&self, result: &Result<T, InferletError>) {
        self.tally.ended(result);
        if let Some(model) = self.drew_from.get().and_then(Weak::upgrade) {
            model.tokens.whole.observe(self.arrived().elapsed());
        }
    }

    /// Bytes of output that it may still give.
    pub(crate) fn output_left(&self) -> u64 {
        self.limits.output_bytes.saturating_sub(self.output.load(Ordering::Relaxed))
    }

    /// Counts `bytes` of output, or refuses them.
    pub(crate) fn spend_output(&self, bytes: usize) -> Result<(), ApiError> {
        let before = self.output.fetch_add(bytes as u64, Ordering::Relaxed);
        if before + bytes as u64 > self.limits.output_bytes {
            self.output.fetch_sub(bytes as u64, Ordering::Relaxed);
            let limit = self.limits.output_bytes;
            return Err(ApiError::LimitExceeded(format!(
                "{bytes} bytes of output after {before} exceed the limit of {limit}"
            )));
        }
        Ok(())
    }

    /// Gives an event to the client; waits while its queue is full.
    pub(crate) async fn emit(&self, bytes: usize, event: Event) -> Result<(), ApiError> {
        let gone = || ApiError::Closed("the client is gone".into());
        self.spend_output(bytes)?;
        let sent = self.events().ok_or_else(gone)?.send(event, bytes).await;
        sent.then_some(()).ok_or_else(gone)
    }

    /// Where events go, as long as it runs.
    pub(crate) fn events(&self) -> Option<Sender<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the channels: the client sees the end of the events, and cannot send any more.
    pub(crate) fn close(&self) {
        self.place.end();
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only the program's own calls hold these locks, and it has ended.
        if let Ok(mut texts) = self.texts.try_lock() {
            texts.close();
        }
        if let Ok(mut blobs) = self.blobs.try_lock() {
            blobs.close();
        }
    }

    pub(crate) fn keep_stderr(&self, bytes: &[u8]) {
        let mut tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let excess = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..excess);
    }

    /// The end of what was written to stderr.
    pub(crate) fn stderr_tail(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner))
            .trim()
            .to_string()
    }

    /// Ends the inferlet at its next yield.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.kill.notify_waiters();
        self.kill.notify_one();
    }

    /// Its program failed.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether it was killed, or its program failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.killed.load(Ordering::Acquire) || self.failed.load(Ordering::Acquire)
    }

    /// A client that leaves does not end it from here on.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
    }

    /// Whether it goes on without a client.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    /// Its client has left, without the end of the answer: that ends it, too, unless it is detached.
    pub(crate) fn client_left(&self) {
        if !self.detached.load(Ordering::Acquire) {
            self.kill();
        }
    }

    /// Returns once [`InferletState::kill`] was called.
    pub(crate) async fn killed(&self) {
        while !self.killed.load(Ordering::Acquire) {
            self.kill.notified().await;
        }
    }
}

/// A running inferlet's place among those that run at once. It is given back while the inferlet waits for one that it
/// launched, which needs a place itself, and when the inferlet ends.
#[derive(Default)]
pub(crate) struct Place {
    held: Mutex<Held>,
}

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Place {
        _permits: [OwnedSemaphorePermit; 2],
    },
    /// The inferlet has ended.
    Ended,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of the user's places and one of the server's; waits for them. An inferlet that has ended meanwhile gets
    /// none.
    pub(crate) async fn take(&self, user: &User, places: &Arc<Semaphore>) {
        let take = |places: &Arc<Semaphore>| places.clone().acquire_owned();
        let never_closed = "the semaphores are never closed";
        // The user's first: who waits for that holds none of the server's.
        let of_user = take(&user.places).await.expect(never_closed);
        let of_server = take(places).await.expect(never_closed);
        let mut held = self.lock();
        if matches!(*held, Held::Nothing) {
            *held = Held::Place { _permits: [of_user, of_server] };
        }
    }

    /// Gives the place back. Whether there was one: another call may have given it back already.
    pub(crate) fn give_back(&self) -> bool {
        let mut held = self.lock();
        let had = matches!(*held, Held::Place { .. });
        if had {
            *held = Held::Nothing;
        }
        had
    }

    /// Gives the place back for good.
    fn end(&self) {
        *self.lock() = Held::Ended;
    }
}

/// An inferlet that waits for one that it launched, without a place of its own.
pub(crate) struct Waiting {
    places: Arc<Semaphore>,
    inferlet: Arc<InferletState>,
    /// Its place among those that wait; `None` once it has its own again.
    waiting: Option<[OwnedSemaphorePermit; 2]>,
}

impl Waiting {
    /// Gives the inferlet's place back until [`Waiting::end`]. `None` when too many wait already.
    pub(crate) fn begin(
        places: &Arc<Semaphore>,
        waiting_places: &Arc<Semaphore>,
        inferlet: &Arc<InferletState>,
    ) -> Option<Waiting> {
        let take = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().ok();
        let waiting = [take(&inferlet.user.waiting_places)?, take(waiting_places)?];
        let waiting = inferlet.place.give_back().then_some(waiting);
        Some(Waiting { places: places.clone(), inferlet: inferlet.clone(), waiting })
    }

    /// Goes on once the inferlet has a place again.
    pub(crate) async fn end(mut self) {
        if self.waiting.is_some() {
            self.inferlet.place.take(&self.inferlet.user, &self.places).await;
            self.waiting = None;
        }
    }
}

impl Drop for Waiting {
    /// The program no longer waits and goes on: it keeps its place among those that wait until it has its own.
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let (places, inferlet) = (self.places.clone(), self.inferlet.clone());
            tokio::spawn(async move {
                inferlet.place.take(&inferlet.user, &places).await;
                drop(waiting);
            });
        }
    }
}

/// Processor time of an inferlet and those it launched.
#[derive(Default)]
pub(crate) struct CpuMeter {
    spent_ns: AtomicU64,
    /// Only the thread that runs the program looks at this.
    run: Mutex<Run>,
}

/// A run of a program on a thread: from where it is woken to where it waits.
///
/// A thread's own clock takes longer to read than many a program runs. It is read where the run before took long.
#[derive(Default)]
struct Run {
    /// When it began, and the thread's clock then; none between runs.
    began: Option<(Instant, Option<Duration>)>,
    /// Whether the last one took long.
    long: bool,
}

impl CpuMeter {
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed))
    }
}

/// Processor time that this thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::RuntimeConfig;
    use crate::turns::Threads;
    use crate::users::Users;
    use crate::work::Workers;

    /// An inferlet that runs nothing, and its client.
    pub(crate) fn inferlet() -> (Arc<InferletState>, ClientEnds) {
        let user =
            Users::new(&RuntimeConfig::default(), &Workers::new(), &Arc::new(Threads::new(2))).of("test");
        let (inferlet, client) = child(&user, None);
        (inferlet, client)
    }

    /// An inferlet of 5 ms.
    pub(crate) fn child(
        user: &Arc<User>,
        parent: Option<Arc<InferletState>>,
    ) -> (Arc<InferletState>, ClientEnds) {
        let limits = InferletLimits { cpu: Some(Duration::from_millis(5)), ..InferletLimits::default() };
        let (user, grant) = (user.clone(), user.grant.clone());
        let (tally, arguments) = (Arc::default(), Vec::new());
        let made = InferletState::new(OwnerId(1), "p".into(), tally, user, grant, arguments, limits, parent);
        let (inferlet, client) = made.unwrap();
        (Arc::new(inferlet), client)
    }

    #[test]
    fn the_time_of_children_is_their_parents_too() {
        let (parent, _client) = inferlet();
        let (one, _client) = child(&parent.user, Some(parent.clone()));
        let (two, _client) = child(&parent.user, Some(parent.clone()));
        one.spend_cpu(Duration::from_millis(3));
        assert!(!one.is_out_of_cpu() && !parent.is_out_of_cpu());
        two.spend_cpu(Duration::from_millis(3));
        assert!(parent.is_out_of_cpu() && one.is_out_of_cpu(), "six together, of five");
    }
}
