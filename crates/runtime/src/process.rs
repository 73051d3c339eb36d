//! One launch: from a program to its outcome.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use inferlet_manifest::ArgumentError;
use scheduler::ContextOp;
use tokio::sync::oneshot;
use tracing::Instrument;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_http::WasiHttpCtx;

use crate::error::ApiError;
use crate::grant::Grant;
use crate::host::HostState;
use crate::host::bindings::InferletPre;
use crate::inferlet::{ClientEnds, Event, InferletState};
use crate::limits::{InferletLimits, MemoryLimiter, Metered, Refused};
use crate::network::Outgoing;
use crate::output::{Channel, OutputPipe};
use crate::program::Program;
use crate::queue::{Receiver, Sender, queue};
use crate::{RuntimeState, TICK};

/// Arguments of a launch, in bytes together.
pub const ARGUMENT_BYTES: usize = 1 << 20;
/// Arguments of a launch.
pub const ARGUMENTS: usize = 4096;
/// Inferlets above an inferlet that launched each other.
const LAUNCH_DEPTH: u32 = 8;

/// How to start a program.
#[derive(Clone, Debug, Default)]
pub struct LaunchOptions {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// On whose behalf; names the store, snapshots and topics it sees.
    pub user: String,
    /// What it may use; the runtime's default for none.
    pub limits: Option<InferletLimits>,
}

/// Why a launch is refused.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Too many inferlets run or wait, of the user or of all: which, in words.
    #[error("{0}; try again later")]
    Overloaded(String),
    /// The key does not allow the program.
    #[error("the key does not allow the program `{0}`")]
    NotAllowed(String),
    /// The key was taken away.
    #[error("the key was revoked")]
    Revoked,
    /// The program only answers HTTP requests.
    #[error("`{0}` answers HTTP requests and has no `run`: mount it with `serve` instead of running it")]
    NoRun(String),
    /// The program does not take these arguments.
    #[error("`{program}` does not take these arguments: {reason}")]
    Arguments {
        /// The program.
        program: String,
        /// Which is wrong.
        reason: ArgumentError,
    },
    /// The program answers no HTTP requests.
    #[error("`{0}` answers no HTTP requests: it exports no WASI HTTP handler (`#[inferlet::serve]`)")]
    NoHandler(String),
    /// Inferlets that launch inferlets that launch inferlets …
    #[error("inferlets that launch each other are {0} deep, which is the limit")]
    TooDeep(u32),
    /// The limits requested exceed the slots that the runtime was started with.
    #[error("a memory limit of {asked} bytes is asked for, the runtime was started for {most}")]
    Memory {
        /// Bytes requested.
        asked: usize,
        /// Bytes of a slot.
        most: usize,
    },
}

/// Why an inferlet ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferletError {
    /// The program returned an error: its own account.
    #[error("{0}")]
    Program(String),
    /// It used up its processor time.
    #[error("the inferlet used its limit of {limit_ms} ms of processor time")]
    Cpu {
        /// The limit.
        limit_ms: u64,
    },
    /// It requested more memory than its limit, and did not survive the refusal.
    #[error("the inferlet asked for {asked} bytes of memory, its limit is {limit}")]
    Memory {
        /// Bytes requested.
        asked: usize,
        /// The limit.
        limit: usize,
    },
    /// It requested memory that the other programs of the user, or all others, have taken, and did not survive that.
    #[error(
        "the inferlet asked for memory that other programs have: those of the user, or all together, are at their limit"
    )]
    SharedMemory,
    /// It did what WebAssembly does not allow, or panicked.
    #[error("the inferlet trapped: {0}")]
    Trap(String),
    /// Somebody killed it.
    #[error("the inferlet was killed")]
    Killed,
}

/// A launched inferlet, as its client holds it. Dropping the handle leaves the inferlet running, without a client.
pub struct Inferlet {
    inferlet: Arc<InferletState>,
    events: Receiver<Event>,
    input: Option<Input>,
    outcome: SharedFuture<BoxFuture<'static, Result<String, InferletError>>>,
}

