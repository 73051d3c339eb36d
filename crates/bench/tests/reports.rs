//! Files of a run: every format has the names that its readers look for, and all say the same.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bench::client::api::Api;
use bench::metrics::{Limits, Summary, SummaryOptions, verdict};
use bench::mock::{Fault, Script};
use bench::report::{
    Context, Files, Report, csv, html, json, llmd, markdown, sglang, terminal, vllm, write_all,
};
use bench::workload::Limit;
use common::{mock, options, plan, run, samples};
use serde_json::Value;

/// A report of 12 requests, of which 3 failed.
fn report() -> Report {
    let faults: Vec<Fault> = vec!["503@4".parse().expect("a fault")];
    let script =
        Script { ttft: Duration::from_millis(5), gap: Duration::from_millis(2), faults, ..Script::default() };
    let mock = mock(script);
    let mut options = options(&mock, Api::COMPLETIONS);
    options.keep_text = true;
    let plan = plan(samples(12, 5), "constant:200", Limit::queue(8));
    let run = run(plan.clone(), options);
    let slos = vec!["ttft:60000".parse().expect("a promise")];
    let summary = Summary::new(&run, &SummaryOptions { window: None, slos });
    let context = Context {
        backend: "openai".into(),
        url: "http://127.0.0.1/v1/completions".into(),
        label: Some("</script><b>|label".into()),
        model: "org/mock".into(),
        dataset: "random".into(),
        num_prompts: 12,
        request_rate: 200.0,
        burstiness: f64::INFINITY,
        max_concurrency: Some(8),
        metadata: vec![("commit".into(), "abc".into())],
        percentile_metrics: ["ttft", "tpot", "itl", "e2el", "client_queue_time"].map(String::from).to_vec(),
        percentiles: vec![50.0, 99.0, 99.9],
        ..Context::default()
    };
    let verdict = verdict(&run, &Limits::default());
    Report { context, plan: Arc::new(plan), run, summary, verdict, steady: None, telemetry: None }
}

#[test]
fn every_format_has_its_names_and_all_say_the_same() {
    let report = report();
    // vLLM's, in its order.
    let file = vllm::object(&report, true);
    let names: Vec<&str> = file.keys().map(String::as_str).collect();
    let expected = [
        "date",
        "endpoint_type",
        "backend",
        "label",
        "model_id",
        "tokenizer_id",
        "num_prompts",
        "commit",
        "request_rate",
        "burstiness",
        "max_concurrency",
        "duration",
        "completed",
        "failed",
        "total_input_tokens",
        "total_output_tokens",
        "request_throughput",
        "request_goodput",
        "output_throughput",
    ];
    assert_eq!(names[..expected.len()], expected);
    for name in
        ["total_token_throughput", "max_output_tokens_per_s", "max_concurrent_requests", "ttfts", "itls"]
    {
        assert!(file.contains_key(name), "{name}");
    }
    for name in ["mean_ttft_ms", "median_tpot_ms", "std_itl_ms", "p50_e2el_ms", "p99_ttft_ms", "p99.9_itl_ms"]
    {
        assert!(file[name].as_f64().is_some_and(|value| value > 0.0), "{name}: {:?}", file.get(name));
    }
    assert_eq!((file["completed"].as_u64(), file["failed"].as_u64()), (Some(9), Some(3)));
    assert_eq!(file["total_output_tokens"], 45);
    assert_eq!(file["burstiness"], "inf");
    assert!(
        file["errors"].as_array().is_some_and(
            |errors| errors.len() == 12 && errors.iter().filter(|error| **error != "").count() == 3
        )
    );
    // Which request came to the server as its fourth is not known here.
    let whole = report.run.records.iter().position(|record| record.completed()).expect("an answer");
    assert_eq!(file["generated_texts"][whole], " token token token token token");
    let name = vllm::file_name(&report);
    assert!(name.contains("-200.0qps-concurrency8-mock-"), "{name}");
    assert!(vllm::object(&report, false).get("ttfts").is_none());
    // The others.
    let line = sglang::object(&report, false);
    assert_eq!((&line["completed"], &line["slo_attainment"]), (&Value::from(9), &Value::from(0.75)));
    assert_eq!(line["mean_ttft_ms"], file["mean_ttft_ms"]);
    let own = json::object(&report);
    assert_eq!(own["summary"]["errors"]["status"]["count"], 3);
    assert_eq!(
        own["summary"]["figures"]["ttft"]["mean"].as_f64().map(|s| s * 1e3),
        file["mean_ttft_ms"].as_f64()
    );
    assert_eq!(csv::text(&report).lines().count(), 13);
    let page = markdown::text(&report);
    assert!(page.contains("| status | 3 |") && page.contains("\\|label"));
    assert!(terminal::text(&report).contains("9 completed, 3 failed"));
}

#[test]
fn the_page_for_browsers_needs_nothing_else_and_holds_whatever_the_user_wrote() {
    let page = html::text(&report());
    assert_eq!(page.matches("</script>").count(), 1, "what the user wrote ends no script");
    for outside in ["src=", "href=", "@import", "https://", "fetch("] {
        assert!(!page.contains(outside), "the page has `{outside}`");
    }
    assert!(!page.contains("/*DATA*/"));
}

#[test]
fn the_report_of_llm_d_is_one() {
    let schema = include_str!("data/benchmark-report-0.2.schema.json");
    let schema: Value = serde_json::from_str(schema).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let object = llmd::object(&report());
    let errors: Vec<String> =
        validator.iter_errors(&object).map(|error| format!("{error} at {}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let aggregate = &object["results"]["request_performance"]["aggregate"];
    assert_eq!(
        (&aggregate["requests"]["total"], &aggregate["requests"]["failures"]),
        (&12.into(), &3.into())
    );
    assert_eq!(aggregate["latency"]["time_to_first_token"]["units"], "s");
}

#[test]
fn files_are_written_whole_and_lines_are_appended() {
    let (report, folder) = (report(), tempfile::tempdir().expect("a folder"));
    let path = |name: &str| Some(folder.path().join("below").join(name));
    let files = Files {
        vllm: Some((folder.path().into(), Some("lines.jsonl".into()))),
        append: true,
        json: path("a.json"),
        csv: path("a.csv"),
        markdown: path("a.md"),
        html: path("a.html"),
        llmd: path("llmd.json"),
        sglang: path("sglang.jsonl"),
        ..Files::default()
    };
    for number in [1, 2] {
        assert_eq!(write_all(&report, &files, Some(number)).expect("files").len(), 7);
    }
    let lines = std::fs::read_to_string(folder.path().join("lines.jsonl")).expect("lines");
    assert_eq!(lines.lines().count(), 2);
    let names = std::fs::read_dir(folder.path().join("below")).expect("a folder");
    let mut names: Vec<String> =
        names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let expected = ["a-1.csv", "a-1.html", "a-1.json", "a-1.md", "a-2.csv", "a-2.html", "a-2.json", "a-2.md"];
    assert_eq!(names[..8], expected);
    assert!(names.iter().all(|name| !name.ends_with(".part")), "{names:?}");
}
