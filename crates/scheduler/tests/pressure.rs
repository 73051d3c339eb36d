//! What programs see of each other: shared pages, cached prefixes, memory pressure, priorities, quotas.

use std::collections::BTreeMap;
use std::time::Duration;

use backend::{Backend, Batch, FakeBackend, Output, OutputKind, SamplingParams, Value};
use scheduler::{
    CallError, ContextId, ContextOp, ContextPages, ForwardError, ForwardReply, ForwardRequest, NextStep,
    OwnerId, Priority, Scheduler, SchedulerConfig, Stats, TenantId, Ticket,
};

struct Rig {
    backend: FakeBackend,
    scheduler: Scheduler,
    now: Duration,
    answers: BTreeMap<Ticket, Result<ForwardReply, ForwardError>>,
}

impl Rig {
    fn new(pages: u32, config: SchedulerConfig) -> Rig {
        let backend = FakeBackend::new(pages, 50);
        let scheduler = Scheduler::new(backend.limits(), config);
        Rig { backend, scheduler, now: Duration::ZERO, answers: BTreeMap::new() }
    }

    fn create(&mut self, id: u64, priority: Priority, tenant: u64) {
        let (context, owner, tenant) = (ContextId(id), OwnerId(id), TenantId(tenant));
        self.scheduler.apply(ContextOp::Create { context, owner, priority, tenant }).unwrap();
    }

    fn submit(&mut self, ticket: u64, context: u64, tokens: &[u32]) {
        let mut request = ForwardRequest::new(Ticket(ticket), ContextId(context), tokens.to_vec());
        request.outputs.push((tokens.len() - 1, OutputKind::Token(SamplingParams::greedy())));
        if let Err(error) = self.scheduler.submit(request, self.now) {
            self.answers.insert(Ticket(ticket), Err(error));
        }
    }

    /// One turn; false when there is nothing to do.
    fn turn(&mut self) -> bool {
        let (mut batch, mut output) = (Batch::default(), Output::default());
        let plan = self.scheduler.plan(self.now, &mut batch);
        match plan {
            NextStep::Run => {
                self.scheduler.carry_out(&mut self.backend).unwrap();
                self.backend.run(&batch, &mut output).unwrap();
                self.now += Duration::from_millis(5);
                self.scheduler.complete(Ok(&mut output), Duration::from_millis(5), self.now);
            }
            NextStep::WaitUntil { until, .. } => self.now = until,
            NextStep::Idle => {}
        }
        self.scheduler.check();
        self.answers.extend(self.scheduler.replies());
        plan != NextStep::Idle
    }

    fn finish(&mut self) {
        (0..100_000).find(|_| !self.turn()).expect("all is answered some time");
    }

    fn token(&self, ticket: u64) -> u32 {
        match &self.answers[&Ticket(ticket)].as_ref().unwrap().values[0] {
            Value::Token(sampled) => sampled.token,
            other => panic!("a token was asked for: {other:?}"),
        }
    }

    fn reply(&self, ticket: u64) -> &ForwardReply {
        self.answers[&Ticket(ticket)].as_ref().unwrap()
    }

    fn stats(&self) -> Stats {
        self.scheduler.stats()
    }
}

fn prompt(id: u64) -> Vec<u32> {
    (0..150 + id as u32 % 7).map(|i| (i * 7 + id as u32) % 50).collect()
}

/// Programs that prompt and then decode 12 tokens each; all tokens drawn.
fn decode(rig: &mut Rig, ids: std::ops::Range<u64>) -> BTreeMap<u64, Vec<u32>> {
    let mut drawn: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for id in ids.clone() {
        rig.create(id, Priority::Normal, 0);
        rig.submit(id * 100, id, &prompt(id));
    }
    for _ in 0..200_000 {
        rig.turn();
        for (ticket, reply) in std::mem::take(&mut rig.answers) {
            let (id, step) = (ticket.0 / 100, ticket.0 % 100);
            let Value::Token(sampled) = reply.unwrap().values[0] else { panic!("a token was asked for") };
            drawn.entry(id).or_default().push(sampled.token);
            if step < 12 {
                rig.submit(ticket.0 + 1, id, &[sampled.token]);
            } else {
                rig.scheduler.apply(ContextOp::OwnerGone { owner: OwnerId(id) }).unwrap();
            }
        }
        if drawn.len() == ids.clone().count() && drawn.values().all(|tokens| tokens.len() == 13) {
            return drawn;
        }
    }
    panic!("{} programs never end", ids.count() - drawn.values().filter(|t| t.len() == 13).count());
}

