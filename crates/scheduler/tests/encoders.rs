//! Passes of a model whose rows attend in both directions: whole texts, of which nothing is used again.

mod common;

use std::time::Duration;

use backend::{Backend, Batch, FakeBackend, Limits, Output, OutputKind, SamplingParams};
use common::{A, B, Stream, World, decoding};
use scheduler::{
    ContextId, ContextOp, ForwardError, ForwardRequest, NextStep, OwnerId, Priority, RowRuns, Scheduler,
    SchedulerConfig, TenantId, Ticket,
};

/// Batches of 100 rows.
const ROWS: u32 = 100;

fn limits(pages: u32) -> Limits {
    Limits { encoder: true, batch_tokens: ROWS, ..FakeBackend::new(pages, 50).limits() }
}

/// A scheduler with contexts 1 to 9 of one owner.
fn scheduler(pages: u32) -> (Scheduler, FakeBackend) {
    let backend = FakeBackend::with_limits(limits(pages));
    let mut scheduler = Scheduler::new(backend.limits(), SchedulerConfig::default());
    for id in 1..10 {
        let (context, owner, tenant) = (ContextId(id), OwnerId(1), TenantId(1));
        let op = ContextOp::Create { context, owner, priority: Priority::Normal, tenant };
        scheduler.apply(op).unwrap();
    }
    (scheduler, backend)
}

/// A text of so many rows on a context, of which the last is asked for.
fn text(context: u64, rows: u32) -> ForwardRequest {
    let tokens = (0..rows).map(|row| row % 50).collect();
    let mut request = ForwardRequest::new(Ticket(context), ContextId(context), tokens);
    request.keep_kv = false;
    request.outputs.push((rows as usize - 1, OutputKind::Hidden));
    request
}

/// Runs batches until all is answered; the rows of each sequence of each batch.
fn run(scheduler: &mut Scheduler, backend: &mut FakeBackend) -> Vec<Vec<usize>> {
    let (mut batch, mut output) = (Batch::default(), Output::default());
    let (mut batches, mut now) = (Vec::new(), Duration::from_secs(1));
    loop {
        match scheduler.plan(now, &mut batch) {
            NextStep::Run => {
                scheduler.carry_out(backend).unwrap();
                backend.run(&batch, &mut output).unwrap();
                batches.push(batch.sequences.iter().map(|sequence| sequence.rows.len()).collect());
                now += Duration::from_millis(1);
                scheduler.complete(Ok(&mut output), Duration::from_millis(1), now);
                scheduler.check();
            }
            NextStep::WaitUntil { until, .. } => now = until,
            NextStep::Idle => return batches,
        }
    }
}

#[test]
fn a_text_is_computed_whole_and_in_its_turn() {
    let (mut scheduler, mut backend) = scheduler(64);
    for (context, rows) in [(1, 60), (2, 30), (3, 90), (4, 5), (5, 5), (6, 100)] {
        scheduler.submit(text(context, rows), Duration::ZERO).unwrap();
    }
    // The text of 90 rows does not fit beside the first two, and the short ones behind it do not go before it.
    let batches: Vec<Vec<usize>> = vec![vec![60, 30], vec![90, 5, 5], vec![100]];
    assert_eq!(run(&mut scheduler, &mut backend), batches);
    let replies: Vec<_> = scheduler.replies().collect();
    assert_eq!(replies.len(), 6);
    for (_, reply) in replies {
        let reply = reply.unwrap();
        assert_eq!((reply.length, reply.cached_tokens, reply.values.len()), (0, 0, 1));
    }
}

