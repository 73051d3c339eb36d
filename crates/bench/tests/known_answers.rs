//! Figures against what a scripted server wrote down when it did it.

mod common;

use std::collections::HashMap;
use std::time::Duration;

use bench::client::Run;
use bench::client::api::Api;
use bench::dataset::{Message, Prompt, Sample};
use bench::metrics::{Distribution, Summary, SummaryOptions};
use bench::mock::{Fault, Mock, Script, ServedRequest};
use bench::workload::{Limit, WhenFull};
use common::{mock, options, plan, run, samples, within};

fn served(mock: &Mock) -> HashMap<String, ServedRequest> {
    mock.log().served().into_iter().map(|served| (served.id.clone(), served)).collect()
}

/// How far two figures are apart, as a share of the second.
fn off(found: f64, truth: f64) -> f64 {
    (found - truth).abs() / truth
}

/// Compares every moment of a run with the server's own, and returns how far the figures are off.
fn compare(run: &Run, mock: &Mock) -> f64 {
    let log = served(mock);
    let summary = Summary::new(run, &SummaryOptions::default());
    let (mut ttft, mut e2el, mut tpot, mut itl) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for record in &run.records {
        assert!(record.completed(), "{:?}", record.outcome);
        let truth = &log[&record.request_id];
        assert_eq!(record.chunks.len(), truth.chunks.len());
        for (seen, written) in record.chunks.iter().zip(&truth.chunks) {
            // Nobody reads what has not been written.
            assert!(run.clock.instant(seen.at) >= *written);
        }
        assert!(run.clock.instant(record.sent.expect("sent")) <= truth.chunks[0]);
        let since =
            |later: std::time::Instant| (later - run.clock.instant(record.service_start())).as_secs_f64();
        let (first, last) = (truth.chunks[0], truth.chunks[truth.chunks.len() - 1]);
        ttft.push(since(first));
        e2el.push(since(last));
        tpot.push((last - first).as_secs_f64() / f64::from(record.output_tokens() - 1));
        itl.extend(truth.chunks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
    }
    let median = |values: Vec<f64>| Distribution::new(values).median().expect("values");
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let figure = |name: &str| summary.figure(name).expect("a figure");
    let off = [
        off(figure("ttft").median().expect("values"), median(ttft)),
        off(figure("e2el").median().expect("values"), median(e2el)),
        off(figure("tpot").median().expect("values"), median(tpot)),
        off(figure("itl").mean().expect("values"), mean(&itl)),
    ];
    off.into_iter().fold(0.0, f64::max)
}

#[test]
fn every_figure_is_what_the_server_did() {
    let (ttft, gap) = (Duration::from_millis(200), Duration::from_millis(40));
    for api in [Api::COMPLETIONS, Api::CHAT] {
        within(0.01, || {
            let mock = mock(Script { ttft, gap, ..Script::default() });
            let run = run(plan(samples(12, 8), "constant:40", Limit::NONE), options(&mock, api.clone()));
            for record in &run.records {
                assert_eq!((record.prompt_tokens(), record.output_tokens()), (3, 8));
            }
            let summary = Summary::new(&run, &SummaryOptions::default());
            assert_eq!((summary.input_tokens, summary.output_tokens, summary.completed), (36, 96, 12));
            compare(&run, &mock)
        });
    }
}

#[test]
fn tokens_that_come_together_are_counted_one_by_one() {
    for continuous_usage in [false, true] {
        let script = Script {
            ttft: Duration::from_millis(10),
            gap: Duration::from_millis(20),
            tokens_per_chunk: 4,
            continuous_usage,
            ..Script::default()
        };
        let mock = mock(script);
        let run = run(plan(samples(4, 16), "instant", Limit::NONE), options(&mock, Api::COMPLETIONS));
        let summary = Summary::new(&run, &SummaryOptions::default());
        let figure = |name: &str| summary.figure(name).expect("a figure");
        // 4 chunks of 4 tokens: 3 gaps between chunks, 12 tokens after the first chunk.
        assert_eq!((figure("itl").count(), figure("itl_token").count()), (4 * 3, 4 * 12));
        let (chunks, tokens) = (figure("itl").sum(), figure("itl_token").sum());
        assert!((chunks - tokens).abs() < 1e-9, "the gaps are the same time: {chunks} and {tokens}");
        assert_eq!(run.records[0].chunks.iter().any(|chunk| chunk.tokens > 0), continuous_usage);
    }
}

#[test]
fn reasoning_is_the_first_token_and_not_the_first_content() {
    let script = Script { reasoning_chunks: 3, gap: Duration::from_millis(30), ..Script::default() };
    let mock = mock(script);
    let run = run(plan(samples(2, 6), "instant", Limit::NONE), options(&mock, Api::CHAT));
    for record in &run.records {
        assert_eq!(record.first_token, Some(record.chunks[0].at));
        assert_eq!(record.first_content, Some(record.chunks[3].at));
    }
}

#[test]
fn a_stall_is_in_the_gap_in_which_it_was() {
    within(0.01, || {
        let stall = Duration::from_millis(500);
        let faults: Vec<Fault> = vec!["stall@1".parse().expect("a fault")];
        let mock = mock(Script { faults, fault_after: 3, stall, ..Script::default() });
        let run = run(plan(samples(1, 6), "instant", Limit::NONE), options(&mock, Api::COMPLETIONS));
        let gaps: Vec<f64> =
            run.records[0].chunks.windows(2).map(|pair| pair[1].at.since(pair[0].at).secs()).collect();
        let truth = &mock.log().served()[0].chunks;
        assert!(gaps.iter().enumerate().all(|(index, gap)| index == 2 || *gap < gaps[2]), "{gaps:?}");
        off(gaps[2], (truth[3] - truth[2]).as_secs_f64())
    });
}

#[test]
fn a_slow_server_does_not_hide_what_waited_for_it() {
    // 50 requests a second for a server that takes 100 ms, one at a time: request k is meant at 20 k ms and cannot end
    // before 100 (k + 1) ms, so its response takes 100 + 80 k ms. p99 of 20 is at k = 18.81.
    let p99 = 0.1 + 0.08 * 18.81;
    within(0.01, || {
        let ttft = Duration::from_millis(100);
        let mock = mock(Script { ttft, ..Script::default() });
        let limit = Limit::queue(1);
        let run = run(plan(samples(20, 1), "constant:50", limit), options(&mock, Api::COMPLETIONS));
        let log = served(&mock);
        let summary = Summary::new(&run, &SummaryOptions::default());
        let figure = |name: &str| summary.figure(name).expect("a figure").percentile(99.0).expect("values");
        let truth = run.records.iter().map(|record| {
            let written = log[&record.request_id].chunks[0];
            (written - run.clock.instant(record.intended)).as_secs_f64()
        });
        let truth = Distribution::new(truth.collect::<Vec<_>>()).percentile(99.0).expect("values");
        assert!(figure("e2el_response") >= p99, "{} is less than {p99} s", figure("e2el_response"));
        assert!(figure("e2el_response") >= truth);
        assert!(figure("queue") >= p99 - 0.2, "what waited is in the queue's figure");
        off(figure("e2el_response"), truth)
    });
}

#[test]
fn a_full_client_that_drops_counts_what_it_dropped() {
    let mock = mock(Script { ttft: Duration::from_millis(300), ..Script::default() });
    let limit = Limit { requests: Some(2), sessions: None, when_full: WhenFull::Drop };
    let run = run(plan(samples(10, 1), "instant", limit), options(&mock, Api::COMPLETIONS));
    let summary = Summary::new(&run, &SummaryOptions::default());
    assert_eq!((summary.requests, summary.completed, summary.dropped), (10, 2, 8));
}

#[test]
fn turns_of_a_session_are_sent_in_order_with_the_answers_so_far() {
    let mock =
        mock(Script { ttft: Duration::from_millis(1), gap: Duration::from_millis(1), ..Script::default() });
    let turn = |session, turn| {
        let messages = vec![Message::user(format!("question {turn} of {session}"))];
        let mut sample = Sample::new(Prompt::Chat(messages), 4, 2);
        (sample.session, sample.turn) = (Some(session), turn);
        sample
    };
    let samples: Vec<Sample> =
        (0..5).flat_map(|session| (0..3).map(move |index| turn(session, index))).collect();
    let mut options = options(&mock, Api::CHAT);
    options.session_header = Some("x-session-id".into());
    let limit = Limit { requests: None, sessions: Some(2), when_full: WhenFull::Queue };
    let run = run(plan(samples, "instant", limit), options);
    let log = served(&mock);
    for record in &run.records {
        assert!(record.completed(), "{:?}", record.outcome);
        let served = &log[&record.request_id];
        let body: serde_json::Value = serde_json::from_str(&served.body).expect("JSON");
        let messages = body["messages"].as_array().expect("messages");
        assert_eq!(messages.len(), 2 * record.turn as usize + 1);
        assert_eq!(served.session, record.session.map(|session| format!("s-{session}")));
        if record.turn > 0 {
            assert_eq!(messages[1]["role"], "assistant");
            assert_eq!(messages[1]["content"], " token token");
            let before = &run.records[record.index - 1];
            assert!(record.started.expect("started") >= before.end);
        }
    }
    // Two sessions at most are open: no third begins before one of two has ended.
    let begins: Vec<_> = run.records.iter().filter(|record| record.turn == 0).collect();
    let ends: Vec<_> =
        run.records.iter().filter(|record| record.turn == 2).map(|record| record.end).collect();
    for begin in begins {
        let started = begin.started.expect("started");
        let open =
            run.records.iter().filter(|r| r.turn == 0 && r.started.expect("started") <= started).count();
        let ended = ends.iter().filter(|end| **end <= started).count();
        assert!(open - ended <= 2, "{open} sessions had begun and {ended} had ended");
    }
}

#[test]
fn a_closed_loop_has_its_users_under_way() {
    let mock = mock(Script { ttft: Duration::from_millis(20), ..Script::default() });
    let run = run(plan(samples(20, 2), "closed:4", Limit::NONE), options(&mock, Api::COMPLETIONS));
    let summary = Summary::new(&run, &SummaryOptions::default());
    assert_eq!((summary.completed, summary.peak_in_flight), (20, 4));
    assert!(run.used.connections <= 8, "{} connections for 4 users", run.used.connections);
}

#[test]
fn an_answer_in_one_piece_has_no_first_token() {
    let mock = mock(Script { ttft: Duration::from_millis(20), ..Script::default() });
    let mut options = options(&mock, Api::CHAT);
    options.stream = false;
    options.keep_text = true;
    let run = run(plan(samples(3, 2), "instant", Limit::NONE), options);
    for record in &run.records {
        assert!(record.completed(), "{:?}", record.outcome);
        assert_eq!((record.first_token, record.output_tokens()), (None, 2));
        assert_eq!(record.text, " token token");
    }
}