#[test]
fn sixty_four_owners_in_a_quarter_of_the_memory_all_finish_as_if_alone() {
    // 11 pages each when done: 704 pages in all.
    let mut crowded = Rig::new(176, SchedulerConfig::default());
    let together = decode(&mut crowded, 0..64);
    let stats = crowded.stats();
    assert_eq!((stats.pages_free + stats.pages_cached, stats.pages_spilled), (176, 0));
    assert!(stats.batch_size_mean() > 2.0, "{stats:?}");
    for id in 0..64 {
        let alone = decode(&mut Rig::new(64, SchedulerConfig::default()), id..id + 1);
        assert_eq!(alone[&id], together[&id], "program {id}");
    }
}

#[test]
fn a_high_priority_takes_pages_from_a_low_one_that_goes_on_later() {
    let mut alone = Rig::new(40, SchedulerConfig::default());
    alone.create(1, Priority::Normal, 0);
    alone.submit(1, 1, &[5; 600]);
    alone.finish();

    let mut rig = Rig::new(40, SchedulerConfig::default());
    rig.create(1, Priority::Low, 0);
    rig.submit(1, 1, &[5; 600]);
    rig.turn();
    rig.create(2, Priority::High, 0);
    rig.submit(2, 2, &[6; 400]);
    rig.finish();
    assert_eq!(rig.token(1), alone.token(1));
    let stats = rig.stats();
    assert!(stats.suspensions > 0 && stats.restores > 0, "{stats:?}");
    // Both ended; one of them is on the host now, and comes back when it is wanted.
    rig.submit(3, 1, &[1]);
    rig.submit(4, 2, &[1]);
    rig.finish();
    assert_eq!((rig.reply(3).length, rig.reply(4).length), (601, 401));
}

#[test]
fn an_impatient_low_priority_is_served_in_the_end() {
    let mut rig = Rig::new(12, SchedulerConfig::default());
    rig.create(1, Priority::High, 0);
    rig.create(2, Priority::Low, 0);
    rig.submit(1, 1, &[1; 100]);
    rig.submit(2, 2, &[2; 150]);
    let mut ticket = 1;
    // The first never leaves off, and there is no room for both.
    for _ in 0..3000 {
        rig.turn();
        if rig.answers.contains_key(&Ticket(2)) {
            assert!(rig.now >= Duration::from_secs(5), "not before its patience ended");
            assert!(rig.answers[&Ticket(2)].is_ok());
            return;
        }
        if rig.answers.contains_key(&Ticket(ticket)) {
            rig.scheduler.apply(ContextOp::Truncate { context: ContextId(1), length: 99 }).unwrap();
            ticket = if ticket == 1 { 10 } else { ticket + 1 };
            rig.submit(ticket, 1, &[1]);
        }
    }
    panic!("the low priority waits for ever");
}

#[test]
fn a_prefix_is_computed_once_for_all_of_a_tenant() {
    let mut rig = Rig::new(100, SchedulerConfig::default());
    (1..=3).for_each(|id| rig.create(id, Priority::Normal, 0));
    rig.create(4, Priority::Normal, 1);
    let tokens = prompt(1);
    (1..=2).for_each(|id| rig.submit(id, id, &tokens));
    rig.finish();
    rig.submit(3, 3, &tokens);
    rig.submit(4, 4, &tokens);
    rig.finish();
    let cached = [1, 2, 3, 4].map(|ticket| rig.reply(ticket).cached_tokens);
    assert_eq!(cached, [0, 144, 144, 0], "also when both come at once, never for another tenant");
    assert!((2..=4).all(|ticket| rig.token(ticket) == rig.token(1)));
    let held = rig.stats().pages_held;
    assert_eq!(held, 9 + 3 + 10, "nine pages shared by three, and a last page each");
}

