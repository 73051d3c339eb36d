use std::net::SocketAddr;

use clap::Parser;

use super::*;
use crate::mock::{Mock, Script};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    flags: InferxFlags,
}

fn flags(arguments: &[&str]) -> InferxFlags {
    Command::try_parse_from(["inferx"].iter().chain(arguments))
        .unwrap_or_else(|error| panic!("{error}"))
        .flags
}

fn mock(script: Script) -> Mock {
    Mock::start(script, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

fn quick() -> Script {
    Script { ttft: Duration::from_millis(20), gap: Duration::from_millis(2), ..Script::default() }
}

fn read(folder: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

/// Runs the command and returns its folder.
fn measured(mock: &Mock, arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{}/v1/generate", mock.address());
    let outdir = folder.path().to_str().unwrap().to_string();
    let mut all =
        vec!["--endpoint", &endpoint, "--duration", "1", "--rate", "20", "--outdir", &outdir, "--quiet"];
    all.extend(arguments);
    run(flags(&all)).unwrap();
    folder
}

#[test]
fn files_have_the_documented_heads_and_a_row_for_each_request() {
    let mock = mock(quick());
    let folder = measured(
        &mock,
        &[
            "--stream",
            "--output-tokens",
            "4",
            "--request-body-template",
            r#"{"model":"TinyLlama/TinyLlama-1.1B-Chat-v1.0","prompt":"{prompt}","max_tokens":"{max_tokens}"}"#,
        ],
    );
    let csv = read(&folder, "metrics.csv");
    let (head, rows) = csv.split_once('\n').unwrap();
    assert_eq!(
        head,
        "request_id,enqueue_time,send_time,first_byte_time,end_time,prompt_tokens,resp_tokens,bytes_received,status,error"
    );
    let served = mock.log().served();
    assert_eq!(rows.lines().count(), served.len());
    let mut ids = std::collections::BTreeSet::new();
    for row in rows.lines() {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(cells.len(), 10, "{row}");
        assert!(ids.insert(cells[0].to_string()) && cells[0].len() == 36, "{row}");
        let times: Vec<f64> = cells[1..5].iter().map(|cell| cell.parse().unwrap()).collect();
        assert!(times.is_sorted() && times[0] > 1.7e9, "{row}");
        // The server waited 20 ms before the first token, and no less can be seen.
        assert!(times[2] - times[1] >= 0.02, "{row}");
        assert_eq!((cells[6], cells[8], cells[9]), ("4", "200", ""), "{row}");
    }
    let summary: serde_json::Value = serde_json::from_str(&read(&folder, "summary.json")).unwrap();
    assert_eq!(summary["completed"], served.len());
    assert_eq!(summary["resp_tokens"], 4 * served.len());
    assert!(summary["tpot_s"]["p50"].as_f64().unwrap() > 0.0);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&read(&folder, "metrics.json")).unwrap();
    assert_eq!(rows.len(), served.len());
    let picture = std::fs::read(folder.path().join("throughput_latency.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 5000);
}

#[test]
fn the_default_template_and_those_of_the_document_send_the_prompt() {
    for (arguments, member) in [
        (&[][..], "prompt"),
        (&["--request-body-template", r#"{"input":"{prompt}","max_new_tokens":128}"#][..], "input"),
        (&["--request-body-template", r#"{{"prompt":"{prompt}"}}"#][..], "prompt"),
        (&["--json-field", "question"][..], "question"),
    ] {
        let mock = mock(quick());
        let folder =
            measured(&mock, &[arguments, &["--prompt-dist", "choices", "--choices-tokens", "32"]].concat());
        let served = mock.log().served();
        assert!(!served.is_empty());
        for request in served {
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(body[member].as_str().unwrap().split_whitespace().count(), 32, "{}", request.body);
        }
        let summary: serde_json::Value = serde_json::from_str(&read(&folder, "summary.json")).unwrap();
        assert_eq!((summary["failed"].as_u64(), summary["tpot_s"]["count"].as_u64()), (Some(0), Some(0)));
    }
}

#[test]
fn waiting_for_a_slot_is_reported_and_is_not_in_the_first_chunk() {
    let mock = mock(Script { tokens: Some(1), ttft: Duration::from_millis(100), ..Script::default() });
    let folder = measured(&mock, &["--concurrency", "1", "--stream"]);
    let summary: serde_json::Value = serde_json::from_str(&read(&folder, "summary.json")).unwrap();
    // About twenty requests within a second and one slot for 100 ms each: the last waits for about a second.
    let (wait, ttft) = (&summary["queue_wait_s"]["max"], &summary["ttft_s"]["p50"]);
    assert!(wait.as_f64().unwrap() > 0.3 && wait.as_f64() > ttft.as_f64(), "{summary}");
}

#[test]
fn rows_of_two_runs_are_in_one_file_and_another_file_is_not_touched() {
    let mock = mock(quick());
    let folder = measured(&mock, &[]);
    let endpoint = format!("http://{}/v1/generate", mock.address());
    let outdir = folder.path().to_str().unwrap();
    let first = read(&folder, "metrics.csv").lines().count();
    let again = || run(flags(&["--endpoint", &endpoint, "--duration", "0.5", "--outdir", outdir, "--quiet"]));
    again().unwrap();
    let both = read(&folder, "metrics.csv");
    assert!(both.lines().count() > first);
    assert_eq!(both.matches("request_id").count(), 1);
    std::fs::write(folder.path().join("metrics.csv"), "a,b\n").unwrap();
    let error = again().unwrap_err().to_string();
    assert!(error.contains("begins with `a,b`"), "{error}");
}

#[test]
fn a_server_that_fails_is_an_error_in_each_row_and_the_exit_code() {
    let mock = mock(Script { faults: vec!["503".parse().unwrap()], ..quick() });
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, outdir) = (format!("http://{}/x", mock.address()), folder.path().to_str().unwrap());
    let flags = flags(&["--endpoint", &endpoint, "--duration", "0.5", "--outdir", outdir, "--quiet"]);
    assert_eq!(format!("{:?}", run(flags).unwrap()), format!("{:?}", ExitCode::FAILURE));
    let csv = read(&folder, "metrics.csv");
    assert!(csv.lines().skip(1).all(|row| row.contains(",503,\"status: status 503")), "{csv}");
}

#[test]
fn a_gpu_that_is_not_there_is_said_in_its_file() {
    let error = files::gpu_csv(&Err("no tool, no device".into()), 1.5);
    assert_eq!(error, "ts,mem_used_mb,error\n1.500000,,\"no tool, no device\"\n");
    let gpu = crate::telemetry::gpu::Gpu {
        index: 0,
        memory_used_mb: Some(10.0),
        memory_total_mb: Some(20.0),
        busy_percent: Some(3.0),
        memory_busy_percent: None,
        power_watts: None,
    };
    let csv = files::gpu_csv(&Ok(vec![(2.0, gpu)]), 0.0);
    assert_eq!(csv, "ts,mem_used_mb,mem_total_mb,gpu_util,gpu_mem_util\n2.000000,10,20,3,\n");
}

#[test]
fn the_plot_has_a_point_for_each_throughput_in_order() {
    let row = |end: f64, ttft: f64| row::Row {
        request_id: String::new(),
        enqueue_time: 0.0,
        send_time: Some(end - 1.0),
        first_byte_time: Some(end - 1.0 + ttft),
        end_time: Some(end),
        prompt_tokens: 1,
        resp_tokens: None,
        bytes_received: 0,
        status: Some(200),
        error: String::new(),
    };
    // Three in the first second, one in the second, one in the third.
    let rows = [row(10.0, 0.1), row(10.5, 0.2), row(10.9, 0.3), row(11.5, 0.5), row(12.5, 0.7)];
    let windows = plot::windows(&rows);
    let counts: Vec<(usize, usize)> =
        windows.iter().map(|(count, values)| (*count, values.count())).collect();
    assert_eq!(counts, [(1, 2), (3, 3)]);
    assert!((windows[&3].median().unwrap() - 0.2).abs() < 1e-9);
    assert!((windows[&1].median().unwrap() - 0.6).abs() < 1e-9);
}

#[test]
fn flags_that_contradict_each_other_are_refused_in_words() {
    for (arguments, words) in [
        (&["--rate", "0"][..], "--rate: found 0"),
        (&["--min-tokens", "9", "--max-tokens", "8"][..], "--min-tokens is 9"),
        (&["--prompt-dist", "choices"][..], "belong together"),
        (&["--request-body-template", "{}"][..], "expected {prompt}"),
        (&["--sample-prompts-file", "/nowhere"][..], "cannot read"),
    ] {
        let all = [&["--endpoint", "http://127.0.0.1:1/x"], arguments].concat();
        let error = format!("{:#}", run(flags(&all)).unwrap_err());
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}
