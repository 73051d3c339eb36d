//! What the fuzz targets do with their bytes. Files come from strangers, and so do messages: whatever is in
//! them, the answer is a value or an error, without a panic and without memory beyond a small multiple of the
//! input.

// A file of `runtime`, which takes too long to build for the fuzzer.
#[path = "../../crates/runtime/src/grammars/gbnf.rs"]
mod gbnf;

mod formats;
mod frames;

use std::path::Path;
use std::sync::LazyLock;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use model::chat::{ChatEnd, ChatRequest, ChatTemplate, Content, FunctionCall, Message, Part, ToolCall};
use model::gguf::Gguf;
use model::gguf::writer::GgufWriter;
use model::{Hyperparameters, TokenKind, Tokenizer, lora, safetensors, test_model};
use serde_json::json;

pub use formats::formats;
pub use frames::frame;

/// Between the two files of an input that has two.
pub const SEPARATOR: &[u8] = b"\n---\n";

/// Templates of real models, and one that writes every field in many ways.
pub const TEMPLATES: [&str; 4] = [
    include_str!("../../crates/model/tests/data/smollm2.jinja"),
    include_str!("../../crates/model/tests/data/qwen2.5.jinja"),
    include_str!("../../crates/model/tests/data/llama3.1.jinja"),
    "{{ a }}{{ b }}{% for t in tools or [] %}{{ t | tojson }}{{ t | tojson(ensure_ascii=true) }}{% endfor %}\
     {% for m in messages %}<|im_start|>{{ m.role }}{{ m.name }}{{ m.tool_call_id }}{{ m.reasoning_content }}\
     {% if m.content is string %}{{ m.content | trim | lower }}{{ m.content.split('<|im_end|>')[-1] }}\
     {{ m.content.replace('</x>', '') }}{{ m.content[1:] }}{{ m.content[:-1] }}{% else %}\
     {% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% for c in m.tool_calls or [] %}{{ c.id }}\
     {{ c.function.name }}{{ c.function.arguments | tojson(ensure_ascii=true) }}{% endfor %}<|im_end|>{% endfor %}",
];

/// A GGUF file: the reader, the hyper-parameters and the tokenizer.
pub fn weight_file(bytes: &[u8]) {
    let Ok(gguf) = Gguf::parse(bytes.to_vec()) else { return };
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor_bytes(tensor).len(), tensor.range.len());
    }
    let _ = Hyperparameters::from_gguf(&gguf);
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        use_tokenizer(&tokenizer);
    }
}

/// A model folder: config.json, then model.safetensors.
pub fn weight_folder(bytes: &[u8]) {
    let Some((config, weights)) = split(bytes) else { return };
    in_folder(&[("config.json", config), ("model.safetensors", weights)], |folder| {
        let Ok(weights) = safetensors::open(folder) else { return };
        for name in weights.names() {
            let tensor = weights.get(name).expect("a name has a tensor");
            assert_eq!(tensor.bytes.len(), tensor.dtype.row_bytes(tensor.cols) * tensor.rows);
        }
        if let Ok(config) = safetensors::config(folder) {
            let _ = Hyperparameters::from_config(&config, &weights);
        }
    });
}

/// tokenizer_config.json, then tokenizer.json.
pub fn tokenizer(bytes: &[u8]) {
    let Some((config, tokenizer)) = split(bytes) else { return };
    in_folder(&[("tokenizer_config.json", config), ("tokenizer.json", tokenizer)], |folder| {
        if let Ok(tokenizer) = Tokenizer::from_folder(folder) {
            use_tokenizer(&tokenizer);
        }
    });
}

/// adapter_config.json, then adapter_model.safetensors or a GGUF file.
pub fn adapter(bytes: &[u8]) {
    let Some((config, tensors)) = split(bytes) else { return };
    let found = match std::str::from_utf8(config) {
        Ok(config) if !config.is_empty() => lora::read_peft(config, tensors, &HYPERPARAMETERS, &|| true),
        _ => lora::read_gguf(tensors, &|| true),
    };
    for pair in found.iter().flat_map(|lora| lora.pairs.values()) {
        assert!(pair.a.len().is_multiple_of(pair.rank as usize));
        assert!(pair.b.len().is_multiple_of(pair.rank as usize));
    }
}

/// A conversation from strangers: the number of a template, then texts that end in NUL, put into all fields
/// that hold one. There are as many control tokens as for the same conversation without any.
pub fn chat(bytes: &[u8]) {
    let Some((&first, texts)) = bytes.split_first() else { return };
    let Ok(texts) = std::str::from_utf8(texts) else { return };
    let template = &TEMPLATES_COMPILED[usize::from(first) % TEMPLATES.len()];
    let texts: Vec<&str> = texts.split('\0').collect();
    let harmless: Vec<String> = texts.iter().map(|text| like(text)).collect();
    let harmless: Vec<&str> = harmless.iter().map(String::as_str).collect();
    let end = [ChatEnd::Answer, ChatEnd::Continue, ChatEnd::Nothing][usize::from(first / 4) % 3];
    let found = template.encode(&conversation(&texts, end), &TOKENIZER);
    let expected = template.encode(&conversation(&harmless, end), &TOKENIZER);
    if let (Ok(found), Ok(expected)) = (found, expected) {
        assert_eq!(controls(&found), controls(&expected), "{texts:?}");
    }
}

