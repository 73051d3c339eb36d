//! A worker: one thread with its own runtime and its own connections. Requests stay where they begin.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::ClientOptions;
use super::api::Ask;
use super::connection::{self, Connection, Scratch};
use super::exchange::exchange;
use super::launch::Session;
use crate::clock::{Clock, Nanos};
use crate::dataset::Message;
use crate::record::{ErrorClass, Failure, Outcome, Record};
use crate::workload::Plan;

/// What a worker is told.
pub(super) enum Order {
    /// A request to carry out.
    Job(Box<Job>),
    /// Cancel all that is under way.
    Cancel,
}

/// A request to carry out.
pub(super) struct Job {
    /// Its index in the plan.
    pub(super) index: usize,
    /// What is known of it.
    pub(super) record: Record,
    /// The session's messages so far.
    pub(super) history: Arc<Vec<Message>>,
    /// Given up after this.
    pub(super) abandon_at: Option<Nanos>,
}

/// What a worker reports.
pub(super) enum Report {
    /// A request is over.
    Done(Box<Record>),
    /// The worker is over, and was busy for so many seconds.
    Over(f64),
}

/// What all workers share.
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) options: Arc<ClientOptions>,
    pub(super) clock: Clock,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<TlsConnector>,
    pub(super) connections: AtomicU64,
}

/// A worker's own state.
pub(super) struct Worker {
    shared: Arc<Shared>,
    pub(super) plan: Arc<Plan>,
    pub(super) options: Arc<ClientOptions>,
    pub(super) clock: Clock,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<TlsConnector>,
    /// Connections without a request, the one used last at the end.
    pub(super) idle: RefCell<Vec<Connection>>,
    /// What launches of programs share.
    pub(super) session: Session,
    pub(super) keeps_text: bool,
    pub(super) scratch: Scratch,
    cancelled: Cell<bool>,
    cancel: Notify,
}

impl Worker {
    pub(super) fn count_connection(&self) {
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// What a job asks for.
    pub(super) fn ask<'a>(&'a self, job: &'a Job) -> Ask<'a> {
        let sample = &self.plan.samples[self.plan.requests[job.index].sample];
        Ask {
            model: self.options.model.as_deref(),
            prompt: &sample.prompt,
            history: &job.history,
            output_tokens: sample.output_tokens,
            stream: self.options.stream,
            extra: [&self.options.extra_body, &sample.extra_body],
        }
    }
}

/// Seconds of CPU of a clock.
pub(super) fn cpu_secs(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Carries out orders until there are no more.
pub(super) fn work(shared: Arc<Shared>, orders: UnboundedReceiver<Order>, reports: Sender<Report>) {
    let start = cpu_secs(ClockId::ThreadCPUTime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // The runtime that was made before the run shows that it can be made; see the coordinator.
    if let Ok(runtime) = runtime {
        LocalSet::new().block_on(&runtime, serve(shared, orders, reports.clone()));
    }
    // Nobody listens any more when the run was given up.
    let _ = reports.send(Report::Over(cpu_secs(ClockId::ThreadCPUTime) - start));
}

async fn serve(shared: Arc<Shared>, mut orders: UnboundedReceiver<Order>, reports: Sender<Report>) {
    let worker = Rc::new(Worker {
        plan: Arc::clone(&shared.plan),
        options: Arc::clone(&shared.options),
        clock: shared.clock,
        addresses: shared.addresses.clone(),
        tls: shared.tls.clone(),
        idle: RefCell::default(),
        session: Session::default(),
        keeps_text: shared.options.keep_text
            || shared.plan.requests.iter().any(|request| request.after.is_some()),
        scratch: connection::scratch(),
        cancelled: Cell::new(false),
        cancel: Notify::new(),
        shared,
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Cancel => {
                worker.cancelled.set(true);
                worker.cancel.notify_waiters();
            }
            Order::Job(job) => {
                let (worker, reports) = (Rc::clone(&worker), reports.clone());
                tokio::task::spawn_local(async move {
                    let mut panicked = job.record.clone();
                    let record =
                        tokio::task::spawn_local(async move { carry_out(&worker, *job).await }).await;
                    let record = record.unwrap_or_else(|error| {
                        let message = format!("a defect of the client: {error}");
                        panicked.outcome = Outcome::Failed(Failure { class: ErrorClass::Client, message });
                        panicked
                    });
                    let _ = reports.send(Report::Done(Box::new(record)));
                });
            }
        }
    }
    worker.session.close().await;
}

async fn carry_out(worker: &Worker, mut job: Job) -> Record {
    let mut record =
        std::mem::replace(&mut job.record, Record::planned(0, Nanos(0), Nanos(0), Outcome::Cancelled));
    if worker.cancelled.get() {
        record.end = worker.clock.now();
        return record;
    }
    let abandon = async {
        match job.abandon_at {
            Some(at) => tokio::time::sleep_until(worker.clock.instant(at).into()).await,
            None => std::future::pending().await,
        }
    };
    let is_whole = tokio::select! {
        biased;
        () = exchange(worker, &job, &mut record) => true,
        () = worker.cancel.notified() => false,
        () = abandon => false,
    };
    if !is_whole {
        record.outcome = Outcome::Cancelled;
        record.end = worker.clock.now();
    }
    record
}
