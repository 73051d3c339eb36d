use clap::Parser;
use serde_json::json;

use super::*;
use crate::report::json::collection;

#[derive(Parser)]
struct Gate {
    #[command(flatten)]
    flags: GateFlags,
}

fn run(schedule: &str, throughput: f64) -> Value {
    let summary = json!({"request_throughput": throughput, "error_rate": 0.0});
    json!({"pie_bench": 1, "valid": true, "schedule": schedule, "load": schedule, "summary": summary})
}

/// The exit code of a gate between two files: 0, 1 or 2.
fn gate_of(before: &Value, after: &Value, more: &[&str]) -> u8 {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (before, after) = (write("a", before), write("b", after));
    let flags = Gate::parse_from(["gate", &before, &after].iter().chain(more)).flags;
    let code = format!("{:?}", gate(&flags).unwrap());
    (0..3).find(|number| format!("{:?}", ExitCode::from(*number)) == code).unwrap()
}

#[test]
fn reports_of_one_load_are_compared_whatever_the_load() {
    assert_eq!(gate_of(&run("poisson:1", 10.0), &run("poisson:2", 9.5), &[]), 0);
    assert_eq!(gate_of(&run("poisson:1", 10.0), &run("poisson:1", 8.0), &[]), 1);
    assert_eq!(gate_of(&run("p", 10.0), &run("p", 8.0), &["--expected-change", "requests a second"]), 0);
    assert_eq!(gate_of(&json!({"a": 1}), &run("p", 8.0), &[]), 2);
}

#[test]
fn sweeps_are_compared_load_by_load() {
    let sweep = |runs: Vec<Value>| collection("sweep", serde_json::Map::new(), runs);
    let base = sweep(vec![run("a", 10.0), run("b", 20.0)]);
    // In another order, and with one more.
    assert_eq!(gate_of(&base, &sweep(vec![run("c", 1.0), run("b", 20.0), run("a", 10.0)]), &[]), 0);
    assert_eq!(gate_of(&base, &sweep(vec![run("a", 10.0), run("b", 10.0)]), &[]), 1);
    // A load that is gone is worse than any figure.
    assert_eq!(gate_of(&base, &sweep(vec![run("a", 10.0)]), &[]), 1);
    // The report of one load belongs to the same load of a sweep.
    assert_eq!(gate_of(&base, &run("b", 20.0), &[]), 1);
    assert_eq!(gate_of(&run("b", 20.0), &base, &[]), 0);
    assert_eq!(gate_of(&sweep(Vec::new()), &base, &[]), 2);
}

#[test]
fn searches_are_compared_by_what_they_found() {
    let search = |passed: Value| {
        let found = serde_json::Map::from_iter([("passed".to_string(), passed)]);
        collection("slo", found, vec![run("a", 10.0)])
    };
    assert_eq!(gate_of(&search(json!(10.0)), &search(json!(9.8)), &[]), 0);
    assert_eq!(gate_of(&search(json!(10.0)), &search(json!(8.0)), &[]), 1);
    assert_eq!(gate_of(&search(json!(10.0)), &search(Value::Null), &[]), 1);
    // One that found nothing says nothing, and a search is no load.
    assert_eq!(gate_of(&search(Value::Null), &search(json!(1.0)), &[]), 2);
    assert_eq!(gate_of(&search(json!(1.0)), &run("a", 1.0), &[]), 2);
    assert_eq!(gate_of(&run("a", 1.0), &search(json!(1.0)), &[]), 2);
}