/// Programs that take turns end in the middle of a page with each: what another did after the same tokens is found there
/// too, page by page, and what is written later is nobody else's.
#[test]
fn a_turn_that_begins_in_the_middle_of_a_page_is_computed_once() {
    let mut rig = Rig::new(100, SchedulerConfig::default());
    let (first, second) = (prompt(1), prompt(2));
    // The first turn ends 6 slots into a page, and the second 12 slots into another.
    let turns = [&first[..150], &second[..70]];
    let mut ticket = 0;
    let mut turn = |rig: &mut Rig, context: u64, tokens: &[u32]| {
        ticket += 1;
        rig.submit(ticket, context, tokens);
        ticket
    };
    let mut cached = Vec::new();
    for context in 1..=2 {
        rig.create(context, Priority::Normal, 0);
        for tokens in turns {
            let ticket = turn(&mut rig, context, tokens);
            rig.finish();
            cached.push(rig.reply(ticket).cached_tokens);
        }
    }
    assert_eq!(
        cached,
        [0, 0, 149, 10 + 48],
        "the second's pages are whole by now: all but the last row, and three pages"
    );
    let tokens = [2, 4].map(|ticket| rig.token(ticket));
    assert_eq!(tokens[0], tokens[1], "found or computed, it is the same");

    // Both at once: the second waits for the first.
    let third = [&second[70..], &first[..]].concat();
    let both = [1, 2].map(|context| turn(&mut rig, context, &third));
    rig.finish();
    let cached = both.map(|ticket| rig.reply(ticket).cached_tokens);
    assert!(cached[0] == 0 && cached[1] >= third.len() as u32 - 16, "{cached:?}");
    assert_eq!(rig.token(both[0]), rig.token(both[1]));

    // A fork within a page, whose halves go on differently, and one of them as a third context did.
    rig.create(3, Priority::Normal, 0);
    for tokens in [&first[..150], &first[..40]] {
        turn(&mut rig, 3, tokens);
        rig.finish();
    }
    rig.create(4, Priority::Normal, 0);
    turn(&mut rig, 4, turns[0]);
    rig.finish();
    rig.scheduler.apply(ContextOp::Fork { from: ContextId(4), to: ContextId(5) }).unwrap();
    let forks = [turn(&mut rig, 4, turns[1]), turn(&mut rig, 5, &first[..40])];
    rig.finish();
    assert_eq!(forks.map(|ticket| rig.reply(ticket).cached_tokens), [69, 10 + 16]);
    assert_eq!(rig.token(forks[0]), tokens[0]);
}

