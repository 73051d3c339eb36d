//! A host for tests on the developer's machine: without a server, without a model, without WebAssembly.
//!
//! ```
//! use inferlet::testing::{Host, ScriptedModel};
//! use inferlet::{Chat, Model, Result, SamplingParams, session};
//!
//! async fn program() -> Result<()> {
//!     let mut chat = Chat::new(&Model::open_default()?)?;
//!     let answer = chat.user("How are you?").answer(SamplingParams::greedy(), 32).await?;
//!     Ok(session::send(answer.text).await?)
//! }
//!
//! let host = Host::new().model(ScriptedModel::new().says("How are you?", "Fine."));
//! host.run(program()).unwrap();
//! assert_eq!(host.sent(), ["Fine."]);
//! assert_eq!(host.passes(), 6); // five letters and the end
//! ```
//!
//! Everything but numbers of the model is as in the server: contexts, masks, positions, penalties, constraints. There is
//! no prefix cache, no limit and no other program. Time passes only where every task of the program waits for it.

#[doc(hidden)]
pub mod api;
mod mcp;
mod model;
mod sampling;

pub use mcp::ScriptedServer;
pub(crate) use mcp::ScriptedTool;
pub use model::ScriptedModel;
pub(crate) use model::{HIDDEN, Row, Slot};
pub(crate) use sampling::{draw, log_softmax};

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::LocalBoxFuture;

use crate::http::{Request, Response};
use crate::{Error, Result};

/// A scripted host. It keeps its state from one run to the next.
#[derive(Default)]
pub struct Host {
    state: Rc<State>,
}

/// What programs act on.
#[derive(Default)]
pub(crate) struct State {
    pub models: Vec<Rc<ScriptedModel>>,
    pub servers: Vec<Rc<ScriptedServer>>,
    pub mcp_calls: RefCell<Vec<String>>,
    pub arguments: Vec<String>,
    pub inputs: RefCell<VecDeque<String>>,
    pub sent: RefCell<Vec<String>>,
    pub blobs: RefCell<Vec<Vec<u8>>>,
    pub store: RefCell<BTreeMap<String, Vec<u8>>>,
    pub cache_salt: RefCell<Option<String>>,
    pub snapshots: RefCell<BTreeMap<String, (Vec<Slot>, u32)>>,
    pub queues: RefCell<HashMap<String, VecDeque<String>>>,
    pub listeners: RefCell<Vec<Rc<Listener>>>,
    pub kept: RefCell<Vec<(String, String)>>,
    pub failures: RefCell<HashMap<usize, Error>>,
    pub passes: Cell<usize>,
    pub rows: Cell<usize>,
    pub clock_ns: Cell<u64>,
    pub sleepers: RefCell<Vec<u64>>,
    spawned: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
}

/// A subscription's messages.
#[derive(Debug)]
pub(crate) struct Listener {
    pub topic: String,
    pub messages: RefCell<VecDeque<String>>,
}

thread_local! {
    /// The host of the run on this thread.
    static HOST: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
}

/// The host of the run on this thread.
pub(crate) fn host() -> Rc<State> {
    HOST.with_borrow(Clone::clone).expect("no host: run the program with `inferlet::testing::Host::run`")
}

impl Host {
    /// A host without a model.
    pub fn new() -> Host {
        Host::default()
    }

    fn with(mut self, change: impl FnOnce(&mut State)) -> Host {
        change(Rc::get_mut(&mut self.state).expect("nothing runs yet"));
        self
    }

    /// Adds a model; the first one is the default.
    pub fn model(self, model: ScriptedModel) -> Host {
        self.with(|state| state.models.push(Rc::new(model)))
    }

    /// Adds an MCP server.
    pub fn mcp(self, server: ScriptedServer) -> Host {
        self.with(|state| state.servers.push(Rc::new(server)))
    }