impl Inferlet {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.inferlet.id
    }

    /// The next event; none when the inferlet has ended and all were taken.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.receive().await
    }

    /// What messages to it are sent with; none the second time. Once it and its clones are dropped, or the inferlet
    /// handle with it, the inferlet's `receive` says closed.
    pub fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Takes the events and drops them, so that it never waits for a client.
    pub(crate) fn discard_events(&mut self) {
        let (_, nothing) = queue();
        let mut events = std::mem::replace(&mut self.events, nothing);
        tokio::spawn(async move { while events.receive().await.is_some() {} });
    }

    /// Waits until it has ended. Take its events meanwhile: it waits when nobody does.
    ///
    /// # Errors
    /// Why it ended without a result.
    pub async fn outcome(&self) -> Result<String, InferletError> {
        self.outcome.clone().await
    }

    /// Ends it, within milliseconds.
    pub fn kill(&self) {
        self.inferlet.kill();
    }

    /// A handle for whoever ends it while somebody else takes its events.
    pub fn control(&self) -> Control {
        Control(Arc::downgrade(&self.inferlet))
    }
}

/// A handle to an inferlet, also to one that has ended and is gone. It keeps nothing of it.
#[derive(Clone)]
pub struct Control(Weak<InferletState>);

impl Control {
    /// Ends it, within milliseconds.
    pub fn kill(&self) {
        if let Some(inferlet) = self.0.upgrade() {
            inferlet.kill();
        }
    }

    /// Its clients have left: that ends it, unless it has detached itself (`runtime.detach`). Whether it goes on.
    pub fn leave(&self) -> bool {
        let Some(inferlet) = self.0.upgrade() else { return false };
        inferlet.client_left();
        inferlet.is_detached()
    }

    /// Processor time of its program and of those it launched; none once it is gone.
    pub fn cpu(&self) -> Option<Duration> {
        Some(self.0.upgrade()?.cpu.spent())
    }
}

/// The client's side of `session.receive`.
#[derive(Clone)]
pub struct Input {
    texts: Sender<String>,
    blobs: Sender<Vec<u8>>,
}

impl Input {
    /// Sends a text; waits while the inferlet's queue is full. Whether it can still receive it.
    pub async fn send(&self, text: String) -> bool {
        let bytes = text.len();
        self.texts.send(text, bytes).await
    }

    /// Sends bytes; waits while the inferlet's queue is full. Whether it can still receive them.
    pub async fn send_blob(&self, bytes: Vec<u8>) -> bool {
        let length = bytes.len();
        self.blobs.send(bytes, length).await
    }
}

pub(crate) fn launch(
    shared: &Arc<RuntimeState>,
    program: &Program,
    options: LaunchOptions,
    grant: Option<&Arc<Grant>>,
    parent: Option<&Arc<InferletState>>,
) -> Result<Inferlet, LaunchError> {
    let entry = program.run.clone().ok_or_else(|| LaunchError::NoRun(program.label().to_string()))?;
    program.check_arguments(&options.arguments).map_err(|reason| {
        let program = program.label().to_string();
        LaunchError::Arguments { program, reason }
    })?;
    let (registration, client) = register(shared, program.into(), options, grant, parent)?;
    let inferlet = registration.inferlet.clone();
    let (done, outcome) = oneshot::channel();
    let turns = inferlet.user.turns.clone();
    let work = async move {
        let _ = done.send(supervise(&registration, run(&registration, &entry)).await);
    };
    // Of one that answers a request, it has the request's id in the log too.
    turns.spawn(work.in_current_span()).detach();
    // The task sends in any case; it is gone only when the whole process stops.
    let outcome = outcome.map(|result| result.unwrap_or(Err(InferletError::Killed))).boxed().shared();
    let input = Some(Input { texts: client.texts, blobs: client.blobs });
    Ok(Inferlet { inferlet, events: client.events, input, outcome })
}