/// What a page shares with one of the cache is copied from it, to the last row but one, and none of it before an output.
#[test]
fn of_a_prompt_that_was_computed_one_row_is_computed_again() {
    let mut rig = Rig::new(100, SchedulerConfig::default());
    let tokens: Vec<u32> = (0..128).map(|i| (i * i + 3 * i) % 50).collect();
    let ask = |rig: &mut Rig, tokens: &[u32], outputs: &[usize]| {
        let id = rig.answers.len() as u64 + 1;
        rig.create(id, Priority::Normal, 0);
        let mut request = ForwardRequest::new(Ticket(id), ContextId(id), tokens.to_vec());
        let token = || OutputKind::Token(SamplingParams::greedy());
        request.outputs = outputs.iter().chain([&(tokens.len() - 1)]).map(|row| (*row, token())).collect();
        let before = rig.stats().rows_computed;
        rig.scheduler.submit(request, rig.now).unwrap();
        rig.finish();
        let ForwardReply { values, cached_tokens, .. } = rig.reply(id).clone();
        assert_eq!(rig.stats().rows_computed - before, u64::from(tokens.len() as u32 - cached_tokens));
        (cached_tokens, values)
    };
    let mut fresh = Rig::new(100, SchedulerConfig { prefix_cache: false, ..SchedulerConfig::default() });
    assert_eq!(ask(&mut rig, &tokens, &[]).0, 0);
    let other = |at: usize| [&tokens[..at], &[49; 20]].concat();
    for (prompt, outputs, found) in [
        (tokens.clone(), &[][..], 127),
        (tokens[..97].to_vec(), &[], 96),
        (tokens[..82].to_vec(), &[], 81),
        (tokens[..2].to_vec(), &[], 1),
        (tokens[..1].to_vec(), &[], 0),
        (other(70), &[], 70),
        (other(64), &[], 64),
        (tokens.clone(), &[100, 120], 100),
        (tokens[16..40].to_vec(), &[], 0),
        // After the others, whose pages begin alike and go on differently.
        (other(70), &[], 80),
        (other(67), &[], 67),
        (tokens.clone(), &[], 127),
    ] {
        let (cached, values) = ask(&mut rig, &prompt, outputs);
        assert_eq!(cached, found, "{} tokens, outputs of {outputs:?}", prompt.len());
        assert_eq!(values, ask(&mut fresh, &prompt, outputs).1, "found or computed, it is the same");
    }

    // A context that ends leaves what it has begun of its last page.
    for (prompt, found) in
        [(&tokens[30..73], 0), (&tokens[30..73], 32), (&tokens[30..70], 39), (&tokens[30..73], 42)]
    {
        let id = rig.answers.len() as u64 + 1;
        let (cached, values) = ask(&mut rig, prompt, &[]);
        assert_eq!(cached, found);
        assert_eq!(values, ask(&mut fresh, prompt, &[]).1);
        if found > 0 {
            rig.scheduler.apply(ContextOp::Drop { context: ContextId(id) }).unwrap();
        }
    }

    // Two at once: the second waits for the page that the first goes on with from what was begun.
    for (id, tokens) in [(101, &tokens[20..30]), (102, &tokens[20..60]), (103, &tokens[20..60])] {
        rig.create(id, Priority::Normal, 0);
        rig.submit(id, id, tokens);
        if id == 101 {
            rig.finish();
            rig.scheduler.apply(ContextOp::Drop { context: ContextId(101) }).unwrap();
        }
    }
    rig.finish();
    assert_eq!([101, 102, 103].map(|ticket| rig.reply(ticket).cached_tokens), [0, 10, 32]);
    assert_eq!(rig.token(102), rig.token(103));

    // The only page that has to go for the last one is the one that it shares rows with.
    let mut rig = Rig::new(8, SchedulerConfig::default());
    ask(&mut rig, &tokens, &[]);
    rig.scheduler.apply(ContextOp::Drop { context: ContextId(1) }).unwrap();
    let again = ask(&mut rig, &tokens, &[]);
    assert_eq!(again, (112, ask(&mut fresh, &tokens, &[]).1));
    rig.scheduler.apply(ContextOp::Drop { context: ContextId(2) }).unwrap();
    // Where another can go, it does.
    assert_eq!(ask(&mut rig, &other(100)[..112], &[]).0, 100);
}

/// A pass whose last page could come from the cache, and that fits only if it writes that page itself: the one that the
/// context has already stays its own until the pass commits.
#[test]
fn a_page_of_the_cache_takes_no_room_that_a_pass_needs() {
    let mut rig = Rig::new(4, SchedulerConfig::default());
    let tokens: Vec<u32> = (0..57).map(|i| i * 7 % 50).collect();
    // Eight slots of the third page; another context leaves that page in the cache, full.
    rig.create(1, Priority::Normal, 0);
    rig.submit(1, 1, &tokens[..40]);
    rig.finish();
    rig.create(2, Priority::Normal, 0);
    rig.submit(2, 2, &tokens[..49]);
    rig.finish();
    rig.scheduler.apply(ContextOp::Drop { context: ContextId(2) }).unwrap();
    rig.submit(3, 1, &tokens[40..]);
    rig.finish();
    assert_eq!(rig.reply(3).cached_tokens, 0);
    assert_eq!(rig.reply(3).length, 57);

    // As in a pool, so in a quota.
    let config = SchedulerConfig { pages_quota: Some(6), ..SchedulerConfig::default() };
    let mut rig = Rig::new(100, config);
    rig.create(1, Priority::Normal, 0);
    let tokens: Vec<u32> = (0..90).map(|i| i * 11 % 50).collect();
    rig.submit(1, 1, &tokens[..81]);
    rig.finish();
    rig.scheduler.apply(ContextOp::Drop { context: ContextId(1) }).unwrap();
    rig.create(2, Priority::Normal, 0);
    rig.submit(2, 2, &tokens[..72]);
    rig.finish();
    rig.submit(3, 2, &tokens[72..]);
    rig.finish();
    assert_eq!(rig.reply(3).length, 90);
}

