//! `perf`, `compare` and `convergence` against servers with a script.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use super::{golden, json_of, quick, sage};
use crate::mock::{Mock, Script};

fn slow() -> Mock {
    let script = Script { gap: Duration::from_millis(20), ..Script::default() };
    Mock::start(script, "127.0.0.1:0".parse().unwrap()).unwrap()
}

fn url(mock: &Mock) -> String {
    format!("http://{}/v1", mock.address())
}

#[test]
fn every_batch_is_sent_at_once_with_the_lengths_of_its_scenario() {
    let mock = quick();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (url, rows, page) = (url(&mock), path("perf.json"), path("perf.md"));
    let measure = [
        "perf",
        "--backend-url",
        &url,
        "--batch-size",
        "1",
        "--batch-size",
        "3",
        "--max-seq-len",
        "4096",
        "--max-output-tokens",
        "16",
        "--output-json",
        &rows,
        "--output-markdown",
        &page,
        "--plot",
        "--dpi",
        "48",
        "--plot-format",
        "png,pdf",
        "--precision",
        "q4",
        "--live",
    ];
    sage(&measure).unwrap();
    let served = mock.log().served();
    for (prompt, count) in [(128, 1 + 3), (2048, 1 + 3)] {
        // The first of all waits for the server, outside of the measurement.
        let extra = usize::from(prompt == 128);
        let same = served.iter().filter(|request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            request.prompt_tokens == prompt && body["max_tokens"] == 16 && body["ignore_eos"] == true
        });
        assert_eq!(same.count(), count + extra, "prompts of {prompt} tokens");
    }
    let file = json_of(&folder, "perf.json");
    golden::check("perf.json", &file);
    let scenarios: Vec<&str> =
        file["rows"].as_array().unwrap().iter().map(|row| row["scenario"].as_str().unwrap()).collect();
    assert_eq!(scenarios, ["short_b1", "long_b1", "short_b3", "long_b3"]);
    let row = &file["rows"][2];
    assert_eq!((&row["successful_requests"], &row["failed_requests"]), (&3.into(), &0.into()));
    assert!(row["ttft_ms"].as_f64().unwrap() >= 10.0 && row["memory_mb"].is_null());
    let text = std::fs::read_to_string(folder.path().join("perf.md")).unwrap();
    assert!(text.contains("| mock  | short_b3 | q4"), "{text}");
    for name in ["latency_line", "throughput_bar", "model_precision_heatmap"] {
        for end in ["png", "pdf"] {
            let path = folder.path().join("plots").join(format!("{name}.{end}"));
            assert!(std::fs::metadata(&path).unwrap().len() > 1000, "{}", path.display());
        }
    }
    for format in ["table", "json", "markdown"] {
        sage(&["report", "--input", &rows, "--format", format, "--plot", "--theme", "dark", "--dpi", "48"])
            .unwrap();
    }
}

