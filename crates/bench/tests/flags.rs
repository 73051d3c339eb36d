//! The command line: the flags of `vllm bench serve` are taken as they are there.

use std::ffi::OsString;

use bench::commands::{Flags, with_dashes};
use clap::{CommandFactory, Parser};

/// Flags of `vllm bench serve` with a value of their kind.
const VLLM: [(&str, Option<&str>); 73] = [
    ("--backend", Some("openai-chat")),
    ("--base-url", Some("http://a:1")),
    ("--host", Some("::1")),
    ("--port", Some("1")),
    ("--endpoint", Some("/v1/completions")),
    ("--header", Some("a=b")),
    ("--max-concurrency", Some("4")),
    ("--model", Some("m")),
    ("--served-model-name", Some("m")),
    ("--input-len", Some("5")),
    ("--output-len", Some("5")),
    ("--tokenizer", Some("t")),
    ("--tokenizer-mode", Some("auto")),
    ("--use-beam-search", None),
    ("--logprobs", Some("1")),
    ("--request-rate", Some("inf")),
    ("--burstiness", Some("0.5")),
    ("--trust-remote-code", None),
    ("--disable-tqdm", None),
    ("--num-warmups", Some("1")),
    ("--save-result", None),
    ("--save-detailed", None),
    ("--append-result", None),
    ("--metadata", Some("a=b")),
    ("--result-dir", Some("d")),
    ("--result-filename", Some("f")),
    ("--ignore-eos", None),
    ("--percentile-metrics", Some("ttft,e2el")),
    ("--metric-percentiles", Some("50,99.9")),
    ("--goodput", Some("ttft:1")),
    ("--request-id-prefix", Some("p")),
    ("--top-p", Some("0.5")),
    ("--top-k", Some("5")),
    ("--min-p", Some("0.5")),
    ("--temperature", Some("0")),
    ("--frequency-penalty", Some("1")),
    ("--presence-penalty", Some("1")),
    ("--repetition-penalty", Some("1")),
    ("--ramp-up-strategy", Some("linear")),
    ("--ramp-up-start-rps", Some("1")),
    ("--ramp-up-end-rps", Some("2")),
    ("--ready-check-timeout-sec", Some("1")),
    ("--extra-body", Some("{}")),
    ("--skip-tokenizer-init", None),
    ("--insecure", None),
    ("--label", Some("l")),
    ("--seed", Some("1")),
    ("--num-prompts", Some("1")),
    ("--dataset-name", Some("random")),
    ("--dataset-path", Some("f")),
    ("--no-oversample", None),
    ("--disable-shuffle", None),
    ("--sharegpt-output-len", Some("1")),
    ("--random-input-len", Some("1")),
    ("--random-output-len", Some("1")),
    ("--random-range-ratio", Some("0.1")),
    ("--random-prefix-len", Some("1")),
    ("--prefix-repetition-num-prefixes", Some("1")),
    ("--prefix-repetition-prefix-len", Some("1")),
    ("--prefix-repetition-suffix-len", Some("1")),
    ("--prefix-repetition-output-len", Some("1")),
    ("--custom-output-len", Some("-1")),
    ("--spec-bench-output-len", Some("1")),
    ("--spec-bench-category", Some("math")),
    ("--skip-chat-template", None),
    ("--profile", None),
    ("--lora-modules", Some("a")),
    ("--lora-assignment", Some("round-robin")),
    ("--chat-template-kwargs", Some("{}")),
    ("--self-timed", None),
    ("--plot-timeline", None),
    ("--timeline-itl-thresholds", Some("25,50")),
    ("--plot-dataset-stats", None),
];

/// Flags that have no meaning here, with a word of the reason.
const REFUSED: [(&str, &str); 12] = [
    ("--hf-subset", "--dataset-name custom"),
    ("--hf-split", "--dataset-name custom"),
    ("--hf-name", "--dataset-name custom"),
    ("--hf-output-len", "--dataset-name custom"),
    ("--enable-multimodal-chat", "requests are of text"),
    ("--random-mm-bucket-config", "requests are of text"),
    ("--asr-max-audio-len-sec", "requests are of text"),
    ("--random-batch-size", "embeddings and reranking"),
    ("--no-reranker", "embeddings and reranking"),
    ("--blazedit-min-distance", "JSON lines"),
    ("--speed-bench-category", "JSON lines"),
    ("--probe-request-rate", "start another"),
];

#[test]
fn flags_without_a_meaning_are_refused_with_their_reason() {
    for (name, words) in REFUSED {
        for arguments in [vec!["pie-bench", "serve", name], vec!["pie-bench", "serve", name, "1"]] {
            let arguments = arguments.into_iter().map(OsString::from);
            let error = Flags::try_parse_from(with_dashes(arguments)).expect_err(name).to_string();
            assert!(error.contains(&format!("{name} is not taken")) && error.contains(words), "{error}");
        }
    }
}

#[test]
fn flags_of_vllm_are_taken_with_dashes_and_with_underscores() {
    for (name, value) in VLLM {
        for name in [name.to_string(), format!("--{}", name[2..].replace('-', "_"))] {
            let arguments =
                ["pie-bench", "serve", name.as_str()].into_iter().chain(value).map(OsString::from);
            let parsed = Flags::try_parse_from(with_dashes(arguments));
            assert!(
                parsed.is_ok(),
                "{name}: {}",
                parsed.err().map(|error| error.to_string()).unwrap_or_default()
            );
        }
    }
}

#[test]
fn values_keep_their_underscores() {
    let arguments = ["pie-bench", "serve", "--result_dir=a_b", "--label", "c_d"].map(OsString::from);
    let dashed = with_dashes(arguments.into_iter());
    assert_eq!(dashed[2..], ["--result-dir=a_b", "--label", "c_d"].map(OsString::from));
}

#[test]
fn every_flag_of_every_command_says_what_it_is() {
    Flags::command().debug_assert();
    for command in Flags::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
    }
}

#[test]
fn wrong_values_are_refused_before_anything_is_sent() {
    for arguments in [
        vec!["serve", "--request-rate", "-1"],
        vec!["serve", "--goodput", "speed:5"],
        vec!["serve", "--timeline-itl-thresholds", "50,25"],
        vec!["serve", "--custom-output-len", "-2"],
        vec!["sage", "perf", "--batch-size", "0"],
        vec!["serve", "--arrival", "poisson:none"],
        vec!["mock", "--fault", "loud@2"],
        vec!["gate", "one.json"],
    ] {
        let all = ["pie-bench"].into_iter().chain(arguments.iter().copied());
        assert!(Flags::try_parse_from(all).is_err(), "{arguments:?}");
    }
}

#[test]
fn what_a_program_cannot_be_given_is_refused_with_it() {
    let parsed = |rest: &str| Flags::try_parse_from(format!("pie-bench serve {rest}").split(' '));
    assert!(parsed("--program p --program-argument=--prompt --program-argument {prompt} --model m").is_ok());
    for (flag, value) in [
        ("--backend", "openai-chat"),
        ("--temperature", "0"),
        ("--extra-body", "{}"),
        ("--header", "a=b"),
        ("--body-template", "x"),
        ("--ca-cert", "f"),
        ("--session-header", "s"),
    ] {
        let error =
            parsed(&format!("--program p {flag} {value}")).map(drop).expect_err("a conflict").to_string();
        assert!(error.contains(flag) && error.contains("--program"), "{error}");
    }
    assert!(parsed("--program-argument x").is_err(), "of no program");
}
