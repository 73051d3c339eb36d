//! The stages against a mock server, with small files in the formats of the traces.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::mock::{Mock, Script};

/// Two lines of each of Azure's and Mooncake's formats, and a conversation of ShareGPT's.
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
    2023-11-16 18:17:03.9799600,40,4\n\
    2023-11-16 18:17:04.2,20,3\n\
    2023-11-16 18:17:06.1,10,2\n\
    2023-11-16 19:17:06.1,10,2\n";
const MOONCAKE: &str = r#"{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [7, 8]}
{"timestamp": 0, "input_length": 600, "output_length": 6, "hash_ids": [7, 9]}
{"timestamp": 1500, "input_length": 20, "output_length": 7, "hash_ids": [11]}
{"timestamp": 900000, "input_length": 20, "output_length": 7, "hash_ids": [12]}
"#;
const SHAREGPT: &str = r#"[{"id": "a_0", "conversations": [
    {"from": "human", "value": "one two"}, {"from": "gpt", "value": "three"},
    {"from": "human", "value": "four"}, {"from": "gpt", "value": "five six"}]},
  {"id": "b_0", "conversations": [{"from": "human", "value": "alone"}]}, {"id": "c_0", "conv"#;

struct Bench {
    folder: tempfile::TempDir,
    overrides: Vec<String>,
}

impl Bench {
    /// Small sizes, and every file in a folder of its own. Nothing listens at the endpoint.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let files = [("azure.csv", AZURE), ("mooncake.jsonl", MOONCAKE), ("sharegpt.json", SHAREGPT)];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let overrides = vec![
            format!("dataset_dir={}", at("dataset")),
            format!("workload_dir={}", at("workload")),
            format!("workload_file={}", at("workload/workload.jsonl")),
            format!("client_output={}", at("client")),
            format!("trace_output={}", at("analysis")),
            format!("dataset_configs.sharegpt.target_dataset={}", at("sharegpt.json")),
            format!("workload_configs.azure.trace_path={}", at("azure.csv")),
            format!("workload_configs.mooncake.trace_path={}", at("mooncake.jsonl")),
            format!("workload_configs.stat.traffic_file={}", at("traffic.csv")),
            format!("workload_configs.stat.prompt_len_file={}", at("prompts.csv")),
            format!("workload_configs.stat.completion_len_file={}", at("answers.csv")),
            "endpoint=http://127.0.0.1:1".into(),
            "dataset_configs.synthetic_multiturn={shared_prefix_length: 3, prompt_length: 20, prompt_std: 5, \
             num_turns: 2, num_turns_std: 0, num_sessions: 20, num_sessions_std: 0}"
                .into(),
            "dataset_configs.synthetic_shared={prompt_length: 40, prompt_std: 4, shared_prop: 0.5, \
             shared_prop_std: 0.01, num_samples: 6, num_prefix: 2, num_dataset_configs: 1}"
                .into(),
        ];
        Self { folder, overrides }
    }

    fn set(&mut self, text: impl Into<String>) -> &mut Self {
        self.overrides.push(text.into());
        self
    }

    fn run(&self, stage: Stage) -> anyhow::Result<ExitCode> {
        let overrides = self.overrides.clone();
        run(&AibrixFlags { stage: Some(stage), config: None, overrides, write_config: None, quiet: true })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn words(value: &Value) -> usize {
    value.as_str().unwrap().split_whitespace().count()
}

fn mock(script: Script) -> Mock {
    let script = Script { ttft: Duration::from_millis(5), gap: Duration::from_millis(1), ..script };
    Mock::start(script, ([127, 0, 0, 1], 0).into()).unwrap()
}

#[test]
fn every_kind_of_dataset_is_one_of_the_two_formats() {
    let mut bench = Bench::new();
    let kinds: Vec<&str> = dataset::TABLE.iter().map(|spec| spec.name).collect();
    assert_eq!(kinds, ["synthetic_multiturn", "synthetic_shared", "sharegpt", "client_trace"]);

    bench.set("prompt_type=synthetic_multiturn").run(Stage::Dataset).unwrap();
    let sessions = bench.lines("dataset/synthetic_multiturn.jsonl");
    assert_eq!(sessions.len(), 20);
    assert_eq!(keys(&sessions[0]), ["session_id", "prompts"]);
    let first_words = |session: &Value| -> Vec<String> {
        let prompt = session["prompts"][0].as_str().unwrap();
        prompt.split_whitespace().take(3).map(String::from).collect()
    };
    assert!(sessions.iter().all(|session| first_words(session) == first_words(&sessions[0])));
    assert!(sessions.iter().all(|session| session["prompts"].as_array().unwrap().len() == 2));

    bench.set("prompt_type=synthetic_shared").run(Stage::Dataset).unwrap();
    let rows = bench.lines("dataset/synthetic_shared.jsonl");
    assert_eq!(rows.len(), 12);
    assert_eq!(keys(&rows[0]), ["prompt", "token_count", "prefix_group", "config_id"]);
    let begin =
        |row: &Value| row["prompt"].as_str().unwrap().split(' ').take(10).collect::<Vec<_>>().join(" ");
    for row in &rows {
        assert_eq!(words(&row["prompt"]) as u64, row["token_count"].as_u64().unwrap());
        let alike = rows.iter().find(|other| other["prefix_group"] == row["prefix_group"]).unwrap();
        assert_eq!(begin(row), begin(alike));
    }
    assert_ne!(begin(&rows[0]), begin(&rows[11]));

    bench.set("prompt_type=sharegpt").run(Stage::Dataset).unwrap();
    let sessions = bench.lines("dataset/sharegpt.jsonl");
    assert_eq!(
        sessions,
        [
            json!({"session_id": "a_0", "prompts": ["one two", "four"], "completions": ["three", "five six"]}),
            json!({"session_id": "b_0", "prompts": ["alone"]}),
        ]
    );

    let error = bench.set("prompt_type=client_trace").run(Stage::Dataset).unwrap_err();
    assert!(format!("{error:#}").contains("--stage client makes this file"), "{error:#}");
    let error = bench.set("prompt_type=poems").run(Stage::Dataset).unwrap_err();
    assert!(error.to_string().contains("found `poems`, expected synthetic_multiturn"), "{error}");
}

/// Requests of a workload with their moments, which must not fall.
fn requests(bench: &Bench) -> Vec<(u64, Value)> {
    let lines = bench.lines("workload/workload.jsonl");
    let at = |line: &Value| line["timestamp"].as_u64().unwrap();
    assert!(lines.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])));
    assert!(std::fs::read(bench.path("workload/workload.pdf")).unwrap().starts_with(b"%PDF"));
    let of = |line: &Value| {
        assert_eq!(keys(line)[..2], ["timestamp", "requests"]);
        let requests = line["requests"].as_array().unwrap().clone();
        requests.into_iter().map(|request| (at(line), request)).collect::<Vec<_>>()
    };
    lines.iter().flat_map(of).collect()
}

