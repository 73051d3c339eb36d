//! Token ids of many vocabularies against those that llama.cpp gives.
//!
//! llama.cpp's `models` folder has vocabularies without weights, `ggml-vocab-NAME.gguf`, each with texts
//! (`.inp`) and the ids of its own tokenizer for them (`.out`; control tokens are text, no BOS).
//! `PIE_TEST_VOCABULARIES` names a folder with them. `tests/data/vocabularies.json` has the same texts and ids
//! for four of them, with the few tokens that occur in these texts: all others can take no part.

#![expect(clippy::print_stdout, reason = "it says how many cases passed, and what was skipped")]

use std::path::{Path, PathBuf};

use model::chat::{ChatRequest, ChatTemplate, Message};
use model::gguf::writer::GgufWriter;
use model::gguf::{Array, Gguf, Value};
use model::{TokenKind, Tokenizer, TokenizerError};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// Texts with their ids, of the vocabulary in `path`.
fn cases(path: &Path) -> Option<Vec<(String, Vec<u32>)>> {
    let beside = |extension: &str| std::fs::read_to_string(format!("{}{extension}", path.display())).ok();
    let (texts, ids) = (beside(".inp")?, beside(".out")?);
    let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    Some(texts.split(SEPARATOR).map(str::to_owned).zip(ids).collect())
}

/// The vocabulary files, in order; none without the variable.
fn files() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("PIE_TEST_VOCABULARIES") else {
        println!("skipped: PIE_TEST_VOCABULARIES does not name a folder with llama.cpp's ggml-vocab-*.gguf");
        return Vec::new();
    };
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect();
    paths.sort();
    paths
}

#[test]
fn ids_equal_those_of_llama_cpp() {
    let mut wrong = Vec::new();
    for path in &files() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Some(cases) = cases(path) else {
            println!("{name}: no texts");
            continue;
        };
        let start = std::time::Instant::now();
        let tokenizer = match Tokenizer::from_gguf(&Gguf::open(path).unwrap()) {
            Ok(tokenizer) => tokenizer,
            Err(error @ (TokenizerError::Kind { .. } | TokenizerError::PreTokenizer { .. })) => {
                println!("{name}: not supported: {}", error.to_string().chars().take(90).collect::<String>());
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let loaded = start.elapsed();
        let mut passed = 0;
        for (text, expected) in &cases {
            let found = tokenizer.encode(text).unwrap();
            if found == *expected {
                passed += 1;
            } else {
                wrong.push(format!("{name}: {text:?} gave {found:?}, expected {expected:?}"));
            }
        }
        println!("{name}: {passed} of {} cases, loaded in {loaded:?}", cases.len());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A part of a vocabulary as a tokenizer, with its own ids: index into `tokens`, behind the bytes of
/// SentencePiece.
fn part(vocabulary: &serde_json::Value) -> (Tokenizer, Vec<u32>) {
    let strings = |key: &str| -> Vec<String> {
        vocabulary[key].as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned()).collect()
    };
    let mut tokens = strings("tokens");
    let mut ids: Vec<u32> =
        vocabulary["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let mut writer = GgufWriter::new();
    writer.metadata_str("tokenizer.ggml.model", vocabulary["model"].as_str().unwrap());
    let mut types = vec![1; tokens.len()];
    if let Some(scores) = vocabulary["scores"].as_array() {
        let first = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255).map(|byte: u8| format!("<0x{byte:02X}>"));
        tokens.splice(0..0, first.into_iter().chain(bytes));
        ids.splice(0..0, 0..259);
        types = [vec![2, 3, 3], vec![6; 256], types].concat();
        let scores = scores.iter().map(|score| score.as_f64().unwrap() as f32);
        let scores = std::iter::repeat_n(0.0, 259).chain(scores).collect();
        writer.metadata("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
        writer.metadata_u32("tokenizer.ggml.bos_token_id", 1);
    } else {
        if let Some(found) = vocabulary["types"].as_array() {
            types = found.iter().map(|kind| kind.as_i64().unwrap() as i32).collect();
            let unknown = tokens.iter().position(|token| token == "<unk>").unwrap();
            writer.metadata_u32("tokenizer.ggml.unknown_token_id", unknown as u32);
        }
        writer.metadata_str("tokenizer.ggml.pre", vocabulary["pre"].as_str().unwrap_or_default());
        writer.metadata("tokenizer.ggml.merges", Value::Array(Array::String(strings("merges"))));
    }
    writer.metadata("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    writer.metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    (Tokenizer::from_gguf(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap(), ids)
}

#[test]
fn ids_of_parts_of_vocabularies_equal_those_of_llama_cpp() {
    let all: serde_json::Value = serde_json::from_str(include_str!("data/vocabularies.json")).unwrap();
    for name in ["llama 2", "llama 3", "qwen 2", "gemma 4"] {
        let (tokenizer, ids) = part(&all[name]);
        let cases = all[name]["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 46);
        for case in cases {
            let (text, expected) = (case[0].as_str().unwrap(), &case[1]);
            let found: Vec<u32> =
                tokenizer.encode(text).unwrap().iter().map(|&id| ids[id as usize]).collect();
            assert_eq!(serde_json::json!(found), *expected, "{name}: {text:?}");
        }
    }
    // Llama 2 wants BOS, and its name in a text is text.
    let (tokenizer, _) = part(&all["llama 2"]);
    let prompt = |text| tokenizer.with_bos(tokenizer.encode(text).unwrap());
    assert_eq!(prompt("Hello")[0], 1);
    assert!(!prompt("</s>")[1..].iter().any(|&id| id < 3));
}

#[test]
fn no_control_token_of_a_real_vocabulary_comes_from_a_message() {
    let template = ChatTemplate::new(include_str!("data/llama3.1.jinja"), "", "").unwrap();
    let chatml = ChatTemplate::chatml("", "");
    for path in &files() {
        let Ok(tokenizer) = Tokenizer::from_gguf(&Gguf::open(path).unwrap()) else { continue };
        let is_control = |id: &u32| tokenizer.kind(*id) == Some(TokenKind::Control);
        let names: Vec<String> = (0..tokenizer.vocabulary_size() as u32)
            .filter(is_control)
            .map(|id| String::from_utf8(tokenizer.token_bytes(id).unwrap().to_vec()).unwrap())
            .collect();
        for template in [&template, &chatml] {
            let controls = |first: &str, second: &str| -> Vec<u32> {
                let messages = [("system", first), ("user", second), ("assistant", first), ("user", first)];
                let messages = messages.map(|(role, content)| Message::new(role, content)).to_vec();
                let request = ChatRequest { messages, ..ChatRequest::default() };
                template.encode(&request, &tokenizer).unwrap().into_iter().filter(is_control).collect()
            };
            let expected = controls("x", "x");
            for name in &names {
                let (start, end) = name.split_at(name.ceil_char_boundary(name.len() / 2));
                assert_eq!(controls(name, &format!("a{name}{name}")), expected, "{name}, {}", path.display());
                assert_eq!(
                    controls(&format!("a{start}"), &format!("{end}a")),
                    expected,
                    "{name}, {}",
                    path.display()
                );
            }
        }
        println!("{}: {} control tokens", path.display(), names.len());
    }
}