    /// The arguments of the program.
    pub fn arguments(self, arguments: &[&str]) -> Host {
        self.with(|state| state.arguments = arguments.iter().map(|text| text.to_string()).collect())
    }

    /// Messages of the client, for `session::receive`.
    pub fn messages(self, messages: &[&str]) -> Host {
        self.with(|state| state.inputs.get_mut().extend(messages.iter().map(|text| text.to_string())))
    }

    /// Pass number `number`, from 0 on, fails.
    pub fn fail(self, number: usize, error: Error) -> Host {
        self.with(|state| _ = state.failures.get_mut().insert(number, error))
    }

    /// Runs a program, or any part of one, to its end. What it spawned runs as long as it does.
    ///
    /// # Panics
    /// When all of it waits for something that cannot come.
    pub fn run<F: Future>(&self, program: F) -> F::Output {
        let before = HOST.replace(Some(self.state.clone()));
        let _restore = Restore(before);
        self.drive(program)
    }

    /// Answers a request by a function as [`serve`](macro@crate::serve) marks it, its errors included. Tasks that it
    /// leaves behind, such as one that writes the body, end before the response is given.
    pub fn request<F: Future<Output = Result<Response>>>(
        &self,
        serve: impl FnOnce(Request) -> F,
        request: Request,
    ) -> (crate::http::StatusCode, String) {
        self.run(async {
            let response = crate::http::respond(serve(request).await);
            let status = response.status();
            let body = response.into_body().text(usize::MAX).await;
            (status, body.unwrap_or_else(|error| error.to_string()))
        })
    }

    /// What the program sent to its client.
    pub fn sent(&self) -> Vec<String> {
        self.state.sent.borrow().clone()
    }

    /// Calls of tools of MCP servers so far: the server, the tool, the arguments.
    pub fn mcp_calls(&self) -> Vec<String> {
        self.state.mcp_calls.borrow().clone()
    }

    /// Passes so far, failed ones included.
    pub fn passes(&self) -> usize {
        self.state.passes.get()
    }

    /// Rows of all passes that did not fail.
    pub fn rows(&self) -> usize {
        self.state.rows.get()
    }

    fn drive<F: Future>(&self, program: F) -> F::Output {
        let mut program = pin!(program);
        let mut tasks: Vec<LocalBoxFuture<'static, ()>> = Vec::new();
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            woken.0.store(false, Ordering::Relaxed);
            if let Poll::Ready(output) = program.as_mut().poll(&mut context) {
                return output;
            }
            let before = tasks.len();
            tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let has_ended = tasks.len() < before;
            let mut spawned = self.state.spawned.take();
            let goes_on = has_ended || !spawned.is_empty() || woken.0.load(Ordering::Relaxed);
            tasks.append(&mut spawned);
            assert!(goes_on || self.pass_time(), "the program waits for what cannot come");
        }
    }

    /// Goes on to the moment at which the next sleeper wakes; whether there is one.
    fn pass_time(&self) -> bool {
        let now = self.state.clock_ns.get();
        let mut sleepers = self.state.sleepers.borrow_mut();
        sleepers.retain(|until| *until > now);
        let next = sleepers.iter().min();
        next.inspect(|next| self.state.clock_ns.set(**next)).is_some()
    }
}

/// Puts back the host that was there before.
struct Restore(Option<Rc<State>>);

impl Drop for Restore {
    fn drop(&mut self) {
        HOST.set(self.0.take());
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a task beside the program.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    host().spawned.borrow_mut().push(Box::pin(task));
}

/// Lets the other tasks run.
pub(crate) async fn pause() {
    let mut is_done = false;
    poll_fn(|context| match std::mem::replace(&mut is_done, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Waits until there is a value: it is looked for whenever anything happened.
pub(crate) async fn wait<T>(mut find: impl FnMut(&State) -> Option<T>) -> T {
    let host = host();
    poll_fn(|_| find(&host).map_or(Poll::Pending, Poll::Ready)).await
}
