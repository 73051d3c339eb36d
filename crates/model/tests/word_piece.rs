//! WordPiece, from a GGUF file and from a tokenizer.json of the same vocabulary, and against recorded ids of a real one.
//!
//! `testdata/reference/all-minilm-l6-v2.json` has texts with the ids that BERT's tokenizer gives that transformers has in
//! Python, which is an implementation of its own. It needs the real model, in the folder that `PIE_TEST_MODELS` names;
//! `record_embeddings.py` there makes its files.

#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

use model::gguf::writer::GgufWriter;
use model::gguf::{Array, Gguf, Value};
use model::{TokenKind, Tokenizer};
use serde_json::json;

/// Tokens with a role, then words under the names of a tokenizer.json.
const ROLES: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WORDS: [&str; 21] = [
    "hello", "world", "##s", "un", "##aff", "##able", "cafe", "!", ",", "[", "]", "cls", "##p", "中", "文",
    "ss", "i", "##i", "a", "##a", "😀",
];

fn gguf(words: &[&str]) -> Tokenizer {
    let word = |word: &&str| match word.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None => format!("▁{word}"),
    };
    let tokens = ROLES.iter().map(|role| (*role).to_owned()).chain(words.iter().map(word)).collect();
    let types = ROLES.iter().map(|_| 3).chain(words.iter().map(|_| 1)).collect();
    let mut writer = GgufWriter::new();
    writer.metadata_str("tokenizer.ggml.model", "bert");
    writer.metadata("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    writer.metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    writer.metadata_u32("tokenizer.ggml.unknown_token_id", 1);
    writer.metadata_u32("tokenizer.ggml.cls_token_id", 2);
    writer.metadata_u32("tokenizer.ggml.seperator_token_id", 3);
    Tokenizer::from_gguf(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap()
}

fn folder(words: &[&str], lower_case: bool) -> Tokenizer {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        ROLES.iter().chain(words).enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let added = |(id, role): (usize, &&str)| {
        json!({"id": id, "content": role, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let special = |id: u32, name: &str| json!({"id": name, "ids": [id], "tokens": [name]});
    let token = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let sequence = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": ROLES.iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": lower_case},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [token("[CLS]"), sequence("A"), token("[SEP]")],
            "pair": [token("[CLS]"), sequence("A"), token("[SEP]"), sequence("B"), token("[SEP]")],
            "special_tokens": {"[CLS]": special(2, "[CLS]"), "[SEP]": special(3, "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary}
    });
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: serde_json::Value| {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    write("tokenizer.json", tokenizer);
    write("tokenizer_config.json", json!({"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}));
    Tokenizer::from_folder(folder.path()).unwrap()
}

/// The names of the tokens of a text.
fn pieces(tokenizer: &Tokenizer, words: &[&'static str], text: &str) -> Vec<&'static str> {
    let all: Vec<&str> = ROLES.iter().chain(words).copied().collect();
    tokenizer.encode(text).unwrap().into_iter().map(|id| all[id as usize]).collect()
}

#[test]
fn a_text_is_the_same_words_from_either_file() {
    let cases: [(&str, &[&str]); 14] = [
        ("Hello, WORLDS!", &["hello", ",", "world", "##s", "!"]),
        ("unaffable", &["un", "##aff", "##able"]),
        ("unknown hello", &["[UNK]", "hello"]),
        ("  hello\t\r\nworld  ", &["hello", "world"]),
        // Composed and decomposed; a mark without its letter, too.
        ("CAFÉ cafe\u{301} \u{301}hello", &["cafe", "cafe", "hello"]),
        ("hel\u{ad}lo wor\u{0}l\u{fffd}d \u{200b}hello", &["hello", "world", "hello"]),
        ("中文hello中", &["中", "文", "hello", "中"]),
        ("hello\u{3000}world\u{a0}hello", &["hello", "world", "hello"]),
        ("!!,,", &["!", "!", ",", ","]),
        ("hello😀 😀", &["[UNK]", "😀"]),
        // A capital that becomes two characters.
        ("İ", &["i"]),
        ("[CLS] [SEP]", &["[", "cls", "]", "[", "[UNK]", "]"]),
        ("", &[]),
        (" \n", &[]),
    ];
    for tokenizer in [gguf(&WORDS), folder(&WORDS, true)] {
        for (text, expected) in cases {
            assert_eq!(pieces(&tokenizer, &WORDS, text), expected, "{text:?}");
        }
        assert_eq!(pieces(&tokenizer, &WORDS, &"a".repeat(100)).len(), 100);
        assert_eq!(pieces(&tokenizer, &WORDS, &"a".repeat(101)), ["[UNK]"]);
    }
}

#[test]
fn a_text_stands_between_two_tokens_that_no_text_can_name() {
    for tokenizer in [gguf(&WORDS), folder(&WORDS, true)] {
        let special = tokenizer.special();
        assert_eq!((special.bos, special.eos), (Some(2), Some(3)));
        assert!(special.add_bos && special.add_eos);
        let whole = tokenizer.with_bos_and_eos(tokenizer.encode("hello").unwrap());
        assert_eq!(whole, [2, 5, 3]);
        assert_eq!(tokenizer.with_bos_and_eos(whole), [2, 5, 3]);
        assert_eq!(tokenizer.encode_with_control("[CLS]hello[MASK][SEP]").unwrap(), [2, 5, 4, 3]);
        assert_eq!(tokenizer.kind(2), Some(TokenKind::Control));
        let plain = tokenizer.encode("[CLS]hello").unwrap();
        assert!(plain.iter().all(|&id| tokenizer.kind(id) == Some(TokenKind::Text)), "{plain:?}");
    }
}

#[test]
fn words_come_back_with_a_space_between_them() {
    for tokenizer in [gguf(&WORDS), folder(&WORDS, true)] {
        let ids = tokenizer.with_bos_and_eos(tokenizer.encode("Hello, unaffable WORLDS").unwrap());
        assert_eq!(tokenizer.decode(&ids), b"hello , unaffable worlds");
        assert_eq!(tokenizer.decode_with_control(&ids[..2]), b"[CLS] hello");
    }
}

#[test]
fn a_vocabulary_with_capitals_keeps_them_and_accents() {
    let words = ["Hello", "hello", "caf", "##é"];
    for tokenizer in [gguf(&words), folder(&words, false)] {
        assert_eq!(pieces(&tokenizer, &words, "Hello hello café"), ["Hello", "hello", "caf", "##é"]);
        assert_eq!(pieces(&tokenizer, &words, "HELLO"), ["[UNK]"]);
    }
}

/// The files of the real model that are there.
fn real() -> Vec<PathBuf> {
    let Some(models) = std::env::var_os("PIE_TEST_MODELS") else {
        println!("skipped: PIE_TEST_MODELS does not name a folder of models");
        return Vec::new();
    };
    let entries = std::fs::read_dir(models).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("all-minilm-l6-v2");
    entries.filter(|path| name(path)).collect()
}

#[test]
fn ids_of_the_real_vocabulary_equal_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/reference/all-minilm-l6-v2.json");
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for path in real() {
        let tokenizer = match path.is_dir() {
            true => Tokenizer::from_folder(&path).unwrap(),
            false => Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap(),
        };
        for case in reference["texts"].as_array().unwrap() {
            let (text, expected) = (case["text"].as_str().unwrap(), &case["ids"]);
            let found = tokenizer.with_bos_and_eos(tokenizer.encode(text).unwrap());
            assert_eq!(&json!(found), expected, "{}: {text:?}", path.display());
        }
    }
}
