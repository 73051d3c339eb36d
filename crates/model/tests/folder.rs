//! Model folders with safetensors, and whole models.

#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::collections::HashMap;
use std::path::Path;

use kernels::DType;
use model::gguf::Gguf;
use model::safetensors::{self as folder, SafetensorsError};
use model::{Hyperparameters, Model, OpenError, RopePairing, test_model};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

const HIDDEN: usize = 8;

/// Name, type, shape.
fn tensors(layers: usize) -> Vec<(String, Dtype, Vec<usize>)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), Dtype::BF16, vec![261, HIDDEN]),
        ("model.norm.weight".to_owned(), Dtype::F32, vec![HIDDEN]),
    ];
    for layer in 0..layers {
        for (name, shape) in [
            ("input_layernorm.weight", vec![HIDDEN]),
            ("self_attn.q_proj.weight", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj.weight", vec![4, HIDDEN]),
            ("self_attn.v_proj.weight", vec![4, HIDDEN]),
            ("self_attn.o_proj.weight", vec![HIDDEN, HIDDEN]),
            ("post_attention_layernorm.weight", vec![HIDDEN]),
            ("mlp.gate_proj.weight", vec![16, HIDDEN]),
            ("mlp.up_proj.weight", vec![16, HIDDEN]),
            ("mlp.down_proj.weight", vec![HIDDEN, 16]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}"), Dtype::F16, shape));
        }
    }
    tensors
}

fn write(path: &Path, tensors: &[(String, Dtype, Vec<usize>)]) {
    let buffers: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, dtype, shape)| vec![0x11; shape.iter().product::<usize>() * dtype.bitsize() / 8])
        .collect();
    let views = tensors.iter().zip(&buffers).map(|((name, dtype, shape), buffer)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), buffer).unwrap())
    });
    std::fs::write(path, serialize(views, None).unwrap()).unwrap();
}

fn config() -> serde_json::Value {
    json!({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 16, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "hidden_act": "silu", "eos_token_id": [258, 257], "tie_word_embeddings": true,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}})
}

