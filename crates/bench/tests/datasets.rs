//! Datasets: lengths are exact, files of other tools are read, and what is wrong in a file is said with its place.

use std::path::PathBuf;

use bench::clock::Nanos;
use bench::dataset::tokens::Tokens;
use bench::dataset::{Dataset, DatasetOptions, Prompt, TABLE, load};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }
}

fn options(name: &str, path: Option<PathBuf>, count: usize) -> DatasetOptions {
    DatasetOptions { name: name.into(), path, count, ..DatasetOptions::default() }
}

fn words(name: &str, path: PathBuf, count: usize) -> Dataset {
    load(&options(name, Some(path), count), &Tokens::Words).expect("a dataset")
}

fn refused(name: &str, path: PathBuf) -> String {
    load(&options(name, Some(path), 10), &Tokens::Words).expect_err("a refusal").to_string()
}

#[test]
fn a_sharegpt_file_that_ends_early_is_used_as_far_as_it_goes() {
    let folder = Folder::new();
    let turn = |from: &str| format!(r#"{{"from":"{from}","value":"one two three four five"}}"#);
    let whole = format!(r#"{{"id":"a","conversations":[{},{}]}}"#, turn("human"), turn("gpt"));
    let cut = folder.file("cut.json", &format!("[{whole},{whole},{}", &whole[..whole.len() / 2]));
    let dataset = words("sharegpt", cut, 2);
    assert_eq!(dataset.samples.len(), 2);
    assert_eq!((dataset.samples[0].prompt_tokens, dataset.samples[0].output_tokens), (5, 5));
    assert!(
        dataset.notes.iter().any(|note| note.contains("ends within a conversation")),
        "{:?}",
        dataset.notes
    );
    let short = folder.file("short.json", &format!("[{whole}]"));
    assert_eq!(words("sharegpt", short, 5).samples.len(), 5, "used again");
    assert!(refused("sharegpt", folder.file("no.json", "{}")).contains("expected a list"));
}

#[test]
fn traces_keep_their_moments_and_lengths() {
    let folder = Folder::new();
    let csv =
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,374,44\n2023-11-16 18:15:48.0,12,7\n";
    let dataset = words("azure", folder.file("a.csv", csv), 10);
    let sample = &dataset.samples[1];
    assert_eq!((sample.at, sample.prompt_tokens, sample.output_tokens), (Some(Nanos(1_500_000_000)), 12, 7));
    let burst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,x\n7,GPT-4,3,0,3,x\n9,GPT-4,3,2,5,x\n";
    let dataset = words("burstgpt", folder.file("b.csv", burst), 10);
    assert_eq!(
        dataset.samples.iter().map(|s| s.at.expect("a moment").0 / 1_000_000_000).collect::<Vec<_>>(),
        [0, 4]
    );
    let trace = "{\"timestamp\":0,\"input_length\":20,\"output_length\":3,\"hash_ids\":[1,2]}\n{\"timestamp\":500,\"input_length\":33,\"output_length\":4,\"hash_ids\":[1,3,4]}\n";
    let dataset = words("mooncake", folder.file("m.jsonl", trace), 10);
    let texts: Vec<String> = dataset.samples.iter().map(|s| s.prompt.text().expect("text")).collect();
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    let (a, b) = (words(&texts[0]), words(&texts[1]));
    assert_eq!((a.len(), b.len()), (20, 33));
    assert_eq!(a[..16], b[..16], "the block of the same name is the same text");
    assert_ne!(a[16..20], b[16..20]);
    assert_eq!(dataset.samples[1].at, Some(Nanos(500_000_000)));
}

#[test]
fn rows_are_read_by_the_names_of_their_columns() {
    let folder = Folder::new();
    let mut options =
        options("custom", Some(folder.file("c.csv", "q,n,s\nwhat is it,5,x\nand then,6,x\nwhy,7,y\n")), 10);
    options.columns.prompt = Some("q".into());
    options.columns.output_tokens = Some("n".into());
    options.columns.session = Some("s".into());
    let dataset = load(&options, &Tokens::Words).expect("a dataset");
    let found: Vec<_> =
        dataset.samples.iter().map(|s| (s.prompt_tokens, s.output_tokens, s.session, s.turn)).collect();
    assert_eq!(found, [(3, 5, Some(0), 0), (2, 6, Some(0), 1), (1, 7, Some(1), 0)]);
    let lines = "{\"prompt\":[1,2,3]}\n{\"messages\":[{\"role\":\"user\",\"content\":\"hi there\"}]}\n";
    let dataset = words("custom", folder.file("c.jsonl", lines), 2);
    assert_eq!(dataset.samples[0].prompt, Prompt::Tokens(vec![1, 2, 3]));
    assert_eq!(dataset.samples[1].prompt_tokens, 2);
    assert!(
        refused("custom", folder.file("x.jsonl", "{\"a\":1}\n"))
            .contains("line 1: found columns a, expected")
    );
    assert!(
        refused("azure", folder.file("y.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,1\n"))
            .contains("line 2")
    );
    assert!(
        refused("mooncake", folder.file("z.jsonl", "{\"timestamp\":0,\"input_length\":-4}\n")).contains("-4")
    );
}

/// A byte-level tokenizer in which each of 216 words is one token, with and without the space before it.
fn tokenizer() -> serde_json::Value {
    let letters = ["a", "b", "c", "d", "e", "f"];
    // The characters that stand for bytes: printable ones for themselves, others moved up.
    let is_plain = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let plain = (0..256u32)
        .filter(is_plain)
        .chain((0..256u32).filter(|byte| !is_plain(byte)).enumerate().map(|(n, _)| 256 + n as u32));
    let mut tokens: Vec<String> = plain.filter_map(char::from_u32).map(String::from).collect();
    let (mut pairs, mut words, mut spaced) = (Vec::new(), Vec::new(), Vec::new());
    for a in letters {
        for b in letters {
            pairs.push((a.to_string(), b.to_string()));
            for c in letters {
                words.push((format!("{a}{b}"), c.to_string()));
                spaced.push(("\u{120}".to_string(), format!("{a}{b}{c}")));
            }
        }
    }
    let merges: Vec<(String, String)> = pairs.into_iter().chain(words).chain(spaced).collect();
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
    })
}

