//! Token ids against a recorded reference, and the way back.
//!
//! The files in `tests/data` hold texts with the ids that llama.cpp's tokenizer gives (control tokens parsed,
//! no BOS), and greedy continuations. They need the real models, whose folder `PIE_TEST_MODELS` names.

#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::PathBuf;

use model::gguf::writer::GgufWriter;
use model::gguf::{Array, Gguf, Value};
use model::{TokenKind, Tokenizer, TokenizerError, test_model};

/// The reference `name`, with the tokenizer of its model; `None` when the model is not there.
fn reference(name: &str) -> Option<(serde_json::Value, Tokenizer)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let Some(folder) = std::env::var_os("PIE_TEST_MODELS") else {
        println!("skipped: PIE_TEST_MODELS does not name a folder with {}", reference["model"]);
        return None;
    };
    let path = PathBuf::from(folder).join(reference["model"].as_str().unwrap());
    if !path.exists() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    let gguf = Gguf::open(&path).unwrap();
    Some((reference, Tokenizer::from_gguf(&gguf).unwrap()))
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn check_reference(name: &str) {
    let Some((reference, tokenizer)) = reference(name) else { return };
    for (key, text) in reference["texts"].as_object().unwrap() {
        let (text, expected) = (text["text"].as_str().unwrap(), ids(&text["ids"]));
        assert_eq!(tokenizer.encode_with_control(text).unwrap(), expected, "{name} {key}");
        assert_eq!(String::from_utf8_lossy(&tokenizer.decode_with_control(&expected)), text, "{name} {key}");
        let plain = tokenizer.encode(text).unwrap();
        assert!(plain.iter().all(|&id| tokenizer.kind(id) == Some(TokenKind::Text)), "{name} {key}");
        assert_eq!(tokenizer.decode(&plain), text.as_bytes(), "{name} {key}");
    }
    for greedy in reference["greedy"].as_array().unwrap() {
        let prompt = greedy["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode_with_control(prompt).unwrap(), ids(&greedy["prompt_ids"]));
        let is_text = |id: &u32| tokenizer.kind(*id) == Some(TokenKind::Text);
        let pieces = ids(&greedy["ids"]).into_iter().filter(is_text);
        let streamed: Vec<u8> =
            pieces.flat_map(|id| tokenizer.token_bytes(id).unwrap_or_default().to_vec()).collect();
        assert_eq!(streamed, tokenizer.decode(&ids(&greedy["ids"])), "{prompt}");
    }
}

#[test]
fn smollm2_ids_equal_the_reference() {
    check_reference("smollm2-135m.json");
}

#[test]
fn qwen2_ids_equal_the_reference() {
    check_reference("qwen2.5-coder-0.5b.json");
}

fn tiny() -> Tokenizer {
    let mut writer = GgufWriter::new();
    test_model::put_tokenizer(&mut writer);
    Tokenizer::from_gguf(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap()
}

#[test]
fn merges_apply_in_order() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("hello the thing").unwrap();
    let pieces: Vec<_> = ids
        .iter()
        .map(|&id| String::from_utf8(tokenizer.token_bytes(id).unwrap().to_vec()).unwrap())
        .collect();
    assert_eq!(pieces, ["hello", " the", " t", "h", "ing"]);
}

#[test]
fn plain_text_cannot_name_a_control_token() {
    let tokenizer = tiny();
    let text = "a<|im_end|>\n<|im_start|>system";
    let end = tokenizer.control("<|im_end|>").unwrap();
    assert!(tokenizer.encode_with_control(text).unwrap().contains(&end));
    let plain = tokenizer.encode(text).unwrap();
    assert!(plain.iter().all(|&id| tokenizer.kind(id) == Some(TokenKind::Text)), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain), text.as_bytes());
    assert_eq!(tokenizer.decode(&[end]), b"");
    assert_eq!(tokenizer.decode_with_control(&[end]), b"<|im_end|>");
}

#[test]
fn stop_tokens_are_found_by_id_and_by_name() {
    let tokenizer = tiny();
    let stop = ["<|im_end|>", "<|endoftext|>"].map(|name| tokenizer.control(name).unwrap());
    assert_eq!(tokenizer.special().stop, stop);
    assert_eq!(tokenizer.special().eos, Some(stop[0]));
}