/// An inferlet on the list of those that run. It is taken off when its task ends, however it ends, and everything
/// that it held is given back.
pub(crate) struct Registration {
    pub(crate) shared: Arc<RuntimeState>,
    pub(crate) inferlet: Arc<InferletState>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        for model in &self.shared.models {
            model.engine.owner_gone(self.inferlet.owner);
        }
        self.inferlet.close();
        if let Some(span) = self.inferlet.span.get() {
            span.end();
        }
        let mut running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.inferlet.id);
        self.inferlet.gone();
        self.shared.note_end(&self.inferlet);
    }
}

/// What an inferlet is called, and what a key's list must have for it.
pub(crate) struct ProgramNames {
    pub(crate) label: String,
    pub(crate) listed_as: String,
}

impl From<&Program> for ProgramNames {
    fn from(program: &Program) -> ProgramNames {
        ProgramNames { label: program.label().to_string(), listed_as: program.listed_as().to_string() }
    }
}

/// Makes an inferlet and puts it on the list, if there is room. It acts under the grant of its parent, else under this one,
/// else as the user that the options name.
pub(crate) fn register(
    shared: &Arc<RuntimeState>,
    ProgramNames { label, listed_as }: ProgramNames,
    options: LaunchOptions,
    grant: Option<&Arc<Grant>>,
    parent: Option<&Arc<InferletState>>,
) -> Result<(Registration, ClientEnds), LaunchError> {
    let depth = parent.map_or(0, |parent| parent.depth + 1);
    if depth > LAUNCH_DEPTH {
        return Err(LaunchError::TooDeep(LAUNCH_DEPTH));
    }
    let grant = parent.map(|parent| &parent.grant).or(grant);
    // A child is its parent's user's, whatever the options say.
    let user = shared.users.of(grant.map_or(&options.user, |grant| grant.user()));
    let grant = grant.unwrap_or(&user.grant).clone();
    if !grant.allows_program(&listed_as) {
        return Err(LaunchError::NotAllowed(label));
    }
    let of_grant = || grant.options().limits.clone();
    let limits = options.limits.or_else(of_grant).unwrap_or_else(|| shared.config.limits.clone());
    let most = shared.config.limits.memory_bytes.max(16 << 20);
    if limits.memory_bytes > most {
        return Err(LaunchError::Memory { asked: limits.memory_bytes, most });
    }
    let (owner, arguments) = (shared.next_owner(), options.arguments);
    let tally = shared.tallies.of(&label);
    let made = InferletState::new(owner, label, tally, user, grant, arguments, limits, parent.cloned());
    let (inferlet, client) = made.map_err(|error| match error {
        ApiError::LimitExceeded(reason) => LaunchError::Overloaded(reason),
        other => LaunchError::Overloaded(other.to_string()),
    })?;
    let inferlet = Arc::new(inferlet);
    {
        let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if inferlet.grant.is_revoked() {
            return Err(LaunchError::Revoked);
        }
        running.insert(inferlet.id.clone(), inferlet.clone());
    }
    inferlet.tally.launched();
    if let Some(above) = parent.and_then(|parent| parent.span.get()) {
        inferlet.begin_span(above.below());
    }
    shared.note_begin(&inferlet);
    Ok((Registration { shared: shared.clone(), inferlet }, client))
}

/// Lets an inferlet work when it has a place, meters it, and ends it when it is killed.
pub(crate) async fn supervise<T>(
    registration: &Registration,
    work: impl Future<Output = Result<T, InferletError>>,
) -> Result<T, InferletError> {
    let Registration { shared, inferlet } = registration;
    let work = async {
        inferlet.place.take(&inferlet.user, &shared.places).await;
        inferlet.begin();
        Metered { program: Box::pin(work), inferlet: inferlet.clone() }.await
    };
    let outcome = tokio::select! {
        biased;
        () = inferlet.killed() => Err(InferletError::Killed),
        outcome = work => outcome,
    };
    inferlet.ended(&outcome);
    outcome
}

