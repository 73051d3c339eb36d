//! Every key of the configuration, with its default. The file, the overrides, `--override help` and `--write-config`
//! come from this table.

/// A key.
pub struct Key {
    /// Its name, with dots between levels.
    pub name: &'static str,
    /// Its default, in YAML.
    pub default: &'static str,
    /// What it is.
    pub about: &'static str,
}

const fn key(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, default, about }
}

/// Every key.
pub const KEYS: [Key; 80] = [
    key(
        "tokenizer",
        "deepseek-ai/deepseek-llm-7b-chat",
        "folder with a tokenizer.json, that file or a .gguf; for another name the endpoint's /tokenize counts",
    ),
    key("seed", "0", "where random numbers start"),
    key("dataset_dir", "./output/dataset", "folder of datasets"),
    key("prompt_type", "synthetic_multiturn", "dataset to make"),
    key(
        "dataset_configs.synthetic_multiturn.shared_prefix_length",
        "0",
        "tokens that all sessions begin with",
    ),
    key("dataset_configs.synthetic_multiturn.prompt_length", "80", "mean tokens of a prompt"),
    key("dataset_configs.synthetic_multiturn.prompt_std", "472", "their standard deviation"),
    key("dataset_configs.synthetic_multiturn.num_turns", "3.55", "mean prompts of a session"),
    key("dataset_configs.synthetic_multiturn.num_turns_std", "2.89", "their standard deviation"),
    key("dataset_configs.synthetic_multiturn.num_sessions", "1000", "mean number of sessions"),
    key("dataset_configs.synthetic_multiturn.num_sessions_std", "1", "its standard deviation"),
    key(
        "dataset_configs.synthetic_shared.prompt_length",
        "\"3997,5868,2617\"",
        "mean tokens of a prompt, for each config",
    ),
    key("dataset_configs.synthetic_shared.prompt_std", "\"17,28,1338\"", "their standard deviation"),
    key(
        "dataset_configs.synthetic_shared.shared_prop",
        "\"0.95,0.97,0.03\"",
        "mean share that is shared, 0 to 1",
    ),
    key(
        "dataset_configs.synthetic_shared.shared_prop_std",
        "\"0.00001,0.00001,0.00001\"",
        "its standard deviation",
    ),
    key("dataset_configs.synthetic_shared.num_samples", "\"12,8,79\"", "prompts of each prefix"),
    key("dataset_configs.synthetic_shared.num_prefix", "\"1,1,1\"", "prefixes"),
    key("dataset_configs.synthetic_shared.num_dataset_configs", "3", "how many configs the lists above have"),
    key(
        "dataset_configs.sharegpt.target_dataset",
        "/tmp/ShareGPT_V3_unfiltered_cleaned_split.json",
        "a ShareGPT file",
    ),
    key("dataset_configs.client_trace.trace", "${client_trace_path}", "an output.jsonl of the client"),
    key("dataset_file", "${dataset_dir}/${prompt_type}.jsonl", "the dataset"),
    key("workload_type", "constant", "workload to make"),
    key("interval_ms", "1000", "length of an interval of a workload"),
    key("duration_ms", "10000", "length of a workload"),
    key("workload_dir", "./output/workload/${workload_type}", "folder of the workload's plot"),
    key("workload_configs.synthetic.use_preset_pattern", "true", "preset_patterns in place of pattern_files"),
    key(
        "workload_configs.synthetic.preset_patterns.traffic_pattern",
        "slow_rising",
        "pattern of requests a second",
    ),
    key(
        "workload_configs.synthetic.preset_patterns.prompt_len_pattern",
        "severe_fluctuation",
        "pattern of prompts' tokens",
    ),
    key(
        "workload_configs.synthetic.preset_patterns.completion_len_pattern",
        "slight_fluctuation",
        "pattern of answers' tokens",
    ),
    key("workload_configs.synthetic.pattern_files.traffic_file", "traffic-HighSlow", PATTERN_FILE),
    key("workload_configs.synthetic.pattern_files.prompt_len_file", "prompt-len-HighSlow", PATTERN_FILE),
    key(
        "workload_configs.synthetic.pattern_files.completion_len_file",
        "completion-len-HighSlow",
        PATTERN_FILE,
    ),
    key("workload_configs.synthetic.max_concurrent_sessions", "2", SESSIONS),
    key("workload_configs.constant.target_qps", "1", "requests a second"),
    key(
        "workload_configs.constant.target_prompt_len",
        "null",
        "tokens of prompts; null takes them as they come",
    ),
    key(
        "workload_configs.constant.target_completion_len",
        "null",
        "tokens of answers; null leaves them to the limit",
    ),
    key("workload_configs.constant.max_concurrent_sessions", "2", SESSIONS),
    key("workload_configs.stat.traffic_file", "traffic.csv", "requests a second by time"),
    key("workload_configs.stat.prompt_len_file", "prompt_len.csv", "tokens of prompts by time"),
    key("workload_configs.stat.completion_len_file", "completion_len.csv", "tokens of answers by time"),
    key("workload_configs.stat.stat_trace_type", "cloudide", "columns of the files: maas or cloudide"),
    key("workload_configs.stat.qps_scale", "1.0", "divides requests a second"),
    key("workload_configs.stat.output_scale", "1.0", "divides tokens of answers"),
    key("workload_configs.stat.input_scale", "1.0", "divides tokens of prompts"),
    key("workload_configs.stat.max_concurrent_sessions", "1", SESSIONS),
    key("workload_configs.azure.trace_path", "/tmp/AzureLLMInferenceTrace_conv.csv", "a trace of Azure"),
    key("workload_configs.azure.trace_type", "conv", "conv or code; both have the same columns"),
    key("workload_configs.mooncake.trace_path", "/tmp/Mooncake_trace.jsonl", "a trace of Mooncake"),
    key(
        "workload_configs.mooncake.trace_type",
        "conversation",
        "conversation, synthetic or toolagent; all have the same columns",
    ),
    key("workload_configs.agent.num_sessions", "10", "sessions"),
    key("workload_configs.agent.session_arrival_rate_rps", "1.0", "sessions a second, as a Poisson process"),
    key("workload_configs.agent.turns_per_session", "3", "turns of a session"),
    key("workload_configs.agent.parallel_tools", "2", "calls of tools at once in a turn"),
    key("workload_configs.agent.tool_latency_ms", "[100, 500]", "least and most of a tool"),
    key(
        "workload_configs.agent.model_latency_ms",
        "[50, 150]",
        "least and most that a call of the model is taken for",
    ),
    key("workload_configs.agent.think_time_ms", "[0, 1000]", "least and most between turns"),
    key(
        "workload_configs.agent.retry_probability",
        "0",
        "share of calls of tools that are tried again, 0 to 1",
    ),
    key("workload_configs.agent.max_tool_retries", "1", "most tries again of one call"),
    key("workload_configs.agent.initial_prompt_tokens", "256", "tokens of the first prompt"),
    key("workload_configs.agent.context_growth_tokens", "128", "tokens that later turns add"),
    key("workload_configs.agent.tool_result_tokens", "64", "tokens of a tool's result"),
    key("workload_configs.agent.output_tokens", "64", "tokens of an answer"),
    key("workload_configs.agent.seed", "0", "where random numbers of agents start"),
    key("workload_file", "./output/workload/${workload_type}/workload.jsonl", "the workload"),
    key("client_output", "./output/client_output", "folder of the client's output.jsonl"),
    key("endpoint", "http://localhost:8888", "the server; /v1 is added"),
    key("api_key", "${API_KEY}", "its key"),
    key("target_model", "llama-3-8b-instruct", "model to name"),
    key("time_scale", "1.0", "factor of the workload's moments: 0.1 is ten times as fast"),
    key("routing_strategy", "random", "header routing-strategy; null sends none"),
    key("streaming_enabled", "true", "whether answers are streamed; without, there is no TTFT and no TPOT"),
    key("output_token_limit", "128", "most tokens of an answer; null for those of the workload"),
    key("timeout_second", "60.0", "most seconds of a request"),
    key("max_retries", "0", "must be 0: a measured request is sent once, and its failure counted"),
    key("client_duration_limit", "null", "seconds after which what is not finished is cancelled"),
    key("client_max_concurrent_sessions", "null", "most sessions under way"),
    key("client_session_key_header", "false", "whether x-aibrix-session-key names a request's session"),
    key("trace_output", "./output/trace_analysis", "folder of the analysis"),
    key(
        "goodput_target",
        "\"tpot:0.5\"",
        "e2e, ttft or tpot, and seconds; several with commas must all be kept",
    ),
    key(
        "client_trace_path",
        "${client_output}/output.jsonl",
        "what dataset_configs.client_trace.trace names",
    ),
];

const PATTERN_FILE: &str = "JSON with fluctuate, mean, noise, period_len_ms, only_rise; or traffic-, prompt-len-, completion-len- with HighFast, HighSlow, LowFast or LowSlow";
const SESSIONS: &str = "sessions from which the next prompt is drawn";