#[test]
fn lengths_are_exact_by_the_models_own_tokenizer() {
    let folder = Folder::new();
    folder.file("tokenizer.json", &tokenizer().to_string());
    let tokens = Tokens::open(folder.0.path()).expect("a tokenizer");
    for name in ["random", "random-ids", "prefix_repetition", "multi_turn"] {
        let mut options = DatasetOptions { input_tokens: 100, range_ratio: 0.5, ..options(name, None, 20) };
        options.shared_prefix.prefix_tokens = 37;
        let dataset = load(&options, &tokens).expect("a dataset");
        let mut lengths = std::collections::BTreeSet::new();
        for sample in dataset.samples {
            lengths.insert(sample.prompt_tokens);
            let count = match &sample.prompt {
                Prompt::Tokens(ids) => ids.len() as u32,
                text => tokens.count(&text.text().expect("text")).expect("a count"),
            };
            assert_eq!(count, sample.prompt_tokens, "{name}");
        }
        assert!(name == "prefix_repetition" || lengths.len() > 5, "{name} has lengths {lengths:?}");
    }
    let error = Tokens::open(&folder.0.path().join("none")).err().expect("a refusal").to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn every_source_repeats_from_its_seed_or_names_what_it_lacks() {
    for spec in &TABLE {
        let options = DatasetOptions { count: 7, input_tokens: 11, ..options(spec.name, None, 7) };
        match load(&options, &Tokens::Words) {
            Ok(dataset) => {
                assert_eq!(dataset.samples.len(), 7, "{}", spec.name);
                assert_eq!(dataset.samples, load(&options, &Tokens::Words).expect("again").samples);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains("--dataset-path") || error.contains("--tokenizer"),
                    "{}: {error}",
                    spec.name
                );
            }
        }
    }
}