/// Rows that are given back are in no page for others to find, so nobody waits for them.
#[test]
fn the_same_rows_that_nobody_keeps_are_one_batch() {
    let mut rig = Rig::new(100, SchedulerConfig::default());
    for context in 1..=6 {
        rig.create(context, Priority::Normal, 0);
        rig.submit(context, context, &prompt(1)[..40]);
        rig.finish();
    }
    let before = rig.stats().batches;
    for context in 1..=6 {
        let mut request = ForwardRequest::new(Ticket(10 + context), ContextId(context), vec![3; 20]);
        request.outputs.push((19, OutputKind::Token(SamplingParams::greedy())));
        request.keep_kv = false;
        rig.scheduler.submit(request, rig.now).unwrap();
    }
    rig.finish();
    assert_eq!(rig.stats().batches - before, 1);
    assert!((12..=16).all(|ticket| rig.token(ticket) == rig.token(11)));
}

#[test]
fn a_fork_copies_one_page_and_only_when_somebody_writes() {
    let mut rig = Rig::new(100, SchedulerConfig::default());
    rig.create(1, Priority::Normal, 0);
    rig.submit(1, 1, &prompt(1));
    rig.finish();
    let before = rig.stats().pages_held;
    rig.scheduler.apply(ContextOp::Fork { from: ContextId(1), to: ContextId(2) }).unwrap();
    assert_eq!(rig.stats().pages_held, before);
    rig.submit(2, 2, &[7]);
    rig.finish();
    assert_eq!(rig.stats().pages_held, before + 1);
    rig.submit(3, 1, &[7]);
    rig.finish();
    assert_eq!(rig.stats().pages_held, before + 1, "the last holder writes in place");
    assert_eq!(rig.token(2), rig.token(3));
}

#[test]
fn out_of_pages_names_what_is_too_small() {
    let mut rig = Rig::new(10, SchedulerConfig::default());
    rig.create(1, Priority::Normal, 0);
    rig.submit(1, 1, &[1; 170]);
    rig.submit(2, 1, &[1; 160]);
    rig.finish();
    assert_eq!(rig.answers[&Ticket(1)], Err(ForwardError::OutOfPages { needed: 11, available: 10 }));
    assert_eq!(rig.reply(2).length, 160);
    rig.scheduler
        .apply(ContextOp::Register { owner: OwnerId(2), parent: None, tenant: TenantId(0), pages: Some(3) })
        .unwrap();
    rig.create(2, Priority::Normal, 0);
    rig.submit(3, 2, &[2; 48]);
    rig.submit(4, 2, &[3]);
    rig.finish();
    assert_eq!(rig.reply(3).length, 48);
    assert_eq!(rig.answers[&Ticket(4)], Err(ForwardError::Busy));
    rig.submit(5, 2, &[2]);
    rig.finish();
    assert_eq!(rig.answers[&Ticket(5)], Err(ForwardError::OutOfPages { needed: 4, available: 3 }));
}