#[test]
fn every_type_of_workload_is_written_in_one_format() {
    let mut bench = Bench::new();
    let types: Vec<&str> = workload::TABLE.iter().map(|spec| spec.name).collect();
    assert_eq!(types, ["constant", "synthetic", "stat", "azure", "mooncake", "agent"]);
    bench.run(Stage::Dataset).unwrap();

    bench.set("workload_configs.constant.target_qps=3").run(Stage::Workload).unwrap();
    let made = requests(&bench);
    assert!((10..=40).contains(&made.len()) && made.iter().all(|(at, _)| *at <= 10_000));
    assert_eq!(keys(&made[0].1), ["prompt", "prompt_length", "output_length", "session_id"]);
    assert_eq!(made[0].1["output_length"], Value::Null);
    assert_eq!(words(&made[0].1["prompt"]) as u64, made[0].1["prompt_length"].as_u64().unwrap());

    bench.set("prompt_type=synthetic_shared").run(Stage::Dataset).unwrap();
    bench.set("workload_type=synthetic").run(Stage::Workload).unwrap();
    let made = requests(&bench);
    assert!(made.len() > 30, "{}", made.len());
    assert_eq!(keys(&made[0].1), ["prompt", "prompt_length", "output_length"]);
    let output = |request: &Value| request["output_length"].as_u64().unwrap();
    assert!(made.iter().all(|(_, request)| (900..1150).contains(&output(request))));

    bench.set("workload_type=azure").run(Stage::Workload).unwrap();
    let made = requests(&bench);
    let found: Vec<(u64, u64)> = made.iter().map(|(at, request)| (*at, output(request))).collect();
    assert_eq!(found, [(0, 4), (0, 3), (2000, 2)]);
    assert!((36..=44).contains(&words(&made[0].1["prompt"])));

    bench.set("workload_type=mooncake").run(Stage::Workload).unwrap();
    let made = requests(&bench);
    let found: Vec<(u64, usize, u64)> =
        made.iter().map(|(at, request)| (*at, words(&request["prompt"]), output(request))).collect();
    assert_eq!(found, [(0, 700, 5), (0, 600, 6), (1500, 20, 7)]);
    let block = |index: usize| {
        let prompt = made[index].1["prompt"].as_str().unwrap();
        prompt.split(' ').take(512).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(block(0), block(1));

    let files = [
        (
            "traffic.csv",
            "\"Time\",\"Total\",\"Success\",\"4xx Error\"\n2024-01-01 00:00:00,9,5,0\n2024-01-01 00:01:00,9,5,0\n",
        ),
        (
            "prompts.csv",
            "\"Time\",\"P50\",\"P70\",\"P90\",\"P99\"\n2024-01-01 00:00:00,40,44,50,60\n2024-01-01 00:01:00,40,44,50,60\n",
        ),
        (
            "answers.csv",
            "\"Time\",\"P50\",\"P70\",\"P95\",\"P99\"\n2024-01-01 00:00:00,9,9,9,9\n2024-01-01 00:01:00,9,9,9,9\n",
        ),
    ];
    for (name, text) in files {
        std::fs::write(bench.path(name), text).unwrap();
    }
    bench
        .set("workload_type=stat")
        .set("workload_configs.stat.stat_trace_type=maas")
        .run(Stage::Workload)
        .unwrap();
    let made = requests(&bench);
    assert!((20..=100).contains(&made.len()), "{}", made.len());
    assert!(made.iter().all(|(_, request)| (7..=11).contains(&output(request))));

    std::fs::write(bench.path("traffic.csv"), "Time,ide\n1704067200000,2\n1704067260000,undefined\n")
        .unwrap();
    let bytes = "Time,recv_bytes.rate@a,recv_bytes.rate@b,sent_bytes.rate@a\n\
        1704067200000,60,20,10\n1704067260000,undefined,0,0\n";
    std::fs::write(bench.path("prompts.csv"), bytes).unwrap();
    std::fs::write(bench.path("answers.csv"), bytes).unwrap();
    bench.set("workload_configs.stat.stat_trace_type=cloudide").run(Stage::Workload).unwrap();
    // 10 / 2 tokens with a wave of a fifth.
    assert!(requests(&bench).iter().all(|(_, request)| (4..=6).contains(&output(request))));

    bench
        .set("workload_type=agent")
        .set("workload_configs.agent.num_sessions=3")
        .run(Stage::Workload)
        .unwrap();
    let made = requests(&bench);
    assert_eq!(made.len(), 3 * 3 * 2);
    assert_eq!(made[0].1["agent"]["phase"], "plan");
    let lines = bench.lines("workload/workload.jsonl");
    assert!(lines.iter().all(|line| line["schema_version"] == "aibrix.agent-session.v1"));
    let tools: usize = lines.iter().map(|line| line["events"].as_array().unwrap().len()).sum();
    assert_eq!(tools, 3 * 3 * 2);
}

/// What AIBrix writes of a request, in its order.
const OUTPUT_KEYS: [&str; 17] = [
    "request_id",
    "status",
    "input",
    "output",
    "prompt_tokens",
    "output_tokens",
    "total_tokens",
    "latency",
    "throughput",
    "start_time",
    "end_time",
    "ttft",
    "tpot",
    "target_pod",
    "target_request_id",
    "session_id",
    "intended_time",
];

#[test]
fn all_stages_run_and_sessions_go_on_with_the_answers() {
    let server = mock(Script::default());
    let mut bench = Bench::new();
    bench.set(format!("endpoint=http://{}/v1", server.address())).set("tokenizer=some/hub-name");
    bench
        .set("workload_configs.constant.target_qps=10")
        .set("workload_configs.constant.target_completion_len=200");
    bench
        .set("duration_ms=2000")
        .set("output_token_limit=6")
        .set("goodput_target=e2e:60")
        .set("time_scale=0.2");
    bench.run(Stage::All).unwrap();

    let rows = bench.lines("client/output.jsonl");
    assert!(rows.len() >= 8, "{}", rows.len());
    assert_eq!(keys(&rows[0]), OUTPUT_KEYS);
    for row in &rows {
        assert_eq!((row["status"].as_str(), row["output_tokens"].as_u64()), (Some("success"), Some(6)));
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("ttft") <= number("latency") && number("tpot") > 0.0);
        let tpot = (number("latency") - number("ttft")) / 6.0;
        assert!((number("tpot") - tpot).abs() < 1e-9, "tokens, and not gaps, divide");
        // A later turn has all messages before it, and begins when the answer before has ended.
        let turns = row["input"].as_array().unwrap();
        assert_eq!(turns.len() % 2, 1);
        if turns.len() > 1 {
            let same =
                |other: &&Value| other["session_id"] == row["session_id"] && other["input"][0] == turns[0];
            let before = rows.iter().find(same).unwrap();
            assert_eq!(turns[1]["content"], before["output"]);
            assert!(number("start_time") >= before["end_time"].as_f64().unwrap());
        }
    }
    assert!(rows.iter().any(|row| row["input"].as_array().unwrap().len() == 3));
    let served = server.log().served();
    let bodies: Vec<Value> = served.iter().map(|one| serde_json::from_str(&one.body).unwrap()).collect();
    for body in &bodies {
        // The limit is below what the workload wants.
        assert_eq!((body["max_tokens"].as_u64(), body["min_tokens"].as_u64()), (Some(6), Some(6)));
        assert_eq!(body["temperature"], 0.0);
        assert!(body.get("max_completion_tokens").is_none());
    }
    let text = std::fs::read_to_string(bench.path("analysis/analysis.json")).unwrap();
    let analysis: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(analysis["goodput_share"], 1.0);
    assert_eq!(analysis["total_requests"], rows.len());
    let plot = bench.path("analysis/performance_metrics_time_series.pdf");
    assert!(std::fs::read(plot).unwrap().starts_with(b"%PDF"));

    // What the client saw is a dataset again.
    bench.set("prompt_type=client_trace");
    bench.set(format!("client_trace_path={}", bench.path("client/output.jsonl").display()));
    bench.run(Stage::Dataset).unwrap();
    let prompts = bench.lines("dataset/client_trace.jsonl");
    assert_eq!(keys(&prompts[0]), ["prompt", "completion"]);
    assert_eq!((prompts.len(), &prompts[0]["completion"]), (rows.len(), &rows[0]["output"]));
}