#[test]
fn every_text_comes_back() {
    let tokenizer = tiny();
    for text in ["", " ", "  a  ", "漢字 😀 é\u{301}", "\r\n\t\0", "[PAD280]", "<|im_end", "<|endoftext|>"]
    {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()), text.as_bytes(), "{text:?}");
        let with_control = tokenizer.encode_with_control(text).unwrap();
        assert_eq!(tokenizer.decode_with_control(&with_control), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn ids_outside_of_the_vocabulary_are_nothing() {
    let tokenizer = tiny();
    let beyond = tokenizer.vocabulary_size() as u32;
    assert_eq!(tokenizer.token_bytes(beyond), None);
    assert_eq!(tokenizer.kind(u32::MAX), None);
    assert_eq!(tokenizer.decode(&[beyond, u32::MAX]), b"");
}

/// A SentencePiece vocabulary: scores are better the longer the token.
fn sentence_piece(add_space_prefix: bool) -> Tokenizer {
    let mut tokens: Vec<(String, f32, i32)> =
        vec![("<unk>".into(), 0.0, 2), ("<s>".into(), 0.0, 3), ("</s>".into(), 0.0, 3)];
    tokens.extend((0..=255).map(|byte: u8| (format!("<0x{byte:02X}>"), 0.0, 6)));
    for (token, score) in [
        ("▁", -20.0),
        ("h", -21.0),
        ("e", -22.0),
        ("l", -23.0),
        ("o", -24.0),
        ("he", -2.0),
        ("ll", -3.0),
        ("hell", -4.0),
        ("▁hello", -1.0),
        ("hello", -5.0),
        ("▁he", -6.0),
        ("lo", -1.5),
    ] {
        tokens.push((token.into(), score, 1));
    }
    let mut writer = GgufWriter::new();
    writer.metadata_str("tokenizer.ggml.model", "llama");
    let strings = tokens.iter().map(|token| token.0.clone()).collect();
    writer.metadata("tokenizer.ggml.tokens", Value::Array(Array::String(strings)));
    let scores = tokens.iter().map(|token| token.1).collect();
    writer.metadata("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    let types = tokens.iter().map(|token| token.2).collect();
    writer.metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    writer.metadata_u32("tokenizer.ggml.bos_token_id", 1);
    writer.metadata_u32("tokenizer.ggml.eos_token_id", 2);
    writer.metadata("tokenizer.ggml.add_space_prefix", Value::Bool(add_space_prefix));
    Tokenizer::from_gguf(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap()
}

fn names(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap()).into_owned()).collect()
}

#[test]
fn sentence_piece_joins_by_score() {
    let tokenizer = sentence_piece(true);
    // `lo` has a better score than `he` and `ll`, and takes the `l` that `hello` would need.
    assert_eq!(names(&tokenizer, &tokenizer.encode("hello").unwrap()), [" he", "l", "lo"]);
    let tokenizer = sentence_piece(false);
    assert_eq!(names(&tokenizer, &tokenizer.encode("hello").unwrap()), ["he", "l", "lo"]);
    assert_eq!(names(&tokenizer, &tokenizer.encode("hell").unwrap()), ["hell"]);
}

#[test]
fn sentence_piece_falls_back_to_bytes() {
    let tokenizer = sentence_piece(true);
    for text in ["hello é😀", "", " he", "  ", "\n", "<0x0A>"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.contains(&0), "{text:?} gave the unknown token: {ids:?}");
        assert_eq!(tokenizer.decode(&ids), text.as_bytes(), "{text:?}");
    }
}

#[test]
fn sentence_piece_control_tokens_are_parsed_and_bos_is_added_once() {
    let tokenizer = sentence_piece(true);
    let ids = tokenizer.encode_with_control("<s>he</s>").unwrap();
    assert_eq!(names(&tokenizer, &ids), ["<s>", " he", "</s>"]);
    assert_eq!(tokenizer.with_bos(ids.clone()), ids);
    assert_eq!(tokenizer.with_bos(vec![5]), [1, 5]);
    assert!(!tokenizer.encode("<s>he</s>").unwrap().iter().any(|&id| id == 1 || id == 2));
}

#[test]
fn damaged_vocabularies_are_refused() {
    let check = |change: &dyn Fn(&mut GgufWriter), expected: &str| {
        let mut writer = GgufWriter::new();
        change(&mut writer);
        let gguf = Gguf::parse(writer.to_bytes()).unwrap();
        let error = Tokenizer::from_gguf(&gguf).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let strings =
        |strings: &[&str]| Value::Array(Array::String(strings.iter().map(|s| (*s).to_owned()).collect()));
    check(&|_| {}, "tokenizer.ggml.model");
    check(
        &|writer| {
            writer.metadata_str("tokenizer.ggml.model", "t5");
            writer.metadata("tokenizer.ggml.tokens", strings(&["a"]));
        },
        "supported are gpt2",
    );
    check(
        &|writer| {
            writer.metadata_str("tokenizer.ggml.model", "gpt2");
            writer.metadata_str("tokenizer.ggml.pre", "martian");
            writer.metadata("tokenizer.ggml.tokens", strings(&["a"]));
        },
        "known are default, gpt-2",
    );
    check(
        &|writer| {
            writer.metadata_str("tokenizer.ggml.model", "gpt2");
            writer.metadata("tokenizer.ggml.tokens", strings(&["a", "b"]));
            writer.metadata("tokenizer.ggml.merges", strings(&["a b"]));
        },
        "merge 0",
    );
    check(
        &|writer| {
            writer.metadata_str("tokenizer.ggml.model", "gpt2");
            writer.metadata("tokenizer.ggml.tokens", strings(&["a"]));
            writer.metadata("tokenizer.ggml.merges", strings(&[]));
            writer.metadata_u32("tokenizer.ggml.eos_token_id", 9);
        },
        "expected an id below 1",
    );
    let none = Gguf::parse(GgufWriter::new().to_bytes()).unwrap();
    assert!(matches!(Tokenizer::from_gguf(&none), Err(TokenizerError::Missing { .. })));
}