#[test]
fn hostile_requests_are_refused_in_words() {
    let mut rig = Rig::new(10, SchedulerConfig::default());
    rig.create(1, Priority::Normal, 0);
    let good = ForwardRequest::new(Ticket(1), ContextId(1), vec![1, 2]);
    let mut nan = SamplingParams::greedy();
    nan.temperature = f32::NAN;
    let mut bias = SamplingParams::greedy();
    bias.logit_bias = vec![(50, 1.0)];
    let bad = [
        ForwardRequest { tokens: vec![], ..good.clone() },
        ForwardRequest { tokens: vec![50], ..good.clone() },
        ForwardRequest { context: ContextId(9), ..good.clone() },
        ForwardRequest { positions: Some(vec![0]), ..good.clone() },
        ForwardRequest { positions: Some(vec![0, u32::MAX]), ..good.clone() },
        ForwardRequest { masks: Some(vec![]), ..good.clone() },
        ForwardRequest { embeddings: vec![(2, vec![0.0; 8].into())], ..good.clone() },
        ForwardRequest { embeddings: vec![(0, vec![0.0; 7].into())], ..good.clone() },
        ForwardRequest {
            embeddings: vec![(1, vec![0.0; 8].into()), (0, vec![0.0; 8].into())],
            ..good.clone()
        },
        ForwardRequest { outputs: vec![(2, OutputKind::Logits)], ..good.clone() },
        ForwardRequest { outputs: vec![(0, OutputKind::LogProbs(vec![50]))], ..good.clone() },
        ForwardRequest { outputs: vec![(0, OutputKind::Token(nan))], ..good.clone() },
        ForwardRequest { outputs: vec![(0, OutputKind::Token(bias))], ..good.clone() },
    ];
    for (index, request) in bad.into_iter().enumerate() {
        let refused = rig.scheduler.submit(request, Duration::ZERO);
        assert!(matches!(refused, Err(ForwardError::InvalidArgument(_))), "{index}: {refused:?}");
    }
    rig.scheduler.submit(good, Duration::ZERO).unwrap();
    rig.finish();
    assert_eq!(rig.reply(1).length, 2);
}

#[test]
fn a_long_prompt_is_not_held_up_by_many_short_ones() {
    let mut rig = Rig::new(2000, SchedulerConfig::default());
    (1..=600).for_each(|id| rig.create(id, Priority::Normal, 0));
    rig.submit(1, 1, &prompt(3));
    (2..=600).for_each(|id| rig.submit(id, id, &[1]));
    (0..3).for_each(|_| assert!(rig.turn()));
    assert!(rig.answers.contains_key(&Ticket(1)), "it had its share of each batch");
}

#[test]
fn the_shares_of_passes_add_up_to_the_time_of_their_batches() {
    let mut rig = Rig::new(64, SchedulerConfig::default());
    for (id, rows) in [(1, 3), (2, 1), (3, 900)] {
        rig.create(id, Priority::Normal, 0);
        rig.submit(id, id, &vec![id as u32; rows]);
    }
    rig.finish();
    let replies = [1, 2, 3].map(|ticket| rig.reply(ticket));
    let batch = Duration::from_millis(5);
    assert!(rig.stats().batches > 1, "the long prompt takes more than one batch");
    assert_eq!(replies[0].compute, batch);
    assert!(replies[0].compute_share > 2 * replies[1].compute_share, "three rows against one");
    assert_eq!(replies[2].compute, batch * rig.stats().batches as u32);
    let shares: Duration = replies.iter().map(|reply| reply.compute_share).sum();
    let lost = (batch * rig.stats().batches as u32).checked_sub(shares).unwrap();
    assert!(lost < Duration::from_nanos(10), "{lost:?} lost beyond rounding");
}

