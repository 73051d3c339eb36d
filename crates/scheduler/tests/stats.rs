//! What the counts say of a scheduler whose passes are known.

use std::time::Duration;

use backend::{Backend, Batch, FakeBackend, Limits, Output, OutputKind, SamplingParams};
use scheduler::{
    ContextId, ContextOp, ForwardRequest, NextStep, OwnerId, Priority, Scheduler, SchedulerConfig, Stats,
    TenantId, Ticket,
};

const STEP: Duration = Duration::from_millis(5);

struct Rig {
    scheduler: Scheduler,
    backend: FakeBackend,
    now: Duration,
}

impl Rig {
    /// Batches have so many rows at most, and a page 16.
    fn new(batch_tokens: u32) -> Rig {
        let limits = Limits { batch_tokens, ..FakeBackend::new(64, 50).limits() };
        assert_eq!(limits.page_tokens, 16);
        let backend = FakeBackend::with_limits(limits);
        Rig { scheduler: Scheduler::new(limits, SchedulerConfig::default()), backend, now: Duration::ZERO }
    }

    /// A context of an owner of the same number.
    fn create(&mut self, id: u64) {
        let (context, owner) = (ContextId(id), OwnerId(id));
        let op = ContextOp::Create { context, owner, priority: Priority::Normal, tenant: TenantId(0) };
        self.scheduler.apply(op).unwrap();
    }

    fn submit(&mut self, ticket: u64, context: u64, tokens: &[u32]) {
        let mut request = ForwardRequest::new(Ticket(ticket), ContextId(context), tokens.to_vec());
        request.outputs.push((tokens.len() - 1, OutputKind::Token(SamplingParams::greedy())));
        self.scheduler.submit(request, self.now).unwrap();
    }

    fn batch(&mut self) {
        let (mut batch, mut output) = (Batch::default(), Output::default());
        while let NextStep::WaitUntil { until, .. } = self.scheduler.plan(self.now, &mut batch) {
            self.now = until;
        }
        self.scheduler.carry_out(&mut self.backend).unwrap();
        self.backend.run(&batch, &mut output).unwrap();
        self.now += STEP;
        self.scheduler.complete(Ok(&mut output), STEP, self.now);
        self.scheduler.check();
        self.scheduler.replies().for_each(|(_, answer)| drop(answer.unwrap()));
    }

    fn stats(&self) -> Stats {
        self.scheduler.stats()
    }
}

#[test]
fn what_goes_on_is_seen_between_batches_as_well() {
    let mut rig = Rig::new(16);
    (1..=3).for_each(|id| rig.create(id));
    let at_work = |rig: &Rig| (rig.stats().active, rig.stats().queued);
    assert_eq!(at_work(&rig), (0, 0));
    (1..=3).for_each(|id| rig.submit(id, id, &[id as u32; 16]));
    assert_eq!(at_work(&rig), (3, 0), "all may be in the next batch");
    rig.batch();
    let (active, queued) = at_work(&rig);
    assert_eq!(active + queued, 3, "the one that was answered is expected back");
    assert!(queued > 0, "16 rows do not take all");
    while rig.stats().completed < 3 {
        rig.batch();
    }
    assert_eq!((rig.stats().completed, rig.stats().queued), (3, 0));
    assert!(rig.stats().active > 0, "those answered last may come back");
    (1..=3).for_each(|id| rig.scheduler.apply(ContextOp::OwnerGone { owner: OwnerId(id) }).unwrap());
    assert_eq!(at_work(&rig), (0, 0), "nobody is expected who is gone");
}

#[test]
fn rows_steps_and_found_prefixes_are_counted() {
    let mut rig = Rig::new(1024);
    let prompt: Vec<u32> = (0..40).map(|token| token % 50).collect();
    for id in 1..=2 {
        rig.create(id);
        rig.submit(id, id, &prompt);
        rig.batch();
    }
    let stats = rig.stats();
    assert_eq!(
        (stats.prefix_rows_asked, stats.prefix_rows_found),
        (80, 32),
        "two pages of the second are found"
    );
    assert_eq!(stats.pages_shared, 2);
    // A decode step asks for nothing.
    rig.submit(3, 1, &[1]);
    rig.batch();
    let stats = rig.stats();
    assert_eq!((stats.prefix_rows_asked, stats.rows_computed), (80, 40 + 8 + 1));
    let (steps, rows) = (stats.step_seconds.distribution(), stats.batch_rows.distribution());
    assert_eq!((steps.count(), steps.quantile(1.0)), (3, Some(0.005)));
    assert_eq!((rows.count(), rows.sum), (3, 49.0));
    rig.scheduler.apply(ContextOp::OwnerGone { owner: OwnerId(2) }).unwrap();
    assert_eq!(rig.stats().pages_shared, 0, "one holder is left");
}