/// Writes a workload of requests at these milliseconds.
fn write_workload(path: &Path, moments: &[u64]) {
    let line = |at: &u64| {
        let request = json!({"prompt": "a b", "prompt_length": 2, "output_length": null});
        json!({"timestamp": at, "requests": [request]}).to_string()
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, moments.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn answers_in_one_piece_have_no_ttft_and_failures_are_lines() {
    let script = Script { faults: vec!["503@3".parse().unwrap()], ..Script::default() };
    let server = mock(script);
    let mut bench = Bench::new();
    bench.set(format!("endpoint=http://{}", server.address()));
    bench.set("streaming_enabled=false").set("output_token_limit=4");
    write_workload(&bench.path("workload/workload.jsonl"), &[0, 1, 2, 3, 4, 5]);
    bench.run(Stage::Client).unwrap();
    let rows = bench.lines("client/output.jsonl");
    let (good, bad): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["status"] == "success");
    assert_eq!((good.len(), bad.len()), (4, 2));
    assert!(
        good.iter()
            .all(|row| row["ttft"].is_null() && row["tpot"].is_null() && row["latency"].as_f64() > Some(0.0))
    );
    assert_eq!(keys(bad[0])[17..], ["error_type", "error_message", "error_traceback"]);
    assert_eq!((bad[0]["error_type"].as_str(), bad[0]["latency"].as_f64()), (Some("status"), Some(0.0)));
    // There is no TPOT to keep, so nothing is good.
    bench.run(Stage::Analysis).unwrap();
    let analysis: Value =
        serde_json::from_str(&std::fs::read_to_string(bench.path("analysis/analysis.json")).unwrap())
            .unwrap();
    assert_eq!((&analysis["goodput_requests"], &analysis["errors"]), (&json!(0), &json!({"status": 2})));
}

#[test]
fn a_run_that_got_no_answer_fails_and_a_limit_cuts_off() {
    let mut bench = Bench::new();
    write_workload(&bench.path("workload/workload.jsonl"), &[0, 10]);
    let error = bench.run(Stage::Client).unwrap_err();
    assert!(error.to_string().contains("no request succeeded; the first failed with refused"), "{error}");
    assert!(bench.set("max_retries=2").run(Stage::Client).is_err());

    let server = mock(Script::default());
    let mut bench = Bench::new();
    bench.set(format!("endpoint=http://{}", server.address()));
    bench.set("client_duration_limit=2").set("output_token_limit=2");
    write_workload(&bench.path("workload/workload.jsonl"), &[0, 600_000]);
    bench.run(Stage::Client).unwrap();
    assert_eq!(bench.lines("client/output.jsonl").len(), 1);
}

#[test]
fn the_server_counts_tokens_where_there_is_no_tokenizer() {
    let server = mock(Script::default());
    let options = crate::client::ClientOptions::new(
        server.address().to_string().parse().unwrap(),
        crate::client::api::Api::CHAT,
    );
    let tokens = Tokens::Server(Box::new(ServerTokens::open(&options).unwrap()));
    let mut rng = fastrand::Rng::with_seed(1);
    let text = crate::dataset::text::make(&mut rng, &tokens, 37).unwrap();
    assert_eq!(tokens.count(&text).unwrap(), 37);
    let longer = crate::dataset::text::fit(&mut rng, &tokens, &text, 50).unwrap();
    assert!(longer.starts_with(&text) && tokens.count(&longer).unwrap() == 50);
    let shorter = crate::dataset::text::fit(&mut rng, &tokens, &text, 5).unwrap();
    assert!(text.starts_with(&shorter) && tokens.count(&shorter).unwrap() == 5);
    let nobody =
        crate::client::ClientOptions::new("127.0.0.1:1".parse().unwrap(), crate::client::api::Api::CHAT);
    assert!(ServerTokens::open(&nobody).is_err());
}