/// A fork appended to its context doubles it: the lists would fill memory long before the pages do.
#[test]
fn no_context_grows_longer_than_the_models() {
    let mut backend = FakeBackend::new(10, 50).limits();
    backend.context_tokens = 100;
    let backend = FakeBackend::with_limits(backend);
    let scheduler = Scheduler::new(backend.limits(), SchedulerConfig::default());
    let mut rig = Rig { backend, scheduler, now: Duration::ZERO, answers: BTreeMap::new() };
    rig.create(1, Priority::Normal, 0);
    rig.submit(1, 1, &[1; 30]);
    rig.finish();
    let mut double = |id: u64| {
        let (from, to) = (ContextId(1), ContextId(id));
        rig.scheduler.apply(ContextOp::Fork { from, to }).unwrap();
        rig.scheduler.apply(ContextOp::Append { to: from, from: to })
    };
    assert_eq!(double(2), Ok(()));
    assert_eq!(double(3), Err(CallError::TooLong { length: 120, limit: 100 }));
    // Rows at positions that others have count as well.
    let mut same = ForwardRequest::new(Ticket(2), ContextId(1), vec![1; 41]);
    same.positions = Some(vec![0; 41]);
    let refused = rig.scheduler.submit(same.clone(), rig.now);
    assert!(
        matches!(&refused, Err(ForwardError::InvalidArgument(text)) if text.contains("41 rows after 60"))
    );
    same.tokens.truncate(40);
    same.positions = Some(vec![0; 40]);
    assert_eq!(rig.scheduler.submit(same, rig.now), Ok(()));
}

#[test]
fn an_abandoned_pass_leaves_its_context_as_it_was_also_when_it_was_answered() {
    let mut rig = Rig::new(10, SchedulerConfig::default());
    rig.create(1, Priority::Normal, 0);
    rig.submit(1, 1, &[1; 20]);
    rig.finish();
    let mut early = ForwardRequest::new(Ticket(2), ContextId(1), vec![5, 6]);
    early.positions = Some(vec![3, 4]);
    rig.scheduler.submit(early, rig.now).unwrap();
    rig.finish();
    let info = |rig: &Rig| rig.scheduler.info(ContextId(1)).unwrap();
    assert_eq!(
        (info(&rig).length, info(&rig).next_position),
        (22, 20),
        "positions before the last do not go back"
    );
    assert_eq!(info(&rig).positions, [(0, 20), (3, 2)]);
    let abandon = |ticket| ContextOp::Abandon {
        ticket: Ticket(ticket),
        context: ContextId(1),
        length: 20,
        next_position: 20,
    };
    rig.scheduler.apply(abandon(2)).unwrap();
    assert_eq!((info(&rig).length, info(&rig).next_position), (20, 20));
    rig.submit(3, 1, &[7; 3]);
    rig.scheduler.apply(abandon(3)).unwrap();
    rig.finish();
    assert_eq!(rig.answers[&Ticket(3)], Err(ForwardError::Cancelled));
    assert_eq!((info(&rig).length, info(&rig).next_position), (20, 20));
}

#[test]
fn snapshots_and_children_count_for_their_user() {
    let config = SchedulerConfig { tenant_pages: Some(5), prefix_cache: false, ..SchedulerConfig::default() };
    let mut rig = Rig::new(40, config);
    let user = TenantId(0);
    rig.create(1, Priority::Normal, 0);
    rig.submit(1, 1, &[1; 32]);
    rig.finish();
    rig.scheduler.save(ContextId(1), "ann/kept".into(), false).unwrap();
    rig.scheduler.apply(ContextOp::OwnerGone { owner: OwnerId(1) }).unwrap();
    // A child may hold no more than its parent has left, whatever its own quota is.
    let register =
        |owner, parent, pages| ContextOp::Register { owner: OwnerId(owner), parent, tenant: user, pages };
    rig.scheduler.apply(register(2, None, Some(2))).unwrap();
    rig.scheduler.apply(register(3, Some(OwnerId(2)), Some(9))).unwrap();
    rig.create(2, Priority::Normal, 0);
    rig.create(3, Priority::Normal, 0);
    rig.submit(2, 2, &[2; 16]);
    rig.finish();
    rig.submit(3, 3, &[3; 32]);
    rig.finish();
    assert_eq!(rig.answers[&Ticket(3)], Err(ForwardError::OutOfPages { needed: 3, available: 2 }));
    // The user has 2 pages in a snapshot and 1 in use: 2 are left.
    rig.create(4, Priority::Normal, 0);
    rig.submit(4, 4, &[4; 48]);
    rig.finish();
    assert_eq!(rig.answers[&Ticket(4)], Err(ForwardError::OutOfPages { needed: 6, available: 5 }));
    rig.scheduler.apply(ContextOp::DropSnapshot { key: "ann/kept".into() }).unwrap();
    rig.submit(5, 4, &[4; 48]);
    rig.finish();
    assert_eq!(rig.reply(5).length, 48);
}