#[test]
fn nothing_of_a_text_is_used_again() {
    let (mut scheduler, mut backend) = scheduler(64);
    for _ in 0..3 {
        scheduler.submit(text(1, 70), Duration::ZERO).unwrap();
        assert_eq!(run(&mut scheduler, &mut backend), [[70]]);
    }
    let stats = scheduler.stats();
    assert_eq!((stats.rows_computed, stats.rows_cached, stats.prefix_rows_asked), (210, 0, 0));
    assert_eq!((stats.pages_cached, stats.pages_held), (0, 0));
    // The same beginning before another end is another text in all of its rows.
    let mut first_row_before = |last: u32| {
        let mut request = text(2, 40);
        request.tokens[39] = last;
        request.outputs = vec![(0, OutputKind::Hidden)];
        scheduler.submit(request, Duration::ZERO).unwrap();
        run(&mut scheduler, &mut backend);
        scheduler.replies().next_back().unwrap().1.unwrap().values
    };
    assert_eq!(first_row_before(7), first_row_before(7));
    assert_ne!(first_row_before(7), first_row_before(8));
}

#[test]
fn what_a_text_cannot_be_is_refused_in_words() {
    let (mut scheduler, _) = scheduler(64);
    let mut refused = |change: fn(&mut ForwardRequest), words: &str| {
        let mut request = text(1, 40);
        change(&mut request);
        match scheduler.submit(request, Duration::ZERO) {
            Err(ForwardError::InvalidArgument(found)) => assert!(found.contains(words), "{words}: {found}"),
            other => panic!("{words}: {other:?}"),
        }
    };
    refused(
        |r| r.tokens = vec![1; 101],
        "101 rows: the model is an encoder, which computes a text in one batch",
    );
    refused(|r| r.keep_kv = true, "cannot be kept");
    refused(|r| r.masks = Some(vec![RowRuns::default(); 40]), "no masks");
    refused(|r| r.outputs.push((0, OutputKind::Logits)), "hidden outputs only");
    refused(|r| r.outputs.push((0, OutputKind::Token(SamplingParams::greedy()))), "hidden outputs only");
    refused(|r| r.outputs.push((0, OutputKind::Entropy)), "hidden outputs only");
    // No batch can have all of these, and a text has one.
    let many = |r: &mut ForwardRequest| {
        r.outputs = (0..4097).map(|index| (index % 40, OutputKind::Hidden)).collect();
    };
    refused(many, "4097 outputs");
    let (mut small, _) = self::scheduler(2);
    let error = small.submit(text(1, 40), Duration::ZERO).unwrap_err();
    assert_eq!(error, ForwardError::OutOfPages { needed: 3, available: 2 });
}

#[test]
fn texts_wait_for_pages_and_are_never_begun_without_all_of_them() {
    // A text of 60 rows takes 4 pages of the 7.
    let (mut scheduler, mut backend) = scheduler(7);
    for context in 1..6 {
        scheduler.submit(text(context, if context == 3 { 100 } else { 40 }), Duration::ZERO).unwrap();
    }
    let batches: Vec<Vec<usize>> = vec![vec![40, 40], vec![100], vec![40, 40]];
    assert_eq!(run(&mut scheduler, &mut backend), batches);
    assert_eq!(scheduler.stats().suspensions, 0);
}

#[test]
fn users_get_their_shares_from_batch_to_batch() {
    // A user with many long texts, one with many short ones and one with a single short one at a time.
    let world = |streams: &[(u64, Stream)]| {
        let limits = Limits { batch_sequences: 64, ..limits(4096) };
        let mut world = World::with_limits(limits, SchedulerConfig::default());
        streams.iter().for_each(|(count, stream)| world.add(*count, *stream));
        let rows = world.run(60);
        (rows, world)
    };
    let long = Stream { rows: 90, ..decoding(1) };
    let short = Stream { rows: 9, ..decoding(2) };
    let (rows, world) = world(&[(20, long), (200, short), (1, decoding(3))]);
    assert!(
        rows[&1].abs_diff(rows[&2]) * 10 < rows[&1],
        "as much for long texts as for short ones: {rows:?}"
    );
    // One text more than a batch of its own at most, each time.
    let one = world.answers.last_key_value().expect("the last one was added last").1;
    let longest = one.windows(2).map(|answers| answers[1] - answers[0]).max().unwrap();
    assert!(longest <= 3 * (A + B * ROWS), "{longest:?}");
}