/// A byte-level tokenizer with a merge and three special tokens, as the library writes it.
fn tokenizer() -> serde_json::Value {
    let mut vocabulary = serde_json::Map::new();
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut hidden = 0;
    for byte in 0..=255_u8 {
        let c = if printable(byte) {
            char::from(byte)
        } else {
            hidden += 1;
            char::from_u32(0xff + hidden).unwrap()
        };
        vocabulary.insert(c.to_string(), json!(byte));
    }
    vocabulary.insert("he".to_owned(), json!(256));
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({"version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "normalizer": null,
        "added_tokens": [special(257, "<|im_end|>"), special(258, "<|eot_id|>"), special(259, "<s>")],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [259], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": [["h", "e"]]}})
}

fn write_json(path: &Path, value: &serde_json::Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

fn model_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), &tensors(2));
    write_json(&folder.path().join("config.json"), &config());
    write_json(&folder.path().join("tokenizer.json"), &tokenizer());
    let tokenizer_config = json!({"bos_token": {"content": "<s>"}, "eos_token": "<|eot_id|>",
        "chat_template": [{"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}]});
    write_json(&folder.path().join("tokenizer_config.json"), &tokenizer_config);
    folder
}

#[test]
fn a_folder_is_a_model() {
    let folder = model_folder();
    let model = Model::open(folder.path()).unwrap();
    let hyper = &model.hyperparameters;
    let rope = &hyper.ropes[0];
    assert_eq!((hyper.vocab, hyper.head_dim, rope.dims, hyper.context_length), (261, 2, 2, 131_072));
    assert_eq!(hyper.rope_pairing, RopePairing::Neox);
    assert_eq!(rope.factors.as_deref(), Some(&[1.0][..]));
    assert!(hyper.tied_embeddings);
    let k = model.weights.get("blk.1.attn_k.weight").unwrap();
    assert_eq!((k.dtype, k.rows, k.cols, k.bytes), (DType::F16, 4, 8, &[0x11; 64][..]));
    assert_eq!(model.weights.get("token_embd.weight").unwrap().dtype, DType::BF16);

    let tokenizer = &model.tokenizer;
    assert_eq!(tokenizer.special().stop, [257, 258]);
    assert_eq!((tokenizer.special().bos, tokenizer.special().eos), (Some(259), Some(258)));
    assert!(tokenizer.special().add_bos);
    // Longer than the file's own truncation.
    let ids = tokenizer.encode("hello, hello ö").unwrap();
    assert_eq!(ids[0], 256);
    assert_eq!(tokenizer.decode(&ids), "hello, hello ö".as_bytes());
    assert_eq!(tokenizer.encode_with_control("<|eot_id|>").unwrap(), [258]);
    assert!(tokenizer.encode("<|eot_id|>").unwrap().len() > 1);

    let mut request = model::chat::ChatRequest::default();
    request.messages.push(model::chat::Message::new("user", "he"));
    let ids = model.chat_template().unwrap().encode(&request, tokenizer).unwrap();
    assert_eq!(ids, [259, 256]);
}

/// As GPT-2 and OPT have it: a vocabulary, merges, and BOS by a setting.
#[test]
fn a_folder_without_tokenizer_json_has_the_same_tokens() {
    let folder = model_folder();
    let whole = Model::open(folder.path()).unwrap().tokenizer;
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = Model::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    let mut vocabulary = tokenizer()["model"]["vocab"].clone();
    for (token, id) in [("<|im_end|>", 257), ("<|eot_id|>", 258), ("<s>", 259)] {
        vocabulary[token] = json!(id);
    }
    write_json(&folder.path().join("vocab.json"), &vocabulary);
    std::fs::write(folder.path().join("merges.txt"), "#version: 0.2\nh e\n").unwrap();
    let map = json!({"eos_token": "<|eot_id|>", "additional_special_tokens": ["<|im_end|>", "<absent>"]});
    write_json(&folder.path().join("special_tokens_map.json"), &map);
    let open = |add_bos: bool| {
        let config =
            json!({"bos_token": {"content": "<s>"}, "eos_token": "<|eot_id|>", "add_bos_token": add_bos});
        write_json(&folder.path().join("tokenizer_config.json"), &config);
        Model::open(folder.path()).unwrap().tokenizer
    };
    let pieces = open(true);
    assert_eq!(pieces.special(), whole.special());
    assert_eq!(pieces.vocabulary_size(), whole.vocabulary_size());
    for text in ["hello, hello ö", "  the\n<|eot_id|>he's 12345", ""] {
        assert_eq!(pieces.encode(text).unwrap(), whole.encode(text).unwrap(), "{text}");
        let control = |tokenizer: &model::Tokenizer| tokenizer.encode_with_control(text).unwrap();
        assert_eq!(control(&pieces), control(&whole), "{text}");
        assert_eq!(pieces.decode(&pieces.encode(text).unwrap()), text.as_bytes());
    }
    assert!(!open(false).special().add_bos);
    std::fs::write(folder.path().join("merges.txt"), "h e\nh q\n").unwrap();
    let error = Model::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("`h q`"), "{error}");
}

#[test]
fn shards_are_one_model() {
    let folder = model_folder();
    let whole = folder::open(folder.path()).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let all = tensors(2);
    let (first, second) = all.split_at(7);
    write(&folder.path().join("model-00001-of-00002.safetensors"), first);
    write(&folder.path().join("model-00002-of-00002.safetensors"), second);
    let map: HashMap<&str, &str> = first
        .iter()
        .map(|tensor| (tensor.0.as_str(), "model-00001-of-00002.safetensors"))
        .chain(second.iter().map(|tensor| (tensor.0.as_str(), "model-00002-of-00002.safetensors")))
        .collect();
    let index = folder.path().join("model.safetensors.index.json");
    write_json(&index, &json!({"metadata": {}, "weight_map": map}));
    let sharded = folder::open(folder.path()).unwrap();
    assert!(whole.names().eq(sharded.names()));
    assert_eq!(whole.bytes(), sharded.bytes());
    Model::open(folder.path()).unwrap();

    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(matches!(folder::open(folder.path()), Err(SafetensorsError::Io { .. })));
    write_json(&index, &json!({"weight_map": {"a": "../../secret.safetensors"}}));
    assert!(matches!(folder::open(folder.path()), Err(SafetensorsError::Json { .. })));
}

#[test]
fn unusable_folders_are_explained() {
    let empty = tempfile::tempdir().unwrap();
    write_json(&empty.path().join("config.json"), &config());
    assert!(matches!(folder::open(empty.path()), Err(SafetensorsError::NoWeights { .. })));
    std::fs::write(empty.path().join("pytorch_model.bin"), b"x").unwrap();
    let error = folder::open(empty.path()).unwrap_err().to_string();
    assert!(error.contains("pickled"), "{error}");

    let cut = model_folder();
    let path = cut.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(folder::open(cut.path()), Err(SafetensorsError::Damaged { .. })), "{length}");
    }
    write(&path, &[("model.norm.weight".to_owned(), Dtype::I64, vec![8])]);
    assert!(matches!(folder::open(cut.path()), Err(SafetensorsError::Dtype { .. })));
    write(&path, &[("transformer.wte.weight".to_owned(), Dtype::F32, vec![8])]);
    assert!(matches!(folder::open(cut.path()), Err(SafetensorsError::UnknownTensor { .. })));
}

#[test]
fn configs_that_do_not_fit_are_explained() {
    let folder = model_folder();
    let weights = folder::open(folder.path()).unwrap();
    let check = |key: &str, value: serde_json::Value, expected: &str| {
        let mut config = config();
        config[key] = value;
        let error = Hyperparameters::from_config(&config, &weights).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("model_type", json!("mamba"), "llama, mistral, qwen2, qwen3");
    check("num_hidden_layers", json!(3), "blk.2.attn_norm.weight");
    check("num_hidden_layers", json!(1), "blk.1.");
    check("num_hidden_layers", json!("2"), "expected an integer");
    check("hidden_size", json!(16), "expected [261, 16]");
    check("num_key_value_heads", json!(3), "no multiple");
    check("rope_scaling", json!({"type": "dynamic", "factor": 4.0}), "dynamic");
    check("rope_scaling", json!({"type": "longrope", "short_factor": [1.0, 2.0]}), "2 rotary divisors");
    check("hidden_act", json!("quick_gelu"), "the activation `quick_gelu`");
    check("layer_types", json!(["full_attention"]), "1 entries");
    check("quantization_config", json!({"quant_method": "awq"}), "awq");
    check("rms_norm_eps", json!(0.0), "positive");
}

#[test]
fn layers_have_the_windows_that_the_file_says() {
    let folder = model_folder();
    let weights = folder::open(folder.path()).unwrap();
    let windows = |changes: serde_json::Value| {
        let mut config = config();
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let hyper = Hyperparameters::from_config(&config, &weights).unwrap();
        assert_eq!(hyper.context_length, 131_072);
        hyper.kinds.iter().map(|kind| kind.window).collect::<Vec<_>>()
    };
    // As Mistral has it.
    assert_eq!(windows(json!({"sliding_window": 4096})), [Some(4096); 2]);
    // Over the whole context it is none.
    assert_eq!(windows(json!({"sliding_window": 262_144})), [None; 2]);
    assert_eq!(windows(json!({"sliding_window": null})), [None; 2]);
    // As Qwen 2 has it.
    assert_eq!(windows(json!({"sliding_window": 4096, "use_sliding_window": false})), [None; 2]);
    let second = [None, Some(4096)];
    let later = json!({"sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 1});
    assert_eq!(windows(later), second);
    let listed = json!({"sliding_window": 4096, "layer_types": ["full_attention", "sliding_attention"]});
    assert_eq!(windows(listed), second);

    let mut writer = test_model::build(DType::F32, 0).unwrap();
    writer.metadata_u32("llama.attention.sliding_window", 100);
    let hyper = Hyperparameters::from_gguf(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap();
    assert_eq!((hyper.context_length, hyper.windows()), (2048, vec![100]));
}

#[test]
fn a_file_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    test_model::write(&path, DType::Q8_0, 0).unwrap();
    let model = Model::open(&path).unwrap();
    assert_eq!(model.name, "test-tiny");
    assert_eq!(model.chat_template().unwrap().source(), test_model::CHAT_TEMPLATE);
    assert!(matches!(Model::open(&folder.path().join("none.gguf")), Err(OpenError::Gguf { .. })));
}

#[test]
fn real_models_open() {
    let Some(models) = std::env::var_os("PIE_TEST_MODELS") else {
        println!("skipped: PIE_TEST_MODELS does not name a folder of models");
        return;
    };
    for entry in std::fs::read_dir(models).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            let model = Model::open(&path).unwrap();
            assert!(model.chat_template().is_ok());
            assert!(!model.tokenizer.special().stop.is_empty());
        }
    }
}
