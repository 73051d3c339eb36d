//! The engine's thread: answers, cancellation, failures, shutdown.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use backend::{
    AdapterId, Backend, BackendError, Batch, FakeBackend, FakeFault, Limits, LoraMatrix, Output, OutputKind,
    PageCopy, PageId, SamplingParams, TokenCounts, TokenOrigin, Value,
};
use scheduler::{
    CallError, ContextId, ContextOp, Engine, EngineConfig, EngineHandle, ForwardError, ForwardReply,
    ForwardRequest, NewContext, OwnerId, Priority, Reply, SchedulerConfig, SnapshotData, SnapshotPage,
    TenantId, Ticket,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until an answer is there; a lost one would hang, so there is a limit.
fn wait<T, E>(reply: Reply<T, E>) -> Result<T, E> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut reply = pin!(reply);
    let start = Instant::now();
    loop {
        if let Poll::Ready(answer) = reply.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer.expect("every message is answered");
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no answer");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn start(backend: impl Backend + 'static) -> (EngineHandle, Engine) {
    Engine::start(Box::new(backend), SchedulerConfig::default(), EngineConfig::default()).unwrap()
}

/// The test's side of a backend whose batches wait for it.
struct HeldUp {
    began: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

/// A backend that says when a batch begins, and computes it when told so; at once when nobody is left to tell it.
fn held_up() -> (FakeBackend, HeldUp) {
    let (begins, began) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let backend = FakeBackend::new(100, 50).before_batch(move |_| {
        let _ = begins.send(());
        let _ = goes_on.recv();
    });
    (backend, HeldUp { began, go_on })
}

fn create(handle: &EngineHandle, id: u64) {
    let (context, owner) = (ContextId(id), OwnerId(id));
    let op = ContextOp::Create { context, owner, priority: Priority::Normal, tenant: TenantId(0) };
    handle.apply(op).unwrap();
}

fn new_context(id: u64) -> NewContext {
    NewContext { id: ContextId(id), owner: OwnerId(id), priority: Priority::Normal, tenant: TenantId(0) }
}

fn request(ticket: u64, context: u64, tokens: &[u32]) -> ForwardRequest {
    let mut request = ForwardRequest::new(Ticket(ticket), ContextId(context), tokens.to_vec());
    request.outputs.push((tokens.len() - 1, OutputKind::Token(SamplingParams::greedy())));
    request
}

fn token(reply: Result<ForwardReply, ForwardError>) -> u32 {
    match reply.unwrap().values[..] {
        [Value::Token(sampled)] => sampled.token,
        ref other => panic!("one token was requested: {other:?}"),
    }
}

#[test]
fn a_thousand_contexts_get_what_one_gets() {
    let (handle, engine) = start(FakeBackend::new(2000, 50));
    let threads = (0..8).map(|thread| {
        let handle = handle.clone();
        std::thread::spawn(move || {
            let ids: Vec<u64> = (0..125).map(|i| thread * 125 + i).collect();
            ids.iter().for_each(|id| create(&handle, *id));
            let mut last = vec![1; ids.len()];
            for step in 0..4 {
                let replies: Vec<_> = ids
                    .iter()
                    .zip(&last)
                    .map(|(id, token)| handle.forward(request(id * 10 + step, *id, &[*token])))
                    .collect();
                last = replies.into_iter().map(|reply| token(wait(reply))).collect();
            }
            last
        })
    });
    let last: Vec<u32> = threads.collect::<Vec<_>>().into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert_eq!(last.len(), 1000);
    assert!(last.iter().all(|token| *token == last[0]));
    let stats = wait(handle.stats()).unwrap();
    assert_eq!((stats.completed, stats.contexts), (4000, 1000));
    assert!(stats.batch_size_mean() > 2.0, "{stats:?}");
    handle.shutdown();
    engine.join().unwrap();
}

/// How many hold the counts at the moment in which an answer comes, looked at on the engine's thread.
struct Holders {
    counts: Arc<TokenCounts>,
    seen: mpsc::Sender<usize>,
}

impl Wake for Holders {
    fn wake(self: Arc<Self>) {
        self.seen.send(Arc::strong_count(&self.counts)).unwrap();
    }
}

#[test]
fn what_a_pass_shares_is_given_back_before_its_answer() {
    let (backend, held_up) = held_up();
    let (handle, _engine) = start(backend);
    create(&handle, 1);
    let mut counts = TokenCounts::default();
    counts.add(&[1, 2], TokenOrigin::Generated);
    let (seen, at_answer) = mpsc::channel();
    let holders = Arc::new(Holders { counts: Arc::new(counts), seen });
    let counts = Some(holders.counts.clone());
    let sampling = SamplingParams { counts, presence_penalty: 1.0, ..SamplingParams::greedy() };
    let mut request = ForwardRequest::new(Ticket(1), ContextId(1), vec![1]);
    request.outputs.push((0, OutputKind::Token(sampling)));
    let mut reply = handle.forward(request);
    held_up.began.recv().unwrap();
    assert_eq!(Arc::strong_count(&holders.counts), 2, "the pass has them");
    let waker = Waker::from(holders.clone());
    assert!(pin!(&mut reply).poll(&mut Context::from_waker(&waker)).is_pending());
    held_up.go_on.send(()).unwrap();
    assert_eq!(at_answer.recv(), Ok(1), "only the program, which may change them in place");
    token(wait(reply));
}

#[test]
fn dropping_the_receiver_cancels() {
    let (handle, _engine) = start(FakeBackend::new(100, 50).with_step(Duration::from_millis(20)));
    create(&handle, 1);
    let busy = handle.forward(request(1, 1, &[1; 100]));
    drop(busy);
    // Had the pass been kept, the context would be busy or longer.
    let reply = wait(handle.forward(request(2, 1, &[2]))).unwrap();
    assert_eq!(reply.length, 1);
}

#[test]
fn cancelling_answers_the_waiting_pass() {
    let (handle, _engine) = start(FakeBackend::new(100, 50).with_step(Duration::from_millis(20)));
    create(&handle, 1);
    create(&handle, 2);
    let first = handle.forward(request(1, 1, &[1]));
    let long = handle.forward(request(2, 2, &[1; 1000]));
    handle.cancel(Ticket(2));
    assert_eq!(wait(long), Err(ForwardError::Cancelled));
    assert!(wait(first).is_ok());
    assert_eq!(wait(handle.info(ContextId(2))).unwrap().length, 0);
    handle.owner_gone(OwnerId(2));
    let info = handle.for_owner(OwnerId(2)).info(ContextId(2));
    assert_eq!(wait(info), Err(CallError::UnknownContext(ContextId(2))));
}

#[test]
fn a_failed_batch_fails_its_passes_and_nothing_else() {
    let (handle, _engine) = start(FakeBackend::new(100, 50).with_fault(FakeFault::FailBatch(1)));
    create(&handle, 1);
    let first = wait(handle.forward(request(1, 1, &[1, 2, 3]))).unwrap();
    let failed = wait(handle.forward(request(2, 1, &[4])));
    assert!(matches!(failed, Err(ForwardError::Backend(_))), "{failed:?}");
    let again = wait(handle.forward(request(3, 1, &[4]))).unwrap();
    assert_eq!((first.length, again.length), (3, 4));
}

/// A fake that panics when it sees a certain token.
struct Panics(FakeBackend);

impl Backend for Panics {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError> {
        assert!(!batch.tokens.contains(&13), "token 13");
        self.0.run(batch, output)
    }
    fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<(), BackendError> {
        self.0.copy_pages(copies)
    }
    fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError> {
        self.0.read_page(page, bytes)
    }
    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError> {
        self.0.write_page(page, bytes)
    }
    fn embed(&mut self, _: &[u32], _: &mut Vec<f32>) -> Result<(), BackendError> {
        panic!("no embeddings")
    }
    fn load_adapter(&mut self, id: AdapterId, matrices: Vec<LoraMatrix>) -> Result<(), BackendError> {
        self.0.load_adapter(id, matrices)
    }
    fn unload_adapter(&mut self, id: AdapterId) {
        self.0.unload_adapter(id);
    }
}

#[test]
fn a_panicking_backend_fails_its_batch_and_the_engine_goes_on() {
    let (handle, engine) = start(Panics(FakeBackend::new(100, 50)));
    create(&handle, 1);
    let expected = token(wait(handle.forward(request(1, 1, &[1, 2]))));
    let failed = wait(handle.forward(request(2, 1, &[13])));
    assert!(matches!(&failed, Err(ForwardError::Backend(text)) if text.contains("token 13")), "{failed:?}");
    assert!(matches!(wait(handle.embed(vec![1])), Err(CallError::Backend(_))));
    create(&handle, 2);
    assert_eq!(token(wait(handle.forward(request(3, 2, &[1, 2])))), expected);
    handle.shutdown();
    engine.join().unwrap();
}

#[test]
fn shutdown_answers_everything() {
    let (backend, batch) = held_up();
    let (handle, engine) = start(backend);
    (1..=3).for_each(|id| create(&handle, id));
    let running = handle.forward(request(1, 1, &[1]));
    batch.began.recv().unwrap();
    let waiting = handle.forward(request(2, 2, &[1; 900]));
    let call = handle.stats();
    handle.shutdown();
    batch.go_on.send(()).unwrap();
    assert!(wait(running).is_ok(), "the running batch ends");
    assert_eq!(wait(waiting), Err(ForwardError::Closed));
    assert_eq!(wait(call), Err(CallError::Closed));
    assert_eq!(wait(handle.forward(request(3, 3, &[1]))), Err(ForwardError::Closed));
    assert_eq!(wait(handle.list(String::new())), Err(CallError::Closed));
    engine.join().unwrap();
}

#[test]
fn a_full_inbox_refuses_what_takes_and_accepts_what_gives_back() {
    let config = EngineConfig { inbox: 4, ..EngineConfig::default() };
    let (backend, batch) = held_up();
    let (handle, _engine) = Engine::start(Box::new(backend), SchedulerConfig::default(), config).unwrap();
    create(&handle, 1);
    let running = handle.forward(request(1, 1, &[1]));
    batch.began.recv().unwrap();
    (2..6).for_each(|id| create(&handle, id));
    let context = ContextId(7);
    let (owner, priority, tenant) = (OwnerId(7), Priority::Normal, TenantId(0));
    assert!(handle.apply(ContextOp::Create { context, owner, priority, tenant }).is_err());
    assert_eq!(wait(handle.forward(request(2, 2, &[1]))), Err(ForwardError::Overloaded));
    assert!(handle.apply(ContextOp::Drop { context: ContextId(2) }).is_ok());
    batch.go_on.send(()).unwrap();
    assert!(wait(running).is_ok());
    // The answer may be there a moment before the inbox is taken.
    let stats =
        std::iter::repeat_with(|| wait(handle.stats())).find(|stats| *stats != Err(CallError::Overloaded));
    assert_eq!(stats.unwrap().unwrap().contexts, 4);
}

#[test]
fn snapshots_outlive_their_owner_and_the_engine() {
    let (handle, engine) = start(FakeBackend::new(100, 50));
    create(&handle, 1);
    let prompt: Vec<u32> = (0..40).collect();
    wait(handle.forward(request(1, 1, &prompt))).unwrap();
    let info = wait(handle.save(ContextId(1), "ann/a".into(), true)).unwrap();
    assert_eq!((info.length, info.pages, info.persistent), (40, 3, true));
    let next_position = info.next_position;
    let expected = token(wait(handle.forward(request(2, 1, &[7]))));
    handle.owner_gone(OwnerId(1));
    assert_eq!(wait(handle.list("ann/".into())).unwrap(), [info]);
    assert_eq!(wait(handle.list("bob/".into())).unwrap(), []);
    let open = |handle: &EngineHandle, id: u64| {
        wait(handle.open("ann/a".into(), new_context(id))).unwrap();
        token(wait(handle.forward(request(id + 10, id, &[7]))))
    };
    assert_eq!(open(&handle, 2), expected);
    // In parts, and beyond the end there is nothing.
    let read = |range| wait(handle.export_pages("ann/a".into(), range)).unwrap();
    let pages = [read(0..2), read(2..9), read(3..9), read(7..9)].concat();
    let data = SnapshotData { page_tokens: handle.limits().page_tokens, next_position, pages };
    assert_eq!(data.pages.len(), 3);
    assert_eq!(wait(handle.has("ann/a".into())), Ok(true));
    handle.apply(ContextOp::DropSnapshot { key: "ann/a".into() }).unwrap();
    assert_eq!(wait(handle.has("ann/a".into())), Ok(false));
    handle.shutdown();
    engine.join().unwrap();
    let (handle, _engine) = start(FakeBackend::new(100, 50));
    let mut damaged = data.clone();
    damaged.pages[0].bytes.pop();
    assert!(matches!(
        wait(handle.import("ann/b".into(), TenantId(0), true, damaged)),
        Err(CallError::Mismatch(_))
    ));
    wait(handle.import("ann/a".into(), TenantId(0), true, data)).unwrap();
    assert_eq!(open(&handle, 3), expected);
}

/// What a snapshot of two pages with one token each is made from.
fn two_pages(handle: &EngineHandle) -> SnapshotData {
    let page_tokens = handle.limits().page_tokens;
    let page = SnapshotPage {
        live: 1,
        positions: vec![0; page_tokens as usize],
        bytes: vec![0; handle.limits().page_bytes],
    };
    SnapshotData { page_tokens, next_position: 1, pages: vec![page.clone(), page] }
}

/// Host memory has room for one of two snapshots: the one that is loaded takes the other's place, and has its context.
#[test]
fn a_loaded_snapshot_takes_the_place_of_another() {
    let config = SchedulerConfig { host_pages: 3, ..SchedulerConfig::default() };
    let (handle, _engine) =
        Engine::start(Box::new(FakeBackend::new(100, 50)), config, EngineConfig::default()).unwrap();
    let data = two_pages(&handle);
    let keys = |handle: &EngineHandle| {
        let list = wait(handle.list(String::new())).unwrap();
        list.into_iter().map(|info| info.key).collect::<Vec<_>>()
    };
    let load = |key: &str, id, wanted: bool| {
        wait(handle.load(key.into(), data.clone(), new_context(id), move || wanted)).unwrap()
    };
    let first = load("a", 1, true).unwrap();
    assert_eq!((first.forgotten, first.opened.unwrap().length), (vec![], 2));
    // Its context keeps its pages, so that there is room for none: what was forgotten is said all the same.
    let refused = load("b", 2, true).unwrap();
    assert_eq!(refused.forgotten.iter().map(|info| &*info.key).collect::<Vec<_>>(), ["a"]);
    assert_eq!(refused.opened, Err(CallError::OutOfPages { needed: 2, available: 1 }));
    assert_eq!(keys(&handle), Vec::<String>::new());
    handle.apply(ContextOp::Drop { context: ContextId(1) }).unwrap();
    assert_eq!(load("a", 3, true).unwrap().opened.unwrap().length, 2);
    handle.apply(ContextOp::Drop { context: ContextId(3) }).unwrap();
    // Nobody wants it: nothing is forgotten for it.
    assert!(load("b", 4, false).is_none());
    assert_eq!(keys(&handle), ["a"]);
    let second = load("b", 5, true).unwrap();
    assert_eq!(second.forgotten.iter().map(|info| &*info.key).collect::<Vec<_>>(), ["a"]);
    assert_eq!((second.opened.unwrap().length, keys(&handle)), (2, vec!["b".to_string()]));
    // What is there by now is opened as it is, also where its file cannot be used.
    let damaged = SnapshotData { page_tokens: 1, ..data.clone() };
    let again = wait(handle.load("b".into(), damaged.clone(), new_context(6), || true)).unwrap().unwrap();
    assert_eq!((again.forgotten, again.opened.unwrap().length), (vec![], 2));
    let damaged = wait(handle.load("c".into(), damaged, new_context(7), || true)).unwrap().unwrap();
    assert_eq!(damaged.forgotten, []);
    assert!(matches!(damaged.opened, Err(CallError::Mismatch(_))));
    // What never fits takes nobody's place.
    let long = SnapshotData { pages: [&data.pages[..], &data.pages[..]].concat(), ..data.clone() };
    let long = wait(handle.load("long".into(), long, new_context(8), || true)).unwrap().unwrap();
    assert_eq!(long.opened, Err(CallError::OutOfPages { needed: 4, available: 3 }));
    assert_eq!((long.forgotten, keys(&handle)), (vec![], vec!["b".to_string()]));
    wait(handle.check()).unwrap();
}

/// A tenant that has all it may have loses a snapshot of its own for another, and nobody else does.
#[test]
fn a_loaded_snapshot_takes_the_place_of_its_tenants_first() {
    let config = SchedulerConfig { host_pages: 8, tenant_pages: Some(2), ..SchedulerConfig::default() };
    let (handle, _engine) =
        Engine::start(Box::new(FakeBackend::new(100, 50)), config, EngineConfig::default()).unwrap();
    let data = two_pages(&handle);
    let load = |key: &str, id, tenant| {
        let context = NewContext { tenant: TenantId(tenant), ..new_context(id) };
        let loaded = wait(handle.load(key.into(), data.clone(), context, || true)).unwrap().unwrap();
        handle.apply(ContextOp::Drop { context: ContextId(id) }).unwrap();
        let forgotten: Vec<_> = loaded.forgotten.into_iter().map(|info| info.key).collect();
        (forgotten, loaded.opened.map(|info| info.length))
    };
    assert_eq!(load("a of one", 1, 1), (vec![], Ok(2)));
    assert_eq!(load("z of two", 2, 2), (vec![], Ok(2)));
    assert_eq!(load("b of two", 3, 2), (vec!["z of two".to_string()], Ok(2)));
}

/// A fake that counts its adapters.
struct Adapters(FakeBackend, Arc<std::sync::Mutex<Vec<AdapterId>>>);

impl Backend for Adapters {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError> {
        self.0.run(batch, output)
    }
    fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<(), BackendError> {
        self.0.copy_pages(copies)
    }
    fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError> {
        self.0.read_page(page, bytes)
    }
    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError> {
        self.0.write_page(page, bytes)
    }
    fn embed(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), BackendError> {
        self.0.embed(tokens, rows)
    }
    fn load_adapter(&mut self, id: AdapterId, _: Vec<LoraMatrix>) -> Result<(), BackendError> {
        self.1.lock().unwrap().push(id);
        Ok(())
    }
    fn unload_adapter(&mut self, id: AdapterId) {
        self.1.lock().unwrap().retain(|other| *other != id);
    }
}

#[test]
fn adapters_go_with_their_owner() {
    let loaded = Arc::<std::sync::Mutex<Vec<AdapterId>>>::default();
    let (handle, engine) = start(Adapters(FakeBackend::new(100, 50), loaded.clone()));
    for (owner, id) in [(1, 1), (1, 2), (2, 3)] {
        wait(handle.load_adapter(OwnerId(owner), AdapterId(id), Vec::new())).unwrap();
    }
    handle.apply(ContextOp::DropAdapter { adapter: AdapterId(1) }).unwrap();
    wait(handle.stats()).unwrap();
    wait(handle.stats()).unwrap();
    assert_eq!(*loaded.lock().unwrap(), [AdapterId(2), AdapterId(3)]);
    // The answer is never read: the load happens all the same, and so does the end.
    drop(handle.load_adapter(OwnerId(1), AdapterId(4), Vec::new()));
    handle.owner_gone(OwnerId(1));
    wait(handle.stats()).unwrap();
    wait(handle.stats()).unwrap();
    assert_eq!(*loaded.lock().unwrap(), [AdapterId(3)]);
    handle.shutdown();
    engine.join().unwrap();
}

/// A program that forks and drops a long context over and over waits for its own calls. Another one's pass does not.
#[test]
fn an_owner_with_much_to_do_delays_nobody() {
    let (handle, _engine) = start(FakeBackend::new(100, 50));
    create(&handle, 1);
    create(&handle, 2);
    let (busy, other) = (handle.for_owner(OwnerId(1)), handle.for_owner(OwnerId(2)));
    wait(busy.forward(request(1, 1, &[1; 1000]))).unwrap();
    for fork in 10..4000 {
        busy.apply(ContextOp::Fork { from: ContextId(1), to: ContextId(fork) }).unwrap();
        busy.apply(ContextOp::Drop { context: ContextId(fork) }).unwrap();
    }
    let mut last = busy.info(ContextId(1));
    wait(other.forward(request(2, 2, &[1]))).unwrap();
    assert!(last.try_recv().unwrap().is_none(), "the pass has waited for all that came before it");
    assert_eq!(wait(last).unwrap().length, 1000);
    wait(handle.check()).unwrap();
    assert_eq!(wait(handle.stats()).unwrap().ops_refused, 0);
}

/// What an owner that is gone still had to do is not done, but for hidden snapshots that it gives back.
#[test]
fn an_owner_that_is_gone_wants_nothing_any_more() {
    let (handle, _engine) = start(FakeBackend::new(100, 50));
    create(&handle, 1);
    let owner = handle.for_owner(OwnerId(1));
    wait(owner.forward(request(1, 1, &[1; 1000]))).unwrap();
    wait(owner.save(ContextId(1), "hidden".into(), false)).unwrap();
    for fork in 10..2000 {
        owner.apply(ContextOp::Fork { from: ContextId(1), to: ContextId(fork) }).unwrap();
    }
    owner.apply(ContextOp::DropSnapshot { key: "hidden".into() }).unwrap();
    owner.owner_gone(OwnerId(1));
    wait(owner.info(ContextId(1))).unwrap_err();
    let stats = wait(handle.stats()).unwrap();
    assert_eq!((stats.contexts, stats.snapshots, stats.pages_held), (0, 0, 0), "{stats:?}");
    wait(handle.check()).unwrap();
}