/// Calls the program's `run`.
async fn run(registration: &Registration, entry: &InferletPre<HostState>) -> Result<String, InferletError> {
    let mut store = new_store(registration);
    let result = async {
        let inferlet = entry.instantiate_async(&mut store).await?;
        store.run_concurrent(async |accessor| inferlet.call_run(accessor).await).await?
    };
    match result.await {
        Ok(result) => result.map_err(InferletError::Program).and_then(|text| {
            // Beside its output: what a program has to say in the end is not lost for what it said before.
            let (bytes, limit) = (text.len(), registration.inferlet.limits.output_bytes);
            match bytes as u64 > limit {
                true => Err(InferletError::Program(format!(
                    "the result has {bytes} bytes, the limit of output is {limit}"
                ))),
                false => Ok(text),
            }
        }),
        Err(error) => Err(explain(&error, &registration.inferlet, &store)),
    }
}

/// The store of one inferlet, with everything that its program may reach.
pub(crate) fn new_store(Registration { shared, inferlet }: &Registration) -> Store<HostState> {
    for model in &shared.models {
        // Never refused.
        let _ = model.engine.apply(ContextOp::Register {
            owner: inferlet.owner,
            parent: inferlet.parent.as_ref().map(|parent| parent.owner).or(inferlet.grant.owner()),
            tenant: inferlet.user.tenant,
            pages: inferlet.limits.pages,
        });
    }
    let wasi = WasiCtx::builder()
        .stdout(OutputPipe::new(inferlet.clone(), Channel::Stdout))
        .stderr(OutputPipe::new(inferlet.clone(), Channel::Stderr))
        .build();
    let state = HostState {
        table: ResourceTable::new(),
        wasi,
        http: WasiHttpCtx::new(),
        outgoing: Outgoing(shared.allowed_hosts()),
        shared: shared.clone(),
        inferlet: inferlet.clone(),
        memory: MemoryLimiter::new(inferlet.limits.memory_bytes, &inferlet.grant.memory),
        cache_salt: None,
        contexts: Arc::default(),
        adapters: 0,
        counts: Default::default(),
    };
    let mut store = Store::new(&shared.wasmtime, state);
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    store.set_hostcall_fuel(CALL_BYTES);
    let meter = inferlet.clone();
    store.epoch_deadline_callback(move |_| {
        if meter.is_out_of_cpu() {
            return Err(wasmtime::Error::msg(CPU_LIMIT));
        }
        if meter.has_run() < TICK / 2 {
            // The tick fell into the time that it waited, or it has just begun.
            return Ok(UpdateDeadline::Continue(1));
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Bytes of the arguments of one call, as the host has them. To take them over cannot be interrupted: so many take 30 ms.
const CALL_BYTES: usize = 64 << 20;

/// Marks the trap that the processor time limit causes.
const CPU_LIMIT: &str = "processor time limit";

/// A trap, as the error of the launch.
pub(crate) fn explain(
    error: &wasmtime::Error,
    inferlet: &InferletState,
    store: &Store<HostState>,
) -> InferletError {
    let causes = format!("{error:#}");
    if let Some(limit) = inferlet.limits.cpu.filter(|_| causes.contains(CPU_LIMIT)) {
        return InferletError::Cpu { limit_ms: limit.as_millis() as u64 };
    }
    match store.data().memory.refused {
        Some(Refused::Inferlet(asked)) => {
            return InferletError::Memory { asked, limit: inferlet.limits.memory_bytes };
        }
        Some(Refused::Others) => return InferletError::SharedMemory,
        None => {}
    }
    let stderr = inferlet.stderr_tail();
    let root = error.root_cause().to_string();
    InferletError::Trap(if stderr.is_empty() { root } else { format!("{root}; its last words: {stderr}") })
}

#[cfg(test)]
mod ends;
