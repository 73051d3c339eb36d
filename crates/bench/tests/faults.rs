//! Servers that do wrong: each wrong is a class of error in the report, and no run hangs on it.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bench::client::api::Api;
use bench::client::{self, Abandon, Observer, Progress, Silent, Stop};
use bench::mock::{Fault, Mock, Script};
use bench::record::{ErrorClass, Outcome, Record};
use bench::workload::Limit;
use common::{mock, options, plan, run, samples};

fn faulty(fault: &str) -> Mock {
    let faults: Vec<Fault> = vec![fault.parse().expect("a fault")];
    let (ttft, gap) = (Duration::from_millis(5), Duration::from_millis(2));
    mock(Script { ttft, gap, faults, stall: Duration::from_secs(600), ..Script::default() })
}

#[test]
fn every_fault_is_a_class_of_error_and_the_others_complete() {
    let cases = [
        ("503@3", ErrorClass::Status),
        ("reset@3", ErrorClass::Reset),
        ("malformed@3", ErrorClass::MalformedHttp),
        ("malformed-event@3", ErrorClass::MalformedStream),
        ("cut@3", ErrorClass::Truncated),
        ("error@3", ErrorClass::ServerError),
        ("stall@3", ErrorClass::Stalled),
        ("silent@3", ErrorClass::FirstByteTimeout),
    ];
    for (fault, class) in cases {
        let mock = faulty(fault);
        let mut options = options(&mock, Api::COMPLETIONS);
        // Far longer than a machine is busy with something else, and each such case waits for it once.
        options.timeouts.stall = Some(Duration::from_secs(3));
        options.timeouts.first_byte = Some(Duration::from_secs(3));
        // A connection for each request: one that is reused is tried again on a new one when it is closed.
        options.reuse_connections = false;
        let run = run(plan(samples(12, 8), "instant", Limit::NONE), options);
        let failures: Vec<ErrorClass> =
            run.records.iter().filter_map(|record| record.failure()).map(|failure| failure.class).collect();
        assert_eq!(failures, vec![class; 4], "{fault}");
        assert_eq!(run.records.iter().filter(|record| record.completed()).count(), 8, "{fault}");
        let status = run.records.iter().find_map(|record| record.status.filter(|status| *status != 200));
        assert_eq!(status, (class == ErrorClass::Status).then_some(503));
    }
}

#[test]
fn a_server_that_is_not_there_refuses_every_request() {
    let mock = faulty("reset@1");
    let options = options(&mock, Api::COMPLETIONS);
    drop(mock);
    let run = run(plan(samples(5, 8), "instant", Limit::NONE), options);
    let classes: Vec<_> =
        run.records.iter().filter_map(|r| r.failure()).map(|failure| failure.class).collect();
    assert_eq!(classes, vec![ErrorClass::Refused; 5]);
}

/// Calls something when so many requests are over.
struct After<F: Fn() + Sync>(usize, F);

impl<F: Fn() + Sync> Observer for After<F> {
    fn finished(&self, _: &Record, progress: &Progress) {
        if progress.finished == self.0 {
            (self.1)();
        }
    }
}

#[test]
fn a_server_that_dies_fails_what_is_under_way_and_what_comes_after() {
    let mock = mock(Script { ttft: Duration::from_millis(10), ..Script::default() });
    let options = Arc::new(options(&mock, Api::COMPLETIONS));
    let plan = Arc::new(plan(samples(20, 2), "closed:4", Limit::NONE));
    let mock = std::sync::Mutex::new(Some(mock));
    let kill = After(8, || drop(mock.lock().expect("the mock").take()));
    let run = client::run(&plan, &options, &kill, &Stop::default()).expect("a run");
    let completed = run.records.iter().filter(|record| record.completed()).count();
    assert!((8..20).contains(&completed), "{completed} completed");
    let expected = [ErrorClass::Refused, ErrorClass::Reset, ErrorClass::Truncated];
    for failure in run.records.iter().filter_map(|record| record.failure()) {
        assert!(expected.contains(&failure.class), "{failure:?}");
    }
    assert_eq!(run.records.len(), 20);
}

#[test]
fn a_run_that_is_stopped_reports_what_it_has() {
    let mock = mock(Script { ttft: Duration::from_millis(10), ..Script::default() });
    let options = Arc::new(options(&mock, Api::COMPLETIONS));
    let plan = Arc::new(plan(samples(1000, 50), "closed:4", Limit::NONE));
    let stop = Stop::default();
    let run = client::run(&plan, &options, &After(4, || stop.stop()), &stop).expect("a run");
    assert!(run.interrupted);
    assert_eq!(run.records.len(), 1000);
    let count = |outcome: &Outcome| run.records.iter().filter(|record| record.outcome == *outcome).count();
    assert!(
        count(&Outcome::Completed) >= 4 && count(&Outcome::Skipped) > 900,
        "{}",
        count(&Outcome::Skipped)
    );
    assert_eq!(count(&Outcome::Completed) + count(&Outcome::Cancelled) + count(&Outcome::Skipped), 1000);
}

#[test]
fn users_who_give_up_are_no_failures() {
    let mock = faulty("silent@1");
    let mut options = options(&mock, Api::COMPLETIONS);
    options.abandon = Some(Abandon { share: 1.0, after: Duration::from_millis(50) });
    let run = run(plan(samples(6, 8), "instant", Limit::NONE), options);
    assert!(run.records.iter().all(|record| record.outcome == Outcome::Cancelled));
}

#[test]
fn connections_serve_one_request_after_the_other() {
    let mock = mock(Script { ttft: Duration::from_millis(2), ..Script::default() });
    let options = Arc::new(options(&mock, Api::COMPLETIONS));
    let plan = Arc::new(plan(samples(40, 2), "closed:3", Limit::NONE));
    let run = client::run(&plan, &options, &Silent, &Stop::default()).expect("a run");
    assert!(run.records.iter().all(Record::completed));
    assert!(run.records.iter().filter(|record| record.reused_connection).count() >= 30);
}