#[test]
fn outputs_beyond_those_of_a_batch_wait_for_the_next() {
    let mut rig = Rig::new(40, SchedulerConfig::default());
    rig.create(1, Priority::Normal, 0);
    let mut request = ForwardRequest::new(Ticket(1), ContextId(1), vec![1; 40]);
    request.outputs = (0..40 * 250).map(|i| (i / 250, OutputKind::Entropy)).collect();
    rig.scheduler.submit(request.clone(), rig.now).unwrap();
    rig.finish();
    assert_eq!(rig.reply(1).values.len(), 10_000);
    assert_eq!(rig.stats().batches, 3, "4096 outputs a batch");
    request.ticket = Ticket(2);
    request.outputs = vec![(0, OutputKind::Entropy); 257];
    let refused = rig.scheduler.submit(request, rig.now);
    assert!(matches!(&refused, Err(ForwardError::InvalidArgument(text)) if text.contains("257 outputs")));
}

#[test]
fn what_owners_hold_is_told_by_owner_and_by_context() {
    let mut rig = Rig::new(64, SchedulerConfig { prefix_cache: false, ..SchedulerConfig::default() });
    rig.create(1, Priority::Normal, 1);
    rig.create(2, Priority::Normal, 1);
    rig.create(3, Priority::Normal, 9);
    let page = rig.backend.limits().page_tokens;
    let tokens: Vec<u32> = (0..page * 2 + 1).collect();
    for id in 1..=3 {
        rig.submit(id, id, &tokens);
    }
    rig.finish();
    let (one, two) = (OwnerId(1), OwnerId(2));
    let held = rig.scheduler.holdings(TenantId(1), None);
    assert_eq!(held.owners.keys().copied().collect::<Vec<_>>(), [one, two], "not those of others");
    assert_eq!((held.owners[&one].private, held.owners[&one].shared, held.left_out), (3, 0, 0));
    assert!(held.contexts.is_empty(), "nobody asked for them");

    rig.scheduler.apply(ContextOp::Fork { from: ContextId(1), to: ContextId(11) }).unwrap();
    rig.submit(11, 11, &[7]);
    rig.finish();
    let held = rig.scheduler.holdings(TenantId(1), Some(one));
    // The fork wrote to its last page, and has one of its own for that.
    assert_eq!((held.owners[&one].contexts, held.owners[&one].private, held.owners[&one].shared), (2, 2, 2));
    let context = |context, parent, length, shared_with_parent| ContextPages {
        context: ContextId(context),
        parent,
        length,
        pages: 3,
        shared_with_parent,
        spilled: 0,
    };
    let length = page * 2 + 1;
    assert_eq!(held.contexts, [context(1, None, length, 0), context(11, Some(ContextId(1)), length + 1, 2)]);

    rig.scheduler.apply(ContextOp::Drop { context: ContextId(1) }).unwrap();
    let held = rig.scheduler.holdings(TenantId(1), Some(one));
    assert_eq!(held.contexts, [context(11, None, length + 1, 0)], "its parent is gone");
    assert_eq!((held.owners[&one].private, held.owners[&one].shared), (3, 0));
}

#[test]
fn a_tenant_with_too_many_contexts_is_told_so() {
    let mut rig = Rig::new(8, SchedulerConfig::default());
    rig.create(1, Priority::Normal, 1);
    for id in 2..=600 {
        rig.scheduler.apply(ContextOp::Fork { from: ContextId(1), to: ContextId(id) }).unwrap();
    }
    let held = rig.scheduler.holdings(TenantId(1), Some(OwnerId(1)));
    assert_eq!((held.contexts.len(), held.left_out), (512, 88));
    assert_eq!(held.owners[&OwnerId(1)].contexts, 600, "all are counted");
}