#[test]
fn what_is_not_measured_here_is_refused_with_its_reason() {
    let mock = quick();
    let url = url(&mock);
    for (arguments, words) in [
        (&["--simulate"][..], "figures are measured here"),
        (&["--type", "operator"], "`cargo bench -p kernels`"),
        (&["--device", "cpu"], "--device: operators"),
        (&["--precision", "a,b"], "found 2 for 1 models"),
        (&["--model", "other"], "expected a model that"),
        (&["--max-seq-len", "100"], "lower --max-output-tokens"),
        (&["--server-wait", "0"], "--server-wait: found 0"),
    ] {
        let all = [&["perf", "--backend-url", &url], arguments].concat();
        let error = format!("{:#}", sage(&all).unwrap_err());
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    let error = sage(&["perf", "--backend-url", "http://127.0.0.1:1", "--server-wait", "0.1"]).unwrap_err();
    assert!(error.to_string().contains("--server-wait waits longer"), "{error}");
}

#[test]
fn a_slower_server_is_slower_also_in_what_was_recorded() {
    let (fast, slow) = (quick(), slow());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (fast_url, slow_url) = (url(&fast), url(&slow));
    let (a, b, out) = (format!("fast one={fast_url}"), format!("slow={slow_url}"), path("live"));
    let sizes = ["--batch-size", "2", "--max-seq-len", "4096", "--max-output-tokens", "16"];
    let live = ["compare", "--target", &a, "--target", &b, "--output-dir", &out, "--plot", "--dpi", "48"];
    sage(&[&live[..], &sizes].concat()).unwrap();
    let live = json_of(&folder, "live/comparison.json");
    golden::check("comparison.json", &live);
    golden::check("target.json", &json_of(&folder, "live/fast-one.json"));
    assert_eq!((&live["baseline"], &live["targets"][0]["speedup"]), (&"fast one".into(), &1.0.into()));
    let slower = &live["targets"][1];
    assert!(slower["speedup"].as_f64().unwrap() < 1.0, "{slower}");
    assert!(slower["delta_vs_baseline"]["tbt_ms"].as_f64().unwrap() > 0.0, "{slower}");
    for name in ["comparison.md", "fast-one.md", "slow.md", "plots/speedup_bar.png"] {
        assert!(folder.path().join("live").join(name).exists(), "{name}");
    }
    // What was recorded is compared without a server.
    drop((fast, slow));
    let (a, b) = (format!("fast one={out}/fast-one.json"), format!("slow={out}/slow.json"));
    sage(&["compare-offline", "--result", &a, "--result", &b, "--output-dir", &path("off")]).unwrap();
    let offline = json_of(&folder, "off/comparison.json");
    golden::check("comparison.json", &offline);
    let speedups = [&live, &offline].map(|file| file["targets"][1]["speedup"].as_f64().unwrap());
    assert!((speedups[0] / speedups[1] - 1.0).abs() < 1e-9, "{speedups:?}");
    for (arguments, words) in [
        (&["--result", &a, "--result", &a][..], "two labels make the file"),
        (&["--result", &a], "expected two or more"),
        (&["--result", &a, "--result", "x=/nowhere"], "cannot read"),
    ] {
        let error = format!("{:#}", sage(&[&["compare-offline"], arguments].concat()).unwrap_err());
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
}

#[test]
fn a_record_is_that_of_a_comparison() {
    let mock = quick();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let url = url(&mock);
    let arguments =
        ["compare-record", "--label", "one", "--url", &url, "--output-dir", out, "--batch-size", "1"];
    sage(&[&arguments[..], &["--max-output-tokens", "4"]].concat()).unwrap();
    golden::check("target.json", &json_of(&folder, "one.json"));
}

#[test]
fn a_convergence_keeps_what_servers_say_and_names_what_is_missing() {
    let (one, two) = (quick(), quick());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("one.log");
    std::fs::write(&log, "start\nBLOCK_TABLES ready\npaged_attention on, block_tables too\n").unwrap();
    let (a, b) = (format!("one={}", url(&one)), format!("two={}", url(&two)));
    let (log, out) = (format!("one={}", log.display()), folder.path().join("out"));
    let out = out.to_str().unwrap();
    let arguments = ["convergence", "--target", &a, "--target", &b, "--log-file", &log, "--output-dir", out];
    sage(&[&arguments[..], &["--batch-size", "1", "--max-output-tokens", "4"]].concat()).unwrap();
    let summary = json_of(&folder, "out/validation_summary.json");
    golden::check("validation_summary.json", &summary);
    golden::check("log_probe.json", &json_of(&folder, "out/one_log_probe.json"));
    let (first, second) = (&summary["targets"][0], &summary["targets"][1]);
    let hits = ["shared_stream_markers", "paged_path_markers", "block_table_markers"]
        .map(|kind| first["log_probe"][kind]["hits"].as_u64());
    assert_eq!(hits, [Some(0), Some(2), Some(2)]);
    // A mock has no /info, so its models are kept; it has none of the markers in /metrics.
    assert_eq!(first["artifacts"]["models_json"], "one_models.json");
    assert_eq!(first["evidence_gaps"], serde_json::json!(["runtime_surface_marker_hits_zero"]));
    let missing = serde_json::json!(["missing_log_probe", "runtime_surface_marker_hits_zero"]);
    assert_eq!((&second["evidence_gaps"], &second["log_probe"]), (&missing, &Value::Null));
    for name in ["one_metrics.prom", "two_models.json", "comparison.json", "VALIDATION.md"] {
        assert!(folder.path().join("out").join(name).exists(), "{name}");
    }
    let mode = std::fs::metadata(folder.path().join("out/REPRODUCE.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}
