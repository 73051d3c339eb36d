//! Whoever wants to know is told of each batch: what was planned adds up to what was asked, and the state is that of the
//! moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backend::{FakeBackend, FakeFault};
use scheduler::{
    BatchObserver, BatchRecord, ContextId, ContextOp, Engine, EngineConfig, EngineHandle, ForwardReply,
    ForwardRequest, Observers, OwnerId, Priority, SchedulerConfig, TenantId, Ticket,
};

struct Told {
    wants: Arc<AtomicBool>,
    records: mpsc::Sender<BatchRecord>,
}

impl BatchObserver for Told {
    fn wants(&self) -> bool {
        self.wants.load(Ordering::Relaxed)
    }

    fn batch(&mut self, record: BatchRecord) {
        self.records.send(record).unwrap();
    }
}

struct Bench {
    handle: EngineHandle,
    _engine: Engine,
    wants: Arc<AtomicBool>,
    records: mpsc::Receiver<BatchRecord>,
}

impl Bench {
    fn new(backend: FakeBackend) -> Bench {
        let (records, told) = mpsc::channel();
        let wants = Arc::new(AtomicBool::new(true));
        let batches: Box<dyn BatchObserver> = Box::new(Told { wants: wants.clone(), records });
        let observers = Observers { batches: Some(batches), ..Observers::default() };
        let (scheduler, config) = (SchedulerConfig::default(), EngineConfig::default());
        let (handle, engine) =
            Engine::start_observed(Box::new(backend), scheduler, config, observers).unwrap();
        Bench { handle, _engine: engine, wants, records: told }
    }

    /// Computes some tokens in a context of their own.
    fn forward(&self, id: u64, tokens: u32) -> Result<ForwardReply, String> {
        let (context, owner) = (ContextId(id), OwnerId(id));
        let (priority, tenant) = (Priority::Normal, TenantId(0));
        self.handle.apply(ContextOp::Create { context, owner, priority, tenant }).unwrap();
        let request = ForwardRequest::new(Ticket(id), context, (0..tokens).collect());
        let mut reply = self.handle.forward(request);
        loop {
            match reply.try_recv().expect("every pass is answered") {
                Some(answer) => return answer.map_err(|error| error.to_string()),
                None => std::thread::sleep(Duration::from_micros(100)),
            }
        }
    }

    /// What was told since the last call; it is before the answer goes out.
    fn told(&self) -> Vec<BatchRecord> {
        self.records.try_iter().collect()
    }
}

#[test]
fn the_rows_of_its_batches_are_those_that_a_pass_asked_for_and_the_cache_did_not_have() {
    let bench = Bench::new(FakeBackend::new(100, 200));
    let reply = bench.forward(1, 100).unwrap();
    let first = bench.told();
    let rows = |records: &[BatchRecord], ticket| -> u32 {
        let passes = records.iter().flat_map(|record| &record.planned.passes);
        passes.filter(|(of, _)| *of == Ticket(ticket)).map(|(_, rows)| rows).sum()
    };
    assert_eq!((rows(&first, 1), reply.cached_tokens), (100, 0));
    let reply = bench.forward(2, 100).unwrap();
    let second = bench.told();
    assert!(reply.cached_tokens > 0);
    assert_eq!(rows(&second, 2), 100 - reply.cached_tokens);
    let cached: u64 = second.iter().map(|record| record.planned.rows_cached).sum();
    assert_eq!(cached, u64::from(reply.cached_tokens));
    for record in first.iter().chain(&second) {
        assert!(record.began <= record.moved && record.moved <= record.ended && !record.failed);
        assert_eq!((record.before.running, record.after.running), (1, 0));
        for stats in [record.before, record.after] {
            assert_eq!(stats.pages_free + stats.pages_cached + stats.pages_held, stats.pages_total);
        }
    }
}

#[test]
fn a_batch_that_fails_is_told_and_nobody_who_does_not_want_to_know_is() {
    let bench = Bench::new(FakeBackend::new(100, 200).with_fault(FakeFault::FailBatch(0)));
    bench.forward(1, 3).unwrap_err();
    assert!(matches!(&bench.told()[..], [record] if record.failed));
    bench.wants.store(false, Ordering::Relaxed);
    bench.forward(2, 3).unwrap();
    assert!(bench.told().is_empty());
}
