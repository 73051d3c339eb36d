mod e2e;
mod golden;

use std::net::SocketAddr;

use clap::Parser;
use serde_json::{Map, Value, json};

use super::telemetry::{Page, seen};
use super::*;
use crate::mock::{Mock, Script};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: SageFlags,
}

fn sage(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let parsed = Program::try_parse_from(["sage"].iter().chain(arguments));
    run(parsed.unwrap_or_else(|error| panic!("{error}")).flags)
}

fn is_failure(code: ExitCode) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::FAILURE)
}

fn json_of(folder: &tempfile::TempDir, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.path().join(name)).unwrap()).unwrap()
}

fn quick() -> Mock {
    let script = Script {
        ttft: std::time::Duration::from_millis(10),
        gap: std::time::Duration::from_micros(100),
        ..Script::default()
    };
    Mock::start(script, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// Names of the figures that the document and the program of sageLLM have.
const NAMES: &str = "avg_ttft_ms p50_ttft_ms p95_ttft_ms p99_ttft_ms std_ttft_ms avg_tbt_ms avg_tpot_ms p50_tpot_ms \
p95_tpot_ms p99_tpot_ms std_tpot_ms avg_itl_ms p50_itl_ms p95_itl_ms p99_itl_ms std_itl_ms avg_e2el_ms p50_e2el_ms \
p95_e2el_ms p99_e2el_ms std_e2el_ms avg_throughput_tps total_throughput_tps request_throughput_rps \
input_throughput_tps output_throughput_tps total_input_tokens total_output_tokens total_requests successful_requests \
failed_requests error_rate peak_mem_mb avg_mem_mb total_kv_used_tokens total_kv_used_bytes avg_prefix_hit_rate \
total_evict_count total_evict_ms avg_spec_accept_rate kv_used_tokens kv_used_bytes prefix_hit_rate evict_count \
evict_ms spec_accept_rate total_time_s start_time end_time";

#[test]
fn the_three_workloads_are_sent_as_they_are_described_and_have_every_documented_figure() {
    let mock = quick();
    let folder = tempfile::tempdir().unwrap();
    let (url, out) = (format!("http://{}", mock.address()), folder.path().to_str().unwrap());
    let all = folder.path().join("all.json");
    sage(&[
        "run",
        "--backend",
        "http",
        "--base-url",
        &url,
        "-o",
        out,
        "--output-json",
        all.to_str().unwrap(),
    ])
    .unwrap();
    let served = mock.log().served();
    for (prompt, output, count) in [(128, 128, 5), (200, 200, 3), (256, 256, 10)] {
        let same = served.iter().filter(|request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            request.prompt_tokens == prompt && body["max_tokens"] == output && body["ignore_eos"] == true
        });
        assert_eq!(same.count(), count, "{prompt} and {output} tokens");
    }
    let summary = json_of(&folder, "benchmark_summary.json");
    golden::check("benchmark_summary.json", &summary);
    golden::check("config.json", &json_of(&folder, "config.json"));
    golden::check("metrics.json", &json_of(&folder, "short_input_metrics.json"));
    golden::check("leaderboard.json", &json_of(&folder, "short_input_leaderboard.json"));
    let expected =
        json!({"total_workloads": 3, "total_requests": 18, "successful_requests": 18, "failed_requests": 0});
    assert_eq!(summary["overall"], expected);
    let records = json_of(&folder, "all.json");
    for name in ["short_input", "long_input", "stress_test"] {
        let record = json_of(&folder, &format!("{name}_metrics.json"));
        assert_eq!(record, records[name]);
        for figure in NAMES.split_whitespace() {
            assert!(record.get(figure).is_some(), "{name} has no {figure}");
        }
        // The server waits 10 ms before the first token.
        assert!(record["avg_ttft_ms"].as_f64().unwrap() >= 10.0);
        // It has no process here and no prefix cache: what is not known is null.
        assert_eq!((&record["peak_mem_mb"], &record["prefix_hit_rate"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(records["stress_test"]["total_output_tokens"], 2560);
    // Requests of the stress test overlap: together they take less than one after the other.
    let stress = &records["stress_test"];
    let alone = stress["avg_e2el_ms"].as_f64().unwrap() * 10.0;
    assert!(stress["total_time_s"].as_f64().unwrap() * 1e3 < alone, "{stress}");
    assert!(std::fs::read_to_string(folder.path().join("REPORT.md")).unwrap().contains("| stress_test |"));
    for format in ["table", "json", "markdown"] {
        let input = folder.path().join("benchmark_summary.json");
        sage(&["report", "-i", input.to_str().unwrap(), "--format", format]).unwrap();
    }
}

#[test]
fn failures_are_counted_and_a_run_without_an_answer_fails() {
    let script = Script { faults: vec!["500".parse().unwrap()], ..Script::default() };
    let mock = Mock::start(script, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (url, out) = (format!("http://{}", mock.address()), folder.path().to_str().unwrap());
    assert!(is_failure(
        sage(&["run", "--workload", "short", "--backend", "http", "--base-url", &url, "-o", out]).unwrap()
    ));
    let record = json_of(&folder, "short_input_metrics.json");
    assert_eq!((&record["error_rate"], &record["failed_requests"]), (&json!(1.0), &json!(5)));
    assert_eq!(record["avg_ttft_ms"], Value::Null);
}

#[test]
fn a_file_of_workloads_is_run_and_a_wrong_one_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    for (file, more) in [("w.yaml", &[][..]), ("w.yml", &["--format", "yaml"]), ("w.json", &[])] {
        let path = folder.path().join(file);
        sage(&[&["workload-template", "--output", path.to_str().unwrap()], more].concat()).unwrap();
        assert_eq!(workloads::of_file(&path).unwrap(), workloads::named("mixed").unwrap(), "{file}");
    }
    let yaml = folder.path().join("hand.yaml");
    let text = "- name: \"a: b\"\n  prompt: |\n    two\n    lines\n- name: c  # and no more\n";
    std::fs::write(&yaml, text).unwrap();
    assert!(format!("{:#}", workloads::of_file(&yaml).unwrap_err()).contains("it becomes a file"));
    std::fs::write(&yaml, text.replace("\"a: b\"", "a")).unwrap();
    let read = workloads::of_file(&yaml).unwrap();
    assert_eq!((read[0].prompt.as_deref(), read[1].max_tokens), (Some("two\nlines\n"), 128));
    std::fs::write(&yaml, "- name: [").unwrap();
    assert!(format!("{:#}", workloads::of_file(&yaml).unwrap_err()).contains("is no YAML"));
    let path = folder.path().join("w.json");
    let name = path.to_str().unwrap();
    for (text, words) in [
        (r#"[{"name":"../x"}]"#, "it becomes a file"),
        (r#"[{"name":"a"},{"name":"a"}]"#, "2 workloads are named `a`"),
        (r#"[{"name":"a","num_requests":0}]"#, "of 1 to 1000000"),
        (r#"[{"name":"a","colour":1}]"#, "expected a list of workloads"),
        ("[]", "has no workload"),
        ("x", "is no JSON"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", workloads::named(name).unwrap_err());
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!(workloads::named("nothing").unwrap_err().to_string().contains("Q1 to Q8"));
    let error = format!("{:#}", sage(&["report", "-i", "/nowhere.json"]).unwrap_err());
    assert!(error.contains("run `pie-bench sage run` first"), "{error}");
}

#[test]
fn pages_of_both_servers_are_read() {
    let page = |text: &str| Page::new(text.to_string());
    let pie = |asked, found, used| {
        page(&format!(
            "pie_prefix_asked_tokens_total{{model=\"m\"}} {asked}\npie_prefix_found_tokens_total{{model=\"m\"}} {found}\npie_kv_pages{{model=\"m\",state=\"used\"}} {used}\npie_kv_pages{{model=\"m\",state=\"free\"}} 90\npie_suspensions_total{{model=\"m\"}} 2\n"
        ))
    };
    let found = seen(&[pie(100, 10, 3), pie(150, 20, 9), pie(200, 80, 4)], &[10.0, 20.0], Some(30.0));
    assert_eq!((found.kv_pages_used, found.prefix_hit_rate), (Some(9.0), Some(0.7)));
    assert_eq!((found.evictions, found.memory_mb), (Some(0.0), Some((30.0, 15.0))));
    assert_eq!(found.spec_accept_rate, None);
    let vllm = |hits, drafts, preempted| {
        page(&format!(
            "vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"100\"}} 1.0\nvllm:kv_cache_usage_perc{{engine=\"0\"}} 0.25\nvllm:prefix_cache_queries_total{{engine=\"0\"}} 100\nvllm:prefix_cache_hits_total{{engine=\"0\"}} {hits}\nvllm:num_preemptions_total{{engine=\"0\"}} {preempted}\nvllm:spec_decode_num_draft_tokens_total 10\nvllm:spec_decode_num_accepted_tokens_total {drafts}\n"
        ))
    };
    let found = seen(&[vllm(0, 0, 1), vllm(50, 5, 4)], &[], None);
    assert_eq!((found.kv_tokens_used, found.evictions), (Some(400.0), Some(3.0)));
    assert_eq!(seen(&[], &[], None), telemetry::Seen::default());
}

#[test]
fn a_contract_holds_only_by_what_was_measured() {
    let mut record: Map<String, Value> = Map::new();
    for (figure, value) in [
        ("avg_ttft_ms", 90.0),
        ("avg_tbt_ms", 20.0),
        ("avg_tpot_ms", 1.0),
        ("avg_throughput_tps", 50.0),
        ("error_rate", 0.0),
        ("peak_mem_mb", 1000.0),
    ] {
        record.insert(figure.into(), json!(value));
    }
    assert_eq!(contract::check("year1", &record).unwrap()["passed"], true);
    record.insert("avg_tbt_ms".into(), json!(20.1));
    assert_eq!(contract::check("year1", &record).unwrap()["checks"]["tbt"], false);
    record.insert("peak_mem_mb".into(), Value::Null);
    let checked = contract::check("year1", &record).unwrap();
    assert!(checked["details"]["peak_mem"].as_str().unwrap().contains("was not measured"));
    assert_eq!((&checked["passed"], &checked["summary"]), (&json!(false), &json!("4 of 6 checks hold")));
    assert!(contract::check("m1", &record).is_none());
}

#[test]
fn a_gate_fails_by_what_is_worse_and_not_by_what_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, ttft: f64| {
        let record = json!({"avg_ttft_ms": ttft, "avg_tbt_ms": 2.0, "output_throughput_tps": 3.0});
        let path = folder.path().join(name);
        std::fs::write(&path, json!({"workloads": {"w": record}}).to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (base, near, far) = (write("a", 100.0), write("b", 107.0), write("c", 120.0));
    let gate = |current: &str, more: &[&str]| {
        sage(&[&["gate", "--baseline", &base, "--current", current], more].concat()).unwrap()
    };
    assert!(!is_failure(gate(&base, &[])) && !is_failure(gate(&near, &[])));
    assert!(is_failure(gate(&far, &[])) && is_failure(gate(&near, &["--critical", "6"])));
    assert!(!is_failure(gate(&far, &["--expected-change", "w/avg_ttft_ms"])));
}

#[test]
fn entries_of_runs_are_merged_and_say_what_the_user_says() {
    let mock = quick();
    let folder = tempfile::tempdir().unwrap();
    let (url, path) = (format!("http://{}", mock.address()), folder.path().to_str().unwrap());
    let run = |out: &str, more: &[&str]| {
        let out = format!("{path}/runs/{out}");
        let all = ["run", "--workload", "short", "--backend", "vllm", "--base-url", &url, "-o", &out];
        sage(&[&all[..], more].concat())
    };
    run("a", &["--entry", "hardware.chip_model=H100", "model.precision=FP16"]).unwrap();
    let entry = json_of(&folder, "runs/a/short_input_leaderboard.json");
    assert_eq!(
        (&entry["hardware"]["chip_model"], &entry["model"]["precision"]),
        (&json!("H100"), &json!("FP16"))
    );
    assert_eq!((&entry["engine"], &entry["workload"]["input_length"]), (&json!("vllm"), &json!(128)));
    // What is not known is null.
    assert_eq!(
        (&entry["metrics"]["kv_used_bytes"], &entry["model"]["parameters"]),
        (&Value::Null, &Value::Null)
    );
    let error = run("b", &["--entry", "hardware.colour=red"]).unwrap_err().to_string();
    assert!(error.contains("expected a member of an entry"), "{error}");
    run("b", &["--entry", "hardware.chip_model=A100"]).unwrap();
    let (runs, out) = (format!("{path}/runs"), format!("{path}/data"));
    for _ in 0..2 {
        // The second time nothing is new.
        sage(&["aggregate", "--input", &runs, "--output-dir", &out]).unwrap();
        let single = json_of(&folder, "data/leaderboard_single.json");
        assert_eq!(single.as_array().unwrap().len(), 2);
        assert_eq!(json_of(&folder, "data/leaderboard_multi.json"), json!([]));
    }
    std::fs::write(folder.path().join("runs/x_leaderboard.json"), "{}").unwrap();
    let error = sage(&["aggregate", "--input", &runs, "--output-dir", &out]).unwrap_err().to_string();
    assert!(error.contains("has an entry that is none"), "{error}");
    let error = sage(&["aggregate", "--input", &out]).unwrap_err().to_string();
    assert!(error.contains("`pie-bench sage run` writes them"), "{error}");
}

#[test]
fn prompts_of_conversations_are_taken_in_turn() {
    let mock = quick();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let talk = |text: &str| json!({"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "one two three four"}]});
    let file = json!([talk("first of the prompts here"), talk("second of the prompts here")]);
    std::fs::write(path("talks.json"), file.to_string()).unwrap();
    let url = format!("http://{}", mock.address());
    let run = |more: &[&str]| {
        let all = ["run", "--workload", "short", "--backend", "http", "--base-url", &url, "-o", &path("out")];
        sage(&[&all[..], &["--dataset", "sharegpt"], more].concat())
    };
    run(&["--dataset-path", &path("talks.json")]).unwrap();
    let count = |word: &str| mock.log().served().iter().filter(|request| request.body.contains(word)).count();
    let counts = [count("first of"), count("second of")];
    assert_eq!(counts.iter().sum::<usize>(), 5);
    assert!(counts.contains(&3) && counts.contains(&2), "{counts:?}");
    assert!(run(&[]).unwrap_err().to_string().contains("name its file with --dataset-path"));
}
