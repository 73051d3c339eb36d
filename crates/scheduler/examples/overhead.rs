//! What the control layer costs a forward pass: a backend that computes nothing, and programs that only ask again.
//!
//! `cargo run --release -p scheduler --example overhead` prints, for 1 to 1000 programs that each decode on a context of
//! 1024 tokens, the mean time of one pass: message, batching, two wake-ups, reply. First it prints what a wake-up costs on
//! this machine: two threads that do nothing but wake each other.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use backend::{
    AdapterId, Backend, BackendError, Batch, Limits, LoraMatrix, Output, OutputKind, PageCopy, PageId, Value,
};
use scheduler::{
    ContextId, ContextOp, Engine, EngineConfig, ForwardRequest, OwnerId, Priority, SchedulerConfig, TenantId,
    Ticket,
};

struct Nothing;

impl Backend for Nothing {
    fn limits(&self) -> Limits {
        Limits {
            pages: 100_000,
            page_tokens: 16,
            batch_tokens: 2048,
            batch_sequences: 1024,
            row_outputs: 256,
            batch_outputs: 4096,
            batch_output_values: 1 << 25,
            vocabulary: 50_000,
            hidden: 8,
            context_tokens: 1 << 20,
            encoder: false,
            page_bytes: 0,
        }
    }
    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError> {
        output.values.clear();
        output.values.extend(batch.outputs.iter().map(|_| Value::Entropy(0.0)));
        Ok(())
    }
    fn copy_pages(&mut self, _: &[PageCopy]) -> Result<(), BackendError> {
        Ok(())
    }
    fn read_page(&mut self, _: PageId, _: &mut Vec<u8>) -> Result<(), BackendError> {
        Ok(())
    }
    fn write_page(&mut self, _: PageId, _: &[u8]) -> Result<(), BackendError> {
        Ok(())
    }
    fn embed(&mut self, _: &[u32], _: &mut Vec<f32>) -> Result<(), BackendError> {
        Ok(())
    }
    fn load_adapter(&mut self, _: AdapterId, _: Vec<LoraMatrix>) -> Result<(), BackendError> {
        Ok(())
    }
    fn unload_adapter(&mut self, _: AdapterId) {}
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<F: Future + Unpin>(mut future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(value) = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

/// The mean time from a message until the thread that sleeps for it answers, halved.
fn wake_up() -> Duration {
    const ROUNDS: u32 = 50_000;
    let (there, messages) = mpsc::channel::<()>();
    let (back, answers) = mpsc::channel();
    let echo = std::thread::spawn(move || messages.iter().all(|message| back.send(message).is_ok()));
    let start = Instant::now();
    for _ in 0..ROUNDS {
        there.send(()).expect("it listens");
        answers.recv().expect("it answers");
    }
    let elapsed = start.elapsed();
    drop(there);
    assert!(echo.join().expect("it does not panic"), "every answer was taken");
    elapsed / (2 * ROUNDS)
}

#[expect(clippy::print_stdout, reason = "its purpose")]
fn main() {
    println!("a wake-up: {:?}", wake_up());
    for programs in [1, 8, 32, 128, 512, 1000] {
        let (handle, engine) =
            Engine::start(Box::new(Nothing), SchedulerConfig::default(), EngineConfig::default())
                .expect("the thread starts");
        let mut ticket = 0;
        let mut pass = |context: u64, tokens: Vec<u32>| {
            ticket += 1;
            let mut request = ForwardRequest::new(Ticket(ticket), ContextId(context), tokens);
            request.outputs.push((request.tokens.len() - 1, OutputKind::Entropy));
            // As the runtime does: on the share of the program.
            handle.for_owner(OwnerId(context)).forward(request)
        };
        for id in 0..programs {
            let (context, owner) = (ContextId(id), OwnerId(id));
            let (priority, tenant) = (Priority::Normal, TenantId(0));
            handle.apply(ContextOp::Create { context, owner, priority, tenant }).expect("the inbox has room");
            wait(pass(id, (0..1024).map(|i| i + id as u32).collect())).expect("answered").expect("computed");
        }
        let rounds = 50_000 / programs;
        let start = Instant::now();
        for round in 0..rounds {
            let replies: Vec<_> = (0..programs).map(|id| pass(id, vec![round as u32 % 50_000])).collect();
            for reply in replies {
                wait(reply).expect("answered").expect("computed");
            }
        }
        let mean = start.elapsed() / (rounds * programs) as u32;
        let stats = wait(handle.stats()).expect("answered").expect("counted");
        println!("{programs:5} programs: {mean:?} a pass, batches of {:.1}", stats.batch_size_mean());
        handle.shutdown();
        engine.join().expect("the scheduler has no defect");
    }
}