/// White space stays, as templates ask whether a text is empty; all else becomes `x`.
fn like(text: &str) -> String {
    let clean = text.replace(['\u{fdd0}', '\u{fdd1}'], "");
    clean.chars().map(|c| if c.is_whitespace() { c } else { 'x' }).collect()
}

fn controls(ids: &[u32]) -> Vec<u32> {
    ids.iter().copied().filter(|&id| TOKENIZER.kind(id) == Some(TokenKind::Control)).collect()
}

fn conversation(texts: &[&str], end: ChatEnd) -> ChatRequest {
    let text = |index: usize| texts.get(index).copied().unwrap_or("y").to_owned();
    let mut request = ChatRequest { end, ..ChatRequest::default() };
    for (index, role) in ["system", "user", "assistant", "user"].into_iter().enumerate() {
        request.messages.push(Message::new(role, &text(index)));
    }
    request.messages[1].content =
        Content::Parts(vec![Part::Text { text: text(1) }, Part::Text { text: text(4) }]);
    request.messages[2].reasoning_content = Some(text(5));
    request.messages[2].name = Some(text(6));
    if texts.len() > 7 {
        request.messages[2].tool_calls.push(ToolCall {
            id: Some(text(7)),
            kind: "function".to_owned(),
            function: FunctionCall { name: text(8), arguments: json!({text(9): [text(10)]}) },
        });
        request
            .tools
            .push(json!({"type": "function", "function": {"name": text(11), "description": text(12),
            "parameters": {text(13): {"type": "object"}}}}));
    }
    request.variables.insert("a".to_owned(), json!(text(14)));
    request.variables.insert("b".to_owned(), json!(text(15)));
    request
}

/// A byte for the notation, the grammar, and after the separator bytes that choose what a model says. What is said is what
/// the mask allows, so it must be taken; a grammar in GBNF that is translated and refused afterwards is no error.
pub fn grammar(bytes: &[u8]) {
    let Some((grammar, choices)) = split(bytes) else { return };
    let Some((notation, text)) = grammar.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let grammar = match notation % 4 {
        0 => gbnf::to_lark(text).map(TopLevelGrammar::from_lark).ok(),
        1 => Some(TopLevelGrammar::from_lark(text.to_owned())),
        2 => Some(TopLevelGrammar::from_regex(text)),
        _ => serde_json::from_str(text).ok().map(TopLevelGrammar::from_json_schema),
    };
    let Some(parser) = grammar.and_then(|grammar| GRAMMARS.create_parser(grammar).ok()) else { return };
    let mut matcher = Matcher::new(Ok(parser));
    for choice in choices.iter().take(64) {
        let Ok(mask) = matcher.compute_mask() else { return };
        let mut allowed = Vec::new();
        mask.iter_set_entries(|token| allowed.push(token));
        let Some(token) = allowed.get(usize::from(*choice) % allowed.len().max(1)) else { return };
        if matcher.is_stopped() {
            return;
        }
        if let Err(error) = matcher.consume_token(*token as u32) {
            // It may have become too complex; it cannot be wrong.
            let error = format!("{error:#}");
            assert!(!error.contains("doesn't satisfy the grammar"), "an allowed token is refused: {error}");
            return;
        }
    }
}

static GRAMMARS: LazyLock<ParserFactory> = LazyLock::new(|| {
    let environment = toktrie::ApproximateTokEnv::single_byte_env();
    let mut factory = ParserFactory::new_simple(&environment).expect("bytes are a vocabulary");
    factory.quiet();
    // As in `runtime`.
    factory.limits_mut().max_lexer_states = 20_000;
    factory
});

static TEMPLATES_COMPILED: LazyLock<Vec<ChatTemplate>> = LazyLock::new(|| {
    let compiled = TEMPLATES.map(|source| ChatTemplate::new(source, "<|endoftext|>", "<|im_end|>"));
    compiled.into_iter().map(|template| template.expect("the templates compile")).collect()
});

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut writer = GgufWriter::new();
    test_model::put_tokenizer(&mut writer);
    let gguf = Gguf::parse(writer.to_bytes()).expect("what is written is read");
    Tokenizer::from_gguf(&gguf).expect("the test model has a tokenizer")
});

static HYPERPARAMETERS: LazyLock<Hyperparameters> = LazyLock::new(|| {
    let writer = test_model::build(kernels::DType::F32, 0).expect("F32 can be written");
    let gguf = Gguf::parse(writer.to_bytes()).expect("what is written is read");
    Hyperparameters::from_gguf(&gguf).expect("the test model has hyper-parameters")
});

fn use_tokenizer(tokenizer: &Tokenizer) {
    for text in ["Hello, world 123", "<|im_end|>", " \u{301}漢字\0"] {
        for ids in [tokenizer.encode(text), tokenizer.encode_with_control(text)] {
            if let Ok(ids) = ids {
                tokenizer.decode(&ids);
                tokenizer.decode_with_control(&ids);
            }
        }
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)?;
    Some((&bytes[..at], &bytes[at + SEPARATOR.len()..]))
}

/// Runs `check` on a folder with these files, in memory where the system has a file system for that.
fn in_folder(files: &[(&str, &[u8])], check: impl FnOnce(&Path)) {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let place = Path::new("/dev/shm");
            let folder = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() };
            folder.expect("a folder can be made")
        };
    }
    FOLDER.with(|folder| {
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("a file can be written");
        }
        check(folder.path());
    });
}
